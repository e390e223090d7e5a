"""Claims: exclusive, fenced, freed when their worker is gone."""

import asyncio
from dataclasses import replace

import asyncpg
import pytest

from orchestrator.domain.errors import Fenced, Unavailable
from orchestrator.domain.payment import HoldReason, Payment
from orchestrator.records import Record
from orchestrator.store import SqlStore, stalled
from tests.integration.store.conftest import POOLED
from tests.integration.store.makers import T0, at, birth, births, held, outside, walk
from tests.integration.store.test_record import lost_commits


async def workers(store: SqlStore, *names: str, seconds: float = 0) -> None:
    for name in names:
        await store.register(name, origin="host-1:42", version="0.1.0", now=at(seconds))


async def take(store: SqlStore, worker: str, seconds: float = 0, limit: int = 100) -> list[Payment]:
    return list(await store.claim(worker, now=at(seconds), limit=limit, accounts=["emea"], machine_versions=[1]))


async def test_a_claim_takes_what_is_due_and_free_the_longest_due_first(store: SqlStore) -> None:
    await workers(store, "w1")
    due = {"LATE": at(9), "SECOND": at(2), "FIRST": at(1), "NEVER": None}
    for reference, due_at in due.items():
        await store.submit(birth(reference, due_at=due_at))
    await store.submit(birth("NEWER-MACHINE", machine_version=2))
    await store.submit(birth("UNKNOWN-ACCOUNT", account="apac"))
    taken = await take(store, "w1", 5)
    assert [payment.reference for payment in taken] == ["FIRST", "SECOND"]
    assert {(payment.claimed_by, payment.claim_no) for payment in taken} == {("w1", 1)}
    assert [await store.get(payment.id) for payment in taken] == taken
    assert await take(store, "w1", 5) == []
    assert await store.claimed("w1") == sorted(taken, key=lambda payment: payment.id)


async def test_held_and_ended_payments_are_claimed_if_they_are_due(store: SqlStore) -> None:
    await workers(store, "w1")
    held_ = await store.submit(birth("HELD"))
    await store.record(Record(walk(held_).hold(HoldReason.REVIEW).due(at(1)), held_claim=False))
    ended = await store.submit(birth("WATCHED"))
    await store.record(outside(ended, "fail", due=at(1)))
    assert len(await take(store, "w1", 2)) == 2


async def test_two_processes_never_claim_the_same(store: SqlStore, other: SqlStore) -> None:
    await asyncio.gather(*(store.submit(each) for each in births(60)))
    await workers(store, "w1", "w2")
    rounds = await asyncio.gather(
        *(take(process, worker, limit=7) for _ in range(6) for process, worker in ((store, "w1"), (other, "w2")))
    )
    taken = [payment.id for some in rounds for payment in some]
    assert len(taken) == len(set(taken)) == 60
    assert all(len(some) <= 7 for some in rounds)


async def test_a_worker_that_nobody_knows_gets_nothing(store: SqlStore) -> None:
    await store.submit(birth())
    assert await take(store, "ghost") == []


async def test_a_lapsed_worker_is_told_and_its_claims_are_due_again_as_before_or_spread_over_the_jitter(
    store: SqlStore, other: SqlStore
) -> None:
    await asyncio.gather(*(store.submit(each) for each in births(20)))
    await workers(store, "dead", "alive")
    dead, alive = await take(store, "dead", limit=15), await take(store, "alive")
    early = dead[0]  # the others wait for a time to come
    for payment in dead[1:]:
        assert await store.postpone(payment, at(60), keep_claim=True)
    assert await store.beat("alive", now=at(8))
    freed = [await other.reap(lapsed_before=at(4), now=at(9), jitter_s=3, limit=10) for _ in range(3)]
    assert freed == [10, 5, 0]
    assert not await store.beat("dead", now=at(9))
    assert await store.beat("alive", now=at(9))
    free = [await store.get(payment.id) for payment in dead]
    dues = {payment.due_at for payment in free if payment is not None}
    assert len(dues) == 15
    assert early.due_at is not None
    assert {due for due in dues if due is not None and due < at(9)} == {early.due_at}
    assert all(due <= at(12) for due in dues if due is not None)
    assert {(p.claimed_by, p.version, p.claim_no) for p in free if p is not None} == {(None, 1, 1)}
    assert [await store.get(payment.id) for payment in alive] == alive
    for payment in dead:
        with pytest.raises(Fenced):
            await store.record(held(payment, "authorize"))
    assert await take(store, "dead", 20) == []
    again = await take(store, "alive", 20)
    assert {payment.claim_no for payment in again} == {2}
    assert len(again) == 15


async def test_an_ended_payment_is_freed_without_becoming_due(store: SqlStore) -> None:
    await workers(store, "w1")
    await store.submit(birth())
    [payment] = await take(store, "w1")
    ended = await store.record(held(payment, "fail"))
    assert await store.reap(lapsed_before=at(1), now=at(2), jitter_s=1, limit=9) == 1
    assert await store.get(payment.id) == replace(ended, claimed_by=None)


