"""
Two books side by side: what the provider says of a reference, and what we say.

Owns the rule of matching. Every line of theirs and every payment of ours gets exactly one
verdict; what could be one or the other stays open. Pure. Next: `reconcile`.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.audit.periods import Period
from orchestrator.audit.statement import OPEN, PAID, Line
from orchestrator.compliance import Booked
from orchestrator.domain.outcome import MoneyFact


class Result(StrEnum):
    """What comes of a line, a payment, or a pair of both."""

    MATCHED = "matched"
    DIFFERENT = "different"
    OURS_ONLY = "ours_only"
    """Ours says that money was taken; they know of none."""
    THEIRS_ONLY = "theirs_only"
    AMBIGUOUS = "ambiguous"
    """Stays open: several candidates, or an end that is not known yet."""
    NO_MONEY = "no_money"
    """Ours took no money, and they say nothing of it: as it should be."""
    OUTSIDE = "outside"
    """Not of the period, and looked at only because the other half could have been."""


FINE = frozenset({Result.MATCHED, Result.NO_MONEY, Result.OUTSIDE})


@dataclass(frozen=True, slots=True)
class Pair:
    """
    A verdict on a line of theirs, a payment of ours, or both.

    Attributes:
        result: What comes of it.
        why: A word for what differs or keeps it open; empty if nothing does.
        line: Theirs.
        payment: Ours.
    """

    result: Result
    why: str = ""
    line: Line | None = None
    payment: Booked | None = None


def match(theirs: Sequence[Line], ours: Sequence[Booked], period: Period) -> Iterator[Pair]:
    """
    Compare all that both books say of one reference.

    First by session, where both name one; then by amount and currency; what is left of either
    side is compared with what is left of the other.

    Args:
        theirs: Their lines.
        ours: Our payments.
        period: What both books are about; others are candidates only.
    """
    lines, payments = list(theirs), list(ours)
    yield from _by_session(lines, payments)
    yield from _by_amount(lines, payments)
    if lines and payments:
        yield from _compared(lines, payments)
        return
    for line in lines:
        yield _alone_theirs(line, period)
    for payment in payments:
        yield _alone_ours(payment, period)


def _by_session(lines: list[Line], payments: list[Booked]) -> Iterator[Pair]:
    named: defaultdict[str, tuple[list[Line], list[Booked]]] = defaultdict(lambda: ([], []))
    for line in lines:
        if line.session_id is not None:
            named[line.session_id.casefold()][0].append(line)
    for payment in payments:
        if payment.session_id is not None:
            named[payment.session_id.casefold()][1].append(payment)
    for theirs, ours in named.values():
        if theirs and ours:
            _take(lines, theirs, payments, ours)
            yield from _compared(theirs, ours)


def _by_amount(lines: list[Line], payments: list[Booked]) -> Iterator[Pair]:
    same: defaultdict[tuple[int, str], tuple[list[Line], list[Booked]]] = defaultdict(lambda: ([], []))
    for line in lines:
        same[line.minor, line.currency][0].append(line)
    for payment in payments:
        same[payment.minor, payment.currency][1].append(payment)
    for theirs, ours in same.values():
        if theirs and ours:
            _take(lines, theirs, payments, ours)
            yield from _compared(theirs, ours)


def _take(lines: list[Line], theirs: list[Line], payments: list[Booked], ours: list[Booked]) -> None:
    """Take what is decided out of what is left."""
    taken, paid = {line.number for line in theirs}, {payment.id for payment in ours}
    lines[:] = [line for line in lines if line.number not in taken]
    payments[:] = [payment for payment in payments if payment.id not in paid]


def _compared(theirs: Sequence[Line], ours: Sequence[Booked]) -> Iterator[Pair]:
    """Compare one with one; several on either side stay open."""
    if len(theirs) == len(ours) == 1:
        yield _pair(theirs[0], ours[0])
        return
    for line in theirs:
        yield Pair(Result.AMBIGUOUS, "several_candidates", line=line)
    for payment in ours:
        yield Pair(Result.AMBIGUOUS, "several_candidates", payment=payment)


def _pair(line: Line, payment: Booked) -> Pair:
    named = line.session_id is not None and payment.session_id is not None
    if line.currency != payment.currency:
        why = "currency"
    elif line.minor != payment.minor:
        why = "amount"
    elif named and (line.session_id or "").casefold() != (payment.session_id or "").casefold():
        why = "session"
    elif line.status == OPEN:
        return Pair(Result.AMBIGUOUS, "theirs_is_open", line, payment)
    elif payment.open or payment.money not in (MoneyFact.TAKEN, MoneyFact.NONE):
        return Pair(Result.AMBIGUOUS, "ours_is_open", line, payment)
    else:
        why = "" if (line.status == PAID) == (payment.money == MoneyFact.TAKEN) else "outcome"
    return Pair(Result.DIFFERENT if why else Result.MATCHED, why, line, payment)


def _alone_theirs(line: Line, period: Period) -> Pair:
    return Pair(Result.THEIRS_ONLY if period.holds(line.at) else Result.OUTSIDE, line=line)


def _alone_ours(payment: Booked, period: Period) -> Pair:
    """Judge a payment of which they say nothing."""
    begun = period.until is None or payment.created_at < period.until
    over = period.since is not None and payment.changed_at < period.since
    if not begun or over:
        return Pair(Result.OUTSIDE, payment=payment)
    if payment.money == MoneyFact.NONE and not payment.open:
        return Pair(Result.NO_MONEY, payment=payment)
    if payment.money in (MoneyFact.NONE, MoneyFact.UNKNOWN):
        return Pair(Result.AMBIGUOUS, "ours_is_open", payment=payment)
    if period.holds(payment.created_at) and period.holds(payment.changed_at):
        return Pair(Result.OURS_ONLY, payment=payment)
    return Pair(Result.AMBIGUOUS, "edge_of_period", payment=payment)
