"""
Decide on what a look at the session said: status calls, before and after the end.

`Finished` is not paid, silence is not failure, and a deadline never fails a
live session: only the provider's word, or the longest life of the session with
a last look that answered, ends a payment without money. Reached through
`decide` only.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from orchestrator.domain.decision import Decision, Walk, quiet
from orchestrator.domain.entry import Context
from orchestrator.domain.machine import Operation
from orchestrator.domain.outcome import HOLDING, MONEY_OF, WITHOUT_PAYER, MoneyFact, Observation, Outcome
from orchestrator.domain.payment import HoldReason, Payment, State
from orchestrator.domain.policy import Policy
from orchestrator.domain.starting import wished
from orchestrator.domain.verdict import Cause, Verdict, VerdictKind

PAID_ELSEWHERE = "paid_elsewhere"
"""Why a payment is held of which another session has told that money moved."""

_SEEN_OVER = ("provider_said_so", "session_life_over")
"""Why a payment with an unseen session is held whose own session is over. Any other reason leaves that open."""

ALONE = "webhook_alone"
"""The reason of a verdict that is a webhook's own word: nobody can be asked any more."""

_HOLD_OF = {
    Outcome.PARTIALLY_PAID: HoldReason.PARTIALLY_PAID,
    Outcome.REVIEW: HoldReason.REVIEW,
    Outcome.INDETERMINATE: HoldReason.INDETERMINATE,
}


def after_query(payment: Payment, verdict: Verdict, context: Context, policy: Policy) -> Decision:
    """Decide on one look."""
    if payment.state in (State.COLLECTING, State.AUTHORIZED) or payment.session_id is None:
        return quiet(payment, payment.due_at)
    walk = Walk(payment, context)
    told: dict[str, Any] = {"operation": Operation.QUERY_STATUS, "verdict": verdict}
    seen = verdict.observation
    if verdict.kind is VerdictKind.ANSWERED and seen is not None:
        if payment.ended:
            return _late(walk, seen, policy, told)
        wrong = mismatch(payment, seen)
        if wrong:
            return _contradiction(walk, seen, wrong, policy, told)
        if _paid_elsewhere(payment):
            return _beside(walk, seen, policy, told)
        return _ended(walk, seen, policy, told) if seen.ended else _running(walk, seen, policy, told)
    if payment.ended and payment.watch_until is None:
        return quiet(payment, payment.due_at)
    # Not sent for want of a token, a look carries the cause of the token call: that is no word about the session.
    refused = verdict.cause if verdict.kind is VerdictKind.REJECTED else Cause.NONE
    if refused is Cause.ABSENT:
        return _absent(walk, policy, told)
    if refused is Cause.INVALID:
        return _refused(walk, policy, told)
    return _silence(walk, verdict, policy, told)


def mismatch(payment: Payment, seen: Observation) -> str:
    """Name what in the answer is not ours: session, reference, currency or amount; empty if nothing is."""
    if seen.session_id is not None and not payment.has_session(seen.session_id):
        return "session"
    if seen.reference is not None and seen.reference != payment.reference:
        return "reference"
    if seen.currency is not None and seen.currency != payment.amount.currency:
        return "currency"
    if seen.amount_minor is None or not seen.ended:
        return ""
    if seen.outcome is Outcome.PARTIALLY_PAID and seen.amount_minor < payment.amount.minor:
        return ""
    return "" if seen.amount_minor == payment.amount.minor else "amount"


