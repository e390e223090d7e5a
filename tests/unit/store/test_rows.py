"""A payment becomes a row and comes back the same; columns and facts agree."""

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator.domain.entry import Context, Entry, extend, instant
from orchestrator.domain.money import MAX_MINOR, Money
from orchestrator.domain.outcome import MoneyFact, Outcome
from orchestrator.domain.payment import FACTS, Channel, HoldReason, Payment, State
from orchestrator.store.columns import Instant
from orchestrator.store.guards import FACT_COLUMNS, MOVES
from orchestrator.store.rows import CHANGING, ENTRY_COLUMNS, entry_of, payment_of, row_of, row_of_entry
from orchestrator.store.rules import IDENTITY, WITHOUT_ENTRY
from orchestrator.store.schema import audit_entry, payment

text = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
moments = st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 - bounds
words = st.dictionaries(st.text(st.characters(codec="ascii"), max_size=6), text, max_size=3)
counts = st.integers(0, 2**31 - 1)
payments = st.builds(
    Payment,
    id=text, account=text, channel=st.sampled_from(Channel), reference=text, round=counts,
    amount=st.builds(Money.of_minor, st.integers(1, MAX_MINOR), st.sampled_from(["GBP", "JPY", "KWD"])),
    created_at=moments, machine_version=counts, content_digest=text, definitions=words, call_guid=st.none() | text,
    state=st.sampled_from(State), version=counts, head=st.binary(), missing=st.lists(text, max_size=3).map(tuple),
    due_at=st.none() | moments, deadline_at=st.none() | moments, open_attempt=st.none() | counts,
    undelivered=st.booleans(), hold=st.none() | st.sampled_from(HoldReason), money=st.sampled_from(MoneyFact),
    outcome=st.none() | st.sampled_from(Outcome), reason=text, codes=words, watch_until=st.none() | moments,
    claimed_by=st.none() | text, claim_no=counts, progress_claim=counts,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(payments)
def test_a_payment_comes_back_from_its_row(made: Payment) -> None:
    row = row_of(made)
    assert payment_of(row) == made
    assert set(row) == {column.name for column in payment.columns}
    # Drivers look at exact types: nothing but plain values may reach them.
    plain = (str, int, bool, bytes, datetime, type(None))
    assert all(type(value) in plain or isinstance(value, datetime) for value in row.values())


@settings(max_examples=40, deadline=None)
@given(payments)
def test_an_entry_comes_back_from_its_row(made: Payment) -> None:
    context = Context(now=made.created_at, actor="w", origin="h")
    entry = extend(None, made, "submit", context)
    assert entry_of(row_of_entry(entry)) == entry


@settings(max_examples=60, deadline=None)
@given(moments, moments)
def test_instants_sort_as_text_as_they_do_in_time(one: datetime, other: datetime) -> None:
    assert (instant(one) < instant(other)) == (one < other)
    kind, dialect = Instant(), sqlite.dialect()
    bound = kind.process_bind_param(one, dialect)
    assert (bound, len(bound)) == (instant(one), 27)
    assert kind.process_result_value(bound, dialect) == one


@pytest.mark.parametrize("dialect", [sqlite.dialect(), postgresql.dialect()])
def test_an_instant_without_a_zone_is_refused(dialect: Any) -> None:
    with pytest.raises(ValueError, match="time zone"):
        Instant().process_bind_param(datetime(2026, 1, 1), dialect)  # noqa: DTZ001 - the point
    assert Instant().process_bind_param(None, dialect) is None
    assert Instant().process_result_value(None, dialect) is None


def test_every_column_is_an_attribute_and_every_attribute_a_column() -> None:
    attributes = {field.name for field in dataclasses.fields(Payment)}
    columns = {column.name for column in payment.columns}
    assert attributes - columns == {"amount", "head"}
    assert columns - attributes == {"amount_minor", "currency", "head_hash"}
    entries = {field.name for field in dataclasses.fields(Entry)}
    assert {column.name for column in audit_entry.columns} - entries == {"prev_seq", "prev_fk"}
    assert set(ENTRY_COLUMNS) == entries


def test_no_fact_can_change_without_an_entry() -> None:
    assert set(FACTS) <= {*IDENTITY, *FACT_COLUMNS}
    assert not {*FACT_COLUMNS, *IDENTITY, *MOVES} & set(WITHOUT_ENTRY)
    assert {*IDENTITY, *FACT_COLUMNS, *WITHOUT_ENTRY, *MOVES} == {column.name for column in payment.columns}
    assert set(CHANGING) == {*FACT_COLUMNS, *WITHOUT_ENTRY, "version", "state", "head_hash"}
