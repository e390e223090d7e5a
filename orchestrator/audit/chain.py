"""
One chain, re-read from its bodies: hashes, numbers, edges, columns, facts.

The body is what was hashed, so the body is believed and the columns are held
against it. Facts are folded from entry to entry, which gives the payment as the
trail knows it. Pure. Next: `invariants`.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.domain.entry import ADMIN_EDGES, NO_HASH, Entry, body_hash, canonical, instant
from orchestrator.domain.machine import START, edges

PAYMENT_CHAIN = "pay-"
_LEGAL = {True: frozenset(edges()), False: frozenset(ADMIN_EDGES)}
"""The edges of payments' chains, and those of all others."""


@dataclass(frozen=True, slots=True)
class Finding:
    """
    Something that does not hold.

    Attributes:
        kind: A machine-readable word, such as `hash` or `fact`.
        chain_id: The chain concerned.
        seq: The first entry concerned; `None` for the payment's row.
        what: What is wrong, without payer data.
        invariant: The number of the design's invariant that it breaks; empty for what no invariant is about.
    """

    kind: str
    chain_id: str
    seq: int | None
    what: str
    invariant: str = field(default="", compare=False)


@dataclass(slots=True)
class Story:
    """
    What a chain tells, folded from its bodies.

    Attributes:
        chain_id: The chain.
        bodies: Each body, decoded, in order; `seq` is the column's, `facts` always a dictionary.
        facts: Every fact as the newest entry that mentions it left it.
        state: Where the chain ends.
        head: Hash of its last entry.
        seq: Number of its last entry.
        hashes: Each entry's hash by its number.
    """

    chain_id: str
    bodies: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    state: str = START
    head: bytes = NO_HASH
    seq: int = 0
    hashes: dict[int, bytes] = field(default_factory=dict)


def read_chain(chain_id: str, entries: Iterable[Entry]) -> tuple[Story, list[Finding]]:
    """Re-read one chain's entries in order."""
    story, findings = Story(chain_id), []
    for entry in entries:
        findings += [Finding(kind, chain_id, entry.seq, what) for kind, what in _wrong(story, entry)]
        body = _body(entry)
        facts = body.get("facts")
        facts = facts if isinstance(facts, dict) else {}
        story.bodies.append(body | {"seq": entry.seq, "facts": facts})
        story.facts |= facts
        story.hashes[entry.seq] = entry.hash
        story.state, story.head, story.seq = entry.to_state, entry.hash, entry.seq
    return story, findings


def _wrong(story: Story, entry: Entry) -> Iterator[tuple[str, str]]:
    if body_hash(entry.body) != entry.hash:
        yield "hash", "the hash is not the body's"
    if entry.seq != story.seq + 1:
        yield "gap", f"follows number {story.seq}"
    if entry.prev_hash != story.head:
        yield "prev", "does not extend the entry before it"
    if entry.from_state != story.state:
        yield "state", f"leaves {entry.from_state}, but the chain was in {story.state}"
    edge = (entry.trigger, entry.from_state, entry.to_state)
    if edge not in _LEGAL[entry.chain_id.startswith(PAYMENT_CHAIN)]:
        yield "edge", f"the machine has no {entry.trigger} from {entry.from_state} to {entry.to_state}"
    body = _body(entry)
    if not body:
        yield "body", "the body is not a JSON object"
        return
    try:
        if canonical(body) != entry.body:
            yield "body", "the body is not canonical JSON"
    except (ValueError, RecursionError):
        yield "body", "the body holds what entries never hold"
    for name, column in _columns(entry):
        if body.get(name) != column:
            yield "column", f"column {name} contradicts the body"


def _columns(entry: Entry) -> Sequence[tuple[str, Any]]:
    return (
        ("chain", entry.chain_id), ("seq", entry.seq), ("trigger", entry.trigger), ("from", entry.from_state),
        ("to", entry.to_state), ("at", instant(entry.at)), ("actor", entry.actor), ("origin", entry.origin),
        ("kind", entry.kind), ("result", entry.result), ("about", entry.about), ("prev", entry.prev_hash.hex()),
    )  # fmt: skip


def _body(entry: Entry) -> dict[str, Any]:
    try:
        body = json.loads(entry.body)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}
