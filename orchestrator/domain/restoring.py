"""
Decide on a payment after its database went back in time.

What happened to it since the copy was made is not in the trail: a session may have
been started, or paid. So nothing is done for it before a person or evidence has
settled it; looks go on. Pure. Next: `settling`.
"""

from datetime import timedelta
from typing import Any

from orchestrator.domain.decision import Decision, Walk, quiet
from orchestrator.domain.entry import Context
from orchestrator.domain.machine import Operation
from orchestrator.domain.payment import HoldReason, Payment
from orchestrator.domain.verdict import crashed

REASON = "database_restored"


def restored(payment: Payment, context: Context, longest_s: float) -> Decision:
    """
    Hold a payment that has not ended.

    Without a session it may have one that the copy doesn't know (`session_unknown`);
    with one, nobody knows what became of it (`indeterminate`), and it is looked at now.
    One that is held already stays so; but no hold may end by itself before every
    session is over that may have been started since the copy was made.

    Args:
        payment: As the copy has it.
        context: Who says that the database was put back, when.
        longest_s: The longest life that any account's policy gives a session.
    """
    walk = Walk(payment, context)
    longest = context.now + timedelta(seconds=longest_s)
    if payment.hold is not None and not payment.ended and payment.unseen_until is not None:
        if payment.reason == REASON:
            return quiet(payment, payment.due_at)
        walk.step("hold", hold=payment.hold, unseen_until=max(payment.unseen_until, longest), reason=REASON)
        return walk.due(walk.payment.unseen_until if payment.due_at is not None else None)
    if payment.ended or payment.hold is not None:
        return quiet(payment, payment.due_at)
    details: dict[str, Any] = {"reason": REASON}
    if payment.unseen_until is not None:
        details["unseen_until"] = max(payment.unseen_until, longest)
    if payment.session_id is not None:
        return walk.hold(HoldReason.INDETERMINATE, **details).due(context.now)
    if payment.open_attempt is not None:
        details |= {"operation": Operation.START_SESSION, "attempt": payment.open_attempt, "verdict": crashed(),
                    "open_attempt": None}  # fmt: skip
    return walk.hold(HoldReason.SESSION_UNKNOWN, **details).due(None)
