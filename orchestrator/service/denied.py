"""
Who was not let in: told at once, and then once a minute for each address, with a count.

Owns that a flood of strangers is no flood of entries. Writes nothing itself. Next: `app`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from orchestrator.domain.errors import OrchestratorError

QUIET_S = 60.0
"""How long an address is only counted after it was told of."""
MOST = 1000
"""How many addresses are told apart at once; more of them are `others`."""
OTHERS = "others"


@dataclass(slots=True)
class _Seen:
    """One address: where it last came to, when it was told of, and how often it came since."""

    door: str
    at: float
    untold: int = 0


@dataclass(slots=True)
class Denials:
    """
    The addresses that were refused lately.

    Attributes:
        tell: Awaited with the door, the address, and how often it came since it was told of last.
    """

    tell: Callable[[str, str, int], Awaitable[None]]
    _seen: dict[str, _Seen] = field(default_factory=dict)

    async def deny(self, door: str, sender: str) -> None:
        """
        Count one refusal, and tell of it if that is due; an error of the database is left to the next one.

        Crash: what was counted and not told is lost; the log has each of them.
        """
        now = asyncio.get_running_loop().time()
        await self._tell_older_than(now - QUIET_S)
        who = sender if sender in self._seen or len(self._seen) < MOST else OTHERS
        seen = self._seen.setdefault(who, _Seen(door, float("-inf")))
        seen.door, seen.untold = door, seen.untold + 1
        if now - seen.at >= QUIET_S:
            seen.at = now
            await self._told(who, seen)

    async def close(self) -> None:
        """Tell of everything that was only counted."""
        await self._tell_older_than(float("inf"))

    async def _tell_older_than(self, at: float) -> None:
        for who, seen in list(self._seen.items()):
            if seen.at <= at:
                del self._seen[who]
                await self._told(who, seen)

    async def _told(self, who: str, seen: _Seen) -> None:
        count, seen.untold = seen.untold, 0
        if count:
            with suppress(OrchestratorError):  # the log has it
                await self.tell(seen.door, who, count)
