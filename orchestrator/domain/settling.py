"""
Settle: a person's word on a held payment, and what it leads to.

Owns which word fits which hold (`FITS`), what each changes, and the rule of the
second person. Pure: the standing proposal is read from the chain's entries, which
are an argument. After it the payment goes on through the same door as any other.
Must not know how the word came in. Next: `orchestrator.resolve`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from orchestrator.domain.decision import Decision, Walk
from orchestrator.domain.entry import Context, Entry
from orchestrator.domain.errors import Conflict, InvalidInput
from orchestrator.domain.looking import life_over, still_runs
from orchestrator.domain.machine import Operation
from orchestrator.domain.outcome import HOLDING, MONEY_OF, MoneyFact, Outcome
from orchestrator.domain.payment import Channel, HoldReason, Payment, State
from orchestrator.domain.policy import Policy
from orchestrator.domain.starting import dialable, publish


class Kind(StrEnum):
    """The kinds of word that a person can give."""

    OUTCOME = "outcome"
    """How it ended, as found out elsewhere."""
    RETRY = "retry"
    """Go on: what stood in the way does so no more."""
    SESSION = "session"
    """The session that the provider, or a log, told of."""


_FOUND = "how it ended, as the gateway says"
_LOOK = "look at its session again now"
_ADOPT = "the session that the provider told of; it is looked at from now on"

FITS: Mapping[HoldReason, Mapping[Kind, str]] = MappingProxyType({
    HoldReason.SESSION_UNKNOWN: {
        Kind.OUTCOME: f"{_FOUND}; paid needs --session too",
        Kind.RETRY: "no session exists: start anew",
        Kind.SESSION: _ADOPT,
    },
    HoldReason.UNSEEN_SESSION: {
        Kind.OUTCOME: _FOUND,
        Kind.RETRY: "the session that nobody saw does not exist: go on with the seen one, or start anew",
        Kind.SESSION: _ADOPT,
    },
    HoldReason.NUMBER_NOT_ALLOWED: {
        Kind.OUTCOME: "how it ended; the session stays watched",
        Kind.RETRY: "hand over under today's `dial_prefixes`",
    },
    HoldReason.ANSWER_MISMATCH: {Kind.OUTCOME: _FOUND, Kind.RETRY: _LOOK},
    HoldReason.PARTIALLY_PAID: {Kind.OUTCOME: "what became of the rest", Kind.RETRY: _LOOK},
    HoldReason.REVIEW: {Kind.OUTCOME: "what was decided", Kind.RETRY: _LOOK},
    HoldReason.INDETERMINATE: {Kind.OUTCOME: _FOUND, Kind.RETRY: _LOOK},
    HoldReason.LATE_MONEY: {Kind.OUTCOME: "where the money is: paid, partially_paid, or any failure for none"},
    HoldReason.POISON: {Kind.OUTCOME: _FOUND, Kind.RETRY: "go on: the defect is mended"},
})  # fmt: skip
"""Which word fits which hold, and what it says there: the one table, for `explain`, errors and documents."""

OUTCOMES = tuple(outcome for outcome in Outcome if outcome not in HOLDING - {Outcome.PARTIALLY_PAID})
"""What a person may find out; `review` and `indeterminate` are doubts, and resolve none."""

PROPOSED = "resolution_proposed"

_SESSION = re.compile(r"[A-Za-z0-9{][A-Za-z0-9._:{}-]{0,127}")


def checked_session(text: str) -> str:
    """
    Give a session's id back.

    Raises:
        InvalidInput: Anything but 1 to 128 ASCII letters, digits and `.`, `_`, `:`, `-`, braces.
    """
    if not _SESSION.fullmatch(text):
        raise InvalidInput("session", "has a wrong length or characters", "give the id as the provider writes it")
    return text


@dataclass(frozen=True, slots=True)
class Resolution:
    """
    A person's word.

    Attributes:
        person: Who says it; one line of text without payer data.
        reason: Why; likewise.
        outcome: How the payment ended.
        retry: That it may go on.
        session: The provider's id of its session.
    """

    person: str
    reason: str
    outcome: Outcome | None = None
    retry: bool = False
    session: str | None = None

    @property
    def kind(self) -> Kind:
        """What kind of word it is; an outcome may come with its session."""
        return Kind.OUTCOME if self.outcome is not None else Kind.RETRY if self.retry else Kind.SESSION

    @property
    def choice(self) -> dict[str, str]:
        """The word as entries keep it: two people have said the same when these are equal."""
        found = {"kind": self.kind.value}
        if self.outcome is not None:
            found["outcome"] = self.outcome.value
        return found if self.session is None else found | {"session": self.session}


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a first person has proposed, and who."""

    person: str
    choice: Mapping[str, str]


def standing_proposal(entries: Sequence[Entry]) -> Proposal | None:
    """
    Give the proposal that still stands.

    It stands until the next `release`, and until a `hold` that is no proposal:
    then there is a new doubt, or new evidence for it. Every other entry (a look,
    a cancel, an acknowledgement) leaves it standing.
    """
    for entry in reversed(entries):
        if entry.trigger == "release":
            return None
        if entry.trigger == "hold":
            told = json.loads(entry.body).get("proposal")
            return Proposal(entry.actor, told) if isinstance(told, dict) else None
    return None


