"""
Explain: what happens next to a payment, and why, in words for a person.

Owns the sentences, and what a person can do about a hold; decides nothing: every
step comes from `domain.operation.plan`, as a worker that claims the payment would
get it. Pure; must not know the database or the screen. Next: `cli.queries`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from orchestrator.domain.machine import Operation
from orchestrator.domain.operation import Next, Plan, plan
from orchestrator.domain.payment import Channel, HoldReason, Payment, State
from orchestrator.domain.policy import OnUnknownStart, Policy
from orchestrator.domain.settling import fitting


class Advice(NamedTuple):
    """Why a payment is held, and what a person does about it; sentences."""

    why: str
    person: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """
    What is next.

    Attributes:
        next: The kind of step.
        operation: What is carried out, if anything.
        why: The plan's own word.
        because: The same as a sentence.
        due_at: When a worker takes the step; `None` when only an event moves the payment.
        effects: What leaves this system in that step, as a sentence.
        deadline_at: When `if_nothing_happens` comes true; `None`: at no set time.
        if_nothing_happens: What becomes of the payment without any word from anybody, as a sentence.
        waits_for_account: Whether the step waits until the account is resumed.
        advice: For a held payment, why and what to do.
        fits: For a held payment, which kinds of word resolve it, and what each says.
    """

    next: Next
    operation: Operation | None
    why: str
    because: str
    due_at: datetime | None
    effects: str
    deadline_at: datetime | None
    if_nothing_happens: str
    waits_for_account: bool = False
    advice: Advice | None = None
    fits: Mapping[str, str] = field(default_factory=dict)


HOLDS: Mapping[HoldReason, Advice] = MappingProxyType({
    HoldReason.SESSION_UNKNOWN: Advice(
        "A session may exist that nobody has seen.",
        "Look the reference up at the provider or the gateway. Do not send a second link.",
    ),
    HoldReason.UNSEEN_SESSION: Advice(
        "The seen session ended without a payer, and an earlier one may still be paid.",
        "Wait: it ends by itself when that session's longest life is over.",
    ),
    HoldReason.NUMBER_NOT_ALLOWED: Advice(
        "The number to dial is outside `dial_prefixes`.",
        "Suspect fraud first. If the number is right, add its prefix, then resolve with `--retry`.",
    ),
    HoldReason.ANSWER_MISMATCH: Advice(
        "The answer speaks of another session, amount, currency or reference.",
        "Compare both at the gateway. Tell the provider.",
    ),
    HoldReason.PARTIALLY_PAID: Advice("The gateway took less.", "Take or return the rest at the gateway."),
    HoldReason.REVIEW: Advice("The gateway decides later.", "Decide it in the gateway's console."),
    HoldReason.INDETERMINATE: Advice(
        "The session is over, or can't be asked any more, without a usable result.",
        "Look the reference up at the gateway.",
    ),
    HoldReason.LATE_MONEY: Advice(
        "Money moved after the payment had ended otherwise.", "Refund it at the gateway, or book it."
    ),
    HoldReason.POISON: Advice(
        "It was claimed again and again without progress.", "Read the log for its id. Report a defect."
    ),
})  # fmt: skip
"""The one home of these texts; README's table of holds is made from them."""

STEPS: Mapping[Next, str] = MappingProxyType({
    Next.SEND: "a worker carries it out",
    Next.RESCUE: "a worker decides the open attempt as unknown, if nobody else records its answer",
    Next.LAPSE: "a worker decides by time alone",
    Next.WAIT: "nobody looks by himself",
})  # fmt: skip
"""The kinds of step, in words."""

BECAUSE: Mapping[str, str] = MappingProxyType({
    "open_attempt": "A start is in flight, or its worker is gone: nobody has recorded yet what came of it.",
    "unseen_session_over": "The longest life of the session that nobody saw is over.",
    "poison": "It was claimed again and again without progress.",
    "cancelled": "The host has asked to end it, and it has no session.",
    "abandoned": "Its fields were not complete in time.",
    "start_deadline": "No session could be started in time.",
    "held": "It is held for a person: nothing is begun, and there is nothing left to look at.",
    "ended": "It has ended, and no session of it can still be paid.",
    "fields_missing": "It waits for fields that the host has to supply.",
    "not_due": "Its next look is timed.",
    "nothing_to_do": "Nothing is to be done before somebody acts.",
    "authorize": "Its fields are complete; an access token is needed first.",
    "start_session": "It is authorized, and no start is in flight.",
    "hand_over": "Its session is known, and the host has not been told.",
    "query_status": "Its session may have moved on.",
})  # fmt: skip
"""For every word that `plan` gives."""

