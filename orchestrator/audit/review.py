"""
A review of a period: every rule over it, and its findings as a text that is signed.

Owns the order of the findings, so that two runs over the same trail give the same text, and
how much of them is kept. Two passes over the period's entries; of a payment that calls for it
the whole chain is read. Next: `statement`.
"""

import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from orchestrator.audit.periods import Books, Ledger
from orchestrator.audit.rules import RULES, RULES_VERSION, Finding, hold_of, of_chain, of_entry, worth_reading
from orchestrator.compliance import Seal
from orchestrator.domain.entry import canonical

MOST_FINDINGS = 1000
"""So many are kept word for word; the digest is over all of them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What is too much.

    Attributes:
        hold: How old a hold may get.
        seal: How long an entry may wait for its seal.
        now: The present, UTC.
    """

    hold: timedelta
    seal: timedelta
    now: datetime


@dataclass(slots=True)
class Reviewed:
    """
    What the rules have found in a period.

    Attributes:
        since, until: The period, `until` excluded.
        checkpoint: The newest one; `None` if nothing is sealed.
        counts: How many findings of each rule.
        findings: At most 1,000, in the order in which they were found.
    """

    since: datetime
    until: datetime
    checkpoint: Seal | None = None
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    _digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    @property
    def count(self) -> int:
        """How many findings."""
        return self.counts.total()

    @property
    def digest(self) -> str:
        """SHA-256 of all findings, each as a line of canonical JSON."""
        return self._digest.hexdigest()

    def add(self, finding: Finding) -> None:
        """Take one more finding."""
        self.counts[finding.rule] += 1
        self._digest.update(canonical(finding.told).encode() + b"\n")
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(finding)

    def text(self, exceptions: str = "") -> str:
        """Give the canonical JSON that is signed; `exceptions` is what the reviewer says of the findings."""
        return canonical({
            "rules": {rule.id: rule.version for rule in RULES.values()}, "rules_version": RULES_VERSION,
            "counts": dict(self.counts), "count": self.count, "digest": self.digest, "exceptions": exceptions,
            "findings": [finding.told for finding in self.findings],
        })  # fmt: skip


async def review(books: Books, since: datetime, until: datetime, limits: Limits) -> Reviewed:
    """
    Run every rule over a period.

    Args:
        books: A store.
        since: The period's beginning.
        until: Its end, which is no longer in it.
        limits: What is too much.

    Raises:
        Unavailable: The database does not answer.
    """
    async with books.ledger() as ledger:
        return await review_of(ledger, since, until, limits)


async def review_of(ledger: Ledger, since: datetime, until: datetime, limits: Limits) -> Reviewed:
    """Run every rule over a period of a moment that is open already; as `review`."""
    found = Reviewed(since, until, await ledger.newest())
    lost: list[Finding] = []

    def unreadable(id_: str, seq: int | None) -> None:
        if len(lost) < MOST_FINDINGS:
            lost.append(Finding("row.unreadable", id_, seq, since, "", "the row can't be read"))

    async for chain_id, seq, at in ledger.orphans(since, until):
        found.add(Finding("chain.gap", chain_id, seq, at, "", f"entry {seq - 1} is not there"))
    async for finding in _seals(ledger, found, limits):
        found.add(finding)
    to_read = ""
    async for entry in ledger.within(since, until, unreadable):
        for finding in of_entry(entry):
            found.add(finding)
        if entry.chain_id != to_read and worth_reading(entry):
            to_read = entry.chain_id
            for finding in of_chain(await ledger.chain(to_read), since, until, limits.hold):
                found.add(finding)
    end = min(until, limits.now)
    async for payment in ledger.held(end - limits.hold, unreadable):
        if payment.hold is not None and payment.held_at is not None:
            found.add(hold_of(payment.id, payment.held_at, end, payment.hold.value))
    for at, revision in await ledger.schemas(since, until):
        found.add(Finding("schema.changed", "schema", None, at, "", f"revision {revision}"))
    for finding in lost:
        found.add(finding)
    return found


async def _seals(ledger: Ledger, found: Reviewed, limits: Limits) -> AsyncIterator[Finding]:
    """Find silences of the sealer: entries that waited too long, and those that still do."""
    async for seal, oldest in ledger.sealings(found.since, found.until):
        if oldest is not None and seal.created_at - oldest > limits.seal:
            waited = int((seal.created_at - oldest).total_seconds())
            yield Finding("seal.late", "log", None, seal.created_at, "", f"an entry waited {waited} s for its seal")
    oldest = await ledger.oldest_waiting()
    end = min(found.until, limits.now)
    if oldest is not None and end - oldest > limits.seal:
        yield Finding("seal.late", "log", None, oldest, "", "entries have waited for their seal since then")
