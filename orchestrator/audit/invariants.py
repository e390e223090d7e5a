"""
What must be true of a payment and its story: the design's thirteen invariants, as checks.

Used by the simulation, by the crash tests, by the demo and by `audit verify` in
production: each check carries the invariant's number. What a database can't tell
alone comes in an `Observed`; without one its part of a check is left out. Pure.
Next: `verify`.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.audit.chain import Finding, Story
from orchestrator.audit.observed import NOTHING, Observed
from orchestrator.domain.entry import fact, instant
from orchestrator.domain.outcome import MoneyFact, Outcome
from orchestrator.domain.payment import FACTS, Channel, HoldReason, Payment, State

_BORN_WITH = (
    "account", "channel", "reference", "round", "amount_minor", "currency", "machine_version", "content_digest",
    "definitions",
)  # fmt: skip
_ENDED = (State.COMPLETED.value, State.FAILED.value)
_NOT_ONE = object()
"""Equal to nothing."""
_UNBORN: tuple[object, ...] = (None, False, 0, "", [], {})
_IN_DOUBT = (HoldReason.SESSION_UNKNOWN, HoldReason.UNSEEN_SESSION)
_NEVER_STARTED_HERE = ("session_never_intended", "database_restored")
"""Why a payment may be held for a session of which its trail knows no start."""

_Found = Iterator[tuple[str, int | None, str]]
Check = Callable[[Payment, Story, Observed], _Found]


@dataclass(frozen=True, slots=True)
class Invariant:
    """
    One invariant of the design's section 5.

    Attributes:
        number: `I1` to `I13`.
        text: What is always true.
        check: Gives kind, entry's number and text of what is not.
        watched: Whether it can only be told with an `Observed`.
    """

    number: str
    text: str
    check: Check
    watched: bool = False


def check(payment: Payment, story: Story, observed: Observed = NOTHING) -> list[Finding]:
    """Give everything about one payment that does not hold, in the invariants' order."""
    return [
        Finding(kind, payment.id, seq, what, invariant.number)
        for invariant in (TOLD_BY_ROWS if observed is NOTHING else INVARIANTS)
        for kind, seq, what in invariant.check(payment, story, observed)
    ]


def _one_payable_session(payment: Payment, story: Story, observed: Observed) -> _Found:
    started = [body["seq"] for body in story.bodies if body.get("trigger") == "start_session"]
    if len(started) > 1:
        yield "double_session", started[1], "a second session was started"
    given_up = [body["seq"] for body in story.bodies if body.get("trigger") == "supersede"]
    if given_up and payment.channel is Channel.DIGITAL:
        # A policy may allow it; two payable texts they are all the same.
        yield "double_session", given_up[0], "a digital session was superseded"
    made = len((observed.sessions or {}).get(payment.id, ()))
    allowed = 1 if payment.channel is Channel.DIGITAL else 1 + len(given_up)
    if made > allowed:
        yield "double_session", None, f"the provider made {made} sessions, {allowed} may have been"


def _intent_first(payment: Payment, story: Story, observed: Observed) -> _Found:
    intents: list[object] = []  # a list, because what a tampered body holds need not be hashable
    for body in story.bodies:
        if body.get("operation") != "start_session":
            continue
        if body.get("trigger") == "request":
            intents.append(body.get("attempt"))
        elif body.get("attempt") not in intents and not _came_from_outside(body):
            yield "intent", body["seq"], "the verdict's attempt has no earlier intent"
    for session in (observed.sessions or {}).get(payment.id, ()):
        if session.intended is False:
            yield "intent", None, f"session {session.id} was asked for before its intent was committed"


def _came_from_outside(body: Mapping[str, Any]) -> bool:
    """Tell whether the entry speaks of a session that the payment's own calls never told of."""
    return body["facts"].get("reason") in _NEVER_STARTED_HERE


def _row_is_story(payment: Payment, story: Story, observed: Observed) -> _Found:
    del observed
    if payment.state.value != story.state:
        yield "state", None, f"the row says {payment.state}, the chain ends in {story.state}"
    facts = story.facts
    for name in FACTS:
        told = facts.get(name)
        # Most are as they are: only what is not goes through the form that entries have.
        if getattr(payment, name, _NOT_ONE) == told:
            continue
        row = fact(payment, name)
        if row != told and not (row in _UNBORN and told in _UNBORN):
            yield "fact", None, f"the row's {name} is not what the chain says"


def _head_is_last(payment: Payment, story: Story, observed: Observed) -> _Found:
    del observed
    if payment.version != story.seq:
        yield "head", None, f"the row's version is {payment.version}, the chain ends at {story.seq}"
    if payment.head != story.head:
        yield "head", None, "the row's head is not the last entry's hash"


