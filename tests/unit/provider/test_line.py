"""Corners of one call that no server can be made to show on demand."""

import asyncio
from typing import Any

import httpx
import pytest

from orchestrator.domain.machine import Operation
from orchestrator.domain.verdict import VerdictKind
from orchestrator.interactions import Rendered
from orchestrator.provider.connections import LaneShelf
from orchestrator.provider.transport import Answer, DeadlinePassed, PoolWait, Wire
from tests.support.provider import CONTEXT, FakeClock, account, payment, pool

LOOK = Rendered("GET", "http://127.0.0.1:9/", (), b"")


@pytest.mark.parametrize("flaw", [httpx.ConnectError("x"), PoolWait(), DeadlinePassed(), httpx.ReadError("x")])
async def test_whatever_goes_wrong_with_a_body_the_request_was_sent(flaw, monkeypatch):
    async def exchange(*_: Any, **__: Any) -> Answer:
        return Answer(200, flaw=flaw)

    monkeypatch.setattr(Wire, "exchange", exchange)
    line = pool(account("http://127.0.0.1:9", transport="httpx"))._accounts["emea"].line
    call = line.call(1, "GET", "")
    verdict = await line.once(call, LOOK, fresh=False, private=tuple)
    assert (verdict.kind, call.sends, call.status) == (VerdictKind.UNKNOWN, 1, 200)


async def test_a_refusal_counts_even_if_its_body_was_lost(monkeypatch):
    async def exchange(*_: Any, **__: Any) -> Answer:
        return Answer(404, body=b"<half", flaw=httpx.ReadError("x"))

    monkeypatch.setattr(Wire, "exchange", exchange)
    line = pool(account("http://127.0.0.1:9"))._accounts["emea"].line
    verdict = await line.once(line.call(1, "GET", ""), LOOK, fresh=False, private=tuple)
    assert (verdict.kind, verdict.message) == (VerdictKind.REJECTED, None)


async def test_a_slot_that_comes_too_late_to_connect_in_time_is_not_used(monkeypatch):
    wire = Wire("httpx", CONTEXT, body_limit=9, connections=1, start_idle_s=0, monotonic=lambda: 0.0)
    monkeypatch.setattr(LaneShelf, "take", lambda _: pytest.fail("nothing may be sent"))
    loop = asyncio.get_running_loop()
    times = iter([loop.time(), loop.time() + 0.95 * 60])

    class LateLoop:
        def time(self) -> float:
            return next(times)

    monkeypatch.setattr("orchestrator.provider.transport.asyncio.get_running_loop", LateLoop)
    with pytest.raises(PoolWait):
        await wire.exchange(LOOK, deadline_s=60, fresh=True)


async def test_a_call_whose_time_is_over_sends_nothing(monkeypatch):
    clock = FakeClock()
    provider = pool(account("http://127.0.0.1:9"), clock).of(payment())
    prepared = provider.prepare(Operation.QUERY_STATUS, payment(), {})
    call = provider._line.call(1, "GET", "")
    clock.ahead = 2
    monkeypatch.setattr(Wire, "exchange", lambda *_, **__: pytest.fail("nothing may be sent"))
    verdict = await provider._line.once(call, prepared.rendered("t"), fresh=False, private=tuple)
    assert (verdict.kind, verdict.reason, call.sends) == (VerdictKind.NOT_SENT, "deadline", 0)


async def test_lanes_that_lie_idle_too_long_are_closed_and_the_newest_is_used_first():
    now = 0.0
    shelf = LaneShelf(CONTEXT, 20.0, lambda: now)
    first, second, third = (shelf.take() for _ in range(3))
    assert list(shelf.give_back(first, sound=True)) == []
    now = 15.0
    assert list(shelf.give_back(second, sound=True)) == []
    now = 21.0
    assert list(shelf.give_back(third, sound=True)) == [first]
    assert shelf.take() is third
    assert list(shelf.give_back(third, sound=False)) == [third]
    assert shelf.take() is second
    await shelf.aclose()


@pytest.mark.parametrize(("deadline_s", "tries"), [(1e6, 3), (0.01, 1)])
async def test_a_burst_has_three_tries_and_none_whose_wait_would_pass_the_deadline(deadline_s, tries):
    line = pool(account("http://127.0.0.1:9"))._accounts["emea"].line
    call = line.call(deadline_s, "GET", "")
    made = []

    async def attempt() -> int:
        made.append(len(made))
        return made[-1]

    line._wait._random.seed(2)  # the first wait drawn is 0.48 s
    assert await line.burst(call, attempt, lambda _: True) == tries - 1
    assert len(line.clock.slept) == len(made) - 1 == tries - 1


async def test_a_burst_ends_with_the_first_result_that_is_final():
    line = pool(account("http://127.0.0.1:9"))._accounts["emea"].line
    results = iter(["again", "final", "never"])

    async def attempt() -> str:
        return next(results)

    assert await line.burst(line.call(9, "GET", ""), attempt, lambda result: result == "again") == "final"
