"""
The payment: one attempt to take one amount for one merchant reference.

A frozen value. Every change is a `decide` function's result and goes through
`record`; nothing else writes one. Knows its facts, not what they lead to.
Next: `machine`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from enum import StrEnum
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from orchestrator.domain.money import Money
from orchestrator.domain.outcome import MoneyFact, Outcome


class State(StrEnum):
    """Where a payment stands; who moves it on is the machine's table."""

    COLLECTING = "collecting"
    AUTHORIZED = "authorized"
    SESSION_STARTED = "session_started"
    AWAITING_PAYMENT = "awaiting_payment"
    COMPLETED = "completed"
    FAILED = "failed"


ENDED = frozenset({State.COMPLETED, State.FAILED})
"""The terminal states."""


class Channel(StrEnum):
    """How the payer pays."""

    PHONE = "phone"
    """By keypad: the host transfers the call to the number that the session names."""
    DIGITAL = "digital"
    """Through a link that the provider sends by text."""


class HoldReason(StrEnum):
    """Why a person must look."""

    SESSION_UNKNOWN = "session_unknown"
    """A session may have been opened that nobody has seen; another would be a second one."""
    UNSEEN_SESSION = "unseen_session"
    """The seen session ended without a payer, and a superseded one may still be paid."""
    NUMBER_NOT_ALLOWED = "number_not_allowed"
    """The number to dial is outside the account's prefixes: toll fraud, or a wrong setting."""
    ANSWER_MISMATCH = "answer_mismatch"
    """The answer speaks of another session, amount, currency or reference."""
    PARTIALLY_PAID = "partially_paid"
    REVIEW = "review"
    INDETERMINATE = "indeterminate"
    """The session is over, or can't be asked any more, and nobody knows about the money."""
    LATE_MONEY = "late_money"
    """Money moved, and the state says otherwise."""
    POISON = "poison"
    """Claimed again and again without any progress: it takes its workers down."""


