"""
Decide on what a webhook told: about our session, or about one that nobody here has seen.

A webhook is a hint. What comes here has been confirmed by a look, or is the body's own
word where no look can be had any more; then the account's policy says what that is worth.
Owns which payment's doubt such a word settles. Reached through `webhook` only.
Next: `entry`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

from orchestrator.domain.decision import Decision, quiet
from orchestrator.domain.entry import Context
from orchestrator.domain.looking import ALONE, after_other, after_query
from orchestrator.domain.outcome import Observation, Outcome
from orchestrator.domain.payment import Channel, Payment, State
from orchestrator.domain.policy import OnWebhookAlone, Policy
from orchestrator.domain.starting import after_start, take_up
from orchestrator.domain.verdict import Session, Verdict, VerdictKind

MAX_BYTES = 64 * 1024
"""The longest body of a webhook; VCC's has some hundreds."""

CONFIRMED = "webhook_confirmed"
"""The verdict's reason where a look has answered; the other is `ALONE`."""


class Unmatched(StrEnum):
    """Why a webhook belongs to no payment."""

    UNKNOWN = "unknown"
    """No payment has this session, nor started one for this reference and amount."""
    AMBIGUOUS = "ambiguous"
    """Several payments could be meant."""


def is_looked_at(payment: Payment, session_id: str) -> bool:
    """Tell whether the payment looks at this session by itself, or will once it has heard of it."""
    if payment.session_id is None:
        return payment.channel is Channel.DIGITAL and not payment.ended
    return payment.has_session(session_id) and (not payment.ended or payment.watch_until is not None)


def is_young(payment: Payment, session_id: str, now: datetime, policy: Policy) -> bool:
    """Tell whether the provider may not know of this session yet: it has only just been started."""
    if payment.open_attempt is not None:
        return True
    began = payment.session_at if payment.has_session(session_id) else None
    return began is not None and now < began + timedelta(seconds=policy.absent_grace_s)


def match(
    of_session: Sequence[Payment], of_reference: Sequence[Payment], told: Callable[[Payment], Observation]
) -> Payment | Unmatched:
    """
    Find the payment that a webhook is about.

    Args:
        of_session: The payments that have its session.
        of_reference: The payments of its merchant reference.
        told: What the body says, its amount read in the payment's currency.

    Returns:
        The payment of the session; else the only one that has tried to start a session for
        this reference, amount and currency, of several the only one that has not ended.
    """
    if of_session:
        return of_session[0] if len(of_session) == 1 else Unmatched.AMBIGUOUS
    possible = [each for each in of_reference if each.attempts and _same_money(each, told(each))]
    for found in (possible, [each for each in possible if not each.ended]):
        if len(found) == 1:
            return found[0]
    return Unmatched.AMBIGUOUS if possible else Unmatched.UNKNOWN


def _same_money(payment: Payment, seen: Observation) -> bool:
    return seen.amount_minor == payment.amount.minor and seen.currency in (None, payment.amount.currency)


def is_news(payment: Payment, seen: Observation) -> bool:
    """Tell whether a body could change anything: it tells of an end that the payment does not have."""
    if not seen.ended:
        # Webhooks are sent at the end; polling goes on where this one is early, or was overtaken.
        return False
    ours = seen.session_id is None or payment.has_session(seen.session_id)
    return not (ours and payment.ended and payment.outcome is seen.outcome)


def unconfirmed(seen: Observation, policy: Policy) -> Verdict:
    """Give the verdict on a body that no look can confirm any more: by policy proof, or doubt for a person."""
    if policy.webhook_alone is OnWebhookAlone.HOLD:
        seen = replace(seen, outcome=Outcome.INDETERMINATE)
    return Verdict(VerdictKind.ANSWERED, reason=ALONE, observation=seen)


def after_webhook(payment: Payment, verdict: Verdict, context: Context, policy: Policy) -> Decision:
    """
    Decide on a webhook's word.

    Args:
        payment: As it is now.
        verdict: An answered look whose observation names the session.
        context: Who decides, when.
        policy: Of its account and channel.
    """
    seen = verdict.observation
    if seen is None or seen.session_id is None or payment.has_session(seen.session_id):
        return after_query(payment, verdict, context, policy)
    if payment.session_id is None:
        return _adopted(payment, seen.session_id, verdict, context, policy)
    return after_other(payment, seen, verdict, context, policy)


def _adopted(payment: Payment, session_id: str, verdict: Verdict, context: Context, policy: Policy) -> Decision:
    """Take the session up and its end with it: the answer to its start has not come yet, or never will."""
    over = verdict.observation is not None and verdict.observation.ended
    if payment.channel is Channel.PHONE and not over:
        return quiet(payment, payment.due_at)  # nobody told the number to dial
    started = Verdict(VerdictKind.ANSWERED, reason=verdict.reason, session=Session(session_id))
    if payment.state is State.AUTHORIZED and over:
        first = take_up(payment, started, context, policy)
    else:
        first = after_start(payment, payment.open_attempt or payment.attempts, started, context, policy)
    if first.payment.state is State.COLLECTING:
        return first
    return first.then(after_query(first.payment, verdict, context, policy))