def repeats(payment: Payment, resolution: Resolution, policy: Policy, proposal: Proposal | None) -> bool:
    """Tell whether one person tries to be two: the one security relevant refusal."""
    if policy.resolve_persons < 2 or payment.hold is None or proposal is None:
        return False
    same = proposal.choice == resolution.choice
    return same and proposal.person.strip().casefold() == resolution.person.strip().casefold()


def settle(
    payment: Payment, resolution: Resolution, context: Context, policy: Policy, proposal: Proposal | None = None
) -> Decision:
    """
    Decide on a person's word.

    Args:
        payment: The payment as it is now.
        resolution: What the person says.
        context: When and from where; `actor` is the person.
        policy: Of its account and channel; `resolve_persons` says how many must agree.
        proposal: What stands in its chain already, from `standing_proposal`.

    Returns:
        A release and what follows from it; with two persons, first a proposal.

    Raises:
        InvalidInput: The word does not fit this hold, or lacks something.
        Conflict: Not held, ended, a start is in flight, or the same person a second time.
    """
    _demand(payment, resolution, policy)
    if repeats(payment, resolution, policy, proposal):
        raise Conflict("person", "has proposed this already", "a second person must say the same")
    persons = [resolution.person]
    if policy.resolve_persons > 1:
        if proposal is None or proposal.choice != resolution.choice:
            return _propose(payment, resolution, context)
        persons = [proposal.person, resolution.person]
    walk = Walk(payment, context)
    told: dict[str, Any] = {"persons": persons, "why": resolution.reason}
    told |= {"resolved": payment.hold.value if payment.hold else "", "resolution": resolution.choice}
    if payment.ended:
        return _correct(walk, resolution, told)
    if resolution.session is not None:
        _adopt(walk, resolution.session, policy, told)
        return _end(walk, resolution.outcome, policy, live=False) if resolution.outcome else walk.due(context.now)
    if resolution.outcome is not None:
        live = _may_live(payment, policy, context.now)
        walk.release("resolved_outcome", extra=told, unseen_until=None)
        return _end(walk, resolution.outcome, policy, live=live)
    return _retry(walk, policy, told)


def fitting(payment: Payment) -> Mapping[Kind, str]:
    """Give the kinds of word that resolve the payment's hold; after the end only money is left to be put right."""
    if payment.hold is None:
        return {}
    return FITS[HoldReason.LATE_MONEY if payment.ended else payment.hold]


def choices(payment: Payment) -> str:
    """Give the words that fit a payment's hold, as one sentence without an end."""
    option = {Kind.OUTCOME: "--outcome", Kind.RETRY: "--retry", Kind.SESSION: "--session"}
    return "; ".join(f"{option[kind]} ({meaning})" for kind, meaning in fitting(payment).items())


def _demand(payment: Payment, resolution: Resolution, policy: Policy) -> None:
    if not resolution.person.strip():
        raise InvalidInput("person", "is empty", "name who resolves it")
    if not resolution.reason.strip():
        raise InvalidInput("reason", "is empty", "say why, for the audit trail")
    if payment.hold is None:
        problem = "has ended" if payment.ended else "is not held"
        raise Conflict(
            "payment", problem, "there is nothing to resolve; `orchestrator list --held` lists what there is"
        )
    if resolution.outcome is None and resolution.retry is (resolution.session is not None):
        raise InvalidInput("resolution", "is not one of its kinds", f"give one of {choices(payment)}")
    if resolution.outcome is not None and (resolution.retry or resolution.outcome not in OUTCOMES):
        problem = "goes with no retry" if resolution.retry else "settles nothing: it is a doubt itself"
        raise InvalidInput("outcome", problem, f"one of {', '.join(OUTCOMES)}")
    fits = fitting(payment)
    if resolution.kind not in fits or (resolution.session is not None and Kind.SESSION not in fits):
        unfit = resolution.kind if resolution.kind not in fits else Kind.SESSION
        raise InvalidInput(unfit.value, f"does not fit the hold {payment.hold}", choices(payment))
    if payment.open_attempt is not None:
        raise Conflict("payment", "has a start in flight", "try again in some seconds")
    _demand_session(payment, resolution)
    unhanded = payment.state is State.SESSION_STARTED and payment.hold is HoldReason.NUMBER_NOT_ALLOWED
    if resolution.retry and unhanded and not payment.cancel_requested and not dialable(payment, policy):
        raise InvalidInput("retry", "would hand over a number outside `dial_prefixes`", "add its prefix first")


def _demand_session(payment: Payment, resolution: Resolution) -> None:
    if resolution.session is not None and payment.has_session(resolution.session):
        raise InvalidInput("session", "is the one that is looked at already", "leave it out")
    moved = resolution.outcome is not None and MONEY_OF.get(resolution.outcome) is not None
    if moved and resolution.session is None and payment.session_id is None and not payment.ended:
        raise InvalidInput("session", "is missing", "name the session in which the money was taken")


