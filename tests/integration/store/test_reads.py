"""What can be read: lists, chains, views, and one moment of everything."""

import asyncio
import sqlite3
import threading
from dataclasses import replace

import pytest
from sqlalchemy import Connection, text

from orchestrator.domain.errors import IntegrityViolated, InvalidInput, Unavailable
from orchestrator.domain.outcome import MoneyFact
from orchestrator.domain.payment import Channel, HoldReason
from orchestrator.domain.verdict import Cause, Exchange, Verdict, VerdictKind
from orchestrator.records import Holds, Query, Record
from orchestrator.store import SqlStore
from tests.integration.store.makers import PAID, at, birth, births, context, notes, outside, walk


async def some(store: SqlStore) -> None:
    """Five payments, a second apart."""
    facts = [
        {"account": "emea"}, {"account": "apac"}, {"channel": Channel.PHONE, "call_guid": "call-1"}, {}, {},
    ]  # fmt: skip
    for number, changes in enumerate(facts):
        await store.submit(birth(f"INV-{number}", created_at=at(number), **changes))
    (done,) = await store.of_reference("emea", "INV-3")
    await store.record(outside(done, *PAID))
    (doubted,) = await store.of_reference("emea", "INV-4")
    await store.record(Record(walk(doubted).hold(HoldReason.REVIEW).due(None), held_claim=False))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (Query(), [0, 1, 2, 3, 4]),
        (Query(limit=2), [0, 1]),
        (Query(account="apac"), [1]),
        (Query(channel=Channel.PHONE), [2]),
        (Query(call_guid="call-1"), [2]),
        (Query(state="completed"), [3]),
        (Query(held=True), [4]),
        (Query(ended=True), [3]),
        (Query(ended=False), [0, 1, 2, 4]),
        (Query(ended=False, account="apac", limit=1), [1]),
        (Query(held=False), [0, 1, 2, 3]),
        (Query(reference="INV-0", account="emea"), [0]),
        (Query(created_from=at(1), created_to=at(3)), [1, 2]),
        (Query(state="failed"), []),
    ],
    ids=repr,
)
async def test_a_list_has_what_matches_everything_oldest_first(sqlite_url: str, query: Query, found: list[int]) -> None:
    async with SqlStore(sqlite_url) as store:
        await some(store)
        assert [payment.reference for payment in await store.list(query)] == [f"INV-{number}" for number in found]


async def test_pages_follow_each_other_though_times_are_equal(store: SqlStore) -> None:
    await some(store)
    await asyncio.gather(*(store.submit(birth(f"SAME-{number}", created_at=at(2))) for number in range(8)))
    for ended, count in ((None, 13), (False, 12)):
        whole = [payment.id for payment in await store.list(Query(ended=ended))]
        paged: list[str] = []
        while page := await store.list(Query(ended=ended, limit=3, after=paged[-1] if paged else None)):
            paged += [payment.id for payment in page]
        assert paged == whole
        assert len(whole) == count


async def test_the_oldest_holds_are_counted(store: SqlStore) -> None:
    assert await store.held_before(at(9)) == Holds(0, None)
    for number in range(4):
        payment = await store.submit(birth(f"INV-{number}"))
        if number:
            held_since = walk(payment, seconds=number).hold(HoldReason.REVIEW).due(None)
            await store.record(Record(held_since, held_claim=False))
    assert await store.held_before(at(9)) == Holds(3, at(1))
    assert await store.held_before(at(3)) == Holds(2, at(1)), "held before, not since"
    assert await store.held_before(at(1)) == Holds(0, None)


async def test_a_session_leads_to_its_payments_however_it_is_spelled(store: SqlStore) -> None:
    for account, reference, seconds in (("emea", "INV-1", 0), ("emea", "INV-2", 1), ("apac", "INV-1", 2)):
        payment = await store.submit(birth(reference, account=account, created_at=at(seconds)))
        await store.record(outside(payment, "authorize", "start_session"))
    for spelled in ("5e55", "5E55"):
        found = await store.of_session("emea", spelled)
        assert [payment.reference for payment in found] == ["INV-2", "INV-1"]
    assert await store.of_session("emea", "5e56") == []


