"""The whole comparison, without a database: nothing is lost between the books and their verdicts."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.audit.periods import Period
from orchestrator.audit.reconcile import reconcile
from orchestrator.audit.statement import Statement
from orchestrator.compliance import Booked
from orchestrator.domain.entry import instant
from orchestrator.domain.money import Money
from orchestrator.privacy.guard import refuse_card_data
from tests.unit.audit.test_matching import DAY, payment

REFERENCES = st.sampled_from([f"INV-{number}" for number in range(12)])
AMOUNTS = st.sampled_from([1240, 99])
STATUSES = st.sampled_from(["paid", "declined", "pending"])
MONEY = st.sampled_from(["taken", "none", "unknown"])


class Shelf:
    """Books that hold what they are given."""

    def __init__(self, payments: Sequence[Booked]) -> None:
        self._payments = payments

    @contextlib.asynccontextmanager
    async def ledger(self) -> AsyncIterator[Any]:
        yield self

    async def booked(self, *_: object) -> AsyncIterator[Booked]:
        for each in self._payments:
            yield each


def statement(rows: Sequence[tuple[str, int, str]]) -> Statement:
    lines = ["reference,amount,currency,status,time"]
    for reference, minor, status in rows:
        money = Money.of_minor(minor, "GBP")
        lines.append(f"{reference},{money.major:f},GBP,{status},{instant(payment().created_at)}")
    return Statement(BytesIO("\n".join(lines).encode()), "report.csv", refuse_card_data)


@given(
    rows=st.lists(st.tuples(REFERENCES, AMOUNTS, STATUSES), max_size=25),
    ours=st.lists(st.tuples(REFERENCES, AMOUNTS, MONEY), max_size=25),
)
async def test_every_row_of_both_books_is_in_exactly_one_verdict(
    rows: list[tuple[str, int, str]], ours: list[tuple[str, int, str]]
) -> None:
    payments = [
        replace(payment(f"pay-{number}"), reference=reference, minor=minor, money=money)
        for number, (reference, minor, money) in enumerate(ours)
    ]

    found = await reconcile(Shelf(payments), statement(rows), DAY)

    assert (found.lines, found.payments) == (len(rows), len(payments))
    pairs = sum(number for result, number in found.counts.items() if result in ("matched", "different"))
    open_pairs = sum(1 for pair in found.findings if pair.result == "ambiguous" and pair.line and pair.payment)
    assert sum(found.counts.values()) + pairs + open_pairs == len(rows) + len(payments)
    assert len(found.findings) == found.count


async def test_the_period_is_the_reports_days_where_none_is_given() -> None:
    found = await reconcile(Shelf([]), statement([("INV-1", 1, "paid")]), Period())

    assert found.period.told == {"since": "2026-11-24T00:00:00.000000Z", "until": "2026-11-25T00:00:00.000000Z"}
    assert found.counts == {"theirs_only": 1}