def after_other(
    payment: Payment, seen: Observation, verdict: Verdict, context: Context, policy: Policy
) -> Decision:  # fmt: skip
    """
    Decide on another session than the one that the payment looks at: one whose answer was lost.

    Paid there is paid, also while ours runs. Not paid there is one doubt less, and ends the
    payment if it only waited for that word. What may not be about this payment holds it.
    """
    walk = Walk(payment, context)
    told: dict[str, Any] = {"operation": Operation.QUERY_STATUS, "verdict": verdict}
    ours = seen.reference == payment.reference and not mismatch(replace(payment, session_id=seen.session_id), seen)
    unseen = payment.unseen_until is not None and not payment.ended
    moved = seen.outcome in MONEY_OF
    if not ours or (moved and payment.ended):
        return after_query(payment, verdict, context, policy)
    if moved and (not unseen or payment.hold in _HOLD_OF.values()):
        # Nobody can tell which of the two was paid, or whether both were.
        if not (_paid_elsewhere(payment) and _told_already(payment, seen)):
            walk.hold(HoldReason.ANSWER_MISMATCH, **told, **_facts(seen), reason=PAID_ELSEWHERE,
                      extra={"other_session": seen.session_id}, money=MoneyFact.UNKNOWN)  # fmt: skip
        return _look_on(walk, policy)
    if moved:
        found: dict[str, Any] = {"session_id": seen.session_id, "unseen_until": None}
        if payment.hold is None:
            walk.step("observe", **told, reason="unseen_session_told", **found)
        walk.release("evidence", **found)
        return _ended(walk, seen, policy, told)
    if not seen.ended or not unseen or payment.sessions > 2:
        return quiet(payment, payment.due_at)
    told |= {"extra": {"other_session": seen.session_id}, "unseen_until": None}
    if payment.hold is not HoldReason.UNSEEN_SESSION:
        return walk.step("observe", **told, reason=_why(payment, "unseen_session_told")).due(payment.due_at)
    if still_runs(payment):  # our own session may still be paid: a look decides
        walk.release("unseen_session_told", **told)
        return walk.due(walk.now)
    known = payment.outcome if payment.outcome is not Outcome.INDETERMINATE else seen.outcome
    walk.release("evidence", unseen_until=None)
    walk.step("fail", **told, outcome=known, reason="unseen_session_told", money=MoneyFact.NONE, deadline_at=None)
    return walk.notify("failed").due(None)


def still_runs(payment: Payment) -> bool:
    """Tell whether the own session of a payment that waits for an unseen one may still be paid."""
    return payment.session_id is not None and payment.reason not in _SEEN_OVER


def _why(payment: Payment, reason: str) -> str:
    """Give the reason for an entry: a held payment keeps the one that it is held for."""
    return reason if payment.hold is None else payment.reason


def _facts(seen: Observation) -> dict[str, Any]:
    return {"session_state": seen.session_state, "codes": dict(seen.codes)}


def _told_already(payment: Payment, seen: Observation) -> bool:
    return payment.session_state == seen.session_state and dict(payment.codes) == dict(seen.codes)


def _contradiction(walk: Walk, seen: Observation, wrong: str, policy: Policy, told: dict[str, Any]) -> Decision:
    money = MoneyFact.UNKNOWN if seen.ended else walk.payment.money
    if walk.payment.hold is not HoldReason.ANSWER_MISMATCH or (seen.ended and not _told_already(walk.payment, seen)):
        walk.hold(HoldReason.ANSWER_MISMATCH, **told, **_facts(seen), reason=f"other_{wrong}", money=money)
    return _look_on(walk, policy)


def _paid_elsewhere(payment: Payment) -> bool:
    """Tell whether another session told of money: no end of our own settles that."""
    return payment.hold is HoldReason.ANSWER_MISMATCH and payment.reason == PAID_ELSEWHERE


def _beside(walk: Walk, seen: Observation, policy: Policy, told: dict[str, Any]) -> Decision:
    """Write down how our own session ended, for the person who has to look at both."""
    if seen.ended and not _told_already(walk.payment, seen):
        walk.hold(HoldReason.ANSWER_MISMATCH, **told, **_facts(seen), reason=walk.payment.reason)
    return _look_on(walk, policy)


def _ended(walk: Walk, seen: Observation, policy: Policy, told: dict[str, Any]) -> Decision:
    payment, outcome = walk.payment, seen.outcome
    assert outcome is not None  # noqa: S101 - the caller looked
    if outcome is Outcome.PAID:
        return _complete(walk, seen, told)
    if outcome in HOLDING:
        if payment.hold is not _HOLD_OF[outcome] or not _told_already(payment, seen):
            reason = ALONE if told["verdict"].reason == ALONE else outcome.value
            walk.hold(_HOLD_OF[outcome], **told, **_facts(seen), outcome=outcome, reason=reason,
                      money=MONEY_OF[outcome])  # fmt: skip
        return _look_on(walk, policy)
    return _fail(walk, outcome, "provider_said_so", told, seen, policy=policy)


