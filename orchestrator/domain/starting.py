"""
Decide on the way to a session: verdicts on authorize and on start session.

The rows "authorize" and "start" of the design's verdict table. Doubt after a
start is the one that can cost money: a second digital session is a second
payable text. Reached through `decide` only.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from orchestrator.domain.decision import Decision, Walk, quiet
from orchestrator.domain.entry import Context
from orchestrator.domain.machine import Operation
from orchestrator.domain.outcome import Outcome
from orchestrator.domain.payment import Channel, HoldReason, Payment, State
from orchestrator.domain.policy import OnUnknownStart, Policy
from orchestrator.domain.verdict import Cause, Session, Verdict, VerdictKind

_TROUBLE = frozenset({Cause.ACCOUNT, Cause.UNAUTHORIZED})
_TOKEN_TROUBLE = _TROUBLE | {Cause.ABSENT, Cause.INVALID}
"""A token call carries nothing of the payment, so every refusal of it is the account's trouble."""

PAUSED = Verdict(VerdictKind.NOT_SENT, "account_paused", Cause.ACCOUNT)
"""The verdict on an effect of an account that a person has paused."""
PAUSE_LOOK_S = 2.0
"""How soon a payment that waits for its paused account looks again, in memory: a caller may be on the line."""


def after_authorize(
    payment: Payment, verdict: Verdict, context: Context, policy: Policy
) -> Decision:  # fmt: skip
    """Decide on a token call."""
    if payment.state is not State.COLLECTING or payment.missing or payment.hold is not None:
        return quiet(payment, payment.due_at)
    if verdict.kind is VerdictKind.ANSWERED:
        calm = _trouble(payment, context.now, troubled=False)
        walk = Walk(payment, context)
        walk.step("authorize", operation=Operation.AUTHORIZE, verdict=verdict, failures=0, reason="", **calm)
        return walk.due(context.now)
    changes = _trouble(payment, context.now, troubled=verdict.cause in _TOKEN_TROUBLE)
    failures = context.looks.failed + 1
    due = _retry_at(replace(payment, **changes), failures, verdict, context.now, policy)
    if not changes and payment.reason == verdict.reason:
        return quiet(payment, due)
    walk = Walk(payment, context)
    return walk.step("retry", operation=Operation.AUTHORIZE, verdict=verdict, reason=verdict.reason, **changes).due(due)


def wait_for_account(payment: Payment, context: Context, policy: Policy, verdict: Verdict = PAUSED) -> Decision:
    """
    Let an effect wait, because a person has paused the account or its breaker is open: nothing was sent.

    The first time is an entry, and stops the start deadline's clock as the account's
    other troubles do; after that it is quiet until something else happens.
    """
    patience = 0.0 if payment.channel is Channel.PHONE else verdict.retry_after_s or 0.0
    due = context.now + timedelta(seconds=max(PAUSE_LOOK_S, patience))
    changes = _trouble(payment, context.now, troubled=verdict.cause in _TROUBLE)
    deadline = replace(payment, **changes).start_deadline(context.now, policy.start_pause_s)
    if deadline is not None and not policy.start_pause_s:
        due = min(due, deadline)
    if not changes and payment.reason == verdict.reason:
        return quiet(payment, due)
    # No attempt was intended, so the entry of a start that waits names none.
    operation = Operation.AUTHORIZE if payment.state is State.COLLECTING else None
    walk = Walk(payment, context)
    return walk.step("retry", operation=operation, verdict=verdict, reason=verdict.reason, **changes).due(due)


def intend(payment: Payment, context: Context, *, request_digest: str) -> Decision:
    """
    Record the intent to start a session, before a byte is sent.

    Crash: after this record and before the verdict's, the attempt is open and is
    decided as `unknown` by whoever claims the payment next.

    Raises:
        MachineError: An attempt is open, the payment is held, or the host wants it ended.
    """
    walk = Walk(payment, context)
    attempt = payment.attempts + 1
    # The machine looks at the facts as they will be: an older open attempt must stay visible to it.
    still_open = attempt if payment.open_attempt is None else payment.open_attempt
    walk.step(
        "request", operation=Operation.START_SESSION, attempt=attempt,
        extra={"request": request_digest}, attempts=attempt, open_attempt=still_open,
    )  # fmt: skip
    return walk.due(context.now)


def refuse_request(payment: Payment, context: Context, *, field: str) -> Decision:
    """Fail a payment whose request can't be rendered: nothing was sent, and nothing ever could be."""
    walk = Walk(payment, context)
    reason = f"unusable_field:{field}"
    if payment.unseen_until is not None:
        return walk.hold(HoldReason.UNSEEN_SESSION, reason=reason).due(payment.unseen_until)
    return fail(walk, Outcome.INVALID_REQUEST, reason)


