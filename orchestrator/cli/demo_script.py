"""
The demo's cast: which payments are submitted, what is done to them, how each must end.

Pure data and two pure questions. The sandbox's scripts decide what happens by
the reference's prefix; this table says what the orchestrator must make of it.
Knows no process and no screen. Next: `children`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import cycle, islice
from random import Random

from orchestrator.domain.money import Money
from orchestrator.domain.outcome import Outcome
from orchestrator.domain.payment import Channel, HoldReason, Payment, State

ACCOUNT = "demo"
FEWEST, MOST = 10, 200
"""Payments of one demo: enough for a kill in the middle, few enough for one minute."""


class Act(StrEnum):
    """What the demo does to a payment besides submitting it."""

    NOTHING = "nothing"
    CANCEL = "cancel"
    """Ask to end it while its session can still be paid."""
    COLLECT = "collect"
    """Submit it without its fields and supply them later."""
    ABANDON = "abandon"
    """Submit it without its fields and never supply them."""


@dataclass(frozen=True, slots=True)
class Part:
    """
    One kind of payment.

    Attributes:
        prefix: The prefix of its reference, which the sandbox takes its cue from.
        channel: Phone or digital.
        state: Where it must end; `awaiting_payment` and `authorized` only with a hold.
        outcome: How it must end; `None` for a hold that knows of none.
        hold: Why it must be held, if so.
        act: What else is done to it.
    """

    prefix: str
    channel: Channel
    state: State
    outcome: Outcome | None
    hold: HoldReason | None = None
    act: Act = Act.NOTHING


@dataclass(frozen=True, slots=True)
class Cast:
    """One payment of the demo: its part, and what is submitted."""

    part: Part
    reference: str
    amount: Money
    fields: Mapping[str, str]


_PHONE, _DIGITAL = Channel.PHONE, Channel.DIGITAL
_DONE, _FAILED, _WAITING, _UNSTARTED = State.COMPLETED, State.FAILED, State.AWAITING_PAYMENT, State.AUTHORIZED

PARTS = (
    Part("SLOW", _PHONE, _DONE, Outcome.PAID),
    Part("SLOW", _DIGITAL, _DONE, Outcome.PAID),
    Part("PAID", _PHONE, _DONE, Outcome.PAID),
    Part("PAID", _DIGITAL, _DONE, Outcome.PAID),
    Part("DECLINED", _PHONE, _FAILED, Outcome.DECLINED),
    Part("LOSTANSWER", _PHONE, _DONE, Outcome.PAID),
    Part("LOSTANSWER", _DIGITAL, _UNSTARTED, None, HoldReason.SESSION_UNKNOWN),
    Part("EXPIRED", _DIGITAL, _FAILED, Outcome.EXPIRED),
    Part("REVIEW", _PHONE, _WAITING, Outcome.REVIEW, HoldReason.REVIEW),
    Part("NEVER", _DIGITAL, _FAILED, Outcome.CANCELLED_BY_HOST, act=Act.CANCEL),
    Part("HUNGUP", _PHONE, _FAILED, Outcome.HUNG_UP),
    Part("TIMEOUT", _PHONE, _FAILED, Outcome.INPUT_TIMEOUT),
    Part("CANCELLED", _DIGITAL, _FAILED, Outcome.CANCELLED_BY_PAYER),
    Part("PARTIAL", _DIGITAL, _WAITING, Outcome.PARTIALLY_PAID, HoldReason.PARTIALLY_PAID),
    Part("NORESULT", _PHONE, _WAITING, Outcome.INDETERMINATE, HoldReason.INDETERMINATE),
    Part("THROTTLED", _DIGITAL, _DONE, Outcome.PAID),
    Part("FLAKY", _PHONE, _DONE, Outcome.PAID),
    Part("FLAKY", _DIGITAL, _UNSTARTED, None, HoldReason.SESSION_UNKNOWN),
    Part("INVALID", _DIGITAL, _FAILED, Outcome.INVALID_REQUEST),
    Part("PAID", _PHONE, _DONE, Outcome.PAID, act=Act.COLLECT),
    Part("PAID", _DIGITAL, _FAILED, Outcome.ABANDONED, act=Act.ABANDON),
    Part("WRONGAMOUNT", _PHONE, _WAITING, None, HoldReason.ANSWER_MISMATCH),
    Part("TOKENEXPIRES", _DIGITAL, _DONE, Outcome.PAID),
    Part("STATUS404", _PHONE, _DONE, Outcome.PAID),
    Part("FAILED", _PHONE, _FAILED, Outcome.PROVIDER_ERROR),
    Part("UNKNOWNSTATE", _DIGITAL, _DONE, Outcome.PAID),
)
"""In the order of importance: a small demo takes the first ones, a large one goes round again."""

_WITHOUT_PAYER = frozenset({Outcome.EXPIRED, Outcome.INPUT_TIMEOUT, Outcome.NOT_ATTEMPTED})


def cast(payments: int, *, run: str, seed: int) -> Iterator[Cast]:
    """
    Give the payments of one demo.

    Args:
        payments: How many.
        run: Makes references and call ids new at every run; ASCII letters and digits.
        seed: Chooses the amounts.
    """
    random = Random(seed)  # noqa: S311 - amounts of a demo
    for number, part in enumerate(islice(cycle(PARTS), payments), start=1):
        fields = {
            "cardholderName": f"Demo Payer {number}",
            "cardholderPostCode": "EC1A 1BB",
            "cardholderAddress": f"{number} Demo Street",
        }
        if part.channel is _PHONE:
            fields["CallGuid"] = f"demo-{run}-{number:04d}"
        else:
            fields["CustomerPhoneNumber"] = f"+44770090{number:04d}"
        amount = Money.of_minor(random.randrange(500, 9_999, 2), "GBP")
        yield Cast(part, f"{part.prefix}-{run}-{number:03d}", amount, fields)


def as_expected(part: Part, payment: Payment, *, doubted: bool) -> bool:
    """
    Tell whether a payment ended as it must.

    A kill in the middle of a start leaves it open whether a session was made.
    The design then holds a digital payment; it starts a phone payment's session
    anew, and holds it if that session ends without its payer: such an end is
    right as well, if the trail shows the doubt.

    Args:
        part: Its part.
        payment: How it is.
        doubted: Whether its trail holds a start with the verdict `unknown`.
    """
    if (payment.state, payment.outcome, payment.hold) == (part.state, part.outcome, part.hold):
        return True
    if not doubted:
        return False
    if part.channel is _DIGITAL:
        return payment.hold is HoldReason.SESSION_UNKNOWN
    return payment.hold is HoldReason.UNSEEN_SESSION and (part.outcome in _WITHOUT_PAYER or payment.outcome is None)
