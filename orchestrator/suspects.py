"""
Suspects: payments that were claimed again and again without any progress, driven with care.

Owns which claimed payments are suspects, and that only few of them are driven at once,
in an order that is another for each worker. A payment that takes its worker down takes
the claims of all its neighbours along, and nobody can tell them apart from outside;
each suspect that was driven without harm is told apart by its progress. So their number
halves with each crash until one is left, which the machine holds as poison. Must not
know what driving is. Next: `worker`.
"""

import heapq
import zlib

from orchestrator.domain.payment import Payment

FRUITLESS = 3
"""From so many claims without progress on a payment is a suspect; a deploy or two is none."""
SHARE = 16
"""One in so many suspects is driven at once: what a crash leaves undecided shrinks with their number."""


def is_suspect(payment: Payment) -> bool:
    """Tell whether the payment is to be driven with care."""
    return payment.fruitless >= FRUITLESS


class Suspects:
    """The suspects of one worker."""

    def __init__(self) -> None:
        self._queue: list[tuple[int, str]] = []
        self._under_way: set[str] = set()
        self._first: set[str] = set()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, payment_id: str, worker_id: str) -> None:
        """Queue a suspect, in this worker's own order."""
        heapq.heappush(self._queue, (zlib.crc32(f"{worker_id}/{payment_id}".encode()), payment_id))

    def hold_first(self, payment_id: str) -> None:
        """Drive no suspect before this one is held as poison: that is a record, and a crash would lose it."""
        self._first.add(payment_id)

    def take(self, room: int) -> list[str]:
        """Give whom to drive now; `done` must be told of each."""
        if self._first:
            return []
        most = max(1, (len(self._queue) + len(self._under_way)) // SHARE) - len(self._under_way)
        taken = [heapq.heappop(self._queue)[1] for _ in range(min(room, most, len(self._queue)))]
        self._under_way.update(taken)
        return taken

    def done(self, payment_id: str) -> bool:
        """Learn that a drive has ended; tell whether it was a suspect's and another's turn may have come."""
        known = payment_id in self._under_way or payment_id in self._first
        self._under_way.discard(payment_id)
        self._first.discard(payment_id)
        return known

    def clear(self) -> None:
        """Forget those who were not driven."""
        self._queue.clear()
        self._first.clear()
