"""
The provider's own words, made fit to be kept.

Owns what is taken from the body of a refusal and what is removed from it. Must
not know what the words lead to. Next: `verdicts`.

Shapes seen on the vendor's pages: `{"Message": ..}`, `{"message": ..}`,
`{"error": .., "error_description": ..}`, and plain text.
"""

import json
import re
from collections.abc import Callable, Iterable

from orchestrator.domain.discreet import PrivateValues

MAX_MESSAGE = 200
MAX_PLAIN = 1000
"""A longer plain text is a page, not a message."""

_KEYS = ("message", "error_description", "error", "detail", "title")
_MARKUP = re.compile(r"<[a-zA-Z!/?]")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


def message_in(body: bytes) -> str | None:
    """
    Find the provider's text in an answer, leniently; markup is never kept.

    Args:
        body: The answer's body, possibly cut.

    Returns:
        The text as it stands, for `Cleaner`; `None` without any.
    """
    text = body.decode("utf-8", "replace").removeprefix("\ufeff").strip()
    if not text:
        return None
    try:
        found = _in_document(json.loads(text))
    except (ValueError, RecursionError):
        found = None if text[0] in "{[" or len(text) > MAX_PLAIN else text
    return None if not found or _MARKUP.search(found) else found


def _in_document(document: object, depth: int = 0) -> str | None:
    if isinstance(document, str):
        return document.strip()
    if isinstance(document, dict) and depth < 2:
        lowered = {str(key).lower(): value for key, value in reversed(document.items())}
        for key in _KEYS:
            if found := _in_document(lowered.get(key), depth + 1):
                return found
    return None


class Cleaner:
    """
    Removes what must not be kept from a text of the provider's.

    A refusal may quote the request: the payer's name, or a credential. What was
    sent is known, so it is removed by value; card data is removed by shape.

    Args:
        private: Values that were sent and must not be kept. Those under three characters
            stay, since they would tear holes into every word.
        redact: Removes card data.
    """

    def __init__(self, private: Iterable[str], redact: Callable[[str], str]) -> None:
        self.private = PrivateValues({_printable(value).strip() for value in private})
        self._redact = redact

    def __call__(self, text: str | None) -> str | None:
        """Give the text without private values, card data and control characters, at most 200 characters long."""
        if text is None:
            return None
        text = _printable(text)  # first, so that no character can hide a value
        text = self.private.out_of(text)
        return self._redact(text).strip()[:MAX_MESSAGE] or None


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub(" ", text)
