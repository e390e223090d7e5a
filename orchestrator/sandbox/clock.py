"""
The sandbox's time: faster than real time if asked, and movable forwards.

Owns three readings of one clock. Sessions, windows and delays live on `now`,
which runs `speed` times as fast; tokens live on `token_now`, because a client
reads their life in real seconds; dates in answers come from `wall`. `advance`
moves all three. Knows nothing of what is timed. Next: `intake`.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress


class SandboxClock:
    """
    One adjustable clock.

    Args:
        clock: Real seconds from any beginning, never going back.
        wall: Real seconds since 1970-01-01 UTC.
        speed: How many of the sandbox's seconds pass in a real one.
    """

    def __init__(self, clock: Callable[[], float], wall: Callable[[], float], speed: float) -> None:
        self._clock = clock
        self._wall = wall
        self._speed = speed
        self._began = clock()
        self._offset = 0.0
        self._moved = asyncio.Event()

    def now(self) -> float:
        """Seconds of sandbox time since it began."""
        return (self._clock() - self._began) * self._speed + self._offset

    def token_now(self) -> float:
        """Seconds since it began at real pace, advances included."""
        return self._clock() - self._began + self._offset

    def wall(self) -> float:
        """Seconds since 1970-01-01 UTC, advances included."""
        return self._wall() + self._offset

    def real_wall(self) -> float:
        """Seconds since 1970-01-01 UTC without advances: what a client's own clock says."""
        return self._wall()

    def real_s(self, seconds: float) -> float:
        """Give the real length of so many sandbox seconds."""
        return seconds / self._speed

    def advance(self, seconds: float) -> None:
        """Move forwards by so many sandbox seconds; delays that are over by then end at once."""
        self._offset += seconds
        self._moved.set()
        self._moved = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Wait for so many sandbox seconds, shorter when the clock is advanced meanwhile."""
        deadline = self.now() + seconds
        while (left := deadline - self.now()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.real_s(left)):
                    await self._moved.wait()
