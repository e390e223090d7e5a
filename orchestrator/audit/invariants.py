"""
What must be true of a payment and its story: the design's invariants, as checks.

Used after tests, by the demo and by `audit verify` in production. Each check
carries the invariant's number. Pure. Next: `verify`.
"""

from collections.abc import Iterator

from orchestrator.audit.chain import Finding, Story
from orchestrator.domain.entry import fact
from orchestrator.domain.outcome import Outcome
from orchestrator.domain.payment import FACTS, Channel, HoldReason, Payment, State

_WITHOUT_SESSION = (Outcome.ABANDONED, Outcome.PROVIDER_UNAVAILABLE, Outcome.CONFIG_ERROR, Outcome.INVALID_REQUEST)
_UNBORN: tuple[object, ...] = (None, False, 0, "", [], {})


def check(payment: Payment, story: Story) -> list[Finding]:
    """Give everything about one payment that does not hold."""
    found = (
        *_row_equals_story(payment, story), *_one_payable_session(payment, story), *_intent_first(story),
        *_goes_on(payment), *_evidence(payment, story), *_constant(story),
    )  # fmt: skip
    return [Finding(kind, payment.id, seq, what) for kind, seq, what in found]


_Found = Iterator[tuple[str, int | None, str]]


def _row_equals_story(payment: Payment, story: Story) -> _Found:
    """I3, I4: the row says what the chain says."""
    if payment.state.value != story.state:
        yield "state", None, f"the row says {payment.state}, the chain ends in {story.state}"
    if payment.version != story.seq:
        yield "head", None, f"the row's version is {payment.version}, the chain ends at {story.seq}"
    if payment.head != story.head:
        yield "head", None, "the row's head is not the last entry's hash"
    for name in FACTS:
        row, told = fact(payment, name), story.facts.get(name)
        if row != told and not (row in _UNBORN and told in _UNBORN):
            yield "fact", None, f"the row's {name} is not what the chain says"


def _one_payable_session(payment: Payment, story: Story) -> _Found:
    """I1: no second session that can be paid, but for a superseded phone session with its entry."""
    started = [body["seq"] for body in story.bodies if body.get("trigger") == "start_session"]
    if len(started) > 1:
        yield "double_session", started[1], "a second session was started"
    for body in story.bodies:
        if body.get("trigger") == "supersede" and payment.channel is Channel.DIGITAL:
            policy = body.get("event") == "session_superseded"
            yield "double_session", body["seq"], "a digital session was superseded" + (" by policy" if policy else "")


def _intent_first(story: Story) -> _Found:
    """I2: every start has an earlier intent, and every attempt at most one verdict that closes it."""
    intents: set[int] = set()
    for body in story.bodies:
        if body.get("operation") != "start_session":
            continue
        if body.get("trigger") == "request":
            intents.add(body.get("attempt", 0))
        elif body.get("attempt") not in intents:
            yield "intent", body.get("seq"), f"attempt {body.get('attempt')} has no earlier intent"


def _goes_on(payment: Payment) -> _Found:
    """I5: ended, held with a reason, due, or under a claim."""
    if payment.ended or payment.hold is not None or payment.due_at is not None or payment.claimed_by is not None:
        return
    yield "stuck", None, "not ended, not held, and nobody will look at it again"


def _evidence(payment: Payment, story: Story) -> _Found:
    """I8, I9: completed only on evidence, failed never from silence about money, ended states final."""
    ended = False
    for body in story.bodies:
        trigger, seq = body.get("trigger"), body.get("seq")
        if trigger == "complete" and not (body.get("verdict") == "answered" and body.get("operation")):
            yield "evidence", seq, "completed without the provider's answer"
        if trigger == "fail" and story.facts.get("sessions") and payment.outcome not in _WITHOUT_SESSION:
            proven = body.get("verdict") in ("answered", "rejected") or payment.reason == "unseen_session_over"
            if not proven:
                yield "evidence", seq, "failed without the provider's answer"
        if ended and body.get("to") != body.get("from"):
            yield "state", seq, "an ended payment moved"
        ended = ended or body.get("to") in (State.COMPLETED, State.FAILED)
    if (
        payment.state is State.COMPLETED
        and payment.outcome is not Outcome.PAID
        and payment.hold is not HoldReason.LATE_MONEY
    ):
        yield "evidence", None, "completed without having been paid"


def _constant(story: Story) -> _Found:
    """I11: amount, currency and reference never change."""
    for body in story.bodies[1:]:
        facts = body.get("facts", {})
        for name in ("amount_minor", "currency", "reference", "account", "channel"):
            if name in facts:
                yield "fact", body.get("seq"), f"{name} changed"
