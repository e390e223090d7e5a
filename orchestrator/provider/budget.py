"""
One account's turns: how many requests a second, and who goes first when they are short.

Owns the token bucket, the waiting room and the provider's own Retry-After, for one
process; other live workers are a divisor. Must not know requests, verdicts or
payments. Next: `breaker`.

The room is ordered: starts and token calls before looks, looks by the moment at
which their evidence is lost. A start therefore never waits for more than the one
turn that was given before it came.
"""

import asyncio
import heapq
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

from orchestrator.nap import nap
from orchestrator.ports import Clock

BURST_S = 0.2
"""Turns of so many seconds may be taken at once after a pause: any t seconds see at most (t + 0.2) x rate + 1."""
LEAST_NAP_S = 0.001

STARTS = (0, 0.0)
"""The urgency of a start and of its token call."""


def urgency_of_look(evidence_until: float | None) -> tuple[int, float]:
    """Give the urgency of a look whose evidence is lost then, in POSIX seconds; without a time it goes first."""
    return 1, evidence_until or 0.0


@dataclass(slots=True, eq=False)
class _Waiter:
    until: float
    turn: asyncio.Future[bool] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Budget:
    """
    Gives turns.

    Args:
        per_second: Requests a second of the account, all workers together; `None` for no limit.
        clock: Time.
    """

    def __init__(self, per_second: float | None, *, clock: Clock) -> None:
        self._account = per_second
        self._workers = 1
        self._clock = clock
        self._full_at = float("-inf")
        """When the turns taken so far will have been earned (the theoretical arrival time of a GCRA)."""
        self._closed_until = float("-inf")
        self._room: list[tuple[tuple[int, float], int, _Waiter]] = []
        self._deadlines: list[tuple[float, int, _Waiter]] = []
        self._order = count()
        self._stirred = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None

    @property
    def per_second(self) -> float | None:
        """This process's share, in requests a second."""
        return None if self._account is None else self._account / self._workers

    @property
    def closed_s(self) -> float:
        """Seconds until the provider's Retry-After is over; 0 without one."""
        return max(0.0, self._closed_until - self._clock.monotonic())

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return sum(not waiter.turn.done() for _, _, waiter in self._room)

    def shared_by(self, workers: int) -> None:
        """Share the account with others: so many live workers in all, this one included."""
        self._workers = max(1, workers)
        self._stirred.set()

    def close_for(self, seconds: float) -> None:
        """Give no turn for so long, because the provider said so; a shorter time does not end a longer one."""
        self._closed_until = max(self._closed_until, self._clock.monotonic() + seconds)
        self._stirred.set()

    async def turn(self, urgency: tuple[int, float], until: float) -> bool:
        """
        Wait for a turn.

        Args:
            urgency: `STARTS`, or from `urgency_of_look`; the smallest goes first.
            until: How long to wait for it, on the monotonic clock.

        Returns:
            `False` if there was none until then; at once if there can't be one.

        Crash: turns are in memory; nothing is left behind.
        """
        if self._closed_until > until:
            return False
        if not self._room and self._ready_at() <= self._clock.monotonic():
            self._take()
            return True
        waiter, number = _Waiter(until), next(self._order)
        heapq.heappush(self._room, (urgency, number, waiter))
        heapq.heappush(self._deadlines, (until, number, waiter))
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._give_turns(), name="provider budget")
            self._pump.add_done_callback(self._stopped)
        elif self._deadlines[0][2] is waiter:
            self._stirred.set()
        return await waiter.turn

    def give_back(self) -> None:
        """Return a turn that was not used."""
        if self.per_second is not None:
            self._full_at -= 1 / self.per_second
        self._stirred.set()

    async def aclose(self) -> None:
        """Send everybody who waits away."""
        if self._pump is not None:
            self._pump.cancel()
            with suppress(asyncio.CancelledError):
                await self._pump

    def _ready_at(self) -> float:
        return max(self._closed_until, self._full_at - BURST_S)

    def _take(self) -> None:
        if self.per_second is not None:
            self._full_at = max(self._full_at, self._clock.monotonic()) + 1 / self.per_second

    async def _give_turns(self) -> None:
        while self._room:
            now = self._clock.monotonic()
            self._send_away(now)
            ready_at = self._ready_at()
            if ready_at <= now and self._room:
                waiter = heapq.heappop(self._room)[2]
                if not waiter.turn.done():
                    self._take()
                    waiter.turn.set_result(True)
                continue
            if self._deadlines:
                self._stirred.clear()
                left_s = min(ready_at, self._deadlines[0][0]) - now
                await nap(self._clock, max(left_s, LEAST_NAP_S), self._stirred)

    def _send_away(self, now: float) -> None:
        """Tell those whose time is over, or would be before the provider may be called again."""
        while self._deadlines:
            until, _, waiter = self._deadlines[0]
            if not waiter.turn.done():
                if until > max(now, self._closed_until):
                    return
                waiter.turn.set_result(False)
            heapq.heappop(self._deadlines)
        self._room.clear()  # nobody is left who waits

    def _stopped(self, _pump: asyncio.Task[None]) -> None:
        self._pump = None
        for _, _, waiter in self._room:
            if not waiter.turn.done():
                waiter.turn.set_result(False)
        self._room.clear()
        self._deadlines.clear()
