"""
The loops of a worker: turns at a rhythm, or sooner when stirred, until the stop.

Owns how much is done at once, how a loop sleeps, and that no trouble with the database ends one. Must not know
what a turn does. Next: `worker`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from orchestrator.claim import DATABASE_TROUBLE
from orchestrator.nap import nap
from orchestrator.ports import Clock
from orchestrator.telemetry import emit

DATABASE_RETRY_S = 0.5
BREATH_S = 0.02
"""Between two full plates where other workers live, so that they get their share."""
HINT_S = 0.05
"""Between two hints that are heeded: with many payments they come in floods, to every worker."""


@dataclass(frozen=True, slots=True)
class Limits:
    """
    How much one worker does at once.

    Attributes:
        concurrency: Steps in flight.
        batch: Payments claimed in one statement.
        drain_s: How long a stop waits for steps in flight; their verdicts are worth it.
    """

    concurrency: int = 200
    batch: int = 100
    drain_s: float = 20.0


class Rounds:
    """
    Takes turns until a stop.

    Args:
        clock: Time.
        stopping: Set for the stop.
    """

    def __init__(self, clock: Clock, stopping: asyncio.Event) -> None:
        self._clock = clock
        self._stopping = stopping

    async def every(self, seconds: float, turn: Callable[[], Awaitable[bool]], stir: asyncio.Event | None) -> None:
        """
        Take turns until the stop, or for ever without `stir`.

        A turn that found a full plate is followed by another at once; one that
        found no database, by another later.
        """
        while stir is None or not self._stopping.is_set():
            pause = seconds
            try:
                if await turn():
                    pause = 0.0
            except DATABASE_TROUBLE as error:
                emit("database.unavailable", error=error, operation=turn.__name__.strip("_"))
                pause = max(seconds, DATABASE_RETRY_S)
            if stir is None or pause == 0:
                await self._clock.sleep(pause)
            else:
                await self.nap(pause, stir)

    async def hear(self, listen: Callable[[Callable[[], None]], Awaitable[None]], hinted: asyncio.Event) -> None:
        """Take hints from other processes; without them the polls find the same, only later."""
        try:
            await listen(hinted.set)
        except Exception as error:  # noqa: BLE001 - no trouble with hints may end a worker
            emit("hint.failed", error=error)

    async def heed(self, hinted: asyncio.Event, stirs: Collection[asyncio.Event]) -> None:
        """Stir at once after a hint, but not at every one of a flood."""
        while True:
            await hinted.wait()
            hinted.clear()
            for event in stirs:
                event.set()
            await self._clock.sleep(HINT_S)

    async def nap(self, seconds: float, stir: asyncio.Event) -> None:
        """Sleep, or until stirred; the next stir is another one."""
        await nap(self._clock, seconds, stir)
        if not self._stopping.is_set():
            stir.clear()
