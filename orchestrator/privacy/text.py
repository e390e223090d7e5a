"""
The one check for every text that comes in from outside.

Owns what a text may be made of, whatever the field means. Formats of single
fields are the domain's business. Next: `secret`.
"""

import unicodedata

from orchestrator.domain.errors import InvalidInput
from orchestrator.privacy.guard import refuse_card_data

MAX_BYTES = 4096
"""The longest text that a field may carry, in bytes of UTF-8."""

_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Bidirectional overrides and isolates make a text read otherwise than it is stored (Unicode TR36 and TR39)."""

_REFUSED_CATEGORIES = {
    "Cc": "holds a control character",
    "Cs": "holds half of a surrogate pair",
    "Zl": "holds a line separator",
    "Zp": "holds a paragraph separator",
}


def checked_text(field: str, value: object, *, max_bytes: int = MAX_BYTES) -> str:
    """
    Give a text in normal form C, or refuse it.

    Args:
        field: The name to report.
        value: What came in; only `str` is accepted.
        max_bytes: The longest it may be, in bytes of UTF-8, before and after normalisation.

    Returns:
        The same text, NFC-normalised. It may be empty.

    Raises:
        InvalidInput: Not a text, too long, or holding control characters (tab and
            line ends included), NUL, lone surrogates, separators of lines,
            bidirectional overrides, or card data. The message never holds the value.
    """
    if not isinstance(value, str):
        raise InvalidInput(field, f"is a {type(value).__name__}", "give text")
    if len(value) > max_bytes:  # spares normalising what is refused anyway
        raise _too_long(field, max_bytes)
    plain = value.isascii() and value.isprintable()  # nearly always: nothing to refuse, nothing to normalise
    for character in "" if plain else value:
        problem = _problem(character)
        if problem:
            raise InvalidInput(field, problem, "give plain text of one line")
    text = value if plain else unicodedata.normalize("NFC", value)
    if not plain and max(len(value.encode()), len(text.encode())) > max_bytes:
        raise _too_long(field, max_bytes)
    refuse_card_data(field, text)
    return text


def _problem(character: str) -> str | None:
    if character in _REORDERING:
        return "holds a character that reorders text"
    return _REFUSED_CATEGORIES.get(unicodedata.category(character))


def _too_long(field: str, max_bytes: int) -> InvalidInput:
    return InvalidInput(field, f"is longer than {max_bytes} bytes of UTF-8", "shorten it")
