"""
What must be true of a payment and its story: the design's invariants, as checks.

Used after tests, by the demo and by `audit verify` in production. Each check
carries the invariant's number. Pure. Next: `verify`.
"""

from collections.abc import Iterator

from orchestrator.audit.chain import Finding, Story
from orchestrator.domain.entry import fact, instant
from orchestrator.domain.outcome import Outcome
from orchestrator.domain.payment import FACTS, Channel, Payment, State

_BORN_WITH = (
    "account", "channel", "reference", "round", "amount_minor", "currency", "machine_version", "content_digest",
    "definitions",
)  # fmt: skip
_ENDED = (State.COMPLETED.value, State.FAILED.value)
_UNBORN: tuple[object, ...] = (None, False, 0, "", [], {})


def check(payment: Payment, story: Story) -> list[Finding]:
    """Give everything about one payment that does not hold."""
    found = (
        *_row_equals_story(payment, story), *_one_payable_session(payment, story), *_intent_first(story),
        *_goes_on(payment), *_evidence(payment, story), *_constant(payment, story),
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
            # A policy may allow it; two payable texts they are all the same.
            yield "double_session", body["seq"], "a digital session was superseded"


def _intent_first(story: Story) -> _Found:
    """I2: every verdict on a start has an earlier intent of the same number."""
    intents: list[object] = []  # a list, because what a tampered body holds need not be hashable
    for body in story.bodies:
        if body.get("operation") != "start_session":
            continue
        if body.get("trigger") == "request":
            intents.append(body.get("attempt"))
        elif body.get("attempt") not in intents:
            yield "intent", body["seq"], "the verdict's attempt has no earlier intent"


def _goes_on(payment: Payment) -> _Found:
    """I5: ended and not watched any more, held with a reason, due, or under a claim."""
    over = payment.ended and payment.watch_until is None
    if over or payment.hold is not None or payment.due_at is not None or payment.claimed_by is not None:
        return
    yield "stuck", None, "neither over nor held, and nobody will look at it again"


def _evidence(payment: Payment, story: Story) -> _Found:
    """I8, I9: completed only on evidence, failed never from silence about money, ended states final."""
    ended, known = False, dict[str, object]()
    for body in story.bodies:
        trigger, seq = body.get("trigger"), body["seq"]
        answered = body.get("verdict") == "answered" and bool(body.get("operation"))
        known |= body["facts"]
        if trigger == "complete" and not answered:
            yield "evidence", seq, "completed without the provider's answer"
        # Before any session there is no money to be silent about; after one only its longest life is proof enough.
        if (
            trigger == "fail"
            and known.get("sessions")
            and not answered
            and known.get("reason") != "unseen_session_over"
        ):
            yield "evidence", seq, "failed without the provider's answer"
        if ended and (body.get("to") != body.get("from") or "outcome" in body["facts"]):
            yield "state", seq, "an ended payment moved, or ended anew"
        ended = ended or body.get("to") in _ENDED
    if payment.state is State.COMPLETED and payment.outcome is not Outcome.PAID:
        yield "evidence", None, "completed without having been paid"


def _constant(payment: Payment, story: Story) -> _Found:
    """I11: amount, currency and reference never change, nor does anything else that a payment is born with."""
    for body in story.bodies[1:]:
        for name in _BORN_WITH:
            if name in body["facts"]:
                yield "fact", body["seq"], f"{name} changed"
    if story.bodies and story.bodies[0].get("at") != instant(payment.created_at):
        yield "fact", None, "the row's created_at is not the first entry's instant"