def _complete(walk: Walk, seen: Observation, told: dict[str, Any]) -> Decision:
    walk.release("evidence")
    if walk.payment.state is State.SESSION_STARTED:
        walk.step("hand_over", operation=Operation.HAND_OVER, reason="paid_before_hand_over")
    reason = "paid" if seen.amount_minor is not None else "amount_unconfirmed"
    walk.step("complete", **told, **_facts(seen), outcome=Outcome.PAID, money=MoneyFact.TAKEN, reason=reason,
              deadline_at=None)  # fmt: skip
    return walk.notify("completed").due(None)


def _fail(
    walk: Walk, outcome: Outcome, reason: str, told: dict[str, Any], seen: Observation, *,
    policy: Policy, watched: bool = False,
) -> Decision:  # fmt: skip
    """End without money, unless an unseen session may still be paid; watch on where this one may be."""
    payment, facts = walk.payment, _facts(seen)
    if payment.money is MoneyFact.PARTIAL or (payment.money is MoneyFact.UNKNOWN and not seen.ended):
        # An earlier answer spoke of money, and this one doesn't settle it: no failure from that.
        if payment.reason != "money_in_doubt" or not _told_already(payment, seen):
            walk.hold(payment.hold or HoldReason.INDETERMINATE, **told, **facts, reason="money_in_doubt")
        return _look_on(walk, policy)
    unseen = payment.unseen_until is not None and payment.unseen_until > walk.now
    if unseen and (outcome in WITHOUT_PAYER or not seen.ended):
        if payment.hold is not HoldReason.UNSEEN_SESSION or payment.outcome is not outcome:
            walk.hold(HoldReason.UNSEEN_SESSION, **told, **facts, outcome=outcome, reason=reason, money=MoneyFact.NONE)
        # This session runs on: a hold stops effects, never observation.
        return walk.due(payment.unseen_until) if seen.ended else _look_on(walk, policy)
    walk.release("evidence")
    until = life_over(payment, policy) if watched else None
    walk.step("fail", **told, **facts, outcome=outcome, reason=reason, money=MoneyFact.NONE, deadline_at=None,
              watch_until=until)  # fmt: skip
    due = None if until is None else min(until, walk.now + timedelta(seconds=policy.poll_max_s))
    return walk.notify("failed").due(due)


def _running(walk: Walk, seen: Observation, policy: Policy, told: dict[str, Any]) -> Decision:
    payment, now = walk.payment, walk.now
    facts = _facts(seen)
    if now >= life_over(payment, policy):
        return _fail(walk, Outcome.EXPIRED, "session_life_over", told, seen, policy=policy)
    if payment.hold is None:
        if payment.cancel_requested:
            return _fail(walk, wished(payment), "cancelled", told, seen, policy=policy, watched=True)
        if payment.undelivered:
            return _fail(walk, Outcome.NOT_ATTEMPTED, "hand_over_lapsed", told, seen, policy=policy, watched=True)
    due = _next_look(payment, now, policy, walk.looks.count)
    if payment.deadline_at is not None and now >= payment.deadline_at and not payment.overdue:
        return (
            walk.step("observe", **told, **facts, overdue=True, reason=_why(payment, "overdue"))
            .notify("overdue")
            .due(due)
        )
    if not seen.known and seen.session_state != payment.session_state:
        return walk.step("observe", **told, **facts, reason=_why(payment, "unknown_state")).due(due)
    return quiet(payment, due)


def _absent(walk: Walk, policy: Policy, told: dict[str, Any]) -> Decision:
    """404 or 410: lag just after the start; later the evidence is gone, which proves nothing about the money."""
    payment, now = walk.payment, walk.now
    if payment.session_at is not None and now < payment.session_at + timedelta(seconds=policy.absent_grace_s):
        return quiet(payment, now + policy.poll_after(walk.looks.count))
    if payment.ended:
        return _unanswerable(walk, "session_absent", told)
    return _look_again(walk, "session_absent", policy, told)


def _refused(walk: Walk, policy: Policy, told: dict[str, Any]) -> Decision:
    """A refused look proves nothing about the money."""
    if walk.payment.ended and walk.now < life_over(walk.payment, policy):
        return quiet(walk.payment, _next_look(walk.payment, walk.now, policy, walk.looks.count))
    return _look_again(walk, "status_refused", policy, told)


