"""
The watchman: verifies what has been added since the last round, again and again, beside the work.

Owns when a round is due and what a finding leads to: a failure of the control (PCI DSS v4.0.1, 10.3.4
and 10.7.2). Rounds only read; a full verification is `orchestrator audit verify`, by somebody
else and with what was carried elsewhere. Next: `orchestrator.upkeep`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.audit.log import Evidence
from orchestrator.audit.notes import Verifier, read_note
from orchestrator.audit.verify import Archive, Report, verify
from orchestrator.compliance import Lag, Seal
from orchestrator.domain.errors import ControlFailed, InvalidInput
from orchestrator.ports import Clock
from orchestrator.telemetry import emit

TOO_MUCH = 10_000
"""Waiting entries."""
VERIFY = "verify"
"""What the register of failed controls calls this one."""


class Watched(Archive, Protocol):
    """A database that knows its newest seal, and how far that is behind."""

    async def lag(self) -> Lag:
        """Tell how much waits, since when, and when was sealed last."""
        ...

    async def lives(self) -> Sequence[str]:
        """Give the database's lives, the present one last."""
        ...


@dataclass(slots=True)
class Watchman:
    """
    One process's rounds.

    Attributes:
        store: The database.
        keys: The keys whose signatures count.
        clock: Time.
        every_s: Seconds between two rounds.
    """

    store: Watched
    keys: Sequence[Verifier]
    clock: Clock
    every_s: float
    _seen: Seal | None = None
    _due_at: float = 0.0

    async def turn(self) -> bool:
        """
        Verify what has been added, if it is time; the first round begins at the newest seal.

        Nothing is verified while nothing was ever sealed, or far too much waits to be: then there is nowhere to
        go on from, a round would read everything, and health has told of it.

        Returns:
            Whether a round was made.

        Raises:
            ControlFailed: Something does not hold; the first finding is named, and the next round begins where
                this one did.
            Unavailable: The database does not answer.

        Crash: nothing was written; the next process begins anew.
        """
        if self.clock.monotonic() < self._due_at:
            return False
        self._due_at = self.clock.monotonic() + self.every_s
        lag = await self.store.lag()
        if lag.newest is None or lag.waiting >= TOO_MUCH:
            return False
        seen = self._seen
        if seen is not None and read_note(seen.note, "note").checkpoint.life != (await self.store.lives())[-1]:
            seen = None  # a person has begun a new life of the database: what was seen may not be in it
        await self._round(seen or lag.newest)
        self._seen = lag.newest
        return False  # a round that is over calls for no other at once

    async def _round(self, seen: Seal) -> None:
        after = ("the newest checkpoint", read_note(seen.note, "note"))
        try:
            report = await verify(self.store, evidence=Evidence(self.keys, after=after))
        except InvalidInput as error:
            raise ControlFailed(VERIFY, f"{error.field} {error.problem}") from None
        emit("trail.verified", count=report.counts["entries"], findings=report.counts["findings"])
        if not report.clean:
            raise ControlFailed(VERIFY, f"{told_of(report)}; see `orchestrator audit verify`")

    async def failing(self) -> str:
        """Tell nothing: a round that is late is a database that does not answer, which health tells."""
        return ""


def told_of(report: Report) -> str:
    """Give a report with findings in one line: how many, and the first."""
    first = report.findings[0]
    where = first.chain_id if first.seq is None else f"{first.chain_id} {first.seq}"
    return f"{report.counts['findings']} findings; {first.kind}, {where}: {first.what}"
