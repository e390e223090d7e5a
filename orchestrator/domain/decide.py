"""
Decide: the heart. From a payment and a verdict to what is recorded.

Total over state, operation and verdict: answers to operations that the state
has left behind included. Pure: time, jitter and policy are arguments. A first
run, a retry, a rescue and a webhook all come through here; what a host or a
person asks for comes through `asking`. `starting` and `looking` hold the rows.
Next: `entry`.
"""

from typing import Any

from orchestrator.domain.decision import Decision, Walk, quiet
from orchestrator.domain.entry import Context
from orchestrator.domain.looking import after_query, still_runs
from orchestrator.domain.machine import Operation
from orchestrator.domain.outcome import Outcome
from orchestrator.domain.payment import Channel, HoldReason, Payment, State
from orchestrator.domain.policy import Policy
from orchestrator.domain.starting import PAUSED, after_authorize, after_start, fail, publish, wished
from orchestrator.domain.verdict import Verdict, VerdictKind


def decide(
    payment: Payment,
    operation: Operation,
    verdict: Verdict,
    context: Context,
    policy: Policy,
    *,
    attempt: int | None = None,
) -> Decision:
    """
    Decide on one verdict.

    Args:
        payment: The payment as it is now, which may be later than when the operation began.
        operation: What was tried.
        verdict: What came of it.
        context: Who decides, when, after how many silent looks.
        policy: Of its account and channel.
        attempt: For a start: which attempt the verdict is about; the open one if left out.

    Returns:
        What to record. A quiet decision only says when to look next.
    """
    match operation:
        case Operation.AUTHORIZE:
            return after_authorize(payment, verdict, context, policy)
        case Operation.START_SESSION:
            number = attempt if attempt is not None else payment.open_attempt or payment.attempts
            return after_start(payment, number, verdict, context, policy)
        case Operation.HAND_OVER:
            return _after_hand_over(payment, verdict, context, policy)
        case Operation.QUERY_STATUS:
            return after_query(payment, verdict, context, policy)


def lapsed(payment: Payment, why: str, context: Context) -> Decision:
    """
    Decide because time has passed, on the word that `operation.lapse` gave.

    Nothing was asked of anybody: this only ever fails a payment that has no
    session, or one whose unseen session's longest life is over without a word.
    """
    walk = Walk(payment, context)
    match why:
        case "poison":
            # A hold never stops observation, unless looking is what takes the workers down.
            if payment.hold is None:
                return walk.hold(HoldReason.POISON).due(context.now if payment.session_id is not None else None)
            # The older doubt stays: looks that are mended do not resolve it.
            walk.step("hold", extra={"event": "poison"}).notify("held")
            waits = payment.hold in (HoldReason.UNSEEN_SESSION, HoldReason.SESSION_UNKNOWN)
            return walk.due(payment.unseen_until if waits else None)
        case "abandoned":
            return fail(walk, Outcome.ABANDONED, "never_fully_collected")
        case "unseen_session_over":
            known = payment.outcome if payment.outcome is not Outcome.INDETERMINATE else None
            fallback = wished(payment) if payment.cancel_requested else Outcome.PROVIDER_UNAVAILABLE
            runs = still_runs(payment)
            walk.release("unseen_session_over", unseen_until=None)
            if runs:  # the seen session was younger, and may still be paid: a look decides
                return walk.due(context.now)
            return fail(walk, known or fallback, "unseen_session_over")
    if payment.unseen_until is not None:
        return walk.hold(HoldReason.UNSEEN_SESSION, reason=why).due(payment.unseen_until)
    if why == "cancelled":
        return fail(walk, wished(payment), why)
    if payment.reason == PAUSED.reason:  # nothing is wrong with the settings: a person has stopped the account
        return fail(walk, Outcome.PROVIDER_UNAVAILABLE, PAUSED.reason)
    troubled = payment.troubled_since is not None
    return fail(walk, Outcome.CONFIG_ERROR if troubled else Outcome.PROVIDER_UNAVAILABLE, why)


def _after_hand_over(payment: Payment, verdict: Verdict, context: Context, policy: Policy) -> Decision:
    """Publication, in `session_started`; delivery to the host, in `awaiting_payment`."""
    walk = Walk(payment, context)
    if payment.state is State.SESSION_STARTED and payment.hold is None and not payment.cancel_requested:
        return publish(walk, policy)
    waiting = payment.state is State.AWAITING_PAYMENT and payment.channel is Channel.PHONE
    # A publication that lost its race is no word of the host's.
    if not waiting or payment.acknowledged_at is not None or verdict.reason == "published":
        return quiet(payment, payment.due_at)
    told: dict[str, Any] = {"operation": Operation.HAND_OVER, "verdict": verdict}
    if verdict.kind is VerdictKind.ANSWERED:
        walk.step("acknowledge", **told, acknowledged_at=context.now, undelivered=False)
        return walk.due(payment.due_at)
    if payment.undelivered or payment.reason == "hand_over_unconfirmed":
        return quiet(payment, payment.due_at)
    if verdict.kind is VerdictKind.NOT_SENT:
        # No delivery was ever begun, so no caller was sent there: one last look decides.
        return walk.step("observe", **told, undelivered=True, reason="hand_over_lapsed").due(context.now)
    return walk.step("observe", **told, reason="hand_over_unconfirmed").due(payment.due_at)
