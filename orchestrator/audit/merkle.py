"""
The Merkle log of RFC 6962 and RFC 9162: roots, inclusion proofs, consistency proofs.

Pure: leaf hashes in, hashes out; a leaf hash is an entry's own hash, `SHA-256(0x00 || body)`.
Growing a log needs the roots of its perfect subtrees only (a compact range, one hash for
each bit of the size), never the leaves again. Next: `notes`.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root of no leaves (RFC 6962 section 2.1)."""

Subtree = Callable[[int, int], bytes]
"""Gives the root over the leaves `[begin, end)`; asked for perfect subtrees and for the log's ragged end."""


def node_hash(left: bytes, right: bytes) -> bytes:
    """Give the hash of two subtrees: `SHA-256(0x01 || left || right)`."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(slots=True)
class Log:
    """
    A log that can be appended to, as its compact range.

    Attributes:
        size: How many leaves.
        nodes: The roots of its perfect subtrees, the largest first.
    """

    size: int = 0
    nodes: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.nodes) != self.size.bit_count():
            raise ValueError("as many nodes as bits are set in the size")

    @classmethod
    def unpacked(cls, size: int, packed: bytes) -> "Log":
        """
        Give the log that `packed` was made of.

        Raises:
            ValueError: These are not the nodes of a log of this size.
        """
        if len(packed) % HASH_BYTES:
            raise ValueError("a node has 32 bytes")
        return cls(size, [packed[at : at + HASH_BYTES] for at in range(0, len(packed), HASH_BYTES)])

    @property
    def packed(self) -> bytes:
        """The nodes, one after the other."""
        return b"".join(self.nodes)

    def append(self, leaf: bytes) -> None:
        """Add one leaf's hash."""
        nodes, size, merged = self.nodes, self.size, leaf
        while size & 1:  # a set bit at the end is a subtree as large as the one that has just been made
            merged = hashlib.sha256(b"\x01" + nodes.pop() + merged).digest()
            size >>= 1
        nodes.append(merged)
        self.size += 1

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaves in order."""
        for leaf in leaves:
            self.append(leaf)

    @property
    def root(self) -> bytes:
        """The root over all leaves."""
        if not self.nodes:
            return EMPTY_ROOT
        root = self.nodes[-1]
        for node in reversed(self.nodes[:-1]):
            root = node_hash(node, root)
        return root


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Give the root over leaf hashes."""
    log = Log()
    log.extend(leaves)
    return log.root


def subtrees_of(leaves: Sequence[bytes]) -> Subtree:
    """Give the subtrees over leaf hashes that are all at hand."""
    return lambda begin, end: root_of(leaves[begin:end])


def _split(size: int) -> int:
    """Give the largest power of two below the size: how many leaves go to the left (RFC 6962 section 2.1)."""
    return 1 << (size - 1).bit_length() - 1


def inclusion_proof(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """
    Prove that a leaf is in a log (RFC 9162 section 2.1.3.1).

    Args:
        index: The leaf's, from 0.
        size: The log's.
        subtree: Gives roots of parts of the log.

    Raises:
        ValueError: There is no such leaf in a log of this size.
    """
    if not 0 <= index < size:
        raise ValueError("no such leaf in a log of this size")
    path: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(subtree(middle, end))
            end = middle
        else:
            path.append(subtree(begin, middle))
            begin = middle
    return path[::-1]


def consistency_proof(old: int, size: int, subtree: Subtree) -> list[bytes]:
    """
    Prove that a log is an earlier one with leaves appended (RFC 9162 section 2.1.4.1).

    Args:
        old: The earlier log's size, at least 1.
        size: The log's.
        subtree: Gives roots of parts of the log.

    Raises:
        ValueError: The earlier log is empty, or larger than the log.
    """
    if not 0 < old <= size:
        raise ValueError("an earlier log has at least one leaf, and no more than the later one")
    path: list[bytes] = []
    begin, end = 0, size
    while end != old:
        middle = begin + _split(end - begin)
        if old <= middle:
            path.append(subtree(middle, end))
            end = middle
        else:
            path.append(subtree(begin, middle))
            begin = middle
    if begin:  # else the whole earlier log is one subtree, and its root is known to whoever asks
        path.append(subtree(begin, end))
    return path[::-1]


def included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Check an inclusion proof (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    place, last, found = index, size - 1, leaf
    for node in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            found = node_hash(node, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, node)
        place, last = place >> 1, last >> 1
    return last == 0 and found == root


def consistent(old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    """Check a consistency proof (RFC 9162 section 2.1.4.2)."""
    if not 0 < old <= size:
        return False
    if old == size:
        return not proof and old_root == root
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        return False
    place, last = old - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    first = second = path[0]
    for node in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            first, second = node_hash(node, first), node_hash(node, second)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            second = node_hash(second, node)
        place, last = place >> 1, last >> 1
    return last == 0 and first == old_root and second == root
