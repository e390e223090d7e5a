"""Twenty thousand waiting payments on one worker, in virtual time."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random

from orchestrator.claim import Rhythm
from orchestrator.domain.verdict import Verdict, VerdictKind
from orchestrator.provider.budget import BURST_S
from orchestrator.rounds import Limits
from orchestrator.waiting import AHEAD_S
from tests.support.idle import World
from tests.support.virtual import run

MANY, PER_SECOND = 20_000, 50.0
ROUND_S = MANY / PER_SECOND
RHYTHM = Rhythm(poll_s=5.0)


@dataclass
class Starting(World):
    """A provider whose starts are told of, and end there."""

    async def authorize(self) -> Verdict:
        self.authorized = [*getattr(self, "authorized", []), self.clock.monotonic()]
        return Verdict(VerdictKind.NOT_SENT, reason="connect_refused")


def resident_kb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


def test_looks_keep_to_the_budget_the_earliest_loss_goes_first_and_starts_find_room():
    world = Starting(PER_SECOND)
    injected = []

    async def main():
        random = Random(5)
        for number in range(MANY):
            world.wait_for_look(f"pay-{number:05}", age_s=random.uniform(0, 600))
        before = resident_kb()
        worker = world.worker(rhythm=RHYTHM, limits=Limits(concurrency=200, batch=2000))
        running = asyncio.create_task(worker.run())
        for number in range(44):  # more than one round, starts in between
            await asyncio.sleep(10)
            injected.append(world.clock.monotonic())
            world.born(f"start-{number}")
            worker.wake()
        await asyncio.sleep(1)
        print(f"{(resident_kb() - before) / MANY:.2f} KiB for a waiting payment, {len(worker._held)} held")
        assert len(worker._held) == MANY + len(injected)
        assert worker._waiting.tickets <= 2 * len(worker._held) + 65
        worker.stop()
        await running

    run(main())
    times = [at for at, _, _ in world.looks]
    for window in (1.0, 10.0, 100.0):
        for first in range(0, len(times) - 1, 97):
            last = first
            while last + 1 < len(times) and times[last + 1] < times[first] + window:
                last += 1
            assert last - first + 1 <= (window + BURST_S) * PER_SECOND + 1.001
    assert len(times) >= 0.98 * PER_SECOND * (times[-1] - times[0]), "the budget is used"
    by_payment = defaultdict(list)
    for at, payment_id, _ in world.looks:
        by_payment[payment_id].append(at)
    assert len(by_payment) == MANY
    assert max(seen[0] for seen in by_payment.values()) <= ROUND_S + 10
    gaps = [later - earlier for seen in by_payment.values() for earlier, later in pairwise(seen)]
    assert gaps
    assert max(gaps) <= ROUND_S + 10
    assert max(at for at in times) < 900, "so no evidence was lost"
    # While the first hundreds are looked at, the rest are still being claimed.
    told = [by.timestamp() for at, _, by in world.looks if at > 10]
    newest, worst = told[0], 0.0
    for by in told:
        worst, newest = max(worst, newest - by), max(newest, by)
    assert worst <= AHEAD_S + 2, "a look went before one that loses its evidence earlier"
    waited = [min(at for at in world.authorized if at >= begun) - begun for begun in injected]
    assert max(waited) < 0.5


def test_looks_beyond_capacity_are_told_of_and_the_earliest_loss_still_goes_first():
    world = World(per_second=1.0)  # 450 can be looked at in time

    async def main():
        for number in range(600):
            world.wait_for_look(f"pay-{number:03}", age_s=600 - number)
        worker = world.worker()
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(30)
        assert worker._watch.at_risk == {"emea": 150}
        worker.stop()
        await running

    run(main())
    assert [payment_id for _, payment_id, _ in world.looks[5:]] == [f"pay-{n:03}" for n in range(5, len(world.looks))]
    assert "evidence.endangered" in {entry.kind for chain in world.store.chains.values() for entry in chain}


def test_the_budget_is_shared_by_live_workers_and_comes_back_when_one_is_gone():
    world = World(per_second=20.0)

    async def main():
        first, second = world.worker("a"), world.worker("b")
        running = [asyncio.create_task(worker.run()) for worker in (first, second)]
        await asyncio.sleep(5)
        assert world.budget.per_second == 10.0
        second.stop()
        await running[1]
        await asyncio.sleep(5)
        assert world.budget.per_second == 20.0
        first.stop()
        await running[0]

    run(main())
