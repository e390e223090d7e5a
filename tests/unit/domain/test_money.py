from dataclasses import FrozenInstanceError
from decimal import Decimal, localcontext
from enum import IntEnum
from fractions import Fraction

import iso4217
import pytest

from orchestrator.domain.currencies import EXPONENTS
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.money import MAX_MINOR, Money

HUGE = 10**5000


class Pounds(IntEnum):
    TWELVE = 12


@pytest.mark.parametrize(
    ("amount", "currency", "minor", "text"),
    [
        ("12.40", "GBP", 1240, "12.40 GBP"),
        ("12.4", "GBP", 1240, "12.40 GBP"),
        ("0.01", "GBP", 1, "0.01 GBP"),
        (12, "GBP", 1200, "12.00 GBP"),
        (Pounds.TWELVE, "GBP", 1200, "12.00 GBP"),
        (Decimal("12.4"), "GBP", 1240, "12.40 GBP"),
        (Decimal("12.4000"), "GBP", 1240, "12.40 GBP"),
        (Decimal("1E+2"), "GBP", 10000, "100.00 GBP"),
        ("1240", "JPY", 1240, "1240 JPY"),
        (Decimal("1240.0"), "JPY", 1240, "1240 JPY"),
        ("1.234", "KWD", 1234, "1.234 KWD"),
        ("0.001", "BHD", 1, "0.001 BHD"),
        ("1.2345", "CLF", 12345, "1.2345 CLF"),
        ("10000000000.00", "EUR", MAX_MINOR, "10000000000.00 EUR"),
    ],
)
def test_an_amount_is_kept_in_minor_units_and_printed_in_full(amount, currency, minor, text):
    money = Money(amount, currency)
    assert (money.minor, money.currency, str(money)) == (minor, currency, text)
    assert money == Money.of_minor(minor, currency)
    assert hash(money) == hash(Money.of_minor(minor, currency))


@pytest.mark.parametrize(
    "amount",
    [
        12.40, float("nan"), True, None, b"12.40", Fraction(1, 2), ["12.40"],
        Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal("-Infinity"),
        "nan", "inf", "Infinity", "", " ", ".", "12.", ".5", "01.00", "00",
        "+1.00", "-1.00", "\u22121.00", Decimal("-1.00"), -1, Decimal("-0"), "0", "0.00", 0, Decimal("0.00"),
        "1e2", "1E2", "12.40e0", "0x10", "1_000", "1,000.00", "1.000,00", "1 000.00", "1'000.00",
        "1\N{NO-BREAK SPACE}000.00", "1\N{NARROW NO-BREAK SPACE}000", " 12.40", "12.40 ", "12.40\n", "12.40\x00",
        "\u0661\u0662.\u0664\u0660", "\uff11\uff12.\uff14\uff10", "12\u066b40", "\u00bd", "\u00a312.40", "12.40 GBP",
        "12.405", "0.001", "12.400", "1.000", Decimal("12.405"), Decimal("1e-7"),
        "10000000000.01", MAX_MINOR, pytest.param(HUGE, id="huge"), Decimal(HUGE),
        Decimal("1E+999999"), Decimal("1E-999999"), "9" * 5000,
    ],
    ids=lambda amount: ascii(amount)[:40],
)  # fmt: skip
def test_what_is_not_a_plain_positive_amount_in_pounds_is_refused(amount):
    with pytest.raises(InvalidInput) as refusal:
        Money(amount, "GBP")
    assert refusal.value.field == "amount"
    assert refusal.value.fix
    if isinstance(amount, str) and len(amount) > 3 and amount[0] != "0":
        assert amount not in str(refusal.value)


@pytest.mark.parametrize(
    ("amount", "currency"),
    [("1.0", "JPY"), ("1.000", "JPY"), ("1.5", "KRW"), ("1.2345", "KWD"), ("1.23456", "CLF"), (Decimal("0.5"), "ISK")],
)
def test_decimals_beyond_the_currency_are_refused_and_never_rounded(amount, currency):
    with pytest.raises(InvalidInput, match=f"decimals of {currency}"):
        Money(amount, currency)


@pytest.mark.parametrize(
    "currency", ["gbp", "GB", "GBPX", "", " GBP", "GBP\n", "\uff27\uff22\uff30", "G\u0412P", "826", 826, None]
)
def test_a_currency_that_is_not_three_capitals_is_refused(currency):
    for make in (Money, Money.of_minor):
        with pytest.raises(InvalidInput, match="not three capital letters") as refusal:
            make(1, currency)
        assert refusal.value.field == "currency"


@pytest.mark.parametrize("currency", ["XXX", "XTS", "XAU", "XDR", "ZZZ", "DEM", "HRK"])
def test_metals_tests_and_dead_currencies_are_refused(currency):
    with pytest.raises(InvalidInput, match="not an ISO 4217 currency of payments"):
        Money("1", currency)


@pytest.mark.parametrize("minor", [0, -1, True, 1.0, "1", Decimal(1), None, MAX_MINOR + 1, 10**100])
def test_minor_units_are_whole_positive_and_in_range(minor):
    with pytest.raises(InvalidInput):
        Money.of_minor(minor, "GBP")


def test_exponents_are_those_of_an_independent_iso_4217_table():
    independent = {c.code: c.exponent for c in iso4217.Currency if c.exponent is not None}
    assert set(EXPONENTS.values()) == {0, 2, 3, 4}
    assert independent == EXPONENTS


def test_the_hosts_decimal_context_changes_no_amount():
    with localcontext(prec=3, Emax=4, Emin=-4):
        money = Money(Decimal("123456.78"), "GBP")
        assert (money.minor, str(Money("9876543.21", "GBP"))) == (12345678, "9876543.21 GBP")
        assert str(money.major) == "123456.78"


def test_money_never_changes():
    money = Money("12.40", "GBP")
    with pytest.raises(FrozenInstanceError):
        money.minor = 1  # type: ignore[misc]
    assert money != Money("12.40", "EUR")
