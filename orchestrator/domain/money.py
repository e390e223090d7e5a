"""
An exact amount in one currency.

Decimals in, minor units stored, ISO 4217 exponents; never a float. Owns the
arithmetic of representation only: nothing here adds, splits or converts,
because a payment's amount never changes. Next: `fields`.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Self

from orchestrator.domain.currencies import EXPONENTS
from orchestrator.domain.errors import InvalidInput

MAX_MINOR = 10**12
"""A bound that catches unit mistakes long before any integer column overflows."""

_AMOUNT = re.compile(r"(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,6})?")
_CURRENCY = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True, slots=True, init=False)
class Money:
    """
    A positive amount of money.

    Args:
        amount: A `Decimal`, an `int` of major units, or text such as `"12.40"`
            (ASCII digits, `.`; no sign, exponent, grouping or white space). In text
            even a zero too many is refused: `"1.000"` JPY may be meant as a thousand.
        currency: ISO 4217 alphabetic code, upper case.

    Attributes:
        minor: The amount in the currency's minor units, such as pence.

    Raises:
        InvalidInput: For floats, NaN, infinities, signs, zero, more decimals than
            the currency has, unknown currencies, and amounts out of range.
    """

    minor: int
    currency: str

    def __init__(self, amount: Decimal | int | str, currency: str) -> None:
        exponent = _exponent(currency)
        whole, _, decimals = _plain(amount).partition(".")
        if len(decimals) > exponent:
            raise InvalidInput("amount", f"has more than the {exponent} decimals of {currency}", "round it yourself")
        _set(self, int(whole + decimals.ljust(exponent, "0")), currency)

    @classmethod
    def of_minor(cls, minor: int, currency: str) -> Self:
        """Give the amount that has so many minor units."""
        _exponent(currency)
        if isinstance(minor, bool) or not isinstance(minor, int):
            raise InvalidInput("amount", "minor units are not an integer", "give a whole number")
        money = cls.__new__(cls)
        _set(money, minor, currency)
        return money

    @property
    def major(self) -> Decimal:
        """The amount in major units, with the currency's full number of decimals."""
        # Built from text: arithmetic would round to the precision of the host's decimal context.
        return Decimal(f"{self.minor}E-{EXPONENTS[self.currency]}")

    def __str__(self) -> str:
        return f"{self.major:f} {self.currency}"


def _set(money: Money, minor: int, currency: str) -> None:
    if minor <= 0:
        raise InvalidInput("amount", "is not more than zero", "a payment takes money; refunds are out of scope")
    if minor > MAX_MINOR:
        raise InvalidInput("amount", "is out of range", f"at most {MAX_MINOR} minor units")
    object.__setattr__(money, "minor", minor)
    object.__setattr__(money, "currency", currency)


def _exponent(currency: object) -> int:
    if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency):
        raise InvalidInput("currency", "is not three capital letters", "use an ISO 4217 code such as GBP")
    exponent = EXPONENTS.get(currency)
    if exponent is None:
        raise InvalidInput("currency", "is not an ISO 4217 currency of payments", "use a code such as GBP")
    return exponent


def _plain(amount: object) -> str:
    """Give the amount as digits with at most one point."""
    if isinstance(amount, bool) or not isinstance(amount, Decimal | int | str):
        raise InvalidInput("amount", f"is a {type(amount).__name__}", "use Decimal or text: floats are not exact")
    text = amount if isinstance(amount, str) else _digits(amount)
    if not _AMOUNT.fullmatch(text):
        raise InvalidInput("amount", "is not a plain decimal number", 'write it like "12.40"')
    return text


def _digits(amount: Decimal | int) -> str:
    """Write a number out; an absurd one gives nothing, because its digits could fill the memory."""
    if isinstance(amount, int):
        return str(int(amount)) if abs(amount) < 10**15 else ""
    exponent = amount.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -40 or amount.adjusted() > 15:
        return ""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
