"""
The names and identifiers that a payment is made of, and what makes them acceptable.

Shapes only: length, characters, E.164 plausibility is the edge's business
(`submit` has a phone-number library behind a port). Values never appear in an
error. Next: `errors`, `payment`.
"""

import hashlib
import re
from base64 import b32encode

from orchestrator.domain.errors import InvalidInput, NotFound

_REFERENCE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,48}[A-Za-z0-9])?")
_CALL_GUID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:{}-]{0,63}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9 _.|-]{0,63}")
_PAYMENT_ID = re.compile(r"pay-[a-z2-7]{26}")
_KEY = re.compile(r"[\x21-\x7e]{1,128}")


def checked_reference(text: str) -> str:
    """
    Give the merchant reference back if gateways will take it.

    The tightest gateway documented for VCC takes 50 characters.

    Raises:
        InvalidInput: Anything but 1 to 50 ASCII letters, digits, `.`, `_`, `/`, `-`.
    """
    return _matching(_REFERENCE, text, "reference", "use 1 to 50 ASCII letters, digits and . _ / -")


def checked_call_guid(text: str) -> str:
    """Give the VCC call id back; 1 to 64 ASCII letters, digits and `.`, `_`, `:`, `-`, braces."""
    return _matching(_CALL_GUID, text, "CallGuid", "use the call's GUID as VCC gives it")


def checked_name(text: str) -> str:
    """Give a field's name back; names are data-source names of VCC, plain or `Namespace|Key`."""
    return _matching(_NAME, text, "fields", "a name is 1 to 64 ASCII letters, digits, spaces and _ . | -")


def checked_idempotency_key(text: str) -> str:
    """Give the host's idempotency key back; 1 to 128 visible ASCII characters."""
    return _matching(_KEY, text, "idempotency_key", "use 1 to 128 visible ASCII characters")


def payment_id(account: str, idempotency_key: str) -> str:
    """
    Derive the payment's id, so that the same submit names the same payment everywhere.

    `pay-` and 128 bits of SHA-256 over account and key in base 32: never all
    digits, so that no id can be taken for a card number.
    """
    digest = hashlib.sha256(f"{len(account)}:{account}{idempotency_key}".encode()).digest()
    return "pay-" + b32encode(digest[:16]).decode().rstrip("=").lower()


def unknown_payment(payment_id: object) -> NotFound:
    """Give the error for a payment that is not there; it repeats only what has the form of our ids."""
    return NotFound(f"no payment {payment_id!r}" if is_payment_id(payment_id) else "no payment has this id")


def is_payment_id(text: object) -> bool:
    """Tell whether the text has the form that `payment_id` gives."""
    return isinstance(text, str) and _PAYMENT_ID.fullmatch(text) is not None


def _matching(pattern: re.Pattern[str], text: str, field: str, fix: str) -> str:
    if not isinstance(text, str):
        raise InvalidInput(field, f"is a {type(text).__name__}", "use text")
    if not pattern.fullmatch(text):
        raise InvalidInput(field, "is missing" if not text else "has a wrong length or characters", fix)
    return text
