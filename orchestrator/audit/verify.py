"""
Walk a whole database: every chain, every payment, both against each other.

Reads only, in one pass over each, in the order of the ids, so that memory does
not grow with the trail. A finding never stops the walk. Next: `orchestrator.cli`.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from orchestrator.audit.chain import Finding, Story, read_chain
from orchestrator.audit.invariants import check
from orchestrator.domain.entry import Entry
from orchestrator.domain.payment import Payment

__all__ = ["Finding", "Report", "Trail", "verify"]

PAYMENT_CHAIN = "pay-"
MOST_FINDINGS = 1000


class Trail(Protocol):
    """Everything as it was at one moment."""

    def entries(self) -> AsyncIterator[Entry]:
        """Give every entry in the order (chain_id, seq); ids in the order of their bytes."""
        ...

    def payments(self) -> AsyncIterator[Payment]:
        """Give every payment in the order of its id."""
        ...


class Archive(Protocol):
    """Where a trail is read from: a store, or a copy of one."""

    def snapshot(self) -> AbstractAsyncContextManager[Trail]:
        """Give the trail as it is now, however long the reading takes."""
        ...


@dataclass(frozen=True, slots=True)
class Report:
    """
    What the walk found.

    Attributes:
        findings: At most 1,000; `counts["findings"]` has all.
        counts: How many entries, chains, payments, and payments by state and hold.
    """

    findings: tuple[Finding, ...]
    counts: dict[str, int]

    @property
    def clean(self) -> bool:
        """Whether everything holds."""
        return not self.findings


async def verify(archive: Archive) -> Report:
    """
    Check rows, chains, replayed states, columns against bodies, and the invariants.

    Args:
        archive: A store, or a copy of one.

    Raises:
        Unavailable: The database does not answer.
    """
    counts: Counter[str] = Counter(entries=0, chains=0, payments=0)
    findings: list[Finding] = []
    async with archive.snapshot() as trail:
        async for new in _walk(trail, counts):
            counts["findings"] += len(new)
            findings += new[: MOST_FINDINGS - len(findings)]
    return Report(tuple(findings), dict(counts))


async def _walk(trail: Trail, counts: Counter[str]) -> AsyncIterator[list[Finding]]:
    """Merge chains and payments, both in the order of their ids."""
    payments = trail.payments()
    payment = await anext(payments, None)
    async for story, wrong in _stories(trail.entries(), counts):
        yield wrong
        while payment is not None and payment.id < story.chain_id:
            yield [_without_chain(payment, counts)]
            payment = await anext(payments, None)
        if payment is not None and payment.id == story.chain_id:
            _count(payment, counts)
            yield check(payment, story)
            payment = await anext(payments, None)
        elif story.chain_id.startswith(PAYMENT_CHAIN):
            yield [Finding("missing_payment", story.chain_id, None, "the chain's payment is gone")]
    while payment is not None:
        yield [_without_chain(payment, counts)]
        payment = await anext(payments, None)


def _without_chain(payment: Payment, counts: Counter[str]) -> Finding:
    _count(payment, counts)
    return Finding("missing_chain", payment.id, None, "the payment has no entries")


async def _stories(entries: AsyncIterator[Entry], counts: Counter[str]) -> AsyncIterator[tuple[Story, list[Finding]]]:
    chain: list[Entry] = []
    async for entry in entries:
        counts["entries"] += 1
        if chain and entry.chain_id != chain[0].chain_id:
            counts["chains"] += 1
            yield read_chain(chain[0].chain_id, chain)
            chain = []
        chain.append(entry)
    if chain:
        counts["chains"] += 1
        yield read_chain(chain[0].chain_id, chain)


def _count(payment: Payment, counts: Counter[str]) -> None:
    counts["payments"] += 1
    counts[f"state.{payment.state.value}"] += 1
    if payment.hold is not None:
        counts[f"hold.{payment.hold.value}"] += 1
