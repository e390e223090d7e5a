"""
What a card number looks like: issuer ranges, lengths, check digit, grouping.

Pure arithmetic on digits and on the lengths of digit groups. Owns no text and
no policy: where to look and what to do with a find is `guard`'s business.
Next: `guard`.
"""

from collections.abc import Iterator, Sequence

SHORTEST = 13
LONGEST = 19
"""Card numbers of payment brands in use have 13 to 19 digits (ISO/IEC 7812-1 allows at most 19)."""

_LONG = frozenset({16, 17, 18, 19})
_ISSUERS: tuple[tuple[str, str, frozenset[int]], ...] = (
    ("4", "4", frozenset({13, 16, 18, 19})),  # Visa, and the local brands on its ranges
    ("51", "55", frozenset({16})),  # Mastercard
    ("2221", "2720", frozenset({16})),  # Mastercard's second range
    ("34", "34", frozenset({15})),  # American Express
    ("37", "37", frozenset({15})),  # American Express
    ("300", "305", _LONG | {14}),  # Diners Club
    ("3095", "3095", _LONG | {14}),  # Diners Club
    ("36", "36", _LONG | {14, 15}),  # Diners Club
    ("38", "39", _LONG | {14}),  # Diners Club
    ("3528", "3589", _LONG),  # JCB
    ("6011", "6011", _LONG),  # Discover
    ("644", "649", _LONG),  # Discover
    ("65", "65", _LONG),  # Discover, RuPay, Troy
    ("62", "62", _LONG),  # UnionPay
    ("81", "82", _LONG),  # UnionPay, RuPay
    ("5018", "5018", _LONG | {13, 14, 15}),  # Maestro
    ("5020", "5020", _LONG | {13, 14, 15}),  # Maestro
    ("5038", "5038", _LONG | {13, 14, 15}),  # Maestro
    ("5893", "5893", _LONG | {13, 14, 15}),  # Maestro
    ("6304", "6304", _LONG | {13, 14, 15}),  # Maestro
    ("6759", "6763", _LONG | {13, 14, 15}),  # Maestro
    ("50", "50", _LONG),  # Maestro, Verve, Dankort, Elo
    ("56", "58", _LONG),  # Maestro, Uzcard
    ("60", "60", frozenset({16})),  # RuPay, Hipercard
    ("63", "63", _LONG),  # Maestro, InterPayment, InstaPayment
    ("67", "67", _LONG),  # Maestro
    ("2200", "2205", _LONG),  # Mir, Borica
    ("8600", "8600", frozenset({16})),  # Uzcard
    ("9704", "9704", frozenset({16, 19})),  # Napas
    ("9792", "9792", frozenset({16})),  # Troy
    ("9860", "9860", frozenset({16})),  # Humo
)
"""First and last prefix, and the lengths that go with them, as the brands publish them."""

_GROUPINGS = frozenset(
    {
        *((4, 4, 4, last) for last in range(1, 8)),  # fours and a rest: how people read out any card
        *((4, 4, 4, 4, last) for last in range(1, 4)),
        (4, 6, 5),  # as printed by American Express
        (4, 6, 4),  # as printed by Diners Club
        (6, 13),  # as printed by some 19-digit debit cards
        (4, 3, 3, 3),
        (4, 4, 5),
        (8, 8),
        (4, 12),
        (12, 4),
        (8, 4, 4),
        (4, 4, 8),
        (4, 8, 4),
    }
)
_LONGEST_GROUPING = max(map(len, _GROUPINGS))
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def is_card_number(digits: str) -> bool:
    """
    Tell whether ASCII digits could be a card number: length, issuer, check digit.

    One random 16-digit number in ten has a valid check digit (ISO/IEC 7812-1
    annex B, the Luhn formula), so the issuer's range is asked for as well.
    """
    return _has_issuer(digits) and _check_digit_holds(digits)


def card_like_groups(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """
    Give the stretches of whole digit groups that are grouped as cards are.

    Whole groups only: sliding a window over the digits would find a card number
    in every long id.

    Args:
        lengths: The lengths of the groups of one run of digits, in order.

    Yields:
        First group and the group after the last one. Stretches may overlap.
    """
    for first, length in enumerate(lengths):
        if SHORTEST <= length <= LONGEST:
            yield first, first + 1
        for last in range(first + 2, min(first + _LONGEST_GROUPING, len(lengths)) + 1):
            if tuple(lengths[first:last]) in _GROUPINGS:
                yield first, last
    yield from _evenly_spelled(lengths)


def _evenly_spelled(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Give the longest stretches of digits spelled one by one, or in pairs or threes."""
    first = 0
    for last in range(1, len(lengths) + 1):
        if last < len(lengths) and lengths[last] == lengths[first]:
            continue
        each = lengths[first]
        if each <= 3 and SHORTEST <= each * (last - first) <= LONGEST:
            yield first, last
        first = last


def _has_issuer(digits: str) -> bool:
    length = len(digits)
    return any(length in lengths and low <= digits[: len(low)] <= high for low, high, lengths in _ISSUERS)


def _check_digit_holds(digits: str) -> bool:
    total = sum(int(digit) for digit in digits[-1::-2])
    return (total + sum(_DOUBLED[int(digit)] for digit in digits[-2::-2])) % 10 == 0
