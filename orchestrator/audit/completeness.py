"""
Whether anything is missing: the population before anybody draws a sample from it.

Owns the counts that an auditor compares and the list of gaps that must be empty. One pass
over the leaves, one over entries and payments side by side; memory grows with the number
of days only. That what is there is genuine is `verify`'s business. Next: `sample`.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from orchestrator.audit.chain import PAYMENT_CHAIN, body_of
from orchestrator.audit.merkle import Log
from orchestrator.audit.notes import Verifier, read_note
from orchestrator.audit.periods import Books, Ledger, Period, signers
from orchestrator.compliance import Seal, Unreadable
from orchestrator.domain.entry import Entry
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.payment import Payment

MOST_GAPS = 1000
COUNTED = ("entries", "payments_created", "payments_begun", "sessions_asked", "sessions_resolved", "sessions_open")
"""What is counted of each day, by the entry's own time in UTC."""

_INTENT = "request"
_START = "start_session"
_STARTS = f'"operation":"{_START}"'
_CLOSED = '"open_attempt":null'


@dataclass(frozen=True, slots=True)
class Gap:
    """
    Something that should be there and is not.

    Attributes:
        kind: A machine-readable word, such as `leaf` or `chain`.
        about: The chain, the payment, or `log`.
        what: What is missing.
    """

    kind: str
    about: str
    what: str


@dataclass(slots=True)
class Completeness:
    """
    What was counted, and what is missing.

    Attributes:
        period: Which days are counted.
        seal: The newest checkpoint; `None` if nothing is sealed.
        signed_by: The trusted keys that have signed it.
        days: For each day of the period with anything in it, what `COUNTED` names.
        entries, chains, payments, leaves, unsealed: Of the whole trail.
        gaps: At most 1,000; `missing` counts all.
        missing: How many gaps.
    """

    period: Period
    seal: Seal | None = None
    signed_by: Sequence[str] = ()
    days: dict[str, Counter[str]] = field(default_factory=dict)
    entries: int = 0
    chains: int = 0
    payments: int = 0
    leaves: int = 0
    unsealed: int = 0
    gaps: list[Gap] = field(default_factory=list)
    missing: int = 0

    @property
    def totals(self) -> dict[str, int]:
        """The sums over all days."""
        return {name: sum(day[name] for day in self.days.values()) for name in COUNTED}

    def lacks(self, kind: str, about: str, what: str) -> None:
        """Write a gap down."""
        self.missing += 1
        if len(self.gaps) < MOST_GAPS:
            self.gaps.append(Gap(kind, about, what))

    def count(self, at: datetime, what: str) -> None:
        """Count something, if its time is in the period."""
        if self.period.holds(at):
            self.days.setdefault(f"{at.astimezone(UTC):%Y-%m-%d}", Counter())[what] += 1


async def completeness(books: Books, period: Period, verifiers: Sequence[Verifier]) -> Completeness:
    """
    Count what is there and list what is missing.

    Args:
        books: A store.
        period: Which entries are counted by the day; gaps are looked for in the whole trail.
        verifiers: The keys whose signature under the newest checkpoint is trusted.

    Raises:
        Unavailable: The database does not answer.
    """
    found = Completeness(period)
    async with books.ledger() as ledger:
        found.unsealed = await ledger.waiting()
        await _log(ledger, found, verifiers)
        await _chains(ledger, found)
    if found.entries != found.leaves + found.unsealed:
        what = f"{found.entries} entries, but {found.leaves} leaves and {found.unsealed} that wait for theirs"
        found.lacks("count", "log", what)
    found.days = dict(sorted(found.days.items()))
    return found


async def _log(ledger: Ledger, found: Completeness, verifiers: Sequence[Verifier]) -> None:
    """Read the leaves once: numbered without a gap, and the newest checkpoint is over all of them."""
    found.seal = await ledger.newest()
    log, expected = Log(), 0
    async for page in ledger.leaves():
        for leaf in page:
            found.leaves += 1
            if leaf.idx != expected:
                found.lacks("leaf", "log", f"leaf {leaf.idx} follows leaf {expected - 1}")
            expected = leaf.idx + 1
            log.append(leaf.hash)
    if found.seal is None:
        if found.leaves or found.unsealed:
            found.lacks("checkpoint", "log", "nothing is sealed: see `orchestrator audit seal`")
        return
    if (log.size, log.root) != (found.seal.size, found.seal.root):
        what = f"the newest checkpoint is over {found.seal.size} leaves, and these {log.size} do not make its root"
        found.lacks("checkpoint", "log", what)
    try:
        note = read_note(found.seal.note, "the newest checkpoint")
        if (note.checkpoint.size, note.checkpoint.root) != (found.seal.size, found.seal.root):
            found.lacks("checkpoint", "log", "the newest checkpoint's note says something else than its row")
        found.signed_by = signers(note, verifiers, "the newest checkpoint")
    except InvalidInput as error:
        found.lacks("signature", "log", f"{error.field} {error.problem}")


