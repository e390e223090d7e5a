"""What a worker takes for the present when its wall clock jumps in the middle of a step."""

from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.claim import Claims, Rhythm

T0 = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.at, self.off = 0.0, 0.0

    def now(self) -> datetime:
        return T0 + timedelta(seconds=self.at + self.off)

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


class Store:
    """A database whose own clock is always right; keeps the last beat."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.beaten: datetime | None = None

    async def clock_offset(self, clock: Clock) -> float:
        return self.clock.off

    async def register(self, worker_id: str, **_: Any) -> None:
        del worker_id

    async def beat(self, worker_id: str, *, now: datetime) -> bool:
        self.beaten = now
        return True

    async def living(self, *, since: datetime) -> int:
        assert since <= self.beaten
        return 1

    async def note(self, *_: Any, **__: Any) -> None:
        return


async def begun() -> tuple[Clock, Store, Claims]:
    clock = Clock()
    store: Any = Store(clock)
    claims = Claims(store, clock, Rhythm(), accounts=("emea",), new_id=lambda: "worker-1", origin="here", version="1")
    await claims.begin()
    return clock, store, claims


async def test_a_decision_under_way_goes_by_the_monotonic_clock_when_the_wall_clock_jumps() -> None:
    clock, _, claims = await begun()
    clock.at, clock.off = 10.0, 3600.0

    assert not claims.clock_agrees
    assert claims.context().now == T0 + timedelta(seconds=10)


async def test_it_still_does_when_the_clocks_were_compared_and_found_apart() -> None:
    clock, _, claims = await begun()
    clock.at, clock.off = 10.0, -3600.0
    assert not await claims.watch_clock()
    clock.at = 12.0

    assert claims.context().now == T0 + timedelta(seconds=12)


async def test_a_beat_never_lies_in_the_future_where_nobody_could_take_the_claims_over() -> None:
    clock, store, claims = await begun()
    clock.at, clock.off = 2.0, 90_000.0

    assert await claims.beat()
    assert store.beaten == T0 + timedelta(seconds=2)


async def test_a_clock_that_agrees_is_believed() -> None:
    clock, store, claims = await begun()
    clock.at, clock.off = 2.0, 0.4

    assert claims.context().now == clock.now()
    assert await claims.beat()
    assert store.beaten == clock.now()