def after_start(payment: Payment, attempt: int, verdict: Verdict, context: Context, policy: Policy) -> Decision:
    """Decide on a start-session call, whether its attempt is still the open one or not."""
    told: dict[str, Any] = {"operation": Operation.START_SESSION, "attempt": attempt, "verdict": verdict}
    walk = Walk(payment, context)
    ours = payment.open_attempt == attempt
    if payment.state is State.COLLECTING:
        return _impossible(walk, verdict)
    if verdict.kind is VerdictKind.ANSWERED and verdict.session is not None:
        if payment.state is State.AUTHORIZED and payment.open_attempt in (attempt, None):
            _adopt(walk, verdict.session, policy, told)
            held_back = walk.payment.cancel_requested or walk.payment.hold is not None
            return walk.due(walk.now) if held_back else publish(walk, policy)
        return _keep_in_sight(walk, verdict.session, policy, told)
    if not ours:
        return _learnt_late(walk, told)
    if verdict.kind is VerdictKind.UNKNOWN or verdict.kind is VerdictKind.ANSWERED:
        return _doubt(walk, policy, told)
    return _no_effect(walk, verdict, policy, told)


def _impossible(walk: Walk, verdict: Verdict) -> Decision:
    """
    Meet an answer to a start that this payment never intended.

    The database may be an older copy of itself: a session that exists must keep
    the payment from opening another.
    """
    payment = walk.payment
    if verdict.session is None or payment.reason == "session_never_intended":
        return quiet(payment, payment.due_at)
    told: dict[str, Any] = {"operation": Operation.START_SESSION, "verdict": verdict}
    extra = {"other_session": verdict.session.id}
    return walk.hold(HoldReason.SESSION_UNKNOWN, **told, extra=extra, reason="session_never_intended").due(None)


def take_up(payment: Payment, verdict: Verdict, context: Context, policy: Policy) -> Decision:
    """
    Take up a session that is over already, before the answer to its start has come: nothing is handed over.

    Args:
        payment: `authorized`, with or without an open attempt.
        verdict: Answered, with the session.
        context: Who decides, when.
        policy: Of its account and channel.
    """
    assert verdict.session is not None  # noqa: S101 - the caller found it
    attempt = payment.open_attempt or payment.attempts
    told: dict[str, Any] = {"operation": Operation.START_SESSION, "attempt": attempt, "verdict": verdict}
    walk = Walk(payment, context)
    _adopt(walk, verdict.session, policy, told)
    return walk.due(walk.now)


def _adopt(walk: Walk, session: Session, policy: Policy, told: dict[str, Any]) -> None:
    now, payment = walk.now, walk.payment
    # Without an open attempt the doubt about it was recorded, and its session was counted then.
    doubted = payment.open_attempt is None
    sessions = max(payment.sessions, 1) if doubted else payment.sessions + 1
    started = {
        "open_attempt": None, "failures": 0, "sessions": sessions, "session_id": session.id,
        "session_at": now, "number": session.number, "link_id": session.link_id, "reason": "",
        "deadline_at": now + timedelta(seconds=policy.awaiting_s),
        **_trouble(payment, now, troubled=False),
    }  # fmt: skip
    if doubted and payment.hold in (HoldReason.SESSION_UNKNOWN, HoldReason.UNSEEN_SESSION):
        # The very answer that was missing has come: the session that was in doubt is this one.
        walk.release("answer_arrived")
        started["outcome"] = payment.hang_up
    if doubted and sessions == 1:
        started["unseen_until"] = None
    walk.step("start_session", **told, **started)


def dialable(payment: Payment, policy: Policy) -> bool:
    """Tell whether the call may be handed over: to the numbers that the account allows, or to nobody (digital)."""
    return payment.channel is Channel.DIGITAL or (payment.number or "").startswith(policy.dial_prefixes or ("\0",))


def publish(walk: Walk, policy: Policy) -> Decision:
    """Hand the call over, or tell the host that the link was sent; hold a number that may not be dialled."""
    now, payment = walk.now, walk.payment
    first_look = now + policy.poll_after(0)
    if payment.channel is Channel.DIGITAL:
        return walk.step("hand_over", operation=Operation.HAND_OVER).notify("link_sent").due(first_look)
    if not dialable(payment, policy):
        return walk.hold(HoldReason.NUMBER_NOT_ALLOWED).due(first_look)
    until = now + timedelta(seconds=policy.hand_over_s)
    walk.step("hand_over", operation=Operation.HAND_OVER, hand_over_until=until)
    return walk.notify("handed_over", expires_at=until).due(first_look)


def _keep_in_sight(walk: Walk, session: Session, policy: Policy, told: dict[str, Any]) -> Decision:
    """Record a session that came too late to be ours; it may be paid, so the payment doesn't end without it."""
    payment, now = walk.payment, walk.now
    if payment.has_session(session.id):
        return quiet(payment, payment.due_at)
    extra = {"other_session": session.id}
    until = now + timedelta(seconds=policy.session_life_s)
    if not payment.ended:
        walk.step("observe", **told, extra=extra, reason="session_of_lost_claim", unseen_until=until)
        return walk.due(payment.due_at)
    changes: dict[str, Any] = {"unseen_until": until}
    if payment.session_id is None:
        changes |= {"session_id": session.id, "session_at": now, "watch_until": until}
    walk.step("late_result", **told, extra=extra, reason="session_of_lost_claim", **changes)
    return walk.due(now if payment.session_id is None else payment.due_at)


