"""Records: fenced, grouped, split when one is refused, and sure of themselves when an answer is lost."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event

from orchestrator.domain.decision import Notice, quiet
from orchestrator.domain.errors import Conflict, Fenced, IntegrityViolated, NotFound, Unavailable
from orchestrator.domain.payment import Channel, Payment, State
from orchestrator.records import Record
from orchestrator.store import SqlStore
from tests.integration.store.conftest import no_wait
from tests.integration.store.makers import PAID, T0, at, birth, births, context, forged, held, outside, walk


async def claimed(store: SqlStore, count: int = 1, worker: str = "w1") -> list[Payment]:
    for each in births(count):
        await store.submit(each)
    await store.register(worker, origin="h", version="1", now=T0)
    return list(await store.claim(worker, now=T0, limit=count, accounts=["emea"], machine_versions=[1]))


@contextmanager
def commits(store: SqlStore) -> Iterator[list[int]]:
    counted: list[int] = []
    engine = store._database.engines.write.engine
    listener = lambda _connection: counted.append(1)  # noqa: E731 - an event wants one callable to remove
    event.listen(engine, "commit", listener)
    yield counted
    event.remove(engine, "commit", listener)


@contextmanager
def lost_commits(store: SqlStore, count: int, *, effect: bool) -> Iterator[None]:
    """Let the next commits fail for us: after they were done, or before."""
    dialect = store._database.engines.write.engine.dialect
    original, left = dialect.do_commit, [count]

    def commit(connection: Any) -> None:
        if left[0] and (left.__setitem__(0, left[0] - 1) or True):
            if effect:
                original(connection)
            raise dialect.loaded_dbapi.OperationalError("connection lost")
        original(connection)

    dialect.do_commit = commit
    yield
    dialect.do_commit = original


async def test_a_record_writes_payment_entries_notices_and_fields_together(store: SqlStore) -> None:
    [payment] = await claimed(store)
    steps = walk(payment, *PAID).notify("completed", at(60))
    stored = await store.record(Record(steps.due(None), held_claim=True, sealed=b"anew"))
    assert stored == await store.get(payment.id)
    assert (stored.state, stored.version, stored.claimed_by, stored.claim_no) == (State.COMPLETED, 5, "w1", 1)
    assert [entry.trigger for entry in await store.entries(payment.id)] == ["submit", *PAID]
    assert await store.sealed(payment.id) == b"anew"
    [told] = await store.take_notifications("w1", events=["completed"], now=at(1), limit=9)
    assert (told.payment_id, told.notice) == (payment.id, Notice("completed", 5, at(60)))


@pytest.mark.parametrize(("keep", "holder"), [(True, "w1"), (False, None)])
async def test_a_claim_is_kept_or_given_back(store: SqlStore, keep: bool, holder: str | None) -> None:
    [payment] = await claimed(store)
    stored = await store.record(held(payment, "authorize", keep=keep, due=at(5)))
    assert (stored.claimed_by, stored.claim_no, stored.due_at) == (holder, 1, at(5))
    assert stored == await store.get(payment.id)


async def test_a_record_from_outside_clears_the_claim_and_fences_its_holder(store: SqlStore, other: SqlStore) -> None:
    await other.submit(birth("INV-0"))
    [seen] = await store.of_reference("emea", "INV-0")
    [payment] = await claimed(store)
    # The host looked before the claim: the version alone decides, and claim_no stays the database's.
    stored = await other.record(outside(seen, "authorize", due=at(3)))
    assert (stored.claimed_by, stored.claim_no, stored.progress_claim, stored.due_at) == (None, 1, 1, at(3))
    with pytest.raises(Fenced):
        await store.record(held(payment, "authorize"))
    assert await store.get(payment.id) == stored


@pytest.mark.parametrize(
    "wrong",
    [{"claimed_by": "w2"}, {"claim_no": 7}, {"version": 2}, {"head": b"\x01" * 32}],
    ids=lambda w: next(iter(w)),
)
async def test_a_fenced_record_writes_nothing(store: SqlStore, wrong: dict[str, Any]) -> None:
    [payment] = await claimed(store)
    with pytest.raises(Fenced):
        await store.record(held(replace(payment, **wrong), "authorize"))
    assert await store.get(payment.id) == payment
    assert len(await store.entries(payment.id)) == 1


async def test_a_payment_that_is_not_there_is_not_found(store: SqlStore) -> None:
    with pytest.raises(NotFound):
        await store.record(outside(birth().decision.payment, "authorize"))


async def test_concurrent_records_share_transactions(store: SqlStore) -> None:
    payments = await claimed(store, 40)
    with commits(store) as counted:
        stored = await asyncio.gather(*(store.record(held(payment, *PAID)) for payment in payments))
    assert {payment.state for payment in stored} == {State.COMPLETED}
    assert len(counted) < 5


async def test_a_transaction_of_more_rows_than_a_statement_holds_writes_them_all(url: str) -> None:
    async with SqlStore(url, sleep=no_wait, group_limit=300) as store:
        with commits(store) as counted:
            born = await asyncio.gather(*(store.submit(each) for each in births(300)))
        assert len(counted) == 1
        with commits(store) as counted:
            moved = await asyncio.gather(*(store.record(outside(payment, *PAID)) for payment in born))
        assert len(counted) == 1
        for payment in moved:
            assert await store.get(payment.id) == payment
            entries = await store.entries(payment.id)
            assert [entry.trigger for entry in entries] == ["submit", *PAID]
            assert entries[-1].hash == payment.head
            assert await store.sealed(payment.id) == b"sealed"


async def test_a_fenced_record_does_not_touch_its_group(store: SqlStore) -> None:
    payments = await claimed(store, 12)
    wrong = {3, 7}
    records = [
        held(replace(payment, claim_no=9) if number in wrong else payment, "authorize")
        for number, payment in enumerate(payments)
    ]
    with commits(store) as counted:
        results = await asyncio.gather(*(store.record(record) for record in records), return_exceptions=True)
    assert {number for number, result in enumerate(results) if isinstance(result, Fenced)} == wrong
    assert sum(isinstance(result, Payment) for result in results) == 10
    assert len(counted) < 4


async def test_a_refused_record_fails_alone(store: SqlStore) -> None:
    payments = await claimed(store, 12)
    lie = forged(payments[5], "complete", "collecting", "completed")
    decision = walk(payments[5], "authorize").due(None)
    bad = replace(decision, entries=(lie,), payment=replace(decision.payment, head=lie.hash, state=State.COMPLETED))
    records = [held(payment, "authorize") for payment in payments]
    records[5] = Record(bad, held_claim=True)
    results = await asyncio.gather(*(store.record(record) for record in records), return_exceptions=True)
    assert [type(result) for number, result in enumerate(results) if number != 5] == [Payment] * 11
    assert isinstance(results[5], IntegrityViolated)
    assert "ck_" in str(results[5])
    assert await store.get(payments[5].id) == payments[5]


async def test_two_records_of_one_payment_at_once_leave_one_winner(store: SqlStore, other: SqlStore) -> None:
    payment = await store.submit(birth())
    tries = [outside(payment, "authorize", seconds=number) for number in range(20)]
    stores = (store, other)
    results = await asyncio.gather(
        *(stores[number % 2].record(record) for number, record in enumerate(tries)), return_exceptions=True
    )
    assert sum(isinstance(result, Payment) for result in results) == 1
    assert sum(isinstance(result, Fenced) for result in results) == 19
    assert [entry.seq for entry in await store.entries(payment.id)] == [1, 2]


async def test_two_processes_recording_the_same_rows_in_other_orders_never_deadlock(
    store: SqlStore, other: SqlStore
) -> None:
    payments = await claimed(store, 30)
    there = [store.record(outside(payment, "authorize", seconds=1)) for payment in payments]
    back = [other.record(outside(payment, "authorize", seconds=2)) for payment in reversed(payments)]
    results = await asyncio.gather(*there, *back, return_exceptions=True)
    assert sum(isinstance(result, Payment) for result in results) == 30
    assert sum(isinstance(result, Fenced) for result in results) == 30


@pytest.mark.parametrize("effect", [True, False], ids=["written", "not written"])
async def test_a_lost_answer_to_the_commit_is_no_loss(store: SqlStore, effect: bool) -> None:
    [payment] = await claimed(store)
    with lost_commits(store, 1, effect=effect):
        stored = await store.record(held(payment, "authorize"))
    assert stored == await store.get(payment.id)
    assert len(await store.entries(payment.id)) == 2
    with lost_commits(store, 1, effect=effect):
        assert (await store.submit(birth("NEW"))).version == 1
    assert len(await store.of_reference("emea", "NEW")) == 1


async def test_silence_ends_as_unavailable_and_the_same_call_again_is_safe(store: SqlStore) -> None:
    [payment] = await claimed(store)
    record = held(payment, "authorize")
    # The last try's write happened all the same.
    with lost_commits(store, 5, effect=False), pytest.raises(Unavailable) as silence:
        await store.record(record)
    assert payment.id not in str(silence.value)
    with lost_commits(store, 1, effect=True):
        stored = await store.record(record)
    assert await store.record(record) == stored
    moved = await store.record(held(stored, "start_session", seconds=2))
    # It was written, though the payment has moved on since.
    assert (await store.record(record)).head == stored.head
    assert await store.get(payment.id) == moved


async def test_a_quiet_decision_moves_only_due_time_and_claim(store: SqlStore) -> None:
    [payment] = await claimed(store)
    stored = await store.record(Record(quiet(payment, at(30)), held_claim=True, keep_claim=False))
    assert stored == replace(payment, due_at=at(30), claimed_by=None) == await store.get(payment.id)
    assert len(await store.entries(payment.id)) == 1
    with pytest.raises(ValueError, match="need the entry"):
        await store.record(Record(quiet(stored, None), held_claim=False, sealed=b"x"))


async def test_a_record_that_takes_a_taken_call_conflicts_alone(store: SqlStore) -> None:
    await store.submit(birth("INV-1", channel=Channel.PHONE, call_guid="call-1"))
    second = await store.submit(birth("INV-2", channel=Channel.PHONE, missing=("CallGuid",)))
    third = await store.submit(birth("INV-3"))
    collect = walk(second).step("collect", missing=(), call_guid="call-1").due(None)
    results = await asyncio.gather(
        store.record(Record(collect, held_claim=False)), store.record(outside(third, "authorize")),
        return_exceptions=True,
    )  # fmt: skip
    assert isinstance(results[0], Conflict)
    assert isinstance(results[1], Payment)


async def test_a_cancelled_caller_leaves_the_store_in_order(store: SqlStore) -> None:
    payments = await claimed(store, 6)
    tasks = [asyncio.create_task(store.record(held(payment, "authorize"))) for payment in payments]
    await asyncio.sleep(0)
    for task in tasks[:3]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results[3:]] == [Payment] * 3
    for payment in payments:
        read = await store.get(payment.id)
        assert read is not None
        assert len(await store.entries(payment.id)) == read.version
    assert context().now == T0
