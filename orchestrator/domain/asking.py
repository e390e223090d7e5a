"""
Decide on what the host or a person asks for: submit, collect, cancel, acknowledge.

The other half of the one door: these too end in `record`, and none of them
does I/O. Next: `entry`.
"""

from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from typing import Any

from orchestrator.domain.decision import Decision, Walk, quiet
from orchestrator.domain.entry import Context, extend
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.machine import Operation
from orchestrator.domain.outcome import Outcome
from orchestrator.domain.payment import Channel, HoldReason, Payment, State
from orchestrator.domain.policy import Policy
from orchestrator.domain.starting import fail
from orchestrator.domain.verdict import Verdict, VerdictKind


def submit(payment: Payment, context: Context, policy: Policy) -> Decision:
    """
    Give birth to a payment in `collecting`; due at once when nothing is missing.

    Args:
        payment: Its identity and `missing`; version 0.
        context: Who submits it.
        policy: Of its account and channel.
    """
    allowed = policy.collecting_s if payment.missing else policy.start_s
    deadline = context.now + timedelta(seconds=allowed)
    born = replace(payment, state=State.COLLECTING, deadline_at=deadline)
    entry = extend(None, born, "submit", context)
    due = deadline if payment.missing else context.now
    recorded = replace(born, version=1, head=entry.hash, due_at=due)
    return Decision(payment, recorded, (entry,))


def collect(
    payment: Payment, names: Collection[str], call_guid: str | None, context: Context, policy: Policy
) -> Decision:
    """
    Take note of more fields.

    Args:
        payment: The payment.
        names: The fields that are now known, old and new.
        call_guid: The call id, if it is among them.
        context: Who supplies them.
        policy: Of its account and channel.

    Raises:
        InvalidInput: The payment has left `collecting`.
    """
    if payment.state is not State.COLLECTING or not payment.missing:
        raise InvalidInput("fields", f"can't be collected: the payment is {payment.state}", "submit another payment")
    missing = tuple(name for name in payment.missing if name not in names)
    changes: dict[str, Any] = {"missing": missing, "call_guid": call_guid or payment.call_guid}
    if not missing:
        changes["deadline_at"] = context.now + timedelta(seconds=policy.start_s)
    walk = Walk(payment, context).step("collect", **changes)
    if payment.hold is not None:
        return walk.due(None)
    return walk.due(walk.payment.deadline_at if missing else context.now)


def cancel(payment: Payment, context: Context, *, reason: str, hung_up: bool = False) -> Decision:
    """
    End the payment for the host: at once without a session, after one last look with one.

    Cancelling twice, or after the end, changes nothing: the first wish counts. A start
    in flight is not interrupted: its verdict decides. Where a session may exist that
    nobody has seen, the wish is written down and the hold stays.

    Args:
        payment: The payment.
        context: Who asks.
        reason: Why; may be empty.
        hung_up: Phone only: the caller has hung up, so it ends as `hung_up`.

    Raises:
        InvalidInput: A hang-up of a digital payment.
    """
    if hung_up and payment.channel is not Channel.PHONE:
        raise InvalidInput("hung_up", "is for phone payments", "cancel it without")
    if payment.ended or payment.cancel_requested:
        return quiet(payment, payment.due_at)
    walk = Walk(payment, context)
    extra = {"why": reason} if reason else None
    wish: dict[str, Any] = {"cancel_requested": True} | ({"outcome": Outcome.HUNG_UP} if hung_up else {})
    untouched = payment.open_attempt is None and payment.unseen_until is None and payment.hold is None
    # Without a session of its own it may have one nevertheless: the database may be an older copy of itself.
    doubted = payment.hold is HoldReason.SESSION_UNKNOWN or payment.unseen_until is not None
    if payment.state is State.COLLECTING and doubted:
        return walk.step("hold", extra={"event": "cancel"} | (extra or {}), **wish).due(payment.due_at)
    if payment.state is State.COLLECTING or (payment.state is State.AUTHORIZED and untouched):
        walk.release("cancelled")
        return fail(walk, Outcome.HUNG_UP if hung_up else Outcome.CANCELLED_BY_HOST, "cancelled", extra=extra)
    walk.step("cancel", extra=extra, **wish)
    return walk.due(context.now if payment.hold is None and payment.open_attempt is None else payment.due_at)


def acknowledge(payment: Payment, context: Context) -> Decision:
    """
    Take the host's word that it has the hand-over; once is enough.

    Raises:
        InvalidInput: There is nothing handed over, or the payment has ended.
    """
    if payment.acknowledged_at is not None:
        return quiet(payment, payment.due_at)
    if payment.state is not State.AWAITING_PAYMENT or payment.hand_over_until is None:
        raise InvalidInput("payment", f"has no hand-over to acknowledge: it is {payment.state}")
    told = Verdict(VerdictKind.ANSWERED, reason="acknowledged_by_call")
    walk = Walk(payment, context)
    walk.step(
        "acknowledge", operation=Operation.HAND_OVER, verdict=told, acknowledged_at=context.now, undelivered=False
    )
    return walk.due(payment.due_at)
