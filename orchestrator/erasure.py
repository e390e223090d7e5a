"""
Erasure of payer data: what is asked for, what its time is over for, and what an old copy brought back.

Owns the order: the payment must have ended, the place off the database hears of it, the data goes
with its entry, the log is emptied. Knows Protocols, no adapter. Next: `upkeep`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from orchestrator.domain.entry import Context
from orchestrator.domain.errors import Conflict, ControlFailed, NotFound
from orchestrator.ports import Clock
from orchestrator.records import ErasureTold
from orchestrator.telemetry import emit

CONTROL, RETENTION = "retention", "retention"
"""The control's name in the register, and the reason in its entries."""
PAGE = 1000
WALK_S = 3600.0
"""How often a process looks through everything, in seconds."""
LATE_S = 86400.0
"""A log that could not be emptied for so long is a failure."""


class Payers(Protocol):
    """The database's verbs of payer data."""

    async def erasable(self, payment_id: str) -> bool:
        """Tell whether there is anything; raises `NotFound`, `Conflict`."""
        ...

    async def erase(
        self, payment_id: str, *, reason: str, context: Context, told: ErasureTold | None = ..., replayed: bool = ...
    ) -> bool:
        """Erase it with its entry; tells whether there was anything."""
        ...

    async def outlived(self, before: datetime, after: str, limit: int) -> tuple[Sequence[str], str | None]:
        """Give a page's payments whose time is over, and where to go on."""
        ...

    async def truncate_log(self) -> bool | None:
        """Empty the log; tells whether that could be done."""
        ...


@dataclass(slots=True)
class Erased:
    """
    What became of the payments.

    Attributes:
        erased: Their data is gone now.
        nothing: There was none (any more).
        missing: There is no such payment.
        refused: Why not, by payment: it has not ended, is held or watched.
        emptied: Whether the log was emptied afterwards; `None` where that is the server's business.
    """

    erased: list[str] = field(default_factory=list)
    nothing: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    emptied: bool | None = None


async def erase(
    store: Payers, payments: Sequence[str], context: Callable[[], Context], *, reason: str, told: ErasureTold | None
) -> Erased:
    """
    Erase what payers gave for these payments.

    Args:
        store: The database.
        payments: Their ids. All may be erased, or none is.
        context: Gives who, when, from where.
        reason: Why, for the entries.
        told: Hears of each before it is done.

    Raises:
        NotFound, Conflict: One of them is unknown, has not ended, is held or watched.
        ControlFailed: The place off the database can't be told: what was not erased yet stays.
        Unavailable: The database does not answer; the same call again goes on.

    Crash: each payment's data is there, or gone with its entry.
    """
    for payment_id in payments:
        await store.erasable(payment_id)
    found = Erased()
    for payment_id in payments:
        done = await store.erase(payment_id, reason=reason, context=context(), told=told)
        (found.erased if done else found.nothing).append(payment_id)
    found.emptied = await store.truncate_log()
    return found


async def replay(
    store: Payers, payments: Sequence[str], context: Callable[[], Context], *, reason: str, told: ErasureTold | None
) -> Erased:
    """
    Erase again what was erased before this database was put back from an older copy.

    Raises and crashes as `erase`, but goes on past what is unknown here or may not be erased yet.
    """
    found = Erased()
    for payment_id in payments:
        try:
            done = await store.erase(payment_id, reason=reason, context=context(), told=told, replayed=True)
        except NotFound:
            found.missing.append(payment_id)
        except Conflict as refused:
            found.refused[payment_id] = refused.problem
        else:
            (found.erased if done else found.nothing).append(payment_id)
    found.emptied = await store.truncate_log()
    return found


class Retention:
    """
    The control that erases what its time is over for; `upkeep.Upkeep` gives it turns.

    It looks through all payer data once an hour, a page a turn.

    Args:
        store: The database.
        days: How long payer data is kept after a payment's last word.
        clock: Time.
        context: Gives who, when, from where.
        told: Hears of each erasure before it is done.
    """

    def __init__(
        self, store: Payers, days: float, clock: Clock, context: Callable[[], Context], told: ErasureTold | None
    ) -> None:
        self._store = store
        self._days = days
        self._clock = clock
        self._context = context
        self._told = told
        self._place: str | None = None
        self._next_s = 0.0
        self._unemptied_s: float | None = None

    async def turn(self) -> bool:
        """
        Look through the next page; tells whether the next one should follow at once.

        Raises:
            ControlFailed: The place off the database can't be told; nothing more is erased.
            Unavailable: The database does not answer.

        Crash: as `erase`; the next process begins anew.
        """
        now_s = self._clock.monotonic()
        if self._place is None and now_s < self._next_s:
            return False
        before = self._clock.now() - timedelta(days=self._days)
        outlived, place = await self._store.outlived(before, self._place or "", PAGE)
        done = 0
        for payment_id in outlived:
            if await self._erased(payment_id):
                done += 1
                if self._unemptied_s is None:  # at once: the next one may fail
                    self._unemptied_s = now_s
        self._place = place
        if done:
            emit("payer_data.erased", count=done, reason=RETENTION)
        if place is None:
            self._next_s = now_s + WALK_S
            if self._unemptied_s is not None and await self._store.truncate_log() is not False:
                self._unemptied_s = None
        return place is not None

    async def failing(self) -> str:
        """Tell why it is late, or nothing."""
        since = self._unemptied_s
        if since is not None and self._clock.monotonic() - since >= LATE_S:
            return "the log can't be emptied of what was erased: a reader holds it"
        return ""

    async def _erased(self, payment_id: str) -> bool:
        try:
            return await self._store.erase(payment_id, reason=RETENTION, context=self._context(), told=self._told)
        except (NotFound, Conflict):  # held, or news of it, since the page was read
            return False
        except ControlFailed as failed:
            raise ControlFailed(CONTROL, failed.why) from None