NOTHING_SENT = "Nothing is sent."
_WHILE_PAUSED = "Nothing is sent while the account is paused."
_EFFECTS: Mapping[Operation, str] = MappingProxyType({
    Operation.AUTHORIZE: "A token is asked for unless one is at hand; nothing of the payment is sent.",
    Operation.START_SESSION: "Its intent is recorded, then Start Session is sent once",
    Operation.HAND_OVER: "The host is told; nothing is sent to the provider.",
    Operation.QUERY_STATUS: "The session's status is read; nothing is changed there.",
})  # fmt: skip
_BEGINS = {Channel.PHONE: ": a session begins.", Channel.DIGITAL: ": the provider texts the payer a link."}


def explain(payment: Payment, now: datetime, policy: Policy, *, paused: bool = False) -> Explanation:
    """
    Say what happens next and why; the same as what a worker will do.

    Args:
        payment: As recorded. A worker that drives it may know of later looks that learnt nothing.
        now: The present.
        policy: Of its account and channel.
        paused: Whether its account is paused.
    """
    due_at, step = _step(payment, now, policy)
    blocked = paused and step.operation in (Operation.AUTHORIZE, Operation.START_SESSION)
    deadline_at, otherwise = _otherwise(payment, now, policy)
    fits = {kind.value: meaning for kind, meaning in fitting(payment).items()}
    return Explanation(
        step.next, step.operation, step.why, BECAUSE[step.why], due_at,
        _WHILE_PAUSED if blocked else _effects(payment, step),
        deadline_at, otherwise, blocked, None if payment.hold is None else HOLDS[payment.hold], fits,
    )  # fmt: skip


def claimed(payment: Payment) -> Payment:
    """Give the payment as the worker sees it that will take the step: a claim counts."""
    return payment if payment.claimed_by is not None else replace(payment, claim_no=payment.claim_no + 1)


def _step(payment: Payment, now: datetime, policy: Policy) -> tuple[datetime | None, Plan]:
    """Plan for the moment in which somebody looks."""
    seen = claimed(payment)
    at = now if payment.due_at is None else max(now, payment.due_at)
    step = plan(seen, at, policy)
    looked_at = payment.due_at is not None or payment.claimed_by is not None
    return (at if looked_at and step.next is not Next.WAIT else None), step


def _effects(payment: Payment, step: Plan) -> str:
    if step.next is not Next.SEND or step.operation is None:
        return NOTHING_SENT
    more = _BEGINS[payment.channel] if step.operation is Operation.START_SESSION else ""
    return _EFFECTS[step.operation] + more


def _otherwise(payment: Payment, now: datetime, policy: Policy) -> tuple[datetime | None, str]:
    """Say what becomes of it by time alone, and when."""
    if payment.open_attempt is not None:
        return None, "When its worker is gone it is decided as unknown; it is never sent again blindly."
    if payment.ended and payment.watch_until is not None:
        return payment.watch_until, "The session is looked at until then, and once more; evidence is written down."
    if payment.ended:
        return None, "Nothing more happens; evidence that still comes is written down."
    if payment.hold is not None:
        return _held(payment, policy)
    match payment.state:
        case State.COLLECTING if payment.missing:
            return payment.deadline_at, "It fails as abandoned."
        case State.COLLECTING | State.AUTHORIZED:
            return payment.start_deadline(now, policy.start_pause_s), _unstarted(payment)
    over = (payment.session_at or payment.created_at) + timedelta(seconds=policy.session_life_s)
    if payment.overdue or payment.deadline_at is None or payment.deadline_at <= now:
        return over, "The session's longest life is over; a last look decides, and silence holds it for a person."
    return payment.deadline_at, "The host is told that it is overdue; looking goes on, since it can still be paid."


def _held(payment: Payment, policy: Policy) -> tuple[datetime | None, str]:
    stays = "It stays held until evidence or a person settles it."
    if payment.hold not in (HoldReason.UNSEEN_SESSION, HoldReason.SESSION_UNKNOWN) or payment.unseen_until is None:
        return None, stays
    if payment.hold is HoldReason.SESSION_UNKNOWN and policy.on_unknown_start is OnUnknownStart.HOLD:
        return None, stays
    return payment.unseen_until, "It fails: no session of it can be paid any more."


def _unstarted(payment: Payment) -> str:
    if payment.unseen_until is not None:
        return "It is held: a session that nobody saw may still be paid."
    return (
        "It is ended for the host." if payment.cancel_requested else "It fails, since no session was started in time."
    )
