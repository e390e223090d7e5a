"""Time that is a number: a clock on a loop that jumps to its next timer."""

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.simulation.loop import SimLoop

START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


class VirtualClock:
    """`off_s` is by how much the wall clock is wrong; the monotonic clock is always right."""

    def __init__(self) -> None:
        self.off_s = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic() + self.off_s)

    def true_now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run in virtual time."""
    return SimLoop().run(main)