@pytest.mark.parametrize(
    ("query", "field"), [(Query(limit=0), "limit"), (Query(limit=1001), "limit"), (Query(after="pay-x"), "after")]
)
async def test_a_list_that_cannot_be_is_invalid(store: SqlStore, query: Query, field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        await store.list(query)


async def test_unended_counts_what_still_has_to_be_done(store: SqlStore) -> None:
    assert await store.unended() == 0
    await some(store)
    assert await store.unended() == 3


async def test_definitions_are_kept_once_by_their_digest(store: SqlStore, other: SqlStore) -> None:
    await asyncio.gather(
        *(
            each.publish_definition("d1", "authorize.xml", "<x/>", context=context(n))
            for n in range(5)
            for each in (store, other)
        )
    )
    assert await store.definition("d1") == "<x/>"
    assert await store.definition("d2") is None
    with pytest.raises(IntegrityViolated, match="definition"):
        await store.publish_definition("d1", "authorize.xml", "<y/>", context=context())
    assert await store.definition("d1") == "<x/>"


async def test_other_chains_share_the_trail(store: SqlStore) -> None:
    chain = notes("admin-2026-11-24", 3)
    await store.append(chain[:2])
    await store.append(chain[:2])
    await store.append(chain[2:])
    assert list(await store.entries("admin-2026-11-24")) == list(chain)
    with pytest.raises(IntegrityViolated):
        await store.append([replace(notes("admin-2026-11-25", 2)[1], seq=2)])
    await store.append([])


async def test_chains_are_listed_in_order_and_pages(store: SqlStore) -> None:
    await some(store)
    await store.append(notes("admin-2026-11-24", 2))
    whole = list(await store.chains(None, 100))
    assert whole == sorted(whole)
    assert len(whole) == 6
    assert [*await store.chains(None, 2), *await store.chains(whole[1], 100)] == whole


async def test_one_moment_is_read_in_order_whatever_is_written_meanwhile(store: SqlStore, other: SqlStore) -> None:
    for each in births(7):
        await store.submit(each)
    first = [payment async for payment in store.all_payments()]
    seen, entries = [], []
    async with store.snapshot(page=3) as moment:
        both = moment.entries()
        entries.append(await anext(both))
        async for payment in moment.payments():
            seen.append(payment)
            await other.record(outside(payment, "authorize"))
        entries += [entry async for entry in both]
    assert seen == first == sorted(first, key=lambda payment: payment.id)
    assert [(placed.entry.chain_id, placed.entry.seq) for placed in entries] == [(payment.id, 1) for payment in first]
    assert len([entry async for entry in store.all_entries()]) == 14


async def test_every_entry_waits_to_be_sealed(store: SqlStore) -> None:
    await some(store)
    await store.append(notes("admin-x", 2))
    async with store.snapshot() as moment:
        every = text("select chain_id, seq from unsealed order by 1, 2")
        waiting = await moment._bound.run(lambda connection: connection.execute(every).all())
    assert [tuple(row) for row in waiting] == [(entry.chain_id, entry.seq) async for entry in store.all_entries()]


async def test_the_views_say_what_happened_and_nothing_sealed(store: SqlStore) -> None:
    payment = await store.submit(birth("INV-1", number="+441234567890", link_id="4711"))
    verdict = Verdict(
        VerdictKind.UNKNOWN, reason="http_503", cause=Cause.NONE, exchange=Exchange("POST", "https://x/v1", 503, 12, 1)
    )
    steps = walk(payment, "authorize", "start_session").step("observe", verdict=verdict, money=MoneyFact.UNKNOWN)
    stored = await store.record(Record(steps.due(None), held_claim=False))
    async with store.snapshot() as moment:
        now, before = text("select * from v_payment"), text("select * from v_timeline order by payment_id, seq")
        row = await moment._bound.run(lambda connection: connection.execute(now).mappings().one())
        lines = await moment._bound.run(lambda connection: connection.execute(before).mappings().all())
    assert (row["id"], row["state"], row["amount_minor"], row["currency"], row["money"]) == (
        payment.id, "session_started", 1240, "GBP", "unknown",
    )  # fmt: skip
    assert not {"number", "link_id", "sealed", "content_digest"} & set(row)
    assert [(line["seq"], line["trigger"]) for line in lines] == [
        (1, "submit"), (2, "authorize"), (3, "start_session"), (4, "observe"),
    ]  # fmt: skip
    last = lines[-1]
    assert (last["verdict"], last["status"], last["why"], last["duration_ms"], last["result"]) == (
        "unknown", 503, "http_503", 12, "unknown",
    )  # fmt: skip
    assert (last["hash"], last["actor"], last["trace"]) == (stored.head.hex(), "worker-1", "t-1")


async def test_a_database_that_is_gone_is_unavailable(sqlite_url: str) -> None:
    async with SqlStore(sqlite_url) as store:
        await store.ping()
        payment = await store.submit(birth())
        connection = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))
        connection.execute("drop table payer_data")
        connection.close()
        with pytest.raises(Unavailable, match="does not answer") as gone:
            await store.sealed(payment.id)
        assert payment.id not in str(gone.value)
        with pytest.raises(Unavailable):
            await store.submit(birth("INV-2"))


async def test_readers_do_not_wait_for_a_writer(sqlite_url: str) -> None:
    async with SqlStore(sqlite_url) as store:
        payment = await store.submit(birth())
        connection = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
        connection.execute("begin immediate")
        assert await store.get(payment.id) == payment
        connection.execute("rollback")
        connection.close()


async def test_reads_cannot_write(sqlite_url: str) -> None:
    async with SqlStore(sqlite_url) as store, store.snapshot() as moment:
        with pytest.raises(Exception, match="readonly"):
            await moment._bound.run(lambda connection: connection.execute(text("delete from worker")))


async def test_a_moment_whose_reader_goes_away_keeps_its_connection_until_the_read_is_over(sqlite_url: str) -> None:
    reading, go, closed = threading.Event(), threading.Event(), list[bool]()

    def slow(connection: Connection) -> None:
        reading.set()
        go.wait(30)
        closed.append(connection.closed)

    async def look(store: SqlStore) -> None:
        async with store.database.snapshot() as bound:
            await bound.run(slow)

    async with SqlStore(sqlite_url) as store:
        task = asyncio.create_task(look(store))
        await asyncio.to_thread(reading.wait, 30)
        task.cancel()
        for _ in range(20):
            await store.ping()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert closed == [False]


async def test_published_definitions_and_sealed_data_are_known_about(store: SqlStore) -> None:
    assert not await store.holds_payer_data()
    await store.submit(birth("INV-1", sealed=None))
    assert not await store.holds_payer_data()
    await store.submit(birth("INV-2"))
    assert await store.holds_payer_data()
    await store.publish_definition("d1", "authorize.xml", "<x/>", context=context())
    await store.publish_definition("d2", "status.xml", "<y/>", context=context())
    assert await store.definitions() == {"d1": ("authorize.xml", "<x/>"), "d2": ("status.xml", "<y/>")}
