"""The provider's report against ours: the one control that sees an entry which is valid and not true."""

from dataclasses import replace
from datetime import timedelta
from io import BytesIO

import pytest

from orchestrator.audit import reconcile as reconciling
from orchestrator.audit import verify
from orchestrator.audit.completeness import completeness
from orchestrator.audit.periods import Period
from orchestrator.audit.reconcile import Reconciled, reconcile
from orchestrator.audit.statement import Statement
from orchestrator.domain import asking
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.money import Money
from orchestrator.domain.outcome import Outcome
from orchestrator.domain.payment import Payment
from orchestrator.domain.starting import intend
from orchestrator.privacy.guard import refuse_card_data
from orchestrator.records import Record
from orchestrator.store import SqlStore
from tests.integration.audit.books import DAY, MIDNIGHT, TRUSTED, Paged, seal, url
from tests.integration.audit.test_tampering import record
from tests.integration.store.conftest import postgresql_host, sqlite_template, store
from tests.integration.store.makers import PAID, T0, at, birth, outside, walk
from tests.unit.audit.tales import Tale
from tests.unit.domain.story import ANSWERED, OPENED, POLICIES, authorize, ctx, fresh, look, start
from tests.unit.domain.story import paid as evidence

__all__ = ["postgresql_host", "sqlite_template", "store", "url"]

HEADER = "reference,amount,currency,status,time,session id"
TODAY = Period(MIDNIGHT, MIDNIGHT + DAY)


def report(*rows: str) -> Statement:
    text = "\n".join([HEADER, *rows]) + "\n"
    return Statement(BytesIO(text.encode()), "report.csv", refuse_card_data)


def row(payment: Payment, status: str = "paid", session: str = "") -> str:
    money = payment.amount
    return f"{payment.reference},{money.major:f},{money.currency},{status},{payment.created_at.isoformat()},{session}"


async def paid(store: SqlStore, reference: str, **changes: object) -> Payment:
    return await store.record(outside(await store.submit(birth(reference, **changes)), *PAID))


async def compared(store: SqlStore, *rows: str, period: Period = TODAY, account: str | None = None) -> Reconciled:
    return await reconcile(Paged(store), report(*rows), period, account)


def told(found: Reconciled) -> dict[str, int]:
    return {result: number for result, number in found.counts.items() if number}


async def test_books_that_agree_have_no_finding(store: SqlStore) -> None:
    payments = [await paid(store, f"INV-{number}") for number in range(5)]
    await store.record(Record(walk(await store.submit(birth("LOST"))).step("fail", outcome=Outcome.ABANDONED,
                              reason="abandoned").due(None), held_claim=False))  # fmt: skip

    found = await compared(store, *map(row, payments))

    assert told(found) == {"matched": 5, "no_money": 1}
    assert (found.count, found.lines, found.payments) == (0, 5, 6)


async def story_of(store: SqlStore, reference: str) -> Payment:
    """Write a paid payment with its whole story, the provider's evidence included."""
    new = replace(fresh(), id=f"pay-{reference.lower()}", reference=reference)
    tale = Tale(new).tell(asking.submit, ctx(), POLICIES[new.channel]).tell(authorize, ANSWERED, 0)
    tale.tell(intend, ctx(), request_digest="r1").tell(start, OPENED)
    tale.tell(look, evidence(reference=reference))
    await record(store, tale)
    return tale.payment


async def test_a_forged_but_valid_completion_is_found_by_nothing_else(store: SqlStore) -> None:
    honest = [await story_of(store, f"INV-{number}") for number in range(3)]
    # Somebody has the writer's credentials, and says through our own door that a payment was paid which the
    # provider never took. Every entry is right in every respect; before the seal nobody could tell, nor after it.
    forged = await story_of(store, "INV-FORGED")
    await seal(store)

    assert (await verify(store)).clean, "the trail holds together"
    assert not (await completeness(store, Period(), TRUSTED)).missing, "nothing is missing"
    found = await compared(store, *map(row, honest))

    assert told(found) == {"matched": 3, "ours_only": 1}
    (finding,) = found.findings
    assert finding.payment is not None
    assert finding.payment.id == forged.id


async def test_every_kind_of_difference_is_told(store: SqlStore) -> None:
    fine, amount, outcome = [await paid(store, name) for name in ("FINE", "AMOUNT", "OUTCOME")]
    await paid(store, "OURS")
    await store.submit(birth("OPEN"))
    twice = await paid(store, "TWICE")

    found = await compared(
        store, row(fine), row(replace(amount, amount=Money("12.41", "GBP"))), row(outcome, "declined"),
        "THEIRS,1.00,GBP,paid,2026-11-24T16:00:00Z,", row(twice), row(twice),
    )  # fmt: skip

    assert told(found) == {"matched": 1, "different": 2, "ours_only": 1, "theirs_only": 1, "ambiguous": 4}
    assert sorted(pair.why for pair in found.findings if pair.result == "different") == ["amount", "outcome"]


async def test_an_account_alone_can_be_compared(store: SqlStore) -> None:
    ours = await paid(store, "INV-1")
    await paid(store, "INV-1", account="apac")

    assert told(await compared(store, row(ours), account="emea")) == {"matched": 1}
    assert told(await compared(store, row(ours))) == {"ambiguous": 3}


async def test_a_session_tells_two_payments_of_one_reference_apart(store: SqlStore) -> None:
    ours = await paid(store, "INV-1")
    await store.submit(birth("INV-1", account="apac"))

    assert told(await compared(store, row(ours, session="5E55"))) == {"matched": 1, "ambiguous": 1}


async def test_without_a_period_it_is_the_days_of_the_report(store: SqlStore) -> None:
    ours = await paid(store, "INV-1")

    found = await compared(store, row(ours), period=Period())

    assert found.period == TODAY
    assert told(found) == {"matched": 1}
    with pytest.raises(InvalidInput, match="without lines"):
        await compared(store, period=Period())
    assert told(await compared(store)) == {"ours_only": 1}, "a report without lines of a period that is given"


async def test_payments_just_outside_the_period_are_candidates_and_no_findings(store: SqlStore) -> None:
    before = await paid(store, "BEFORE", created_at=T0 - timedelta(hours=20))
    assert told(await compared(store, row(before), period=Period(T0, T0 + DAY))) == {"matched": 1}

    later = Period(T0 + DAY, T0 + 2 * DAY)
    assert told(await compared(store, period=later)) == {"outside": 1}


async def test_parts_that_do_not_fit_into_memory_give_the_same(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    payments = [await paid(store, f"INV-{number}") for number in range(8)]
    monkeypatch.setattr(reconciling, "IN_MEMORY", 1)

    found = await compared(store, *map(row, payments[:6]), "X,1.00,GBP,paid,2026-11-24T16:00:00Z,")

    assert told(found) == {"matched": 6, "ours_only": 2, "theirs_only": 1}


async def test_a_reference_of_too_many_lines_is_refused(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = await paid(store, "INV-1")
    monkeypatch.setattr(reconciling, "MOST_OF_ONE", 2)

    with pytest.raises(InvalidInput, match="more than 2 lines"):
        await compared(store, *[row(ours)] * 3)


async def test_what_changed_after_the_period_stays_open(store: SqlStore) -> None:
    payment = await store.submit(birth("INV-1"))
    await store.record(outside(payment, *PAID, seconds=86400))

    found = await compared(store)

    assert [(pair.result.value, pair.why) for pair in found.findings] == [("ambiguous", "edge_of_period")]
    assert found.payments == 1
    assert (await compared(store, period=Period(at(10), at(20)))).findings[0].why == "edge_of_period"
