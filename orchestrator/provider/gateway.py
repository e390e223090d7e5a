"""
What a status body or a webhook says, read by the account's profile.

Owns the reading of raw bodies into an `Observation`, and how a session's state
and the gateway's decision together make an outcome. Pure: no I/O, no time. Must
not know how the body arrived or what follows. Next: `config`.
"""

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any

from orchestrator.domain.currencies import EXPONENTS
from orchestrator.domain.outcome import Observation, Outcome
from orchestrator.provider.profile import VCC, GatewayProfile, Meaning

__all__ = ["VCC", "GatewayProfile", "UnreadableBody", "observe", "observe_document", "read"]

MAX_TEXT = 64
UNREADABLE = "unreadable"
"""The code that stands for an amount which is there and can't be read."""

_MINOR = re.compile(r"[0-9]{1,15}")
_MAJOR = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,6})?")
_CURRENCY = re.compile(r"[A-Z]{3}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


_ENDS = {
    Meaning.FAILED: Outcome.PROVIDER_ERROR,
    Meaning.CANCELLED: Outcome.CANCELLED_BY_PAYER,
    Meaning.EXPIRED: Outcome.EXPIRED,
    Meaning.HUNG_UP: Outcome.HUNG_UP,
    Meaning.INPUT_TIMEOUT: Outcome.INPUT_TIMEOUT,
    Meaning.ATTEMPTS_EXHAUSTED: Outcome.ATTEMPTS_EXHAUSTED,
    Meaning.LINK_UNDELIVERABLE: Outcome.LINK_UNDELIVERABLE,
    Meaning.NOT_ATTEMPTED: Outcome.NOT_ATTEMPTED,
}
"""How a session ended that has no result."""


class UnreadableBody(ValueError):  # noqa: N818 - reads as what happened
    """The body is not a JSON object that could say anything."""


def observe(
    profile: GatewayProfile,
    body: bytes,
    amount_currency: str,
    *,
    redact: Callable[[str], str] = str,
) -> Observation:
    """
    Read a raw status or webhook body.

    Args:
        profile: How.
        body: A JSON object in UTF-8.
        amount_currency: The payment's ISO 4217 code; it gives the decimals of the answer's amount.
        redact: Removes card data from every text that is kept.

    Returns:
        What the body says. Its outcome is `None` while the session is not known to be over,
        whatever else the body claims. An amount that is there and can't be read is `None`, is
        marked by the code `<amount_field>: unreadable`, and turns a positive result into
        `indeterminate`: it must not pass as confirmed.

    Raises:
        UnreadableBody: Not a JSON object, or one with two different values for one key.
    """
    return observe_document(profile, read(body), amount_currency, redact=redact)


def observe_document(
    profile: GatewayProfile,
    document: Mapping[str, Any],
    amount_currency: str,
    *,
    state: str | None = None,
    redact: Callable[[str], str] = str,
) -> Observation:
    """
    Read a body that has been parsed, as `observe` does.

    Args:
        profile: How.
        document: The parsed body.
        amount_currency: The payment's ISO 4217 code.
        state: The session state, if a definition has already found it; else the document's own.
        redact: Removes card data from every text that is kept.
    """
    kept = _Kept(redact)
    found = document.get(profile.result_field) if profile.result_field else document
    result: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    state = state if state is not None else _text(document.get(profile.state_field))
    amount, readable = _amount(profile, result, amount_currency, redact)
    codes = {name: kept(text) for name in profile.keep_fields if (text := _text(result.get(name))) is not None}
    if not readable:
        codes[profile.amount_field] = UNREADABLE
    meaning = profile.meaning(state)
    outcome = None if meaning in (None, Meaning.RUNNING) else _outcome(profile, meaning, result)
    if outcome in (Outcome.PAID, Outcome.PARTIALLY_PAID) and not readable:
        outcome = Outcome.INDETERMINATE
    currency = _text(result.get(profile.currency_field)) or ""
    return Observation(
        session_state=None if state is None else kept(state),
        known=meaning is not None,
        outcome=outcome,
        codes=MappingProxyType(codes),
        amount_minor=amount,
        currency=currency if _CURRENCY.fullmatch(currency) else None,
        reference=kept.optional(result.get(profile.reference_field)),
        session_id=kept.optional(document.get(profile.session_field)),
    )


def read(body: bytes) -> Mapping[str, Any]:
    """
    Parse a JSON object; numbers stay text exactly as sent.

    Raises:
        UnreadableBody: Anything else, or one key with two different values: contradictory evidence.
    """
    try:
        document = json.loads(
            body.decode("utf-8-sig"), object_pairs_hook=_object, parse_int=str, parse_float=str, parse_constant=_refused
        )
    except UnreadableBody:
        raise
    except (ValueError, RecursionError):
        raise UnreadableBody("the body is not JSON") from None
    if not isinstance(document, dict):
        raise UnreadableBody("the body is not a JSON object")
    return document


def _outcome(profile: GatewayProfile, meaning: Meaning, result: Mapping[str, Any]) -> Outcome:
    """How a session that is over has ended; the gateway's decision outweighs the session's word."""
    decision = _text(result.get(profile.decision_field))
    codes = {_text(result.get(name)) for name in profile.code_fields}
    if decision is None:
        finished = Outcome.PAID if profile.finished_means_paid else Outcome.INDETERMINATE
        return _ENDS.get(meaning, finished)
    if _among(decision, profile.paid):
        if meaning is not Meaning.ENDED:  # paid, in a session that says it failed: a person must look
            return Outcome.INDETERMINATE
        return Outcome.PARTIALLY_PAID if codes & set(profile.partial_codes) else Outcome.PAID
    if _among(decision, profile.declined):
        exhausted = meaning is Meaning.ATTEMPTS_EXHAUSTED or codes & set(profile.attempts_exhausted_codes)
        return Outcome.ATTEMPTS_EXHAUSTED if exhausted else Outcome.DECLINED
    if _among(decision, profile.review):
        return Outcome.REVIEW
    if _among(decision, profile.error):
        return Outcome.INDETERMINATE if codes & set(profile.doubtful_codes) else Outcome.PROVIDER_ERROR
    return Outcome.INDETERMINATE


def _among(decision: str, words: tuple[str, ...]) -> bool:
    return decision.strip().casefold() in {word.casefold() for word in words}


def _amount(
    profile: GatewayProfile, result: Mapping[str, Any], currency: str, redact: Callable[[str], str]
) -> tuple[int | None, bool]:
    """The amount in minor units, and whether what is there could be read; absent is readable."""
    text = _text(result.get(profile.amount_field))
    if text is None:
        return None, True
    if redact(text) != text:  # a card number in its place would be kept as a number
        return None, False
    if profile.amount_unit == "minor":
        return (int(text), True) if _MINOR.fullmatch(text) else (None, False)
    if not _MAJOR.fullmatch(text):
        return None, False
    try:
        scaled = Decimal(text).scaleb(EXPONENTS[currency])
    except (InvalidOperation, KeyError):
        return None, False
    return (int(scaled), True) if scaled == scaled.to_integral_value() else (None, False)


def _text(value: object) -> str | None:
    """A scalar as text; absent, null and empty are alike. A nested value is a text that matches no word."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else UNREADABLE


class _Kept:
    """Makes a text fit to be stored: without card data and control characters, and short."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact

    def __call__(self, text: str) -> str:
        return _CONTROL.sub(" ", self._redact(text))[:MAX_TEXT]

    def optional(self, value: object) -> str | None:
        text = _text(value)
        return None if text is None else self(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if found.setdefault(key, value) != value:
            raise UnreadableBody("the body has two different values for one key")
    return found


def _refused(_: str) -> None:
    raise UnreadableBody("the body has a number that JSON does not know")