def _look_again(walk: Walk, reason: str, policy: Policy, told: dict[str, Any]) -> Decision:
    """Hold, and look on as long as the session can live: the next look may be answered."""
    lapses = _unanswerable(walk, reason, told).payment.due_at
    if walk.now >= life_over(walk.payment, policy):
        return walk.due(lapses)
    return walk.due(lapses or _next_look(walk.payment, walk.now, policy, walk.looks.count))


def _unanswerable(walk: Walk, reason: str, told: dict[str, Any]) -> Decision:
    """Nobody can say any more what became of the session: silence never means that no money moved."""
    payment = walk.payment
    if payment.ended:
        walk.step("late_result", **told, reason=reason, watch_until=None, money=MoneyFact.UNKNOWN)
        return _moved(walk)
    if payment.hold is None:
        walk.hold(HoldReason.INDETERMINATE, **told, outcome=Outcome.INDETERMINATE, money=MoneyFact.UNKNOWN,
                  reason=reason)  # fmt: skip
    lapses = payment.unseen_until if payment.hold is HoldReason.UNSEEN_SESSION else None
    return walk.due(lapses)


def _silence(walk: Walk, verdict: Verdict, policy: Policy, told: dict[str, Any]) -> Decision:
    payment, now = walk.payment, walk.now
    if now >= life_over(payment, policy):
        return _unanswerable(walk, "silence", told)
    own = min(policy.backoff(walk.looks.failed + 1), policy.poll_retry_s)
    delay = max(own, verdict.retry_after_s or 0.0)
    return quiet(payment, min(now + timedelta(seconds=delay), life_over(payment, policy)))


def _late(walk: Walk, seen: Observation, policy: Policy, told: dict[str, Any]) -> Decision:
    """Evidence after the end never changes the state; money that moved unseen holds it for a person."""
    payment, now = walk.payment, walk.now
    if not seen.ended:
        if payment.watch_until is not None and now >= payment.watch_until:
            return walk.step("late_result", **told, reason="watch_over", watch_until=None).due(None)
        watched = payment.watch_until is not None
        return quiet(payment, _next_look(payment, now, policy, walk.looks.count) if watched else payment.due_at)
    wrong = mismatch(payment, seen)
    money = MONEY_OF.get(seen.outcome, MoneyFact.NONE) if seen.outcome else MoneyFact.UNKNOWN
    money = MoneyFact.UNKNOWN if wrong else money
    late = f"other_{wrong}" if wrong else f"late_{seen.outcome}"
    ours = payment.outcome is seen.outcome and not wrong
    if payment.watch_until is None and _told_already(payment, seen) and (ours or payment.reason == late):
        return quiet(payment, payment.due_at)
    extra = {"late_outcome": seen.outcome.value if seen.outcome else "", "other": wrong}
    walk.step("late_result", **told, **_facts(seen), extra=extra, reason=late, watch_until=None,
              money=payment.money if money is MoneyFact.NONE and payment.state is State.FAILED else money)  # fmt: skip
    return _moved(walk)


def _moved(walk: Walk) -> Decision:
    """Finish a late result: a person must look when what is known of the money has changed."""
    if walk.payment.money is not walk.before.money:
        walk.notify("money_changed")
        walk.hold(HoldReason.LATE_MONEY)
    return walk.due(None)


def _look_on(walk: Walk, policy: Policy) -> Decision:
    """Look at a held payment's session as long as it can live; after that only a person moves it."""
    over = walk.now >= life_over(walk.payment, policy)
    if over and walk.payment.hold is HoldReason.UNSEEN_SESSION:
        return walk.due(walk.payment.unseen_until)
    looks = walk.looks.count if walk.payment is walk.before else 0  # an entry begins a new count
    return walk.due(None if over else _next_look(walk.payment, walk.now, policy, looks))


def life_over(payment: Payment, policy: Policy) -> datetime:
    """Say when the session's longest life is over."""
    return (payment.session_at or payment.created_at) + timedelta(seconds=policy.session_life_s)


def _next_look(payment: Payment, now: datetime, policy: Policy, looks: int) -> datetime:
    due = now + policy.poll_after(looks)
    last = payment.watch_until or life_over(payment, policy)
    return due if now >= last else min(due, last)