async def _chains(ledger: Ledger, found: Completeness) -> None:
    """Walk entries and payments side by side, both in the order of their ids."""

    def unreadable(id_: str, seq: int | None) -> None:
        if seq is not None:
            found.entries += 1
        found.lacks("unreadable", id_, "a row can't be read" if seq is None else f"entry {seq} can't be read")

    payments = ledger.payments(unreadable)
    payment = await anext(payments, None)
    async for chain in _by_chain(_readable(ledger, unreadable), found):
        while payment is not None and payment.id < chain.id:
            _begun(None, payment, found)
            payment = await anext(payments, None)
        own = payment if payment is not None and payment.id == chain.id else None
        found.chains += 1
        found.entries += chain.entries
        for what in chain.wrong:
            found.lacks("chain", chain.id, what)
        if chain.id.startswith(PAYMENT_CHAIN):
            _begun(chain, own, found)
            _sessions(chain, own, found)
        if own is not None:
            payment = await anext(payments, None)
    while payment is not None:
        _begun(None, payment, found)
        payment = await anext(payments, None)


@dataclass(slots=True)
class _Chain:
    """What is kept of one chain while it is read."""

    id: str
    first: datetime
    entries: int = 0
    seq: int = 0
    wrong: list[str] = field(default_factory=list)
    asked: dict[int, datetime] = field(default_factory=dict)
    resolved: set[int] = field(default_factory=set)

    def add(self, entry: Entry) -> None:
        self.entries += 1
        if entry.seq != self.seq + 1 and len(self.wrong) < MOST_GAPS:
            self.wrong.append(f"entry {entry.seq} follows entry {self.seq}")
        self.seq = entry.seq
        if _STARTS in entry.body or _CLOSED in entry.body:
            self._session(entry, body_of(entry.body))

    def _session(self, entry: Entry, body: dict[str, Any]) -> None:
        attempt, facts = body.get("attempt"), body.get("facts")
        if isinstance(facts, dict) and facts.get("open_attempt", "") is None:
            self.resolved |= self.asked.keys()  # a webhook can tell of a session before the call's own answer does
        if body.get("operation") != _START or not isinstance(attempt, int):
            return
        if entry.trigger == _INTENT:
            self.asked[attempt] = entry.at
        elif "verdict" in body:
            self.resolved.add(attempt)


async def _readable(ledger: Ledger, unreadable: Unreadable) -> AsyncIterator[Entry]:
    async for placed in ledger.entries(unreadable):
        try:
            entry = placed.entry
        except (TypeError, ValueError):
            unreadable(placed.chain_id, placed.seq)
        else:
            yield entry


async def _by_chain(entries: AsyncIterator[Entry], found: Completeness) -> AsyncIterator[_Chain]:
    """Sum each chain up; of a long one nothing grows but what was asked for."""
    chain: _Chain | None = None
    async for entry in entries:
        if chain is None or chain.id != entry.chain_id:
            if chain is not None:
                yield chain
            chain = _Chain(entry.chain_id, entry.at)
        chain.add(entry)
        found.count(entry.at, "entries")
    if chain is not None:
        yield chain


def _begun(chain: _Chain | None, payment: Payment | None, found: Completeness) -> None:
    """Hold a payment's row against the first entry of its chain."""
    if payment is not None:
        found.payments += 1
        found.count(payment.created_at, "payments_created")
    if chain is not None:
        found.count(chain.first, "payments_begun")
    if payment is None and chain is not None:
        found.lacks("payment", chain.id, "there are entries of a payment that is not there")
    elif chain is None and payment is not None:
        found.lacks("payment", payment.id, "the payment has no entries")
    elif payment is not None and chain is not None and payment.created_at != chain.first:
        found.lacks("payment", payment.id, "the payment was not created when its first entry says")


def _sessions(chain: _Chain, payment: Payment | None, found: Completeness) -> None:
    """Hold intents against verdicts; an attempt that is open now is neither resolved nor missing."""
    for attempt, at in sorted(chain.asked.items()):
        found.count(at, "sessions_asked")
        if attempt in chain.resolved:
            found.count(at, "sessions_resolved")
        elif payment is not None and payment.open_attempt == attempt:
            found.count(at, "sessions_open")
        else:
            found.lacks("session", chain.id, f"attempt {attempt} was asked for, and nothing says what came of it")
