"""Two books side by side: every line and every payment gets one verdict, and doubt stays open."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.audit.matching import Pair, Result, match
from orchestrator.audit.periods import Period
from orchestrator.audit.statement import Line
from orchestrator.compliance import Booked
from tests.integration.store.makers import T0, at

DAY = Period(T0 - timedelta(hours=12), T0 + timedelta(hours=12))


def line(number: int = 2, **changes: Any) -> Line:
    facts = {"reference": "INV-1", "minor": 1240, "currency": "GBP", "status": "paid", "at": T0, "session_id": None}
    return Line(number, **facts | changes)


def payment(id_: str = "pay-1", **changes: Any) -> Booked:
    facts = {
        "account": "emea", "reference": "INV-1", "minor": 1240, "currency": "GBP", "session_id": None,
        "money": "taken", "open": False, "created_at": T0, "changed_at": at(60),
    }  # fmt: skip
    return Booked(id_, **facts | changes)


def verdicts(theirs: list[Line], ours: list[Booked], period: Period = DAY) -> list[tuple[str, str]]:
    return sorted((pair.result.value, pair.why) for pair in match(theirs, ours, period))


@pytest.mark.parametrize(
    ("theirs", "ours", "result", "why"),
    [
        (line(), payment(), "matched", ""),
        (line(status="unpaid"), payment(money="none"), "matched", ""),
        (line(session_id="S-1"), payment(session_id="s-1"), "matched", ""),
        (line(), payment(session_id="s-1"), "matched", ""),
        (line(minor=1241), payment(), "different", "amount"),
        (line(currency="EUR"), payment(), "different", "currency"),
        (line(session_id="S-2"), payment(session_id="S-1"), "different", "session"),
        (line(session_id="S-1", minor=1), payment(session_id="S-1"), "different", "amount"),
        (line(status="unpaid"), payment(), "different", "outcome"),
        (line(), payment(money="none"), "different", "outcome"),
        (line(status="open"), payment(), "ambiguous", "theirs_is_open"),
        (line(), payment(open=True), "ambiguous", "ours_is_open"),
        (line(), payment(money="unknown"), "ambiguous", "ours_is_open"),
    ],
)  # fmt: skip
def test_one_line_and_one_payment_are_compared(theirs: Line, ours: Booked, result: str, why: str) -> None:
    assert verdicts([theirs], [ours]) == [(result, why)]


@pytest.mark.parametrize(
    ("ours", "result", "why"),
    [
        (payment(), "ours_only", ""),
        (payment(money="partial"), "ours_only", ""),
        (payment(money="none"), "no_money", ""),
        (payment(money="none", open=True), "ambiguous", "ours_is_open"),
        (payment(money="unknown"), "ambiguous", "ours_is_open"),
        (payment(changed_at=T0 + timedelta(days=1)), "ambiguous", "edge_of_period"),
        (payment(created_at=T0 - timedelta(days=1)), "ambiguous", "edge_of_period"),
        (payment(created_at=T0 - timedelta(days=1), changed_at=T0 + timedelta(days=1)), "ambiguous", "edge_of_period"),
        (payment(created_at=T0 - timedelta(days=2), changed_at=T0 - timedelta(days=1)), "outside", ""),
        (payment(created_at=T0 + timedelta(days=1), changed_at=T0 + timedelta(days=1)), "outside", ""),
    ],
)
def test_a_payment_that_they_do_not_know_is_judged_by_its_money(ours: Booked, result: str, why: str) -> None:
    assert verdicts([], [ours]) == [(result, why)]


def test_a_line_that_we_do_not_know_is_theirs_alone() -> None:
    assert verdicts([line()], []) == [("theirs_only", "")]
    assert verdicts([line(at=T0 + timedelta(days=1))], []) == [("outside", "")]


def test_two_candidates_on_either_side_stay_open() -> None:
    assert verdicts([line(2), line(3)], [payment()]) == [("ambiguous", "several_candidates")] * 3
    assert verdicts([line()], [payment("pay-1"), payment("pay-2")]) == [("ambiguous", "several_candidates")] * 3


def test_sessions_tell_rounds_of_one_invoice_apart() -> None:
    theirs = [line(2, session_id="S-1", status="unpaid"), line(3, session_id="S-2")]
    ours = [payment("pay-1", session_id="S-1", money="none"), payment("pay-2", session_id="S-2")]

    assert verdicts(theirs, ours) == [("matched", "")] * 2


def test_amounts_tell_rounds_of_one_invoice_apart() -> None:
    theirs = [line(2), line(3, minor=99)]
    ours = [payment("pay-1", minor=99), payment("pay-2")]

    assert verdicts(theirs, ours) == [("matched", "")] * 2


SESSIONS = st.sampled_from([None, "S-1", "S-2", "s-2"])
AMOUNTS = st.sampled_from([1, 2])
HOURS = st.integers(-40, 40).map(lambda hours: T0 + timedelta(hours=hours))
LINES = st.builds(
    line, minor=AMOUNTS, session_id=SESSIONS, status=st.sampled_from(["paid", "unpaid", "open"]), at=HOURS
)  # fmt: skip
PAYMENTS = st.builds(
    payment, minor=AMOUNTS, session_id=SESSIONS, money=st.sampled_from(["none", "taken", "partial", "unknown"]),
    open=st.booleans(), created_at=HOURS,
)  # fmt: skip


@given(data=st.data(), theirs=st.lists(LINES, max_size=6), ours=st.lists(PAYMENTS, max_size=6))
def test_every_line_and_every_payment_gets_exactly_one_verdict(
    data: st.DataObject, theirs: list[Line], ours: list[Booked]
) -> None:
    lines = [replace(each, number=number) for number, each in enumerate(theirs, 2)]
    payments = [replace(each, id=f"pay-{number}") for number, each in enumerate(ours)]

    pairs = list(match(lines, payments, DAY))

    assert sorted(pair.line.number for pair in pairs if pair.line) == [each.number for each in lines]
    assert sorted(pair.payment.id for pair in pairs if pair.payment) == [each.id for each in payments]
    again = list(match(data.draw(st.permutations(lines)), data.draw(st.permutations(payments)), DAY))

    def told(pair: Pair) -> tuple[object, ...]:
        return pair.result, pair.why, pair.line and pair.line.number, pair.payment and pair.payment.id

    assert {told(pair) for pair in pairs} == {told(pair) for pair in again}, "the order of the books decides nothing"


@given(theirs=st.lists(LINES, max_size=4), ours=st.lists(PAYMENTS, max_size=4))
def test_nothing_is_matched_that_differs(theirs: list[Line], ours: list[Booked]) -> None:
    payments = [replace(each, id=f"pay-{number}") for number, each in enumerate(ours)]

    for pair in match([replace(each, number=number) for number, each in enumerate(theirs)], payments, DAY):
        if pair.result is Result.MATCHED:
            assert pair.line is not None
            assert pair.payment is not None
            assert (pair.line.minor, pair.line.currency) == (pair.payment.minor, pair.payment.currency)
            assert (pair.line.status, pair.payment.money) in (("paid", "taken"), ("unpaid", "none"))
