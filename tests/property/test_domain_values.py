"""Invariants of the values that payments are made of: money, ids, canonical bytes, instants."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import rfc8785
from hypothesis import assume, example, given
from hypothesis import strategies as st

from orchestrator.domain.currencies import EXPONENTS
from orchestrator.domain.entry import body_hash, canonical, instant
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.fields import payment_id
from orchestrator.domain.money import MAX_MINOR, Money

MINOR = st.integers(1, MAX_MINOR)
CURRENCY = st.sampled_from(sorted(EXPONENTS))
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
LEAVES = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT
KEYS = st.text(st.characters(max_codepoint=127), max_size=6)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=6
)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=3)


@given(MINOR, CURRENCY)
def test_money_survives_every_way_it_is_written(minor, currency):
    money = Money.of_minor(minor, currency)
    text, code = str(money).split(" ")
    assert code == currency
    assert Money(text, currency) == Money(money.major, currency) == Money(Decimal(text), currency) == money
    assert money.major * 10 ** EXPONENTS[currency] == minor
    assert len(text.partition(".")[2]) == EXPONENTS[currency]


@given(st.one_of(st.text(max_size=12), st.text("0123456789.-+eE_, \u0660\xa0", max_size=12)), CURRENCY)
@example("1.000", "JPY")
@example("1_0", "GBP")
def test_a_text_is_refused_or_is_the_number_it_looks_like(text, currency):
    try:
        money = Money(text, currency)
    except InvalidInput:
        return
    assert text.isascii()
    assert set(text) <= set("0123456789.")
    assert Decimal(text) == money.major
    assert 0 < money.minor <= MAX_MINOR


@given(st.decimals() | st.decimals(places=4, min_value=-10, max_value=10**7), CURRENCY)
@example(Decimal("1E+999999999"), "GBP")
@example(Decimal("1E-999999999"), "GBP")
def test_a_decimal_is_refused_or_kept_exactly(value, currency):
    try:
        money = Money(value, currency)
    except InvalidInput:
        return
    assert money.major == value


@given(DOCUMENTS)
def test_canonical_bytes_are_those_of_an_independent_rfc_8785(document):
    assert canonical(document).encode() == rfc8785.dumps(document)
    assert json.loads(canonical(document)) == document


@given(st.dictionaries(KEYS, LEAVES, max_size=2), st.dictionaries(KEYS, LEAVES, max_size=2))
def test_two_documents_have_one_hash_only_if_they_are_equal(one, other):
    # As JSON: Python calls 1 and True equal.
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (body_hash(canonical(one)) == body_hash(canonical(other))) is same


@given(st.dictionaries(KEYS, LEAVES, min_size=1, max_size=5), st.data())
def test_key_order_does_not_matter(document, data):
    shuffled = dict(data.draw(st.permutations(list(document.items()))))
    assert canonical(shuffled) == canonical(document)


ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=ZONES)  # noqa: DTZ001 - bounds are naive


@given(MOMENTS, MOMENTS)
def test_instants_sort_as_time_does_and_lose_nothing(one, other):
    assert (instant(one) < instant(other)) is (one < other)
    assert len(instant(one)) == 27
    assert datetime.fromisoformat(instant(one)) == one
    assert datetime.fromisoformat(instant(one)).tzinfo is UTC


@given(TEXT, TEXT, TEXT, TEXT)
def test_payment_ids_are_equal_only_for_equal_pairs(account, key, other_account, other_key):
    assume((account, key) != (other_account, other_key))
    assert payment_id(account, key) != payment_id(other_account, other_key)