def _propose(payment: Payment, resolution: Resolution, context: Context) -> Decision:
    """Write down the first person's word; hold, reason and due time stay as they are, and nobody is told."""
    extra = {"event": PROPOSED, "proposal": resolution.choice, "why": resolution.reason}
    return Walk(payment, context).step("hold", extra=extra).due(payment.due_at)


def _correct(walk: Walk, resolution: Resolution, told: dict[str, Any]) -> Decision:
    """After the end only what is known of the money is put right; the state never changes."""
    assert resolution.outcome is not None  # noqa: S101 - the table allows nothing else here
    money = MONEY_OF.get(resolution.outcome, MoneyFact.NONE)
    walk.release("resolved_outcome", extra=told, money=money)
    if money is not walk.before.money:
        walk.notify("money_changed")
    return walk.due(walk.now if walk.payment.watch_until is not None else None)


def _end(walk: Walk, outcome: Outcome, policy: Policy, *, live: bool) -> Decision:
    """End as the person says; a session that may still be paid stays watched."""
    facts: dict[str, Any] = {"reason": "resolved_by_person", "deadline_at": None, "troubled_since": None}
    facts |= {"outcome": outcome, "money": MONEY_OF.get(outcome, MoneyFact.NONE)}
    facts |= {"extra": {"resolution": {"kind": Kind.OUTCOME.value, "outcome": outcome.value}}}
    if outcome is Outcome.PAID:
        if walk.payment.state is State.SESSION_STARTED:
            walk.step("hand_over", operation=Operation.HAND_OVER, reason="paid_before_hand_over")
        return walk.step("complete", **facts).notify("completed").due(None)
    until = life_over(walk.payment, policy) if live else None
    walk.step("fail", **facts, watch_until=until).notify("failed")
    return walk.due(None if until is None else min(until, walk.now + timedelta(seconds=policy.poll_max_s)))


def _adopt(walk: Walk, session: str, policy: Policy, told: dict[str, Any]) -> None:
    """Make the named session the one that is looked at; the host is not sent to it any more."""
    payment, now = walk.payment, walk.now
    # One of the sessions that nobody saw is this one; any other of them may still be paid.
    unseen = payment.unseen_until if payment.sessions > (1 if payment.session_id is None else 2) else None
    if payment.session_id is not None and _may_live(payment, policy, now):
        unseen = max(filter(None, (payment.unseen_until, life_over(payment, policy))))
    found: dict[str, Any] = {
        "session_id": session, "session_at": now, "session_state": None, "codes": {}, "unseen_until": unseen,
        "deadline_at": now + timedelta(seconds=policy.awaiting_s), "sessions": max(payment.sessions, 1),
        "failures": 0, "troubled_since": None, "undelivered": False, "overdue": False,
    }  # fmt: skip
    found |= {"outcome": payment.hang_up}
    if payment.session_id is not None:
        walk.release("resolved_session", extra=told, **found)
        return
    walk.release("resolved_session", extra=told)
    if walk.payment.state is State.COLLECTING:
        walk.step("authorize", missing=(), reason="resolved_session")
    walk.step("start_session", **found)
    walk.step("hand_over", operation=Operation.HAND_OVER, reason="session_named_by_person")
    if payment.channel is Channel.DIGITAL and not payment.cancel_requested:
        walk.notify("link_sent")


def _retry(walk: Walk, policy: Policy, told: dict[str, Any]) -> Decision:
    payment, now = walk.payment, walk.now
    if payment.session_id is None:
        allowed = policy.collecting_s if payment.missing else policy.start_s
        deadline = now + timedelta(seconds=allowed)
        walk.release(
            "resolved_retry", extra=told, unseen_until=None, deadline_at=deadline, failures=0, outcome=payment.hang_up,
            troubled_since=None, paused_s=0,
        )  # fmt: skip
        return walk.due(deadline if payment.missing else now)
    handing = payment.state is State.SESSION_STARTED and not payment.cancel_requested
    if payment.hold in (HoldReason.UNSEEN_SESSION, HoldReason.NUMBER_NOT_ALLOWED, HoldReason.POISON):
        unseen = payment.hold is HoldReason.UNSEEN_SESSION
        seen_over = {"unseen_until": None, "outcome": payment.hang_up} if unseen else {}
        walk.release("resolved_retry", extra=told, **seen_over)
        return publish(walk, policy) if handing and dialable(payment, policy) else walk.due(now)
    walk.release("resolved_retry", extra=told)
    if handing and not dialable(payment, policy):
        walk.hold(HoldReason.NUMBER_NOT_ALLOWED)  # that doubt is older, and not resolved by this word
    return walk.due(now)


def _may_live(payment: Payment, policy: Policy, now: datetime) -> bool:
    """Tell whether the seen session may still be paid: its life is not over, and no answer has said that it ended."""
    if payment.session_id is None or now >= life_over(payment, policy):
        return False
    if payment.hold is HoldReason.UNSEEN_SESSION:
        return still_runs(payment)
    # A refused look is no word about the session.
    return payment.reason == "status_refused" or (
        payment.outcome in (None, Outcome.HUNG_UP) and payment.money is MoneyFact.NONE
    )