async def test_a_retired_worker_gives_back_its_claims_as_they_were(store: SqlStore) -> None:
    await workers(store, "w1", "w2")
    for each in births(3):
        await store.submit(each)
    mine, theirs = await take(store, "w1", limit=2), await take(store, "w2")
    await store.retire("w1", now=at(5))
    # Given back in good order: the claim was not fruitless.
    back = [replace(p, claimed_by=None, progress_claim=1) for p in mine]
    assert [await store.get(p.id) for p in mine] == back
    assert [await store.get(p.id) for p in theirs] == theirs
    assert not await store.beat("w1", now=at(5))
    assert len(await take(store, "w2")) == 2
    await store.retire("w1", now=at(6))


@pytest.mark.parametrize("keep", [True, False])
async def test_a_postponed_payment_waits_under_its_claim_or_without(store: SqlStore, keep: bool) -> None:
    await workers(store, "w1")
    await store.submit(birth())
    [payment] = await take(store, "w1")
    assert await store.postpone(payment, at(60), keep_claim=keep)
    claim = "w1" if keep else None
    expected = replace(payment, due_at=at(60), claimed_by=claim, progress_claim=payment.claim_no)
    assert await store.get(payment.id) == expected
    assert len(await store.entries(payment.id)) == 1


@pytest.mark.parametrize("wrong", [{"claim_no": 9}, {"claimed_by": "w2"}, {"version": 4}], ids=lambda w: next(iter(w)))
async def test_a_fenced_postponement_changes_nothing(store: SqlStore, wrong: dict[str, object]) -> None:
    await workers(store, "w1")
    await store.submit(birth())
    [payment] = await take(store, "w1")
    assert not await store.postpone(replace(payment, **wrong), at(60), keep_claim=True)  # type: ignore[arg-type]
    assert await store.get(payment.id) == payment


async def test_claims_whose_answer_was_lost_can_be_found(store: SqlStore) -> None:
    await workers(store, "w1")
    for each in births(3):
        await store.submit(each)
    with lost_commits(store, 1, effect=True), pytest.raises(Unavailable):
        await take(store, "w1")
    assert len(await store.claimed("w1")) == 3


@pytest.mark.parametrize("effect", [True, False], ids=["written", "not written"])
async def test_a_claim_that_shared_a_lost_commit_is_not_done_again_and_its_company_is(
    store: SqlStore, effect: bool
) -> None:
    await workers(store, "w1")
    first = await store.submit(birth("FIRST"))
    [mine] = await take(store, "w1")
    await store.submit(birth("SECOND"))
    with lost_commits(store, 1, effect=effect):
        recorded, claim = await asyncio.gather(
            store.record(held(mine, "authorize")), take(store, "w1"), return_exceptions=True
        )
    assert recorded == await store.get(first.id)
    assert [entry.trigger for entry in await store.entries(first.id)] == ["submit", "authorize"]
    assert isinstance(claim, Unavailable)
    assert {payment.reference for payment in await store.claimed("w1")} == (
        {"FIRST", "SECOND"} if effect else {"FIRST"}
    )


async def test_workers_can_be_registered_and_beat_again_after_a_lost_answer(store: SqlStore) -> None:
    with lost_commits(store, 1, effect=True):
        await store.register("w1", origin="h", version="1", now=T0)
    with lost_commits(store, 1, effect=True):
        assert await store.beat("w1", now=at(1))
    assert await store.reap(lapsed_before=at(1), now=at(1), jitter_s=0, limit=1) == 0
    assert await store.beat("w1", now=at(2))


async def test_a_process_that_was_stopped_in_the_middle_of_a_statement_loses_its_locks(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    if store.dialect == "sqlite" or POOLED:
        pytest.skip("nobody can take a file's lock away, and a pooler has connections of its own")
    monkeypatch.setattr(stalled, "STALLED_S", 0)
    payment = await store.submit(birth("LOCKED"))
    url = store.database.url
    stopped = await asyncpg.connect(
        host=str(url.query["host"]), user=url.username, database=url.database,
        server_settings={"application_name": stalled.NAME},
    )  # fmt: skip
    await stopped.execute("begin; select id from payment for update")
    parse = b"\0select 1\0\0\0"
    stopped._transport.write(b"P" + (len(parse) + 4).to_bytes(4) + parse + b"H" + (4).to_bytes(4))

    recording = asyncio.create_task(store.record(outside(payment, "authorize", due=at(9))))
    while not recording.done():
        await store.reap(lapsed_before=T0, now=at(1), jitter_s=1, limit=10)
        await asyncio.sleep(0.02)

    assert (await recording).version == 2
    assert stopped.is_closed()
