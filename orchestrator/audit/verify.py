"""
Walk a whole trail: every chain, every payment, the sealed log, what was carried elsewhere; each against the others.

Reads only, in one pass over each, in the order of the ids, so that memory does
not grow with the trail. A finding never stops the walk. Next: `orchestrator.cli`.
"""

import os
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from orchestrator.audit.chain import PAYMENT_CHAIN, Finding, Story, read_rows
from orchestrator.audit.elsewhere import Carried, Key, SinkCheck
from orchestrator.audit.invariants import check
from orchestrator.audit.log import LOG, NO_EVIDENCE, Evidence, LogCheck, walk_log
from orchestrator.audit.merkle import Log
from orchestrator.audit.notes import read_note
from orchestrator.audit.observed import NOTHING, Observed
from orchestrator.compliance import Leaf, Placed, Seal, Unreadable
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.payment import Payment

__all__ = ["Finding", "Report", "Trail", "verify"]

MOST_FINDINGS = 1000
SCHEMA = "schema"
"""What a finding about the schema names where others name a chain."""


class Trail(Protocol):
    """Everything as it was at one moment; rows that can't be read are told and left out."""

    @property
    def has_payments(self) -> bool:
        """Whether payments can be read, to be compared with their chains."""
        ...

    def entries(self, unreadable: Unreadable) -> AsyncIterator[Placed]:
        """Give every entry in the order (chain_id, seq); ids in the order of their bytes."""
        ...

    def leaves(self) -> AsyncIterator[Sequence[Leaf]]:
        """Give the log's leaves in order, page by page."""
        ...

    def seals(self) -> AsyncIterator[Sequence[Seal]]:
        """Give the checkpoints, the smallest first, page by page."""
        ...

    async def seal_of_size(self, size: int) -> Seal | None:
        """Give the seal over so many leaves, if there is one."""
        ...

    async def lives(self) -> Sequence[str]:
        """Give the database's lives, the present one last."""
        ...

    async def astray(self) -> Sequence[Leaf]:
        """Give the leaves whose entry is gone; at most 1,000."""
        ...

    async def hashes(self, keys: Collection[Key]) -> Mapping[Key, bytes]:
        """Give the hashes of those entries that are there."""
        ...

    def payments(self, unreadable: Unreadable) -> AsyncIterator[Payment]:
        """Give every payment in the order of its id."""
        ...


class Archive(Protocol):
    """Where a trail is read from: a store, or a copy of one."""

    def snapshot(self, *, since: int = 0) -> AbstractAsyncContextManager[Trail]:
        """Give the trail as it is now, however long the reading takes; or what came after so many leaves."""
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


async def verify(archive: Archive, observed: Observed = NOTHING, evidence: Evidence = NO_EVIDENCE) -> Report:
    """
    Check everything: schema, rows, chains, states, invariants, leaves, roots, signatures, what was carried elsewhere.

    Args:
        archive: A store, or a copy of one.
        observed: What was seen beside the database, where somebody watched.
        evidence: Keys, old checkpoints and sinks to hold the database against. With `evidence.after` only what
            came after that checkpoint is read: its leaves, and whole the chains and payments that have grown.

    Raises:
        InvalidInput: A checkpoint of the evidence is another log's, or `after` is none of this log's.
        Unavailable: The database does not answer.
    """
    counts: Counter[str] = Counter(entries=0, chains=0, payments=0, leaves=0, checkpoints=0, waiting=0)
    findings = [Finding("schema", SCHEMA, None, what) for what in await archive.schema_findings()]
    counts["findings"] = len(findings)
    async with AsyncExitStack() as stack:
        # Before the snapshot: what they tell of by then is in it.
        sinks = [_opened(path, stack) for path in evidence.sinks]
        after = evidence.after
        since = 0 if after is None else after[1].checkpoint.size
        trail = await stack.enter_async_context(archive.snapshot(since=since))
        walks = (
            _walk(trail, counts, observed), _sealed(trail, counts, evidence, sinks), _carried(trail, counts, sinks),
            _announced(trail, sinks if evidence.announced else ()),
        )  # fmt: skip
        for walk in walks:
            async for new in walk:
                counts["findings"] += len(new)
                findings += new[: MOST_FINDINGS - len(findings)]
    return Report(tuple(findings), dict(counts))


def _opened(path: Path, stack: AsyncExitStack) -> Carried:
    try:
        file = stack.enter_context(path.open("rb"))
    except OSError as error:
        raise InvalidInput("--sink", f"{path} can't be read ({type(error).__name__})", "check the path") from None
    return Carried(str(path), file, os.fstat(file.fileno()).st_size)


