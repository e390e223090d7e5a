"""
The waiting room of a worker: whose time has come, and whose look goes first.

Owns the order in which waiting payments are driven again: what is due and not a
look at once; looks by the moment at which their evidence is lost, each account only
as many at a time as its budget can send within seconds. A waiting payment costs two
heap entries and no task. Must not know the store or the provider. Next: `worker`.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count

from orchestrator.domain.machine import Operation, planned
from orchestrator.domain.payment import Payment
from orchestrator.domain.policy import Policy

AHEAD_S = 2.0
"""For so many seconds of an account's budget looks are under way at once; more would wait for turns, out of order."""
SHARE_OF_LOOKS = 2
"""Of a worker's steps in flight, at most one in so many is a look: starts always find room."""
STALE_SHARE = 2
"""The heaps are swept when they hold more than so many times the tickets that still count."""

_Ticket = tuple[float, int, str]


def is_look(payment: Payment) -> bool:
    """Tell whether the payment's next operation is a look at its session."""
    return payment.open_attempt is None and planned(payment) is Operation.QUERY_STATUS


def evidence_until(payment: Payment, answered_at: datetime | None, policy: Policy) -> datetime:
    """
    Say when what became of the session can no longer be read, if it was over right after the last answer.

    Args:
        payment: With a session.
        answered_at: The last look that was answered in this worker's memory.
        policy: Of its account and channel.
    """
    seen = max(filter(None, (payment.session_at, answered_at)), default=payment.created_at)
    return seen + timedelta(seconds=policy.evidence_s)


@dataclass(slots=True)
class _Place:
    """Where a waiting payment stands; only its newest ticket counts, an older one would look too early."""

    account: str
    number: int
    look_by: float | None
    """POSIX seconds of its evidence's loss; `None` for anything but a look."""


class Waiting:
    """
    Orders the waiting payments of one worker.

    Args:
        per_second: An account to this worker's share of its budget; `None` without a limit.
        concurrency: Steps in flight of the whole worker.
    """

    def __init__(self, per_second: Callable[[str], float | None], concurrency: int) -> None:
        self._per_second = per_second
        self._most_looks = max(1, concurrency // SHARE_OF_LOOKS)
        self._places: dict[str, _Place] = {}
        self._later: list[_Ticket] = []
        self._now: list[_Ticket] = []
        self._looks: dict[str, list[_Ticket]] = {}
        self._looking: dict[str, str] = {}
        self._under_way: Counter[str] = Counter()
        self._order = count(1)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def tickets(self) -> int:
        """How many heap entries there are, stale ones included."""
        return len(self._later) + len(self._now) + sum(map(len, self._looks.values()))

    @property
    def pressed(self) -> bool:
        """Whether somebody's time has come who had to wait for room."""
        return bool(self._now) or any(self._looks.values())

    def counts(self) -> Counter[str]:
        """Count the payments that wait for a look or have one under way, by account."""
        found = Counter(place.account for place in self._places.values() if place.look_by is not None)
        return found + self._under_way

    def push(self, payment: Payment, at: float, look_by: datetime | None) -> None:
        """
        Let a payment wait; an earlier time of its own no longer counts.

        Args:
            payment: Whose place it is.
            at: When it is due, on the monotonic clock.
            look_by: When its evidence is lost; `None` for anything but a look.
        """
        self._sweep()
        by = None if look_by is None else look_by.timestamp()
        place = self._places[payment.id] = _Place(payment.account, next(self._order), by)
        heapq.heappush(self._later, (at, place.number, payment.id))

    def forget(self, payment_id: str) -> None:
        """Let a payment no longer wait: it is being driven, or no longer ours."""
        self._places.pop(payment_id, None)

    def clear(self) -> None:
        """Forget all who wait."""
        self._places.clear()

    def looks(self, payment_id: str, account: str) -> None:
        """Count a look that has begun."""
        if payment_id not in self._looking:
            self._looking[payment_id] = account
            self._under_way[account] += 1

    def looked(self, payment_id: str) -> bool:
        """Count it no more; tell whether it had been one."""
        account = self._looking.pop(payment_id, None)
        if account is not None:
            self._under_way[account] -= 1
        return account is not None

    def next_at(self) -> float | None:
        """Say when the next payment's time comes; `None` if nobody waits for a time."""
        return self._later[0][0] if self._later else None

    def take(self, now: float, room: int) -> Iterable[str]:
        """
        Give whose turn it is, one at a time; a look is counted as begun.

        Args:
            now: The monotonic clock.
            room: How many steps may begin.
        """
        while self._later and self._later[0][0] <= now:
            at, number, payment_id = heapq.heappop(self._later)
            place = self._places.get(payment_id)
            if place is None or place.number != number:
                continue
            if place.look_by is None:
                heapq.heappush(self._now, (at, number, payment_id))
            else:
                heapq.heappush(self._looks.setdefault(place.account, []), (place.look_by, number, payment_id))
        while room > 0 and (chosen := self._first()) is not None:
            room -= 1
            yield chosen

    def _first(self) -> str | None:
        """Take the most urgent one that may begin."""
        if self._top(self._now):
            return self._leave(self._now)
        if self._under_way.total() >= self._most_looks:
            return None
        open_ = [heap for account, heap in self._looks.items() if self._top(heap) and self._has_room(account)]
        return self._leave(min(open_, key=lambda heap: heap[0])) if open_ else None

    def _has_room(self, account: str) -> bool:
        per_second = self._per_second(account)
        return per_second is None or self._under_way[account] < max(1.0, per_second * AHEAD_S)

    def _top(self, heap: list[_Ticket]) -> bool:
        """Drop stale tickets from a heap's top; tell whether one is left that counts."""
        while heap:
            place = self._places.get(heap[0][2])
            if place is not None and place.number == heap[0][1]:
                return True
            heapq.heappop(heap)
        return False

    def _leave(self, heap: list[_Ticket]) -> str:
        payment_id = heapq.heappop(heap)[2]
        place = self._places.pop(payment_id)
        if place.look_by is not None:
            self.looks(payment_id, place.account)
        return payment_id

    def _sweep(self) -> None:
        """Bound the stale tickets, which otherwise stay until their time."""
        if self.tickets <= STALE_SHARE * len(self._places) + 64:
            return
        for heap in (self._later, self._now, *self._looks.values()):
            kept = [ticket for ticket in heap if self._counts(ticket)]
            heap[:] = kept
            heapq.heapify(heap)

    def _counts(self, ticket: _Ticket) -> bool:
        place = self._places.get(ticket[2])
        return place is not None and place.number == ticket[1]
