"""
The system's clocks, behind the `Clock` port; the only place that reads them.

Next: `orchestrator.orchestrator`.
"""

import asyncio
import time
from datetime import UTC, datetime


class SystemClock:
    """Wall clock in UTC, monotonic clock, and real sleep."""

    def now(self) -> datetime:
        """Give the wall clock's time."""
        return datetime.now(UTC)  # noqa: TID251 - this is the clock that everybody else is given

    def monotonic(self) -> float:
        """Give seconds that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep for real."""
        await asyncio.sleep(seconds)
