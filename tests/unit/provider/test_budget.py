"""Turns of an account: never more than its rate, and the most urgent first, all in virtual time."""

import asyncio
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.provider.budget import BURST_S, STARTS, Budget, urgency_of_look
from tests.support.virtual import VirtualClock, run

FOR_EVER = 1e9


def test_without_a_limit_every_turn_is_given_at_once():
    async def main():
        budget = Budget(None, clock=VirtualClock())
        assert all([await budget.turn(STARTS, FOR_EVER) for _ in range(1000)])
        assert (asyncio.get_running_loop().time(), budget.per_second, budget.waiting) == (0, None, 0)

    run(main())


@settings(max_examples=60, deadline=None)
@given(
    rate=st.floats(0.2, 200),
    workers=st.integers(1, 5),
    arrivals=st.lists(st.floats(0, 3), min_size=1, max_size=60),
    looks=st.booleans(),
)
def test_any_window_sees_at_most_the_rate_and_a_short_burst(rate, workers, arrivals, looks):
    sent = []

    async def main():
        budget = Budget(rate, clock=VirtualClock())
        budget.shared_by(workers)

        async def call(at):
            await asyncio.sleep(at)
            assert await budget.turn(urgency_of_look(at) if looks else STARTS, FOR_EVER)
            sent.append(asyncio.get_running_loop().time())

        await asyncio.gather(*map(call, arrivals))

    run(main())
    share = rate / workers
    assert len(sent) == len(arrivals)
    for first, begin in enumerate(sent):
        for last in range(first, len(sent)):
            assert last - first + 1 <= (sent[last] - begin + BURST_S) * share + 1 + 1e-6


def test_starts_are_not_starved_by_ten_thousand_looks_nor_looks_forgotten():
    waited, looked = [], []

    async def main():
        budget, random = Budget(50, clock=VirtualClock()), Random(1)
        loop = asyncio.get_running_loop()

        async def look(by):
            assert await budget.turn(urgency_of_look(by), FOR_EVER)
            looked.append(by)

        async def start(at):
            await asyncio.sleep(at)
            assert await budget.turn(STARTS, FOR_EVER)
            waited.append(loop.time() - at)

        looks = [look(random.uniform(1, 900)) for _ in range(10_000)]
        await asyncio.gather(*looks, *(start(random.uniform(0, 200)) for _ in range(1000)))
        assert loop.time() == pytest.approx(11_000 / 50, abs=1)

    run(main())
    # Never more than the turns of the starts that came before it at the same moment.
    assert max(waited) < 0.5
    burst = 11
    assert looked[burst:] == sorted(looked[burst:])


def test_without_a_time_a_look_goes_before_all_looks_and_after_starts():
    order = []

    async def main():
        budget = Budget(1, clock=VirtualClock())

        async def call(name, urgency):
            await budget.turn(urgency, FOR_EVER)
            order.append(name)

        kinds = [("late", urgency_of_look(900.0)), ("webhook's", urgency_of_look(None)), ("start", STARTS)]
        await asyncio.gather(call("first", STARTS), *(call(*kind) for kind in kinds))

    run(main())
    assert order == ["first", "start", "webhook's", "late"]


def test_who_gets_no_turn_in_time_is_told_then_and_keeps_nobody_waiting():
    async def main():
        budget, loop = Budget(1, clock=VirtualClock()), asyncio.get_running_loop()
        assert await budget.turn(STARTS, 0)

        async def late():
            assert not await budget.turn(urgency_of_look(9.0), 0.5)
            return loop.time()

        async def gone():
            await budget.turn(STARTS, FOR_EVER)

        cancelled = asyncio.create_task(gone())
        told = asyncio.create_task(late())
        await asyncio.sleep(0.1)
        assert budget.waiting == 2
        cancelled.cancel()
        assert await told == pytest.approx(0.5)
        assert await budget.turn(STARTS, FOR_EVER)
        assert loop.time() == pytest.approx(1 - BURST_S)
        assert budget.waiting == 0

    run(main())


def test_the_providers_own_word_keeps_everybody_back_starts_too():
    async def main():
        budget, loop = Budget(None, clock=VirtualClock()), asyncio.get_running_loop()
        budget.close_for(30)
        budget.close_for(5)  # shorter, and so no news
        assert budget.closed_s == pytest.approx(30)
        assert not await budget.turn(STARTS, 29)
        assert loop.time() == 0, "nobody waits for what can't be"
        assert await budget.turn(STARTS, 31)
        assert loop.time() == pytest.approx(30)
        waits = asyncio.create_task(budget.turn(STARTS, loop.time() + 10))
        await asyncio.sleep(0)
        budget.close_for(1)
        again = asyncio.create_task(budget.turn(STARTS, loop.time() + 10))
        await asyncio.sleep(0.5)
        budget.close_for(60)
        assert not await again
        assert await waits, "its turn was given before"
        assert loop.time() < 31

    run(main())


def test_a_turn_that_was_not_used_is_the_next_ones():
    async def main():
        budget, loop = Budget(1, clock=VirtualClock()), asyncio.get_running_loop()
        assert await budget.turn(STARTS, FOR_EVER)
        waits = asyncio.create_task(budget.turn(STARTS, FOR_EVER))
        await asyncio.sleep(0.25)
        budget.give_back()
        assert await waits
        assert loop.time() == 0.25

    run(main())


def test_a_share_that_grows_is_felt_by_those_who_wait():
    async def main():
        budget, loop = Budget(10, clock=VirtualClock()), asyncio.get_running_loop()
        budget.shared_by(100)
        assert budget.per_second == 0.1
        assert await budget.turn(STARTS, FOR_EVER)
        waits = [asyncio.create_task(budget.turn(STARTS, FOR_EVER)) for _ in range(3)]
        await asyncio.sleep(1)
        budget.shared_by(0)
        assert budget.per_second == 10
        assert all(await asyncio.gather(*waits))
        assert loop.time() == pytest.approx(10 - BURST_S + 0.2, abs=0.1)

    run(main())


def test_closing_sends_away_who_waits():
    async def main():
        budget = Budget(1, clock=VirtualClock())
        await budget.turn(STARTS, FOR_EVER)
        waits = [asyncio.create_task(budget.turn(STARTS, FOR_EVER)) for _ in range(3)]
        await asyncio.sleep(0)
        await budget.aclose()
        assert await asyncio.gather(*waits) == [False] * 3
        await budget.aclose()

    run(main())