def _goes_on(payment: Payment, story: Story, observed: Observed) -> _Found:
    del story
    over = payment.ended and payment.watch_until is None
    if over or payment.hold is not None:
        return
    if payment.due_at is None and payment.claimed_by is None:
        yield "stuck", None, "neither over nor held, and nobody will look at it again"
    elif observed.over:
        yield "stuck", None, f"neither over nor held when everything had had its time: {payment.state}"


def _remembered(payment: Payment, story: Story, observed: Observed) -> _Found:
    for seq, digest in (observed.acknowledged or {}).get(payment.id, ()):
        if story.hashes.get(seq) != digest:
            yield "forgotten", seq, "an entry that was acknowledged is not there"


def _claims_and_answers(payment: Payment, story: Story, observed: Observed) -> _Found:
    for seq in (observed.lost_claims or {}).get(payment.id, ()):
        yield "lost_claim", seq, "decided by a worker that had lost its claim"
    for heard in (observed.heard or {}).get(payment.id, ()):
        named = heard.session_id is not None and any(_names(body, heard.session_id) for body in story.bodies)
        told = named or any(_tells(body, heard.attempt, heard.verdict) for body in story.bodies)
        if heard.attempt is not None and not told:
            yield "unheard", None, f"the answer to attempt {heard.attempt} is not in the trail: {heard.verdict}"
        elif heard.session_id is not None and not named:
            yield "unheard", None, f"session {heard.session_id}, which a worker was told of, is not in the trail"
        elif heard.codes and not any(body["facts"].get("codes") == heard.codes for body in story.bodies):
            yield "unheard", None, "evidence that a worker was told is not in the trail"


def _tells(body: Mapping[str, Any], attempt: int | None, verdict: str) -> bool:
    start = body.get("operation") == "start_session" and body.get("attempt") == attempt
    # A webhook may have told of the session before: then the call's answer is no news.
    return start and body.get("verdict") in (verdict, "answered")


def _names(body: Mapping[str, Any], session_id: str) -> bool:
    return session_id in (body["facts"].get("session_id"), body.get("other_session"))


def _ended_for_good(payment: Payment, story: Story, observed: Observed) -> _Found:
    ended, late = False, False
    for body in story.bodies:
        if ended and (body.get("to") != body.get("from") or "outcome" in body["facts"]):
            yield "state", body["seq"], "an ended payment moved, or ended anew"
        late = late or body.get("trigger") == "late_result"
        ended = ended or body.get("to") in _ENDED
        if _nothing_new(body):
            yield "twice", body["seq"], "equal evidence was written a second time"
    money = payment.state is State.FAILED and payment.hold is None and payment.money is MoneyFact.NONE
    told = [heard for heard in (observed.heard or {}).get(payment.id, ()) if heard.codes.get("paid")]
    if money and told and not late:
        yield "late", None, "a worker was told that a failed payment was paid, and it is not a late result"


def _nothing_new(body: Mapping[str, Any]) -> bool:
    """Tell whether the entry rests on a look and changes nothing but since when it is held."""
    looked = body.get("operation") == "query_status" and body.get("trigger") in ("hold", "late_result")
    return looked and not set(body["facts"]) - {"held_at"} and not body.get("other_session")


def _evidence(payment: Payment, story: Story, observed: Observed) -> _Found:
    known = dict[str, object]()
    for body in story.bodies:
        trigger, seq = body.get("trigger"), body["seq"]
        answered = _proven(body)
        until = known.get("unseen_until")
        known |= body["facts"]
        over = trigger == "release" and known.get("reason") == "unseen_session_over"
        if over and isinstance(until, str) and str(body.get("at")) < until:
            yield "evidence", seq, "a session that nobody saw was given up while it could be paid"
        if trigger == "release" and body.get("resolution") and known.get("session_id") is None:
            known["sessions"] = 0  # a person has said that none of them exists
        if trigger == "complete" and not answered:
            yield "evidence", seq, "completed without the provider's answer"
        # Before any session there is no money to be silent about; after one only its longest life is proof enough.
        silent = trigger == "fail" and known.get("sessions") and not answered
        if silent and known.get("reason") != "unseen_session_over":
            yield "evidence", seq, "failed without the provider's answer"
    if payment.state is State.COMPLETED and payment.outcome is not Outcome.PAID:
        yield "evidence", None, "completed without having been paid"
    if observed.sessions is None or not payment.ended or payment.hold is not None:
        return
    paid = any(session.paid for session in observed.sessions.get(payment.id, ()))
    settled = any(body.get("resolution") for body in story.bodies)
    if payment.state is State.COMPLETED and not paid and not settled:
        yield "evidence", None, "completed, and the provider took no money"
    if payment.state is State.FAILED and paid and payment.money is MoneyFact.NONE and payment.watch_until is None:
        yield "evidence", None, "failed without money, and the provider took it"


