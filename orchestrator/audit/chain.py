"""
One chain, re-read from its bodies: hashes, numbers, edges, columns, facts.

The body is what was hashed, so the body is believed and the columns are held
against it. Facts are folded from entry to entry, which gives the payment as the
trail knows it. Pure. Next: `invariants`.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import orjson

from orchestrator.compliance import Placed
from orchestrator.domain.entry import ADMIN_EDGES, NO_HASH, Entry, body_hash, canonical
from orchestrator.domain.machine import START, edges

PAYMENT_CHAIN = "pay-"
_TOLD = ("chain", "seq", "trigger", "from", "to", "at", "actor", "origin", "kind", "result", "about")
"""What a body says of the first columns, in their order."""
_SAID, _COLUMNS_SAID = itemgetter(*_TOLD), len(_TOLD)
_PLAIN = frozenset((str, bool, int, type(None)))
_LISTS = (dict, list)
_NESTED = _PLAIN.union(_LISTS)
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
    return read_rows(chain_id, map(Placed.of, entries))


def read_rows(chain_id: str, rows: Iterable[Placed]) -> tuple[Story, list[Finding]]:
    """Re-read one chain in order, as it is stored."""
    story = Story(chain_id)
    findings: list[Finding] = []
    legal = _LEGAL[chain_id.startswith(PAYMENT_CHAIN)]
    for row in rows:
        body = sound_body(row)
        if (
            body is None
            or (row.seq, row.prev_hash, row.from_state) != (story.seq + 1, story.head, story.state)
            or (row.trigger, row.from_state, row.to_state) not in legal
        ):
            findings += [Finding(kind, chain_id, row.seq, what) for kind, what in _wrong(story, row)]
            body = body_of(row.body) if body is None else body
        facts = body.get("facts")
        body["facts"] = facts = facts if isinstance(facts, dict) else {}
        body["seq"] = row.seq
        story.bodies.append(body)
        story.facts |= facts
        story.hashes[row.seq] = row.hash
        story.state, story.head, story.seq = row.to_state, row.hash, row.seq
    return story, findings


def sound_body(row: Placed) -> dict[str, Any] | None:
    """
    Give the row's body, decoded, if hash, form and columns are as they must be; else `None`.

    A quick look: what is wrong, if anything, `_wrong` finds out.
    """
    try:
        text = row.body.encode()
        body = orjson.loads(text)
        sound = (
            hashlib.sha256(b"\0" + text).digest() == row.hash
            and orjson.dumps(body, option=orjson.OPT_SORT_KEYS) == text
            and _SAID(body) == row[:_COLUMNS_SAID]
            and body["prev"] == row.prev_hash.hex()
            and _exact(body.values())
        )
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return None
    return body if sound else None


def _exact(values: Iterable[Any]) -> bool:
    """Tell whether no number in it is a fraction: those have no canonical form here."""
    kinds = set(map(type, values))
    if kinds <= _PLAIN:
        return True
    nested = kinds <= _NESTED
    return nested and all(_exact(v.values() if type(v) is dict else v) for v in values if type(v) in _LISTS)


def _wrong(story: Story, row: Placed) -> Iterator[tuple[str, str]]:
    if body_hash(row.body) != row.hash:
        yield "hash", "the hash is not the body's"
    if row.seq != story.seq + 1:
        yield "gap", f"follows number {story.seq}"
    if row.prev_hash != story.head:
        yield "prev", "does not extend the entry before it"
    if row.from_state != story.state:
        yield "state", f"leaves {row.from_state}, but the chain was in {story.state}"
    if (row.trigger, row.from_state, row.to_state) not in _LEGAL[story.chain_id.startswith(PAYMENT_CHAIN)]:
        yield "edge", f"the machine has no {row.trigger} from {row.from_state} to {row.to_state}"
    body = body_of(row.body)
    if not body:
        yield "body", "the body is not a JSON object"
        return
    try:
        if canonical(body) != row.body:
            yield "body", "the body is not canonical JSON"
    except (ValueError, RecursionError):
        yield "body", "the body holds what entries never hold"
    for name, column in (*zip(_TOLD, row, strict=False), ("prev", row.prev_hash.hex())):
        if body.get(name) != column:
            yield "column", f"column {name} contradicts the body"


def body_of(text: str) -> dict[str, Any]:
    """Give what a body says; nothing if it is no JSON object."""
    try:
        body = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}
