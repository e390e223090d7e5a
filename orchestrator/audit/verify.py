"""
Walk a whole database: every chain, every payment, both against each other.

Reads only, in one pass over each, in the order of the ids, so that memory does
not grow with the trail. A finding never stops the walk. Next: `orchestrator.cli`.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from orchestrator.audit.chain import PAYMENT_CHAIN, Finding, Story, read_chain
from orchestrator.audit.invariants import check
from orchestrator.audit.observed import NOTHING, Observed
from orchestrator.domain.entry import Entry
from orchestrator.domain.payment import Payment

__all__ = ["Finding", "Report", "Trail", "verify"]

MOST_FINDINGS = 1000
SCHEMA = "schema"
"""What a finding about the schema names where others name a chain."""

Unreadable = Callable[[str, int | None], None]
"""Told the chain or payment id, and the entry's number, of a row that holds no value of ours."""


class Trail(Protocol):
    """Everything as it was at one moment; rows that can't be read are told and left out."""

    def entries(self, unreadable: Unreadable) -> AsyncIterator[Entry]:
        """Give every entry in the order (chain_id, seq); ids in the order of their bytes."""
        ...

    def payments(self, unreadable: Unreadable) -> AsyncIterator[Payment]:
        """Give every payment in the order of its id."""
        ...


class Archive(Protocol):
    """Where a trail is read from: a store, or a copy of one."""

    def snapshot(self) -> AbstractAsyncContextManager[Trail]:
        """Give the trail as it is now, however long the reading takes."""
        ...

    async def schema_findings(self) -> Sequence[str]:
        """Tell what is wrong with the rules that guard the trail: tables, keys, triggers, views."""
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


async def verify(archive: Archive, observed: Observed = NOTHING) -> Report:
    """
    Check the schema, rows, chains, replayed states, columns against bodies, and the invariants.

    Args:
        archive: A store, or a copy of one.
        observed: What was seen beside the database, where somebody watched.

    Raises:
        Unavailable: The database does not answer.
    """
    counts: Counter[str] = Counter(entries=0, chains=0, payments=0)
    findings = [Finding("schema", SCHEMA, None, what) for what in await archive.schema_findings()]
    counts["findings"] = len(findings)
    async with archive.snapshot() as trail:
        async for new in _walk(trail, counts, observed):
            counts["findings"] += len(new)
            findings += new[: MOST_FINDINGS - len(findings)]
    return Report(tuple(findings), dict(counts))


async def _walk(trail: Trail, counts: Counter[str], observed: Observed) -> AsyncIterator[list[Finding]]:
    """Merge chains and payments, both in the order of their ids."""
    lost: list[Finding] = []
    payments = trail.payments(lambda id_, seq: lost.append(_unreadable(id_, seq)))
    payment = await anext(payments, None)
    async for story, wrong in _stories(trail.entries(lambda id_, seq: lost.append(_unreadable(id_, seq))), counts):
        yield wrong
        while payment is not None and payment.id < story.chain_id:
            yield [_without_chain(payment, counts)]
            payment = await anext(payments, None)
        if payment is not None and payment.id == story.chain_id:
            _count(payment, counts)
            yield check(payment, story, observed)
            payment = await anext(payments, None)
        elif story.chain_id.startswith(PAYMENT_CHAIN) and _unreadable(story.chain_id, None) not in lost:
            yield [Finding("missing_payment", story.chain_id, None, "the chain's payment is gone")]
    while payment is not None:
        yield [_without_chain(payment, counts)]
        payment = await anext(payments, None)
    yield lost


def _unreadable(id_: str, seq: int | None) -> Finding:
    return Finding("unreadable", id_, seq, "the row holds what can't be read")


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
