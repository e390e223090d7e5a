"""Effects that an open breaker keeps back, looks that came too late, suspects that turn out harmless."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import execute
from orchestrator.claim import Rhythm
from orchestrator.domain.payment import Channel, HoldReason, State
from orchestrator.domain.verdict import Cause, Verdict, VerdictKind
from tests.support.idle import World, until
from tests.support.virtual import run

OPEN = Verdict(VerdictKind.NOT_SENT, "breaker_open", retry_after_s=30.0)
SLOW = Rhythm(beat_s=100, life_s=400, trust_s=300, poll_s=60)
"""A day passes quicker with fewer turns."""
ABSENT = Verdict(VerdictKind.REJECTED, "http_404", Cause.ABSENT)


class Counting(World):
    authorized = 0

    async def authorize(self) -> Verdict:
        self.authorized += 1
        return Verdict(VerdictKind.NOT_SENT, reason="connect_refused")


def entries(world: World, payment_id: str) -> list[Any]:
    return world.store.chains[payment_id]


@pytest.mark.parametrize(
    ("cause", "channel", "outcome", "within_s"),
    [
        (Cause.NONE, Channel.PHONE, "provider_unavailable", 20),
        (Cause.ACCOUNT, Channel.PHONE, "config_error", 20),
        (Cause.NONE, Channel.DIGITAL, "provider_unavailable", 600),
        (Cause.ACCOUNT, Channel.DIGITAL, "config_error", 24 * 3600 + 600),
    ],
)
def test_a_start_waits_without_an_intent_and_its_clock_stands_still_only_for_the_accounts_trouble(
    cause: Cause, channel: Channel, outcome: str, within_s: float
) -> None:
    async def main() -> None:
        world = Counting(kept_back=replace(OPEN, cause=cause))
        worker = world.worker(rhythm=SLOW if channel is Channel.DIGITAL else None)
        running = asyncio.create_task(worker.run())
        world.born("pay-1", channel)
        await asyncio.sleep(within_s - 1)
        assert not world.store.payments["pay-1"].ended
        assert [entry.trigger for entry in entries(world, "pay-1")] == ["retry"], "the first time is written, no more"
        await asyncio.sleep(95)
        ended = world.store.payments["pay-1"]
        assert (ended.state, ended.outcome) == (State.FAILED, outcome)
        assert world.authorized == 0
        worker.stop()
        await running

    run(main())


def test_when_the_breaker_has_closed_it_goes_on_soon() -> None:
    async def main() -> None:
        world = Counting(kept_back=OPEN)
        worker = world.worker()
        running = asyncio.create_task(worker.run())
        world.born("pay-phone", Channel.PHONE)
        world.born("pay-digital", Channel.DIGITAL)
        await asyncio.sleep(3)
        world.kept_back = None
        await asyncio.sleep(2.1)
        assert world.authorized >= 1, "a caller on the line does not wait for the others' pause"
        await asyncio.sleep(30)
        assert world.authorized >= 2
        worker.stop()
        await running

    run(main())


@pytest.mark.parametrize(
    ("answered", "gone_after_s", "lost"),
    [(True, 400, False), (True, 1300, True), (False, 1300, True), (False, 400, False)],
)
def test_a_look_that_finds_nothing_after_the_window_counts_as_lost_evidence(
    monkeypatch: pytest.MonkeyPatch, answered: bool, gone_after_s: float, lost: bool
) -> None:
    told: list[dict[str, Any]] = []
    real = execute.emit
    monkeypatch.setattr(
        execute, "emit", lambda name, **fields: told.append(fields) if name == "evidence.lost" else real(name, **fields)
    )
    silence = Verdict(VerdictKind.UNKNOWN, "timeout")

    async def main() -> None:
        world = World(answer=World.answer if answered else silence)
        world.wait_for_look("pay-1", age_s=120)
        worker = world.worker()
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(2)
        world.answer = silence  # the provider is not to be reached for so long
        await asyncio.sleep(gone_after_s)
        world.answer = ABSENT
        await until(lambda: world.store.payments["pay-1"].hold is not None, 400)
        assert world.store.payments["pay-1"].hold is HoldReason.INDETERMINATE
        await asyncio.sleep(1000)
        worker.stop()
        await running

    run(main())
    assert len(told) == lost
    if lost:
        assert told[0]["payment_id"] == "pay-1"
        assert told[0]["since_s"] > 0


def test_a_suspect_that_was_driven_without_harm_is_none_any_more() -> None:
    async def main() -> None:
        world = World(answer_s=2.0)
        for number in range(40):
            world.wait_for_look(f"pay-{number}")
            payment = world.store.payments[f"pay-{number}"]
            world.store.payments[payment.id] = replace(payment, claim_no=4, progress_claim=1)
        worker = world.worker()
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(1)
        assert len(world.looks) == 40 // 16
        await asyncio.sleep(90)
        assert {one.claim_no - one.progress_claim for one in world.store.payments.values()} == {0}
        worker.stop()
        await running

    run(main())


def test_what_is_no_look_is_driven_before_looks_whose_time_has_come() -> None:
    async def main() -> None:
        world = Counting(per_second=0.5)
        for number in range(20):
            world.wait_for_look(f"pay-{number}", age_s=number)
        worker = world.worker()
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(5)
        assert len(world.looks) <= 5 * 0.5 + 2
        world.born("pay-start")
        worker.wake()
        await asyncio.sleep(0.1)
        assert world.authorized == 1
        worker.stop()
        await running
        assert world.store.payments["pay-0"].due_at is not None
        assert world.store.payments["pay-0"].due_at <= world.clock.now() + timedelta(seconds=900)

    run(main())