async def _sealed(
    trail: Trail, counts: Counter[str], evidence: Evidence, sinks: Sequence[Carried]
) -> AsyncIterator[list[Finding]]:
    """Fold the leaves into a log, and hold it against every checkpoint there is."""
    check = LogCheck(evidence.keys, await trail.lives(), await _base(trail, evidence))
    for name, note in evidence.notes:
        yield list(check.brought(name, note))
    for carried in sinks:
        for number, text in carried.notes():
            yield _of_sink(check, f"line {number} of {carried.name}", text)
    async for found in walk_log(check, _counted(trail.seals(), counts, "checkpoints"), trail.leaves()):
        yield found
    counts["leaves"] = check.log.size
    yield [Finding("leaf", leaf.chain_id, leaf.seq, "the leaf's entry is gone") for leaf in await trail.astray()]


async def _base(trail: Trail, evidence: Evidence) -> Log:
    """Give the log to go on from: empty, or as the checkpoint left it after which is read."""
    if evidence.after is None:
        return Log()
    name, note = evidence.after
    seal = await trail.seal_of_size(note.checkpoint.size)
    if seal is None or seal.root != note.checkpoint.root:
        raise InvalidInput(name, "is no checkpoint of this log", "verify the whole trail with --checkpoint")
    try:
        log = Log.unpacked(seal.size, seal.nodes)
    except ValueError:
        log = Log()
    if log.root != seal.root:
        raise InvalidInput(name, "can't be gone on from: its nodes were changed", "verify the whole trail")
    return log


def _of_sink(check: LogCheck, name: str, text: str) -> list[Finding]:
    try:
        return list(check.brought(name, read_note(text, name)))
    except InvalidInput as error:
        return [Finding("sink", LOG, None, f"{name} {error.problem}")]


async def _carried(trail: Trail, counts: Counter[str], sinks: Sequence[Carried]) -> AsyncIterator[list[Finding]]:
    """Look up every entry that a sink tells of."""
    lives = await trail.lives()
    for carried in sinks:
        check = SinkCheck(carried, lives)
        async for found in check.walk(trail.hashes):
            yield found
        if check.lost:
            counts["lost"] += check.lost


async def _announced(trail: Trail, sinks: Sequence[Carried]) -> AsyncIterator[list[Finding]]:
    """Look for entries that no process of ours has told of: somebody else has written them."""
    if not sinks:
        return
    ears = {digest for carried in sinks for digest in carried.announced()}
    async for placed in trail.entries(lambda *_: None):
        if placed.hash not in ears:
            yield [Finding("unannounced", placed.chain_id, placed.seq, "no process of ours has told of this entry")]


async def _counted(
    pages: AsyncIterator[Sequence[Seal]], counts: Counter[str], name: str
) -> AsyncIterator[Sequence[Seal]]:
    async for page in pages:
        counts[name] += len(page)
        yield page


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
        elif (
            trail.has_payments
            and story.chain_id.startswith(PAYMENT_CHAIN)
            and _unreadable(story.chain_id, None) not in lost
        ):
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


async def _stories(entries: AsyncIterator[Placed], counts: Counter[str]) -> AsyncIterator[tuple[Story, list[Finding]]]:
    chain: list[Placed] = []
    async for placed in entries:
        counts["entries"] += 1
        counts["waiting"] += placed.waiting
        if chain and placed.chain_id != chain[0].chain_id:
            yield _story(chain, counts)
            chain = []
        chain.append(placed)
    if chain:
        yield _story(chain, counts)


def _story(chain: Sequence[Placed], counts: Counter[str]) -> tuple[Story, list[Finding]]:
    counts["chains"] += 1
    story, wrong = read_rows(chain[0].chain_id, chain)
    return story, wrong + [finding for placed in chain for finding in _place(placed)]


def _place(placed: Placed) -> Iterator[Finding]:
    """Check that an entry is either sealed, as it is, or waits to be."""
    if placed.leaf is not None and placed.leaf != placed.hash:
        yield Finding("leaf", placed.chain_id, placed.seq, "its leaf has another hash")
    if placed.waiting == (placed.idx is not None):
        what = "is sealed and waits to be" if placed.waiting else "is not sealed, and does not wait to be"
        yield Finding("unsealed", placed.chain_id, placed.seq, what)


def _count(payment: Payment, counts: Counter[str]) -> None:
    counts["payments"] += 1
    counts[f"state.{payment.state.value}"] += 1
    if payment.hold is not None:
        counts[f"hold.{payment.hold.value}"] += 1
