"""
A sample that neither side can steer, and that the auditor can draw again alone.

Owns the rule. The order of the population is

    SHA-256(root || nonce || index)

of the checkpoint's root (32 bytes), the auditor's nonce (UTF-8) and the leaf index of an item's
first entry (8 bytes, the most significant first); the N items with the smallest digests are the
sample. Whoever writes the trail fixes the root before he knows the nonce; whoever chooses the
nonce can't choose the root. Pure but for the reading it is given. Next: `rules`.
"""

import hashlib
import heapq
from collections.abc import AsyncIterator
from dataclasses import dataclass

from orchestrator.audit.periods import Ledger, Period

RULE = "order = SHA-256(checkpoint root, 32 bytes || nonce, UTF-8 || leaf index, 8 bytes big-endian); the N smallest"
MOST_ITEMS = 10_000
PAYMENTS, ENTRIES = "payments", "entries"


@dataclass(frozen=True, slots=True)
class Item:
    """
    One member of the sample.

    Attributes:
        order: The digest that it was drawn by.
        leaf: The leaf index of its first entry.
        chain_id: The payment's id, or the entry's chain.
        seq: The entry's number; 1 for a payment.
    """

    order: bytes
    leaf: int
    chain_id: str
    seq: int


@dataclass(frozen=True, slots=True)
class Sample:
    """
    What was drawn.

    Attributes:
        items: In the order of their digests.
        population: How many it was drawn from.
    """

    items: tuple[Item, ...]
    population: int


def order_of(root: bytes, nonce: str, leaf: int) -> bytes:
    """Give the digest that an item is drawn by."""
    return hashlib.sha256(root + nonce.encode() + leaf.to_bytes(8, "big")).digest()


async def draw(population: AsyncIterator[tuple[str, int, int]], root: bytes, nonce: str, number: int) -> Sample:
    """
    Draw the items with the smallest digests, whatever the order in which they come.

    Args:
        population: Chain, entry's number and leaf index of each item, each leaf once.
        root: The checkpoint's.
        nonce: The auditor's; may be empty.
        number: How many to draw, at least 1.
    """
    kept: list[tuple[int, int, str, int]] = []  # a heap whose top is the largest digest, by its negative
    population_size = 0
    async for chain_id, seq, leaf in population:
        population_size += 1
        place = (-int.from_bytes(order_of(root, nonce, leaf), "big"), leaf, chain_id, seq)
        if len(kept) < number:
            heapq.heappush(kept, place)
        elif place > kept[0]:
            heapq.heapreplace(kept, place)
    drawn = sorted(kept, reverse=True)
    items = tuple(Item((-order).to_bytes(32, "big"), leaf, chain_id, seq) for order, leaf, chain_id, seq in drawn)
    return Sample(items, population_size)


def population_of(ledger: Ledger, period: Period, size: int, what: str) -> AsyncIterator[tuple[str, int, int]]:
    """Give what may be drawn: payments begun, or entries written, in the period and among the first `size` leaves."""
    if what == ENTRIES:
        return ledger.placed(period.since, period.until, size)
    return _payments(ledger, period, size)


async def _payments(ledger: Ledger, period: Period, size: int) -> AsyncIterator[tuple[str, int, int]]:
    async for payment_id, leaf in ledger.begun(period.since, period.until, size):
        yield payment_id, 1, leaf
