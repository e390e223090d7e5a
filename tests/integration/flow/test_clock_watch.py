"""A clock that goes wrong while the worker runs: it does nothing by it, gives its claims back, and comes again."""

import asyncio
import json
from typing import Any

import pytest

from orchestrator import claim
from orchestrator.claim import CLOCK_EVERY_S, Claims, Rhythm
from orchestrator.domain.errors import Unavailable
from orchestrator.domain.machine import Operation
from orchestrator.domain.verdict import Verdict, VerdictKind
from tests.support.idle import World
from tests.support.virtual import VirtualClock, run


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    offsets: list[float] = []

    def told(name: str, **fields: Any) -> None:
        if name == "clock.skewed":
            offsets.append(round(fields["offset_s"]))

    monkeypatch.setattr(claim, "emit", told)
    return offsets


def begun(world: World, clock: VirtualClock) -> Claims:
    return Claims(
        world.store, clock, Rhythm(), accounts=("emea",), new_id=lambda: "w", origin="host:1", version="1"  # type: ignore[arg-type]
    )  # fmt: skip


def notes(world: World) -> list[Any]:
    admin = [entry for name, chain in world.store.chains.items() if name.startswith("admin") for entry in chain]
    return [entry for entry in admin if not entry.kind.startswith("worker.")]


def test_the_clocks_are_compared_every_minute_and_a_change_is_logged_once(logged: list[float]) -> None:
    async def main() -> None:
        world, clock = World(), VirtualClock()
        claims, compared = begun(world, clock), 0
        real = world.store.clock_offset

        async def counted(of: Any) -> float:
            nonlocal compared
            compared += 1
            return await real(of)

        world.store.clock_offset = counted  # type: ignore[method-assign]
        await claims.begin()
        for _ in range(int(3 * CLOCK_EVERY_S / 2)):
            await asyncio.sleep(2)
            assert await claims.watch_clock()
        assert (compared, logged) == (4, [])
        clock.off_s = 0.9  # slewed, not noticed at once
        await asyncio.sleep(CLOCK_EVERY_S)
        for off in (2.9, 2.5, 0.2):
            clock.off_s = off
            await asyncio.sleep(CLOCK_EVERY_S)
            assert await claims.watch_clock()
            assert await claims.watch_clock()
        assert logged == [3, 0]
        assert notes(world) == []

    run(main())


@pytest.mark.parametrize("off", [3600.0, -3600.0, 7.0])
def test_a_jump_is_noticed_before_the_next_step_and_the_entry_says_so_once(logged: list[float], off: float) -> None:
    async def main() -> None:
        world, clock = World(), VirtualClock()
        claims = begun(world, clock)
        await claims.begin()
        world.wait_for_look("pay-1")
        [payment] = await claims.take(1)
        assert claims.holds(payment)
        clock.off_s = off
        assert not claims.clock_agrees
        assert not claims.holds(payment)
        world.wait_for_look("pay-2")
        assert await claims.take(1) == ()
        for _ in range(3):
            assert not await claims.watch_clock()
        [note] = notes(world)
        assert (note.kind, note.about, note.result) == ("clock.skew", "host:1", "failure")
        assert json.loads(note.body)["offset_ms"] == pytest.approx(off * 1000)
        clock.off_s = 0.0
        assert not claims.clock_agrees, "until they are compared"
        assert await claims.watch_clock()
        assert claims.clock_agrees
        assert logged == [round(off), 0]
        assert len(notes(world)) == 1

    run(main())


def test_an_entry_that_could_not_be_written_is_written_later(logged: list[float]) -> None:
    async def main() -> None:
        world, clock = World(), VirtualClock()
        claims = begun(world, clock)
        await claims.begin()
        clock.off_s, real = 60.0, world.store.note

        async def silent(*_: Any, **__: Any) -> None:
            raise Unavailable("the test says so")

        world.store.note = silent  # type: ignore[assignment,method-assign]
        with pytest.raises(Unavailable):
            await claims.watch_clock()
        assert not claims.clock_agrees
        world.store.note = real  # type: ignore[method-assign]
        assert not await claims.watch_clock()
        assert [note.kind for note in notes(world)] == ["clock.skew"]

    run(main())


@pytest.mark.parametrize("off", [3600.0, -3600.0])
def test_a_worker_whose_clock_jumps_drains_and_another_goes_on_until_they_agree_again(off: float) -> None:
    async def main() -> None:
        world, wrong = World(answer_s=1.0), VirtualClock()
        worker, other = world.worker("a", clock=wrong), world.worker("b")
        running = asyncio.create_task(worker.run())
        for number in range(5):
            world.wait_for_look(f"pay-{number}")
        await asyncio.sleep(0.6)  # its first looks are under way
        assert {payment.claimed_by for payment in world.store.payments.values()} == {"a-1"}
        wrong.off_s = off
        await asyncio.sleep(4)
        assert "a-1" not in world.store.workers
        assert {payment.claimed_by for payment in world.store.payments.values()} == {None}
        assert all(not payment.ended and payment.hold is None for payment in world.store.payments.values())
        looked = len(world.looks)
        await asyncio.sleep(60)
        assert len(world.looks) == looked, "it looks at nothing"
        learnt = Verdict(VerdictKind.ANSWERED, observation=world.answer.observation)
        await worker.hand_in("pay-1", Operation.QUERY_STATUS, learnt)  # what is known is taken nevertheless
        beside = asyncio.create_task(other.run())
        await asyncio.sleep(10)
        assert {payment.claimed_by for payment in world.store.payments.values()} == {"b-1"}
        wrong.off_s = 0.0
        await asyncio.sleep(5)
        assert set(world.store.workers) == {"a-2", "b-1"}
        other.stop()
        await beside
        await asyncio.sleep(330)  # the looks that it had timed are due in its database by then
        assert {payment.claimed_by for payment in world.store.payments.values()} == {"a-2"}
        worker.stop()
        await running

    run(main())


def test_a_clock_that_jumps_together_with_the_databases_is_no_reason_to_stop() -> None:
    """A file has the machine's own clock."""

    async def main() -> None:
        world, clock = World(), VirtualClock()

        async def agrees(_: Any) -> float:
            return 0.0

        world.store.clock_offset = agrees  # type: ignore[method-assign,assignment]
        worker = world.worker("a", clock=clock)
        running = asyncio.create_task(worker.run())
        world.wait_for_look("pay-1")
        await asyncio.sleep(1)
        clock.off_s = 3600.0
        looked = len(world.looks)
        await asyncio.sleep(10)
        assert len(world.looks) > looked
        assert set(world.store.workers) == {"a-1"}
        worker.stop()
        await running

    run(main())
