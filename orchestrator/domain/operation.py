"""
Plan: what happens next to a payment, and why.

Pure and total: reads the payment, the clock's value and the policy, asks the
machine's own guards, never sends. `explain` prints the same plan. An open
attempt is never sent again: a crash is one more verdict. Next: `verdict`.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from orchestrator.domain.machine import Operation, planned
from orchestrator.domain.payment import HoldReason, Payment, State
from orchestrator.domain.policy import OnUnknownStart, Policy


class Next(StrEnum):
    """The kinds of next step."""

    SEND = "send"
    """Carry out `Plan.operation`."""
    RESCUE = "rescue"
    """An attempt is open and its worker is gone: decide with `unknown`."""
    LAPSE = "lapse"
    """A deadline has passed: decide without asking anybody."""
    WAIT = "wait"
    """Nothing before `Plan.again_at`, or before somebody acts."""


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What is next, and a machine-readable word why.

    Attributes:
        next: The kind of step.
        why: The word.
        operation: What to send, for `SEND`.
        again_at: For `WAIT`, when to plan anew; `None` if only an event can move the payment. Told with the
            plan, since a moment later the answer may be another: what was not due is due by then.
    """

    next: Next
    why: str
    operation: Operation | None = None
    again_at: datetime | None = None


def plan(payment: Payment, now: datetime, policy: Policy) -> Plan:
    """
    Give the next step of a payment that this worker has claimed.

    Args:
        payment: The payment as recorded, or as left by a quiet decision.
        now: The present.
        policy: Of its account and channel.
    """
    if payment.open_attempt is not None:
        return Plan(Next.RESCUE, "open_attempt")
    why = lapse(payment, now, policy)
    if why:
        return Plan(Next.LAPSE, why)
    if payment.due_at is None:
        return Plan(Next.WAIT, "held" if payment.hold else "ended" if payment.ended else "fields_missing")
    if payment.due_at > now:
        return Plan(Next.WAIT, "not_due", again_at=payment.due_at)
    operation = planned(payment)
    if operation is None:
        why = "held" if payment.hold else "fields_missing" if payment.missing else "nothing_to_do"
        return Plan(Next.WAIT, why, again_at=_own_deadline(payment, now, policy))
    return Plan(Next.SEND, operation.value, operation)


def _own_deadline(payment: Payment, now: datetime, policy: Policy) -> datetime | None:
    """
    Say when what is due without anything to do is to be planned anew.

    A rescue makes everything due that a dead worker held, also what has nothing to do before a
    deadline of its own, or before a person acts: taken at its word, it would be planned without pause.
    """
    own = payment.deadline_at if payment.missing and payment.hold is None else payment.unseen_until
    return own if own is not None and own > now and lapse(payment, own, policy) else None


def lapse(payment: Payment, now: datetime, policy: Policy) -> str:
    """Give the word for the deadline that has passed, or nothing."""
    if payment.hold in (HoldReason.UNSEEN_SESSION, HoldReason.SESSION_UNKNOWN):
        over = payment.unseen_until is not None and payment.unseen_until <= now
        # By policy `hold` a person or a webhook settles an unknown start, however long that takes.
        lasting = payment.hold is HoldReason.SESSION_UNKNOWN and policy.on_unknown_start is OnUnknownStart.HOLD
        if over and not lasting:
            return "unseen_session_over"
    # Whatever is held or over may be looked at all the same, and then looking can take its workers down as well.
    idle = payment.due_at is None if payment.hold is not None else payment.ended and payment.watch_until is None
    if payment.fruitless > policy.max_claims and not idle:
        return "poison"
    if payment.hold is not None or payment.ended:
        return ""
    if payment.state not in (State.COLLECTING, State.AUTHORIZED):
        return ""
    if payment.cancel_requested:
        return "cancelled"
    if payment.missing:
        return "abandoned" if payment.deadline_at is not None and payment.deadline_at <= now else ""
    deadline = payment.start_deadline(now, policy.start_pause_s)
    return "start_deadline" if deadline is not None and deadline <= now else ""
