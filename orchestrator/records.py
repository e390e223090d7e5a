"""
What goes through the ports, as values: births, records, notifications, queries.

Frozen and without behaviour, so that flow and store can speak of one write
without knowing each other. Next: `ports`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from orchestrator.domain.decision import Decision, Notice
from orchestrator.domain.payment import Channel

ErasureTold = Callable[[str, datetime], None]
"""Told the payment's id and when, before the COMMIT, in its thread: where an erasure outlives the database."""


@dataclass(frozen=True, slots=True)
class Birth:
    """
    A new payment, ready to be recorded.

    Attributes:
        decision: Its first entries; `decision.before` equals the payment before any entry.
        sealed: Its fields, sealed; `None` without any.
    """

    decision: Decision
    sealed: bytes | None


@dataclass(frozen=True, slots=True)
class Record:
    """
    One write of the one door.

    Attributes:
        decision: What is to be written; `decision.before` is the fence.
        held_claim: `True`: written only under the claim in `decision.before`. `False`:
            from outside; the version alone decides, and the claim is cleared, unless a start
            is in flight: nobody else may take that for a crash while its worker lives.
        keep_claim: Whether the claim stays with its worker afterwards.
        sealed: The payer's fields anew, if they changed.
    """

    decision: Decision
    held_claim: bool
    keep_claim: bool = True
    sealed: bytes | None = None

    @property
    def keeps_claim(self) -> bool:
        """Whether the row's claim, if it has one, stays as it is."""
        return self.keep_claim if self.held_claim else self.decision.payment.open_attempt is not None


@dataclass(frozen=True, slots=True)
class Notification:
    """
    One queued notice under delivery.

    Attributes:
        id: Its row.
        payment_id: The payment it is about.
        notice: What is told.
        begun: Whether a delivery was begun before this one.
        tries: How many deliveries were begun, this one included.
    """

    id: int
    payment_id: str
    notice: Notice
    begun: bool
    tries: int


@dataclass(frozen=True, slots=True)
class Pause:
    """
    An operator's pause of an account.

    Attributes:
        person: Who paused it.
        reason: Why.
        paused_at: When, UTC.
    """

    person: str
    reason: str
    paused_at: datetime


@dataclass(frozen=True, slots=True)
class Holds:
    """
    Payments that wait for a person.

    Attributes:
        count: How many.
        oldest: Since when the first of them has been held; `None` without any.
    """

    count: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Census:
    """
    What is sealed, and under what.

    Attributes:
        total: All sealed values.
        under: For each beginning that was asked for, how many begin so.
        older_digests: Payments whose content digest needs an older key.
    """

    total: int
    under: tuple[int, ...]
    older_digests: int


@dataclass(frozen=True, slots=True)
class Query:
    """
    What `list` selects by; everything given must match. `after` pages by (created_at, id).

    An index finds `held=True`, `ended=False`, `call_guid`, `account` with `reference`, and any range
    of creation, `created_to` excluded; the others are looked for in that range, oldest first.
    """

    state: str | None = None
    held: bool | None = None
    ended: bool | None = None
    account: str | None = None
    channel: Channel | None = None
    reference: str | None = None
    call_guid: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    after: str | None = None
    limit: int = 100