def _proven(body: Mapping[str, Any]) -> bool:
    """Tell whether the entry rests on the provider's answer, or on the word of a person who says so."""
    return (body.get("verdict") == "answered" and bool(body.get("operation"))) or bool(body.get("resolution"))


def _nothing_secret(payment: Payment, story: Story, observed: Observed) -> _Found:
    del payment
    for body in story.bodies:
        if not set(body["facts"]) <= set(FACTS):
            yield "secret", body["seq"], "the entry tells facts that are none of a payment's"
        if observed.canaries:
            text = json.dumps(body, ensure_ascii=False, default=str)
            if any(canary in text for canary in observed.canaries):
                yield "secret", body["seq"], "payer data or a secret is in the entry"
    for text in observed.texts:
        if any(canary in text for canary in observed.canaries):
            yield "secret", None, "payer data or a secret is in a log, an error or an export"


def _constant(payment: Payment, story: Story, observed: Observed) -> _Found:
    del observed
    for body in story.bodies[1:]:
        for name in _BORN_WITH:
            if name in body["facts"]:
                yield "fact", body["seq"], f"{name} changed"
    if story.bodies and story.bodies[0].get("at") != instant(payment.created_at):
        yield "fact", None, "the row's created_at is not the first entry's instant"


def _bounded(payment: Payment, story: Story, observed: Observed) -> _Found:
    late = (observed.late_deliveries or {}).get(payment.id, 0)
    if late:
        yield "bounds", None, f"handed over {late} times after its validity"
    limits = observed.limits
    if limits is None:
        return
    retried = sum(body.get("trigger") == "release" and bool(body.get("resolution")) for body in story.bodies)
    if payment.sessions > limits.sessions + retried:
        yield "bounds", None, f"{payment.sessions} sessions may have been started, {limits.sessions} are allowed"
    fruitless = max(payment.fruitless, (observed.claims or {}).get(payment.id, 0))
    if fruitless > limits.claims:
        yield "bounds", None, f"claimed {fruitless} times without progress"
    for word, seen, most in (
        ("looks", (observed.looks or {}).get(payment.id, 0), limits.looks),
        ("start calls", (observed.calls or {}).get(payment.id, 0), limits.calls),
    ):
        if seen > most:
            yield "bounds", None, f"{seen} {word}, {most} are allowed"


def _few_holds(payment: Payment, story: Story, observed: Observed) -> _Found:
    if observed.doubts is not None:
        for body in story.bodies:
            lost = body.get("operation") == "start_session" and body.get("verdict") == "unknown"
            if lost and body.get("attempt") not in observed.doubts.get(payment.id, ()):
                yield "needless_doubt", body["seq"], "a start is in doubt whose worker lived and was answered"
    if payment.hold not in _IN_DOUBT:
        return
    doubted = any(
        body.get("operation") == "start_session" and body.get("verdict") != "answered" and _unseen(body)
        for body in story.bodies
    )
    excused = any(_came_from_outside(body) or body.get("other_session") for body in story.bodies)
    if not doubted and not excused and payment.unseen_until is None:
        yield "needless_hold", None, f"held as {payment.hold}, and no start was ever in doubt"


def _unseen(body: Mapping[str, Any]) -> bool:
    return body.get("verdict") == "unknown" or "unseen_until" in body["facts"]


INVARIANTS = (
    Invariant("I1", "no two sessions that can be paid, but for a superseded phone session", _one_payable_session),
    Invariant("I2", "every Start Session call has an earlier committed intent", _intent_first),
    Invariant("I3", "the state path is legal and equals the replayed chain", _row_is_story),
    Invariant("I4", "chains are complete, heads match", _head_is_last),
    Invariant("I5", "ended, held with a reason, or due, or under a claim", _goes_on),
    Invariant("I6", "no acknowledged record is lost", _remembered, watched=True),
    Invariant("I7", "no decision under a lost claim; every answer is in the trail", _claims_and_answers, watched=True),
    Invariant("I8", "ended states don't change; later evidence is a late result", _ended_for_good),
    Invariant("I9", "completed only with evidence, failed never from silence about money", _evidence),
    Invariant("I10", "no secret and no payer data in trail, log, traceback or export", _nothing_secret),
    Invariant("I11", "amount, currency and reference never change", _constant),
    Invariant("I12", "retries, claims and polls are bounded", _bounded, watched=True),
    Invariant("I13", "holds are few", _few_holds),
)
"""All thirteen, in order."""
TOLD_BY_ROWS = tuple(invariant for invariant in INVARIANTS if not invariant.watched)
"""Those that a database tells by itself."""
