"""
Keeps card numbers, security codes and track data out of everything.

Owns where card data is looked for in a text and what happens to a find:
`refuse_card_data` for what a host or an operator gives us, `redact_card_data`
for what a provider answers and for every log line. Both see the same finds, so
a redacted text is never refused. PCI DSS 3.3.1 forbids keeping security codes
and tracks even encrypted, and 3.5.1 readable card numbers, logs included.
Must not know who asks. Next: `text`.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from orchestrator.domain.errors import CardDataRefused, InvalidInput
from orchestrator.privacy.cards import LONGEST, SHORTEST, card_like_groups, is_card_number

REMOVED = "[card data removed]"
"""What stands in a redacted text where card data stood."""

_ROUNDS = 8
"""Taking a find away can make a new one of its neighbours. A text that goes on like that is dropped whole."""

_FIX = "leave it out: the payer gives card data to the payment provider alone"

_SEPARATOR = (
    r"(?:[^\S\r\n]|[-\u2010-\u2015\u2212\ufe58\ufe63\uff0d]|[._/+\u00b7\u2024\uff0e]"
    r"|[\u00ad\u200b-\u200d\u2060\ufeff]|%20|%2[dD])"
)
_SUSPECT = re.compile(r"[\d:=]")
"""Every find has one of these."""

_DIGIT = re.compile(r"\d")
_RUN = re.compile(rf"\d+(?:{_SEPARATOR}{{1,3}}\d+)*")
_GROUP = re.compile(rf"{_SEPARATOR}+|(\d+)")
_AFTER_CARD = re.compile(r"(?:[\s,;|/\-]{1,3}\d{2,4}(?!\d)){1,3}")
"""An expiry date and a security code that follow a card number without a label, as in `4..|12|2030|123`."""

_HEX = re.compile(
    r"(?<![0-9A-Za-z])(?:[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|(?=\d*[a-fA-F])[0-9a-fA-F]{32,})(?![0-9A-Za-z])"
)
"""UUIDs and hexadecimal digests: 183 of 200,000 random UUIDs would pass for a card number otherwise."""

_HEX_LETTER = re.compile(r"[a-fA-F]")

_E164_DIGITS = 14
"""A number after `+` (`%2B`) with at most so many digits is a phone number; no brand's longer card starts like one."""

_ZERO_POINT = re.compile(r"(?<!\d)0\.$")
"""What stands before the decimals of a float, which has 16 digits as a rule."""

_TRACK_1 = re.compile(r"%?[Bb]\d{12,19}\^[^^\r\n]{0,40}\^[^?\s]{0,80}\??")
_TRACK_2 = re.compile(r"(;)?(?<!\d)(\d{12,19})[=Dd]\d{4,30}\??")

_LABELLED_CODE = re.compile(
    r"(?:cvv|cvc|(?<![a-z])(?:cvn|csc|cv(?=2))|security[\s_-]*(?:code|number)|verification[\s_-]*(?:code|value|number))2?"
    r"(?:[^\w\r\n]{1,6}(?:(?:is|was|code|number|no|value)[^\w\r\n]{1,4}){0,2}|_)"
    r"(?P<value>\d(?:[ \-]?\d){2,3})(?!\d)",
    re.IGNORECASE,
)
_CODE_WORDS = ("cv", "csc", "security", "verification")
"""One of them is in every label above: a quick look that spares most texts the slow pattern."""

_JSON_PAIR = re.compile(
    r"""(?P<quote>\\*["'])(?P<key>[\w .|\-]{2,64})(?P=quote)\s*:\s*"""
    r"""(?:(?P=quote)(?P<text>(?:(?!(?P=quote)).)+)(?P=quote)|(?P<bare>-?\d[\d.eE+\-]*))""",
)
_FORM_PAIR = re.compile(r"(?:^|(?<=[?&;,\s{(<\[]))(?P<key>[\w.|\-]{2,64})=(?P<text>[^&;\s]+)")

_NAMES = frozenset(
    {
        *("pan", "ccnum", "ccnumber", "primaryaccountnumber", "creditcard", "debitcard"),
        *("csc", "cvn", "cv2", "cvnumber", "cardcode", "pin", "cardpin", "pinblock"),
        *("track1", "track2", "trackdata", "track1data", "track2data", "magstripe", "magneticstripe"),
        *("ccexp", "ccexpiry"),
    }
)
_EXPIRY_NAMES = frozenset(
    {"expiry", "expirydate", "expirymonth", "expiryyear", "expdate", "expmonth", "expyear"}
    | {"expirationdate", "expirationmonth", "expirationyear"}
)
"""Refused as names of fields only: in a provider's answer the same words may speak of a link."""

_NAME_ENDINGS = (
    *("cardnumber", "cardno", "cardnum", "cvv", "cvv2", "cvc", "cvc2"),
    *("securitycode", "cardverificationcode", "cardverificationvalue", "cardverificationnumber"),
    *("cardexpiry", "cardexpirydate", "cardexpirymonth", "cardexpiryyear"),
    *("cardexpdate", "cardexpmonth", "cardexpyear"),
    *("cardexpiration", "cardexpirationdate", "cardexpirationmonth", "cardexpirationyear"),
)


class _Find(NamedTuple):
    start: int
    end: int
    what: str


