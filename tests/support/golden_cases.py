"""
The lives that the golden trail tells: what the provider says, what the host and people do, and when.

Owns no step of the flow; `golden` plays the cases. Next: `golden`.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator import composition, resolve
from orchestrator.domain.machine import Operation
from orchestrator.domain.outcome import Observation, Outcome
from orchestrator.domain.payment import Channel, Payment
from orchestrator.domain.verdict import Exchange, Session, Verdict, VerdictKind
from tests.unit.domain.story import ABSENT, ANSWERED, FORBIDDEN, INVALID, NOT_SENT, UNKNOWN

HOUR = 3600.0
RESTORED = 50.0
"""When the database is said to have been put back: what was under way by then is held; everything else comes later."""
END = 80 * HOUR
URL = "https://provider.example/globalpci/v1"

Said = Verdict | Callable[[Payment], Verdict]
Act = Callable[[Any, str], Awaitable[Any]]
"""Called with the stage and the payment's id."""


def ends(outcome: Outcome, **more: Any) -> Said:
    """What a look says when the session is over."""

    def said(payment: Payment) -> Verdict:
        facts: dict[str, Any] = {"reference": payment.reference, "session_id": payment.session_id}
        if outcome in (Outcome.PAID, Outcome.PARTIALLY_PAID):
            part = 2 if outcome is Outcome.PARTIALLY_PAID else 1
            facts |= {"amount_minor": payment.amount.minor // part, "currency": payment.amount.currency}
        seen = Observation("Finished", outcome=outcome, codes={"reasonCode": "100"}, **(facts | more))
        return replace(ANSWERED, observation=seen, exchange=Exchange("GET", f"{URL}/session/", 200, 31, 1))

    return said


RUNS = replace(ANSWERED, observation=Observation("InProgress"), exchange=Exchange("GET", f"{URL}/session/", 200, 29, 1))
STRANGE = replace(RUNS, observation=Observation("Quantum", known=False))


def opens(number: str = "+442079460000", suffix: str = "") -> Said:
    def said(payment: Payment) -> Verdict:
        phone = payment.channel is Channel.PHONE
        session = Session(
            f"s-{payment.reference}-{payment.attempts}{suffix}", number if phone else None, "0097" if phone else None
        )
        return replace(ANSWERED, session=session, exchange=Exchange("POST", f"{URL}/session", 200, 85, 1))

    return said


@dataclass(frozen=True)
class Case:
    """
    One payment's life.

    Attributes:
        reference: Also says which channel.
        starts, looks: What the provider says, the last of them for ever; `None` is a crash.
        acts: What is done from outside so many seconds after the submit.
        at: When it is submitted.
        missing: Whether a field is left out.
        left: Whether a crashed worker's payment is left to nobody.
        tokens: What the token call says, the last of them for ever.
    """

    reference: str
    starts: Sequence[Said | None] = (opens(),)
    looks: Sequence[Said] = (RUNS,)
    acts: Sequence[tuple[float, Act]] = ()
    at: float = 60.0
    missing: bool = False
    left: bool = False
    tokens: Sequence[Verdict] = (ANSWERED,)

    @property
    def channel(self) -> Channel:
        return Channel(self.reference.partition("-")[0])


def cancels(**more: Any) -> Act:
    return lambda stage, id_: stage.host.cancel(id_, **more)


def resolves(**word: Any) -> Act:
    return lambda stage, id_: stage.host.resolve(
        id_, person="j.doe", reason="seen in the gateway's report", **word
    )  # fmt: skip


def agrees(person: str, **word: Any) -> Act:
    """One of the two persons whom an account may ask for."""

    async def act(stage: Any, id_: str) -> None:
        said = composition.resolution(person=person, reason="seen in the gateway's report", **word)
        await resolve.resolve(
            stage.host.store, id_, said,
            lambda: replace(stage.claims.context(), actor=person),
            lambda payment: replace(stage.bench.policy(payment), resolve_persons=2),
        )  # fmt: skip

    return act


async def acknowledges(stage: Any, id_: str) -> None:
    await stage.host.acknowledge(id_)


async def completes_fields(stage: Any, id_: str) -> None:
    await stage.host.collect(id_, {"cardholderPostCode": "ZZ9 9ZZ"})


def learns(operation: Operation, said: Said, attempt: int | None = None) -> Act:
    """What somebody without a claim hands in."""

    async def act(stage: Any, id_: str) -> None:
        verdict = said if isinstance(said, Verdict) else said(await stage.host.get(id_))
        learnt = (operation, attempt, verdict)
        await resolve.hand_in(stage.host.store, id_, learnt, stage.claims.context, stage.bench.policy)

    return act


LAPSES = learns(Operation.HAND_OVER, Verdict(VerdictKind.NOT_SENT, "hand_over_lapsed"))
REVERSED = learns(Operation.QUERY_STATUS, ends(Outcome.DECLINED))
"""Evidence after the end that says otherwise."""
ANOTHER = learns(Operation.START_SESSION, opens(suffix="-late"), attempt=1)
"""A fenced worker's answer: a second session, which nobody is sent to."""

SEEN = (
    Outcome.PAID, Outcome.DECLINED, Outcome.ATTEMPTS_EXHAUSTED, Outcome.INPUT_TIMEOUT, Outcome.CANCELLED_BY_PAYER,
    Outcome.HUNG_UP, Outcome.EXPIRED, Outcome.NOT_ATTEMPTED, Outcome.LINK_UNDELIVERABLE, Outcome.PROVIDER_ERROR,
    Outcome.PARTIALLY_PAID, Outcome.REVIEW, Outcome.INDETERMINATE,
)  # fmt: skip
"""What a look can say that a session came to."""
PAID = ends(Outcome.PAID)
MISMATCH = ends(Outcome.PAID, reference="SOMEBODY-ELSES")


def ended(word: str) -> list[Case]:
    """What becomes of a payment without a person."""
    return [
        *(Case(f"{word}-{outcome}", looks=(RUNS, ends(outcome))) for outcome in SEEN),
        Case(f"{word}-abandoned", missing=True),
        Case(f"{word}-collected", missing=True, acts=((60, completes_fields),), looks=(PAID,)),
        Case(f"{word}-unavailable", starts=(NOT_SENT,)),
        Case(f"{word}-forbidden", starts=(FORBIDDEN,)),
        Case(f"{word}-without-token", tokens=(FORBIDDEN,)),
        Case(f"{word}-mended", tokens=(FORBIDDEN, FORBIDDEN, ANSWERED), looks=(PAID,)),
        Case(f"{word}-absent", starts=(ABSENT,)),
        Case(f"{word}-invalid", starts=(INVALID,)),
        Case(f"{word}-cancelled-early", missing=True, acts=((5, cancels(reason="changed his mind")),)),
        Case(f"{word}-cancelled", acts=((5, cancels(reason="caller left")),)),
        Case(f"{word}-late-money", looks=(RUNS, RUNS, RUNS, RUNS, PAID), acts=((5, cancels()),)),
        Case(f"{word}-reversed", looks=(PAID,), acts=((HOUR, REVERSED),)),
        Case(f"{word}-mismatch", looks=(RUNS, MISMATCH)),
        Case(f"{word}-strange", looks=(STRANGE, PAID)),
        Case(f"{word}-gone", looks=(RUNS, RUNS, ABSENT)),
        Case(f"{word}-silent", looks=(UNKNOWN,)),
        Case(f"{word}-overdue"),
        Case(f"{word}-crashed", starts=(None, opens()), looks=(PAID,)),
        Case(f"{word}-review-over", looks=(ends(Outcome.REVIEW), PAID)),
        Case(f"{word}-another", looks=(RUNS, RUNS, RUNS, ends(Outcome.NOT_ATTEMPTED)), acts=((2, ANOTHER),)),
    ]  # fmt: skip


def resolved(word: str) -> list[Case]:
    """What becomes of a payment by a person's word."""
    declined = resolves(outcome="declined")
    return [
        Case(f"{word}-late-corrected", looks=(RUNS, RUNS, RUNS, RUNS, PAID),
             acts=((5, cancels()), (12 * HOUR, resolves(outcome="paid")))),
        Case(f"{word}-late-refunded", looks=(RUNS, RUNS, RUNS, RUNS, PAID),
             acts=((5, cancels()), (12 * HOUR, declined))),
        Case(f"{word}-reversed-resolved", looks=(PAID,),
             acts=((HOUR, REVERSED), (2 * HOUR, resolves(outcome="paid")))),
        Case(f"{word}-reviewed", looks=(ends(Outcome.REVIEW),), acts=((HOUR, declined),)),
        Case(f"{word}-two-persons", looks=(ends(Outcome.REVIEW),),
             acts=((HOUR, agrees("j.doe", outcome="paid")), (HOUR + 60, agrees("a.roe", outcome="paid")))),
        Case(f"{word}-partial-resolved", looks=(ends(Outcome.PARTIALLY_PAID),),
             acts=((HOUR, resolves(outcome="partially_paid")),)),
        Case(f"{word}-mismatch-resolved", looks=(RUNS, MISMATCH), acts=((HOUR, resolves(outcome="paid")),)),
        Case(f"{word}-looked-again", looks=(*[ends(Outcome.INDETERMINATE)] * 6, PAID),
             acts=((6, resolves(retry=True)),)),
        Case(f"{word}-poison-mended", at=0, looks=(PAID,), acts=((HOUR, resolves(retry=True)),)),
    ]  # fmt: skip


def restored(word: str) -> list[Case]:
    """What was under way when the database was put back, and what people said to it."""
    late = RESTORED - 20
    return [
        Case(f"{word}-restored-new", at=late, missing=True),
        Case(f"{word}-restored-cancelled", at=late, missing=True, acts=((HOUR, cancels()),)),
        Case(f"{word}-restored-requested", at=late, starts=(None,), left=True),
        Case(f"{word}-restored-waiting", at=late),
        Case(f"{word}-restored-paid", at=late, looks=(*[RUNS] * (7 if word == "phone" else 2), PAID)),
        Case(f"{word}-restored-found", at=late, starts=(None,), left=True, looks=(PAID,),
             acts=((HOUR, resolves(session=f"s-{word}-found-again")),)),
        Case(f"{word}-restored-retried", at=late, starts=(None, opens()), left=True, looks=(PAID,),
             acts=((HOUR, resolves(retry=True)),)),
        Case(f"{word}-restored-settled", at=late, acts=((HOUR, resolves(outcome="not_attempted")),)),
    ]  # fmt: skip


def under_way(word: str) -> list[Case]:
    """What is in flight at the end."""
    return [
        Case(f"{word}-poison", at=0),
        Case(f"{word}-new", at=END - 2, missing=True),
        Case(f"{word}-waiting-for-token", at=END - 3, tokens=(FORBIDDEN,)),
        Case(f"{word}-retrying", at=END - 3, starts=(NOT_SENT,)),
        Case(f"{word}-requested", at=END - 4, starts=(None,), left=True),
        Case(f"{word}-waiting", at=END - 60),
        Case(f"{word}-watched", at=END - 60, acts=((5, cancels()),)),
        Case(f"{word}-proposed", at=END - 60, looks=(ends(Outcome.REVIEW),),
             acts=((30, agrees("j.doe", outcome="declined")),)),
        Case(f"{word}-another-held", at=END - 60, looks=(RUNS, RUNS, RUNS, ends(Outcome.NOT_ATTEMPTED)),
             acts=((2, ANOTHER),)),
    ]  # fmt: skip


BY_CHANNEL = [
    Case("phone-unseen", starts=(UNKNOWN, opens()), looks=(RUNS, ends(Outcome.NOT_ATTEMPTED))),
    Case("phone-unseen-held", at=END - 90, starts=(UNKNOWN, opens()), looks=(RUNS, ends(Outcome.NOT_ATTEMPTED))),
    Case("phone-unseen-settled", starts=(UNKNOWN, opens()), looks=(RUNS, ends(Outcome.NOT_ATTEMPTED)),
         acts=((HOUR / 2, resolves(outcome="not_attempted")),)),
    Case("phone-unseen-retried", starts=(UNKNOWN, opens()), looks=(RUNS, ends(Outcome.NOT_ATTEMPTED)),
         acts=((HOUR / 2, resolves(retry=True)),)),
    Case("phone-unknown", starts=(UNKNOWN,)),
    Case("phone-unknown-held", at=END - 90, starts=(UNKNOWN,)),
    Case("phone-hung-up-by-host", acts=((6, cancels(hung_up=True)),)),
    Case("phone-hung-up-early", missing=True, acts=((6, cancels(hung_up=True)),)),
    Case("phone-hanging-up", at=END - 60, acts=((6, cancels(hung_up=True)),)),
    Case("phone-acknowledged", looks=(RUNS, RUNS, PAID), acts=((2, acknowledges),)),
    Case("phone-undelivered", acts=((21, LAPSES),)),
    Case("phone-number", starts=(opens("+99912345"),)),
    Case("phone-number-paid", starts=(opens("+99912345"),), looks=(RUNS, PAID)),
    Case("phone-number-settled", starts=(opens("+99912345"),), acts=((60, resolves(outcome="not_attempted")),)),
    Case("phone-number-held", at=END - 90, starts=(opens("+99912345"),)),
    Case("phone-number-cancelled", starts=(opens("+99912345"),), acts=((5, cancels()),)),
    Case("phone-restored-unseen", at=RESTORED - 20, starts=(UNKNOWN, opens())),
    Case("phone-overdue-still", at=END - 1000),
    Case("digital-overdue-still", at=END - 72 * HOUR - 300),
    Case("digital-unknown", starts=(UNKNOWN,)),
    Case("digital-unknown-late", starts=(UNKNOWN,),
         acts=((HOUR, learns(Operation.START_SESSION, UNKNOWN, attempt=1)),)),
    Case("digital-unknown-cancelled", starts=(UNKNOWN,), acts=((HOUR, cancels()),)),
    Case("digital-unknown-retried", starts=(UNKNOWN, opens()), looks=(PAID,), acts=((HOUR, resolves(retry=True)),)),
    Case("digital-unknown-found", starts=(UNKNOWN,), looks=(PAID,), acts=((HOUR, resolves(session="s-found")),)),
    Case("digital-unknown-settled", starts=(UNKNOWN,), acts=((HOUR, resolves(outcome="not_attempted")),)),
]  # fmt: skip


CASES = {
    case.reference: case
    for case in (
        *(case for word in Channel for kind in (ended, resolved, restored, under_way) for case in kind(word)),
        *BY_CHANNEL,
    )
}