@dataclass(frozen=True, slots=True)
class Payment:
    """
    Everything known of one payment, but for the payer's sealed fields.

    Attributes:
        id: Derived from account and idempotency key; also the id of its chain.
        account: The provider configuration's name.
        channel: Phone or digital.
        reference: The merchant reference; never changes, not even for a second session.
        round: The how-manieth payment of this reference, from 1.
        amount: What is to be taken; never changes.
        created_at: When it was submitted.
        machine_version: The version of the machine it is pinned to.
        definitions: Operation to digest of the definition it is pinned to.
        content_digest: Keyed digest of what was submitted.
        call_guid: The VCC call id, if collected.
        state: Where it stands.
        version: Sequence number of its newest entry.
        head: Hash of its newest entry.
        missing: Names of the fields that are still to be collected.
        due_at: When a worker should look next; `None` if only an event can move it.
        deadline_at: When the present phase is over (collecting, start, awaiting).
        troubled_since: Since when the account's trouble stops the start deadline's clock.
        paused_s: For how many seconds it stood still before that.
        attempts: How many intents to start a session were recorded.
        open_attempt: The one whose verdict is not recorded yet.
        failures: Failed tries of the present operation in a row, as recorded.
        sessions: How many sessions were, or may have been, started.
        session_id: The session that is looked at.
        session_at: When it started.
        number: The number to dial; phone only.
        link_id: The digits that tie the call to the session; phone only.
        unseen_until: Until when a session that nobody saw may be paid.
        hand_over_until: Until when a hand-over may be delivered; phone only.
        acknowledged_at: When the host said that it has the hand-over.
        undelivered: Whether the hand-over lapsed without any delivery begun.
        overdue: Whether its waiting deadline has passed; it is still watched.
        cancel_requested: Whether the host wants it ended.
        hold: Why a person must look, if so.
        held_at: Since when.
        money: What is known of the money.
        outcome: How it ended, or what a hold found.
        reason: A machine-readable word on the newest decision.
        session_state: The provider's raw word.
        codes: The gateway's raw codes that may be stored.
        watch_until: Until when an ended payment's session is still looked at.
        claimed_by: The worker that drives it.
        claim_no: How often it was claimed; part of the fence.
        progress_claim: The `claim_no` at its newest entry; the distance counts fruitless claims.
    """

    id: str
    account: str
    channel: Channel
    reference: str
    round: int
    amount: Money
    created_at: datetime
    machine_version: int
    content_digest: str
    definitions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    call_guid: str | None = None
    state: State = State.COLLECTING
    version: int = 0
    head: bytes = b""
    missing: tuple[str, ...] = ()
    due_at: datetime | None = None
    deadline_at: datetime | None = None
    troubled_since: datetime | None = None
    paused_s: int = 0
    attempts: int = 0
    open_attempt: int | None = None
    failures: int = 0
    sessions: int = 0
    session_id: str | None = None
    session_at: datetime | None = None
    number: str | None = None
    link_id: str | None = None
    unseen_until: datetime | None = None
    hand_over_until: datetime | None = None
    acknowledged_at: datetime | None = None
    undelivered: bool = False
    overdue: bool = False
    cancel_requested: bool = False
    hold: HoldReason | None = None
    held_at: datetime | None = None
    money: MoneyFact = MoneyFact.NONE
    outcome: Outcome | None = None
    reason: str = ""
    session_state: str | None = None
    codes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    watch_until: datetime | None = None
    claimed_by: str | None = None
    claim_no: int = 0
    progress_claim: int = 0

    @property
    def ended(self) -> bool:
        """Whether the state is terminal."""
        return self.state in ENDED

    @property
    def fruitless(self) -> int:
        """How many claims in a row have brought no progress, the present one included."""
        return self.claim_no - self.progress_claim

    @property
    def hang_up(self) -> Outcome | None:
        """The host's word that the caller is gone, which later doubt about the outcome must not wipe out."""
        return self.outcome if self.outcome is Outcome.HUNG_UP else None

    def has_session(self, session_id: str) -> bool:
        """Tell whether this is the session that is looked at; the case of letters is the provider's whim."""
        return self.session_id is not None and self.session_id.lower() == session_id.lower()

    def start_deadline(self, now: datetime, pause_s: float) -> datetime | None:
        """
        Give the present deadline, moved by the time that the account's trouble has cost.

        Args:
            now: The present.
            pause_s: The most seconds that trouble may cost in all.
        """
        if self.deadline_at is None:
            return None
        paused = float(self.paused_s)
        if self.troubled_since is not None:
            paused += max(0.0, (now - self.troubled_since).total_seconds())
        return self.deadline_at + timedelta(seconds=min(paused, pause_s))


_NAMES = tuple(each.name for each in fields(Payment))
_AT = {name: at for at, name in enumerate(_NAMES)}
_values = attrgetter(*_NAMES)
_SETTERS = tuple(getattr(Payment, name).__set__ for name in _NAMES)


def evolved(payment: Payment, **changes: Any) -> Payment:
    """
    Give the payment with some attributes changed.

    `dataclasses.replace`, but without calling a constructor of 46 arguments: every decision makes
    several payments.

    Raises:
        KeyError: There is no such attribute.
    """
    values = list(_values(payment))
    for name, value in changes.items():
        values[_AT[name]] = value
    new = object.__new__(Payment)
    for put, value in zip(_SETTERS, values, strict=True):
        put(new, value)
    return new


FACTS = (
    "account", "channel", "reference", "round", "currency", "amount_minor", "machine_version", "content_digest",
    "call_guid", "missing", "deadline_at", "troubled_since", "paused_s", "attempts", "open_attempt", "failures",
    "sessions", "session_id", "session_at", "number", "link_id", "unseen_until", "hand_over_until",
    "acknowledged_at", "undelivered", "overdue", "cancel_requested", "hold", "held_at", "money", "outcome", "reason",
    "session_state", "codes", "definitions", "watch_until",
)  # fmt: skip
"""What an entry writes down when it changes: all but identity, the chain's own columns, `due_at` and the claim."""