def refuse_card_data(field: str, text: str) -> None:
    """
    Refuse a text that holds card data.

    Found are whole digit runs of 13 to 19 digits (of any script, grouped as cards
    are) with an issuer's prefix and a valid check digit; security codes with a
    label; values under a card's name in JSON or a form; magnetic track data.
    UUIDs, digests, phone numbers after `+` and longer ids are let through.

    Args:
        field: The name to report.
        text: What to look at.

    Raises:
        CardDataRefused: There is card data in it. The message names the kind only.
    """
    found = min(_finds(text), default=None)
    if found is not None:
        raise CardDataRefused(field, f"holds {found.what}", _FIX)


def refuse_card_field(name: str) -> None:
    """
    Refuse a field whose name says that it carries card data, such as `cardNumber` or `cvv`.

    Args:
        name: The field's name, plain or `Space|Key`; case and punctuation don't matter.

    Raises:
        InvalidInput: The name is one of a card's.
    """
    if _names_card_data(name) or _plain(name) in _EXPIRY_NAMES:
        raise InvalidInput(name, "is a name of card data", _FIX)


def redact_card_data(text: str) -> str:
    """
    Replace card data by `REMOVED`.

    Never raises, and gives the same text again when applied twice. Takes away
    more rather than less: what follows a card number like an expiry date and a
    code goes with it.
    """
    if not _SUSPECT.search(text):
        return text
    for _ in range(_ROUNDS):
        spans = _merged(_finds(text))
        if not spans:
            return text
        edges = [0, *(edge for span in spans for edge in span), len(text)]
        text = REMOVED.join(text[low:high] for low, high in zip(edges[::2], edges[1::2], strict=True))
    return REMOVED


def _finds(text: str) -> Iterator[_Find]:
    if _DIGIT.search(text):
        yield from _cards(text)
        yield from _tracks(text)
        yield from _codes(text)
    for pattern, sign in ((_JSON_PAIR, ":"), (_FORM_PAIR, "=")):
        if sign in text:
            yield from _pairs(pattern, text)


def _tracks(text: str) -> Iterator[_Find]:
    for match in _TRACK_1.finditer(text):
        yield _Find(*match.span(), "card track data")
    for match in _TRACK_2.finditer(text):
        if match[1] or (is_card_number(_ascii(match[2])) and not _in_digest(text, *match.span())):
            yield _Find(*match.span(), "card track data")


def _in_digest(text: str, start: int, end: int) -> bool:
    """Tell whether `d`, the separator of a track, is only one of a digest's letters."""
    around = [match for match in _HEX.finditer(text) if match.start() <= start and end <= match.end()]
    return any(_HEX_LETTER.search(text[each.start() : start] + text[end : each.end()]) for each in around)


def _within(span: tuple[int, int], larger: Iterable[re.Match[str]]) -> bool:
    return any(match.start() <= span[0] and span[1] <= match.end() for match in larger)


def _codes(text: str) -> Iterator[_Find]:
    lowered = text.lower()
    if any(word in lowered for word in _CODE_WORDS):
        for match in _LABELLED_CODE.finditer(text):
            yield _Find(*match.span("value"), "a card security code")


def _pairs(pattern: re.Pattern[str], text: str) -> Iterator[_Find]:
    for match in pattern.finditer(text):
        group = "text" if match["text"] else "bare"
        if _names_card_data(match["key"]) and not text.startswith(REMOVED, match.start(group)):
            yield _Find(*match.span(group), "a value under a name of card data")


def _cards(text: str) -> Iterator[_Find]:
    exempt: list[re.Match[str]] | None = None
    for run in _RUN.finditer(text):
        if run.end() - run.start() < SHORTEST:
            continue
        if exempt is None:
            exempt = list(_HEX.finditer(text))
        if _within(run.span(), exempt):
            continue
        for start, end in _cards_in_run(text, run.start(), run.end()):
            if _within((start, end), exempt):
                continue
            tail = _AFTER_CARD.match(text, end)
            yield _Find(start, tail.end() if tail else end, "what looks like a card number")


def _cards_in_run(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    groups = [match.span(1) for match in _GROUP.finditer(text, start, end) if match[1]]
    for first, last in card_like_groups([high - low for low, high in groups]):
        digits = "".join(_ascii(text[low:high]) for low, high in groups[first:last])
        if not SHORTEST <= len(digits) <= LONGEST or not is_card_number(digits):
            continue
        before = text[max(groups[first][0] - 3, 0) : groups[first][0]]
        phone = (before.endswith("+") or before.upper() == "%2B") and len(digits) <= _E164_DIGITS
        fraction = last - first == 1 and _ZERO_POINT.search(before)
        if not phone and not fraction:
            yield groups[first][0], groups[last - 1][1]


def _merged(finds: Iterator[_Find]) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for start, end, _ in sorted(finds):
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return spans


def _names_card_data(name: str) -> bool:
    plain = _plain(name)
    return plain in _NAMES or plain.endswith(_NAME_ENDINGS)


def _plain(name: str) -> str:
    last = re.split(r"[|.]", name)[-1]
    return "".join(character for character in last.lower() if character.isalnum())


def _ascii(digits: str) -> str:
    return digits if digits.isascii() else "".join(str(unicodedata.digit(digit)) for digit in digits)
