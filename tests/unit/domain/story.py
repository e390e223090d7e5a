"""
Payments at every point of their story, told through the domain's own door.

Nothing here writes a payment by hand: each one came out of a decision, so that
a test starts from a state that can exist. Times are seconds after `T0`.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.domain import asking, machine
from orchestrator.domain.decide import decide
from orchestrator.domain.decision import Decision, Walk
from orchestrator.domain.entry import Context, Looks
from orchestrator.domain.machine import Operation
from orchestrator.domain.money import Money
from orchestrator.domain.outcome import Observation, Outcome
from orchestrator.domain.payment import Channel, HoldReason, Payment
from orchestrator.domain.policy import DIGITAL, PHONE, Policy
from orchestrator.domain.starting import intend
from orchestrator.domain.verdict import Cause, Exchange, Session, Verdict, VerdictKind

T0 = datetime(2026, 11, 24, 15, 46, 40, tzinfo=UTC)
DIALLED = replace(PHONE, dial_prefixes=("+44", "+353"))
POLICIES = {Channel.PHONE: DIALLED, Channel.DIGITAL: DIGITAL}
SESSION = Session("5E551011-A", number="+442071234567", link_id="1234567")
OTHER_SESSION = Session("5E551011-B", number="+442071234567", link_id="7654321")
HOUR = 3600.0
LIFE = {Channel.PHONE: HOUR, Channel.DIGITAL: 72 * HOUR + 900}
BOTH = tuple(Channel)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def ctx(seconds: float = 0, *, looks: int = 0, failed: int = 0) -> Context:
    return Context(at(seconds), "worker-7", "host-1:99", version="0.1.0", looks=Looks(looks, failed))


def fresh(channel: Channel = Channel.PHONE, missing: Sequence[str] = ()) -> Payment:
    return Payment(
        id="pay-a", account="emea", channel=channel, reference="INV-1001", round=1, amount=Money("12.40", "GBP"),
        created_at=T0, machine_version=machine.VERSION, content_digest="d1", missing=tuple(missing),
        definitions={"authorize": "aa", "start_session": "bb"},
    )  # fmt: skip


def born(channel: Channel = Channel.PHONE, missing: Sequence[str] = ()) -> Payment:
    return asking.submit(fresh(channel, missing), ctx(), POLICIES[channel]).payment


def on(
    payment: Payment, operation: Operation, verdict: Verdict, seconds: float = 1, policy: Policy | None = None,
    *, attempt: int | None = None, looks: int = 0, failed: int = 0,
) -> Decision:  # fmt: skip
    context = ctx(seconds, looks=looks, failed=failed)
    return decide(payment, operation, verdict, context, policy or POLICIES[payment.channel], attempt=attempt)


def authorize(payment: Payment, verdict: Verdict, seconds: float = 1, **more: Any) -> Decision:
    return on(payment, Operation.AUTHORIZE, verdict, seconds, **more)


def start(payment: Payment, verdict: Verdict, seconds: float = 1, **more: Any) -> Decision:
    return on(payment, Operation.START_SESSION, verdict, seconds, **more)


def hand_over(payment: Payment, verdict: Verdict, seconds: float = 21, **more: Any) -> Decision:
    return on(payment, Operation.HAND_OVER, verdict, seconds, **more)


def look(payment: Payment, verdict: Verdict | Observation, seconds: float = 10, **more: Any) -> Decision:
    told = says(verdict) if isinstance(verdict, Observation) else verdict
    return on(payment, Operation.QUERY_STATUS, told, seconds, **more)


def authorized(channel: Channel = Channel.PHONE) -> Payment:
    return authorize(born(channel), ANSWERED, 0).payment


def requested(channel: Channel = Channel.PHONE) -> Payment:
    return intend(authorized(channel), ctx(), request_digest="r1").payment


def superseded() -> Payment:
    """A phone payment, one session unseen, about to start the next."""
    return start(requested(), UNKNOWN, 0).payment


def doubted(channel: Channel = Channel.DIGITAL) -> Payment:
    """Held, because nobody knows whether its only session exists."""
    return start(requested(channel), UNKNOWN, 0, policy=replace(POLICIES[channel], max_sessions=1)).payment


def waiting(channel: Channel = Channel.PHONE, seconds: float = 0) -> Payment:
    return start(requested(channel), OPENED, seconds).payment


def waiting_with_unseen() -> Payment:
    """A phone payment that waits on its second session; the first was never seen and may be paid until 3600."""
    return start(intend(superseded(), ctx(), request_digest="r2").payment, OPENED, 0).payment


def refused_number() -> Payment:
    return start(requested(), OPENED, 0, policy=PHONE).payment


def cancelled(payment: Payment, seconds: float = 5) -> Payment:
    return asking.cancel(payment, ctx(seconds), reason="caller left").payment


def watched(channel: Channel = Channel.DIGITAL) -> Payment:
    """Failed for the host at 10 s, its session still payable."""
    return look(cancelled(waiting(channel)), running()).payment


def held(payment: Payment, reason: HoldReason, seconds: float = 5) -> Payment:
    return Walk(payment, ctx(seconds)).hold(reason).due(None).payment


def released(payment: Payment, seconds: float = 6) -> Payment:
    """What a person's decision to go on leaves behind."""
    return Walk(payment, ctx(seconds)).release("by_person").due(at(seconds)).payment


def declined(channel: Channel = Channel.PHONE) -> Payment:
    return look(waiting(channel), ended(Outcome.DECLINED, codes={"result": "51"})).payment


def completed(channel: Channel = Channel.PHONE) -> Payment:
    return look(waiting(channel), paid()).payment


def says(observation: Observation) -> Verdict:
    return Verdict(VerdictKind.ANSWERED, "http_200", observation=observation, exchange=GET)


def running(state: str | None = "InProgress", **more: Any) -> Observation:
    return Observation(state, **more)


def ended(outcome: Outcome, **more: Any) -> Observation:
    return Observation("Finished", outcome=outcome, **more)


def paid(**more: Any) -> Observation:
    told = {"amount_minor": 1240, "currency": "GBP", "reference": "INV-1001", "session_id": SESSION.id.lower()}
    return ended(Outcome.PAID, codes={"result": "0"}, **(told | more))


GET = Exchange("GET", "https://vcc.example/payments/sessions/5E551011-A", 200, 31, 1)
ANSWERED = Verdict(VerdictKind.ANSWERED, "http_200")
OPENED = replace(ANSWERED, session=SESSION)
NOT_SENT = Verdict(VerdictKind.NOT_SENT, "connect_refused")
THROTTLED = Verdict(VerdictKind.REJECTED, "http_429", Cause.THROTTLED, retry_after_s=7)
UNAUTHORIZED = Verdict(VerdictKind.REJECTED, "http_401", Cause.UNAUTHORIZED)
FORBIDDEN = Verdict(VerdictKind.REJECTED, "http_403", Cause.ACCOUNT)
ABSENT = Verdict(VerdictKind.REJECTED, "http_404", Cause.ABSENT)
INVALID = Verdict(VerdictKind.REJECTED, "http_400", Cause.INVALID, message="CurrencyCode is not supported")
UNKNOWN = Verdict(VerdictKind.UNKNOWN, "http_503")
EMPTY = Verdict(VerdictKind.UNKNOWN, "no_session_in_answer")