def _learnt_late(walk: Walk, told: dict[str, Any]) -> Decision:
    """Keep a fenced worker's answer in the trail; it changes nothing else."""
    if walk.payment.state is State.COLLECTING:
        return quiet(walk.payment, walk.payment.due_at)
    trigger = "late_result" if walk.payment.ended else "observe"
    return walk.step(trigger, **told).due(walk.payment.due_at)


def _doubt(walk: Walk, policy: Policy, told: dict[str, Any]) -> Decision:
    """Nobody knows whether a session exists."""
    payment, now = walk.payment, walk.now
    until = now + timedelta(seconds=policy.session_life_s)
    changes: dict[str, Any] = {
        "open_attempt": None,
        "sessions": payment.sessions + 1,
        "unseen_until": until,
        "reason": "session_unknown",
    }
    deadline = payment.start_deadline(now, policy.start_pause_s)
    may_supersede = (
        policy.on_unknown_start is OnUnknownStart.SUPERSEDE
        and payment.sessions + 1 < policy.max_sessions
        and not payment.cancel_requested
        and (deadline is None or now < deadline)
        and payment.hold is None
    )
    if may_supersede:
        return walk.step("supersede", **told, **changes, extra={"event": "session_superseded"}).due(now)
    walk.hold(HoldReason.SESSION_UNKNOWN, **told, **changes)
    return walk.due(until if policy.on_unknown_start is OnUnknownStart.SUPERSEDE else None)


def _no_effect(
    walk: Walk, verdict: Verdict, policy: Policy, told: dict[str, Any]
) -> Decision:  # fmt: skip
    """Nothing left this host, or the provider refused."""
    payment = walk.payment
    closed: dict[str, Any] = {"open_attempt": None, "reason": verdict.reason}
    if verdict.kind is VerdictKind.REJECTED and verdict.cause in (Cause.INVALID, Cause.ABSENT):
        outcome = Outcome.INVALID_REQUEST if verdict.cause is Cause.INVALID else Outcome.CONFIG_ERROR
        if payment.unseen_until is not None:
            # The gateway's own duplicate guard may be what refuses: the unseen session may live.
            return walk.hold(HoldReason.UNSEEN_SESSION, **told, **closed, outcome=outcome).due(payment.unseen_until)
        return fail(walk, outcome, verdict.reason, **told, open_attempt=None)
    if payment.cancel_requested:
        if payment.unseen_until is not None:
            return walk.hold(HoldReason.UNSEEN_SESSION, **told, **closed).due(payment.unseen_until)
        return fail(walk, wished(payment), "cancelled", **told, open_attempt=None)
    failures = payment.failures + 1
    # Nothing was sent for want of a token: then the token call's refusal counts.
    causes = _TOKEN_TROUBLE if verdict.kind is VerdictKind.NOT_SENT else _TROUBLE
    changes = closed | {"failures": failures} | _trouble(payment, walk.now, troubled=verdict.cause in causes)
    walk.step("retry", **told, **changes)
    return walk.due(_retry_at(walk.payment, failures, verdict, walk.now, policy))


def wished(payment: Payment) -> Outcome:
    """Give what a payment ends as that the host wants ended: its caller has hung up, or it was cancelled."""
    return payment.hang_up or Outcome.CANCELLED_BY_HOST


def fail(walk: Walk, outcome: Outcome, reason: str, **details: Any) -> Decision:
    """End in `failed` for good: no session is left to be watched."""
    walk.step("fail", outcome=outcome, reason=reason, deadline_at=None, troubled_since=None, **details)
    return walk.notify("failed").due(None)


def _retry_at(
    payment: Payment, failures: int, verdict: Verdict, now: datetime, policy: Policy
) -> datetime:  # fmt: skip
    delay = max(policy.backoff(failures), verdict.retry_after_s or 0.0)
    due = now + timedelta(seconds=delay)
    deadline = payment.start_deadline(now, policy.start_pause_s)
    return due if deadline is None or (payment.troubled_since and policy.start_pause_s) else min(due, deadline)


def _trouble(payment: Payment, now: datetime, *, troubled: bool) -> dict[str, Any]:
    """Start or stop the clock that stops the start deadline's clock."""
    if troubled and payment.troubled_since is None:
        return {"troubled_since": now}
    if not troubled and payment.troubled_since is not None:
        paused = payment.paused_s + max(0, round((now - payment.troubled_since).total_seconds()))
        return {"troubled_since": None, "paused_s": paused}
    return {}
