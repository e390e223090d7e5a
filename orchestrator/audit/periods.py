"""
Periods of the trail, and what a moment of the database must tell about one.

Owns the Protocol that completeness, samples, reviews and reconciliation read by, and the
check that a checkpoint is this log's. Knows no database. Next: `completeness`.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from orchestrator.audit.notes import Note, Verifier
from orchestrator.compliance import Booked, Leaf, Placed, Seal, Unreadable
from orchestrator.domain.entry import Entry, instant
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.payment import Payment


class Ledger(Protocol):
    """Everything as it was at one moment, read in pages."""

    def entries(self, unreadable: Unreadable) -> AsyncIterator[Placed]:
        """Give every entry in the order (chain_id, seq)."""
        ...

    def payments(self, unreadable: Unreadable) -> AsyncIterator[Payment]:
        """Give every payment in the order of its id."""
        ...

    def within(self, since: datetime | None, until: datetime | None, unreadable: Unreadable) -> AsyncIterator[Entry]:
        """Give the entries of a period by chain and number."""
        ...

    async def chain(self, chain_id: str) -> Sequence[Entry]:
        """Give one chain, whole."""
        ...

    def leaves(self) -> AsyncIterator[Sequence[Leaf]]:
        """Give every leaf in order, page by page."""
        ...

    def orphans(self, since: datetime | None, until: datetime | None) -> AsyncIterator[tuple[str, int, datetime]]:
        """Give chain, number and time of a period's entries whose predecessor is not there."""
        ...

    def begun(self, since: datetime | None, until: datetime | None, size: int) -> AsyncIterator[tuple[str, int]]:
        """Give id and leaf of each payment whose first entry is of the period and sealed."""
        ...

    def placed(self, since: datetime | None, until: datetime | None, size: int) -> AsyncIterator[tuple[str, int, int]]:
        """Give chain, number and leaf of each entry of the period that is sealed."""
        ...

    def sealings(self, since: datetime | None, until: datetime | None) -> AsyncIterator[tuple[Seal, datetime | None]]:
        """Give the seals of a period, each with the time of the oldest entry under its new leaves."""
        ...

    def held(self, before: datetime, unreadable: Unreadable) -> AsyncIterator[Payment]:
        """Give the payments that are held now and were before that time."""
        ...

    def booked(self, since: datetime, until: datetime, account: str | None) -> AsyncIterator[Booked]:
        """Give the payments that were created in a period, oldest first."""
        ...

    async def newest(self) -> Seal | None:
        """Give the newest seal, if there is one."""
        ...

    async def seal_of_size(self, size: int) -> Seal | None:
        """Give the seal over so many leaves, if there is one."""
        ...

    async def lives(self) -> Sequence[str]:
        """Give the database's lives, the present one last."""
        ...

    async def waiting(self) -> int:
        """Count the entries that wait for their leaf."""
        ...

    async def oldest_waiting(self) -> datetime | None:
        """Give the time of the oldest of them."""
        ...

    async def schemas(self, since: datetime | None, until: datetime | None) -> Sequence[tuple[datetime, str]]:
        """Give when the schema was recorded in a period, and as which revision."""
        ...


class Books(Protocol):
    """Where a moment of the trail is read from."""

    def ledger(self) -> AbstractAsyncContextManager[Ledger]:
        """Give the trail as it is now, however long the reading takes."""
        ...


@dataclass(frozen=True, slots=True)
class Period:
    """
    A span of time.

    Attributes:
        since: Its beginning; `None` for the trail's.
        until: Its end, which is no longer in it; `None` for now.
    """

    since: datetime | None = None
    until: datetime | None = None

    def holds(self, at: datetime) -> bool:
        """Tell whether the moment is in it."""
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)

    @property
    def told(self) -> dict[str, str | None]:
        """The period as entries and `--json` name it."""
        return {
            "since": None if self.since is None else instant(self.since),
            "until": None if self.until is None else instant(self.until),
        }


def signers(note: Note, verifiers: Iterable[Verifier], name: str) -> Sequence[str]:
    """
    Give the names of the trusted keys that have signed a note; at least one.

    Args:
        note: The note.
        verifiers: The keys that are trusted.
        name: What errors call the note.

    Raises:
        InvalidInput: None of them has, or a signature does not fit.
    """
    fix = "give the verifier key with --key; `orchestrator audit keys` prints those that are trusted"
    try:
        signed = [verifier.name for verifier in note.signed_by(verifiers)]
    except ValueError:
        raise InvalidInput(name, "has a signature that does not fit", fix) from None
    if not signed:
        raise InvalidInput(name, "is signed by no key that is trusted", fix)
    return signed
