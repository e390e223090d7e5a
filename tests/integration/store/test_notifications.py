"""The outbox: at least once, never too late, and whoever asks knows whether a delivery was begun."""

import asyncio
from dataclasses import replace

import pytest

from orchestrator.domain.decision import Notice
from orchestrator.store import SqlStore
from tests.integration.store.makers import T0, at, birth

EVENTS = ["held", "completed", "handed_over"]


@pytest.fixture
async def queued(store: SqlStore) -> SqlStore:
    await store.register("w1", origin="h", version="1", now=T0)
    await store.register("w2", origin="h", version="1", now=T0)
    await tell(store, "INV-1", Notice("held", 1), Notice("handed_over", 1, at(20)))
    return store


async def tell(store: SqlStore, reference: str, *notices: Notice) -> None:
    new = birth(reference)
    await store.submit(replace(new, decision=replace(new.decision, notices=notices)))


async def taken(store: SqlStore, worker: str = "w1", seconds: float = 1, events: list[str] = EVENTS, limit: int = 9):
    return list(await store.take_notifications(worker, events=events, now=at(seconds), limit=limit))


async def test_a_notice_is_taken_once_and_only_for_events_that_somebody_handles(queued: SqlStore) -> None:
    [held] = await taken(queued, events=["held", "completed"])
    assert (held.notice.event, held.begun, held.tries) == ("held", False, 1)
    [handed] = await taken(queued, "w2")
    assert (handed.notice, handed.begun) == (Notice("handed_over", 1, at(20)), False)
    assert await taken(queued) == []
    assert await taken(queued, events=[]) == []


async def test_a_settled_notice_is_never_told_again(queued: SqlStore) -> None:
    for each in await taken(queued):
        await queued.settle_notification(each.id, now=at(2), retry_at=None)
    await queued.retire("w1", now=at(3))
    assert await taken(queued, "w2", 4) == []
    assert await queued.lapsed_notifications(now=at(99), limit=9) == []


async def test_a_failed_delivery_is_due_again_at_its_time(queued: SqlStore) -> None:
    [held] = await taken(queued, events=["held"])
    await queued.settle_notification(held.id, now=at(2), retry_at=at(10))
    assert await taken(queued, seconds=9, events=["held"]) == []
    [again] = await taken(queued, "w2", 10, ["held"])
    assert (again.id, again.begun, again.tries) == (held.id, True, 2)


async def test_a_delivery_begun_by_a_worker_that_is_gone_is_begun_anew(queued: SqlStore) -> None:
    [first] = await taken(queued, events=["handed_over"])
    assert await taken(queued, "w2", 2, ["handed_over"]) == []
    assert await queued.beat("w2", now=at(9))
    await queued.reap(lapsed_before=at(5), now=at(9), jitter_s=0, limit=1)
    [again] = await taken(queued, "w2", 9, ["handed_over"])
    assert (again.id, again.begun, again.tries) == (first.id, True, 2)
    assert await taken(queued, "w1", 9) == []


@pytest.mark.parametrize("begun", [True, False])
async def test_a_notice_is_not_delivered_after_its_time_but_given_as_lapsed(queued: SqlStore, begun: bool) -> None:
    if begun:
        [handed] = await taken(queued, events=["handed_over"])
        await queued.settle_notification(handed.id, now=at(2), retry_at=at(3))
    assert await queued.lapsed_notifications(now=at(19), limit=9) == []
    assert await taken(queued, seconds=20, events=["handed_over"]) == []
    [lapsed] = await queued.lapsed_notifications(now=at(20), limit=9)
    assert (lapsed.notice.event, lapsed.begun) == ("handed_over", begun)
    await queued.settle_notification(lapsed.id, now=at(21), retry_at=None)
    assert await queued.lapsed_notifications(now=at(30), limit=9) == []


async def test_two_processes_never_take_the_same_notice(queued: SqlStore, other: SqlStore) -> None:
    for number in range(20):
        await tell(queued, f"R-{number}", Notice("completed", 1))
    rounds = await asyncio.gather(
        *(
            taken(each, worker, events=["completed"], limit=4)
            for _ in range(4)
            for each, worker in ((queued, "w1"), (other, "w2"))
        )
    )
    ids = [each.id for some in rounds for each in some]
    assert len(ids) == len(set(ids)) == 20
