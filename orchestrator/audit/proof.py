"""
Proofs that anybody's RFC 9162 code can check: these entries are in the log, and it is an old one grown.

Owns the document, JSON:

    {"format": "payment-orchestrator/proof/1",
     "checkpoint": "<signed note>",
     "entries": [{"chain": ..., "seq": ..., "leaf_index": ..., "leaf_hash": "<base64>",
                  "body": "<the stored text>", "inclusion_path": ["<base64>", ...]}, ...],
     "consistency": [{"checkpoint": "<old signed note>", "consistency_path": ["<base64>", ...]}, ...]}

`leaf_hash` is SHA-256(0x00 || body), and both paths are those of RFC 9162 sections 2.1.3 and
2.1.4, leaf first. Next: `export`.
"""

import base64
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from orchestrator.audit.merkle import Log, consistency_proof, inclusion_proof
from orchestrator.audit.notes import Note
from orchestrator.compliance import Leaf, Seal
from orchestrator.domain.entry import Entry
from orchestrator.domain.errors import InvalidInput, NotFound

FORMAT = "payment-orchestrator/proof/1"
Range = tuple[int, int]


class Sealed(Protocol):
    """What a proof is made of."""

    async def entries(self, chain_id: str) -> Sequence[Entry]:
        """Give one chain in order."""
        ...

    async def leaf_of(self, chain_id: str, seq: int) -> Leaf | None:
        """Give the leaf of an entry, if it is sealed."""
        ...

    async def seals(self, after: int = 0) -> Sequence[Seal]:
        """Give a page of seals of more than `after` leaves, the smallest first."""
        ...

    async def newest_seal(self) -> Seal | None:
        """Give the newest seal."""
        ...

    def leaves(self, begin: int, end: int) -> AsyncIterator[Sequence[Leaf]]:
        """Give leaves in order, page by page."""
        ...


async def prove(store: Sealed, chain_id: str, old: Sequence[tuple[str, Note]] = ()) -> dict[str, Any]:
    """
    Prove that every entry of a chain is in the log, and that the log is each of the old ones grown.

    Args:
        store: The database.
        chain_id: The chain, such as a payment's id.
        old: Old checkpoints, each with what errors call it.

    Returns:
        The document.

    Raises:
        NotFound: There is no such chain.
        InvalidInput: An entry waits for its leaf, nothing is sealed, or an old checkpoint is larger than the log,
            or was put over other leaves.
        Unavailable: The database does not answer.
    """
    entries = await store.entries(chain_id)
    if not entries:
        raise NotFound(f"no chain {chain_id[:60]!r}")
    newest = await store.newest_seal()
    if newest is None:
        raise InvalidInput(chain_id, "is not sealed yet", "run `orchestrator audit seal`")
    placed = [(entry, await _leaf(store, entry)) for entry in entries]
    for name, note in old:
        if note.checkpoint.size > newest.size:
            raise InvalidInput(name, "is larger than the log", "see `orchestrator audit verify --checkpoint`")
    roots = await _roots(store, _needed(newest.size, [leaf.idx for _, leaf in placed], old))
    _demand_same(old, roots)
    return {
        "format": FORMAT,
        "checkpoint": newest.note,
        "entries": [_entry(entry, leaf, newest.size, roots) for entry, leaf in placed],
        "consistency": [
            {"checkpoint": note.text, "consistency_path": _path(_consistency(note, newest.size, _given(roots)))}
            for _, note in old
        ],
    }


async def _leaf(store: Sealed, entry: Entry) -> Leaf:
    leaf = await store.leaf_of(entry.chain_id, entry.seq)
    if leaf is None:
        raise InvalidInput(f"{entry.chain_id} {entry.seq}", "is not sealed yet", "run `orchestrator audit seal`")
    return leaf


def _entry(entry: Entry, leaf: Leaf, size: int, roots: Mapping[Range, bytes]) -> dict[str, Any]:
    return {
        "chain": entry.chain_id, "seq": entry.seq, "leaf_index": leaf.idx, "leaf_hash": _text(leaf.hash),
        "body": entry.body, "inclusion_path": _path(inclusion_proof(leaf.idx, size, _given(roots))),
    }  # fmt: skip


def _consistency(note: Note, size: int, subtree: Callable[[int, int], bytes]) -> list[bytes]:
    old = note.checkpoint.size
    return consistency_proof(old, size, subtree) if old else []


def _given(roots: Mapping[Range, bytes]) -> Callable[[int, int], bytes]:
    return lambda begin, end: roots[begin, end]


def _needed(size: int, indices: Iterable[int], old: Sequence[tuple[str, Note]]) -> set[Range]:
    """Give the parts of the log whose roots the proofs are made of."""
    found: set[Range] = set()

    def subtree(begin: int, end: int) -> bytes:
        found.add((begin, end))
        return b""

    for index in indices:
        inclusion_proof(index, size, subtree)
    for _, note in old:
        _consistency(note, size, subtree)
        found.add((0, note.checkpoint.size))
    return {part for part in found if part[0] < part[1]}


async def _roots(store: Sealed, parts: Collection[Range]) -> Mapping[Range, bytes]:
    """Fold each part of the log, all in one pass over the leaves."""
    logs = {part: Log() for part in parts}
    if not logs:
        return {}
    begin, end = min(part[0] for part in parts), max(part[1] for part in parts)
    async for page in store.leaves(begin, end):
        first = page[0].idx
        hashes = [leaf.hash for leaf in page]
        for (low, high), log in logs.items():
            if low < first + len(hashes) and high > first:
                log.extend(hashes[max(0, low - first) : high - first])
    return {part: log.root for part, log in logs.items()}


def _demand_same(old: Sequence[tuple[str, Note]], roots: Mapping[Range, bytes]) -> None:
    for name, note in old:
        size = note.checkpoint.size
        if size and roots[0, size] != note.checkpoint.root:
            raise InvalidInput(name, "was put over other leaves", "see `orchestrator audit verify --checkpoint`")


def _text(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _path(hashes: Iterable[bytes]) -> list[str]:
    return [_text(digest) for digest in hashes]
