"""Births: idempotent, unique where they must be, and part of a host's transaction if it wants."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import text

from orchestrator.domain.decision import Notice
from orchestrator.domain.errors import Conflict, IntegrityViolated
from orchestrator.domain.outcome import MoneyFact, Outcome
from orchestrator.domain.payment import Channel, HoldReason
from orchestrator.records import Birth, Record
from orchestrator.store import SqlStore
from tests.integration.store.conftest import host_engine
from tests.integration.store.makers import PAID, T0, at, birth, births, outside, walk


async def test_a_birth_is_there_whole(store: SqlStore) -> None:
    new = birth("INV-1", sealed=b"\x00sealed")
    notice = Notice("held", 1)
    submitted = await store.submit(replace(new, decision=replace(new.decision, notices=(notice,))))
    assert submitted == new.decision.payment == await store.get(submitted.id)
    assert list(await store.entries(submitted.id)) == list(new.decision.entries)
    assert await store.sealed(submitted.id) == b"\x00sealed"
    await store.register("w", origin="h", version="1", now=T0)
    assert [n.notice for n in await store.take_notifications("w", events=["held"], now=T0, limit=9)] == [notice]


async def test_the_same_id_again_gives_the_payment_that_is_there(store: SqlStore, other: SqlStore) -> None:
    first = await store.submit(birth("INV-1"))
    moved = await store.record(outside(first, "authorize"))
    again = birth("INV-1", content_digest="e" * 64, sealed=b"other")
    assert await other.submit(again) == moved
    assert await store.sealed(first.id) == b"sealed"
    assert len(await store.entries(first.id)) == 2


async def test_200_concurrent_equal_submits_make_one_payment(store: SqlStore, other: SqlStore) -> None:
    # Two processes, and every birth a little different: another time, so another entry.
    tries = [birth("INV-1", created_at=at(number)) for number in range(200)]
    stores = (store, other)
    got = await asyncio.gather(*(stores[number % 2].submit(try_) for number, try_ in enumerate(tries)))
    assert len({(payment.id, payment.head) for payment in got}) == 1
    assert [payment async for payment in store.all_payments()] == [got[0]]
    assert len([entry async for entry in store.all_entries()]) == 1


@pytest.mark.parametrize(
    ("then", "refused"),
    [
        ((), True),
        (("authorize",), True),
        (PAID, False),
        (("fail",), False),
        (("fail", "hold"), True),
        (("fail", "watch"), True),
    ],
    ids=str,
)
async def test_a_reference_has_one_live_payment(store: SqlStore, then: tuple[str, ...], refused: bool) -> None:
    payment = await store.submit(birth("INV-1"))
    for step in then:
        if step == "hold":
            decision = walk(payment).hold(HoldReason.REVIEW).due(None)
        elif step == "watch":
            decision = walk(payment).step("hold", watch_until=at(99)).due(None)
        else:
            decision = walk(payment, step).due(None)
        payment = await store.record(Record(decision, held_claim=False))
    second = birth("INV-1", round=2)
    if refused:
        with pytest.raises(Conflict, match="reference") as conflict:
            await store.submit(second)
        assert "INV-1" not in str(conflict.value)
        assert await store.get(second.decision.payment.id) is None
        assert await store.entries(second.decision.payment.id) == []
    else:
        assert (await store.submit(second)).round == 2
        rounds = [found.round for found in await store.of_reference("emea", "INV-1")]
        assert rounds == [1, 2]


async def test_money_that_came_late_is_written_down_though_the_reference_is_taken_again(store: SqlStore) -> None:
    first = await store.submit(birth("INV-1"))
    first = await store.record(outside(first, "authorize", "start_session", "hand_over", "fail"))
    second = await store.submit(birth("INV-1", round=2))
    late = walk(first).step("hold", money=MoneyFact.TAKEN, hold=HoldReason.LATE_MONEY, held_at=at(9))
    stored = await store.record(Record(late.notify("money_changed").due(None), held_claim=False))
    assert (stored.hold, stored.money) == (HoldReason.LATE_MONEY, MoneyFact.TAKEN)
    assert await store.get(second.id) == second
    await store.record(outside(second, "fail"))
    with pytest.raises(Conflict, match="reference"):
        await store.submit(birth("INV-1", round=3))


async def test_a_call_has_one_live_phone_session(store: SqlStore) -> None:
    phone = {"channel": Channel.PHONE, "call_guid": "call-1"}
    payment = await store.submit(birth("INV-1", **phone))
    with pytest.raises(Conflict, match="CallGuid") as conflict:
        await store.submit(birth("INV-2", **phone))
    assert conflict.value.field == "CallGuid"
    assert "call-1" not in str(conflict.value)
    await store.submit(birth("INV-3", account="apac", **phone))
    await store.submit(birth("INV-4", call_guid="call-1"))
    await store.record(outside(payment, "fail"))
    assert (await store.submit(birth("INV-2", **phone))).call_guid == "call-1"


async def test_a_round_exists_once(store: SqlStore) -> None:
    done = await store.record(outside(await store.submit(birth("INV-1")), *PAID))
    with pytest.raises(Conflict, match="round"):
        await store.submit(birth("INV-1", key="another"))
    assert list(await store.of_reference("emea", "INV-1")) == [done]


async def test_one_bad_birth_does_not_fail_the_others(store: SqlStore) -> None:
    many = births(9)
    unborn = replace(many[4].decision, payment=replace(many[4].decision.payment, head=b"\x01" * 32))
    many[4] = Birth(unborn, None)
    results = await asyncio.gather(*(store.submit(each) for each in many), return_exceptions=True)
    assert [isinstance(result, IntegrityViolated) for result in results] == [number == 4 for number in range(9)]
    assert len([payment async for payment in store.all_payments()]) == 8


@pytest.mark.parametrize("commits", [True, False])
async def test_a_birth_joins_the_hosts_transaction(store: SqlStore, url: str, commits: bool) -> None:
    # A host's own engine, as SQLAlchemy makes it: on SQLite its driver begins late, by itself.
    engine = host_engine(store._database.url)
    new = birth("INV-1")
    async with engine.begin() as connection:
        await connection.execute(text("create table host_order (id integer)"))
    async with engine.connect() as connection:
        joined = await store.within(connection)
        assert (await joined.submit(new)) == new.decision.payment
        again = await joined.submit(birth("INV-2"))
        await connection.execute(text("insert into host_order values (1)"))
        assert await store.get(again.id) is None
        await (connection.commit() if commits else connection.rollback())
    async with engine.connect() as connection:
        orders = (await connection.execute(text("select count(*) from host_order"))).scalar()
    await engine.dispose()
    assert orders == int(commits)
    assert await store.get(new.decision.payment.id) == (new.decision.payment if commits else None)


async def test_a_refused_birth_leaves_the_hosts_transaction_alive(store: SqlStore) -> None:
    await store.submit(birth("INV-1"))
    engine = host_engine(store._database.url)
    async with engine.begin() as connection:
        await connection.execute(text("create table host_order (id integer)"))
        with pytest.raises(Conflict, match="reference"):
            await (await store.within(connection)).submit(birth("INV-1", round=2))
        existing = await (await store.within(connection)).submit(birth("INV-1"))
        await connection.execute(text("insert into host_order values (1)"))
    async with engine.connect() as connection:
        assert (await connection.execute(text("select count(*) from host_order"))).scalar() == 1
    await engine.dispose()
    assert await store.get(existing.id) == existing


async def test_outcomes_and_states_come_back_as_they_were(store: SqlStore) -> None:
    payment = await store.submit(birth("INV-1", missing=("a", "b"), definitions={}, sealed=None))
    ended = await store.record(outside(payment, "fail"))
    read = await store.get(payment.id)
    assert read == ended
    assert read.outcome is Outcome.DECLINED
    assert read.missing == ("a", "b")
    assert await store.sealed(payment.id) is None
