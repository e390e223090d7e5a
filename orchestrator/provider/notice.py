"""
What a webhook's body says, before anything is done about it.

Owns what may come in at all: size, depth, types, and no card data. The reading itself
is the status body's (`gateway`). Pure. Must not know which payment is meant.
Next: `config`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.domain.errors import CardDataRefused, InvalidInput
from orchestrator.domain.hearing import MAX_BYTES
from orchestrator.domain.outcome import Observation
from orchestrator.domain.settling import checked_session
from orchestrator.provider.gateway import GatewayProfile, UnreadableBody, observe_document, read

MAX_DEPTH = 32

FIX = "send the session's status as the payment API documents it"


def notice(profile: GatewayProfile, body: bytes, *, redact: Callable[[str], str]) -> Callable[[str], Observation]:
    """
    Read a webhook's body.

    Args:
        profile: How; the account's.
        body: A JSON object in UTF-8, at most 64 KiB, at most 32 levels deep.
        redact: Removes card data from a text.

    Returns:
        From the ISO 4217 code that gives its amount's decimals to what it says: whose payment
        it is, and so which currency, is found out later.

    Raises:
        CardDataRefused: It holds card data.
        InvalidInput: It is anything else, or names no session. No error shows a value.
    """
    if len(body) > MAX_BYTES:
        raise InvalidInput("body", f"is longer than {MAX_BYTES} bytes", FIX)
    try:
        document = read(body)
    except UnreadableBody as error:
        raise InvalidInput("body", str(error).replace("the body ", ""), FIX) from None
    _without_card_data(document, redact)
    session = _scalar(document, profile.session_field)
    state = _scalar(document, profile.state_field)
    if not session or not state:
        raise InvalidInput(profile.state_field if session else profile.session_field, "is missing", FIX)
    if profile.result_field and not isinstance(document.get(profile.result_field, {}), Mapping | None):
        raise InvalidInput(profile.result_field, "is not an object", FIX)
    checked_session(session)
    return lambda currency: observe_document(profile, document, currency, redact=redact)


def _scalar(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidInput(name, "is not a text", FIX)
    return value or ""


def _without_card_data(document: Mapping[str, Any], redact: Callable[[str], str]) -> None:
    """Look at every key and text, without recursion: the depth is the sender's choice."""
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for each in level:
            # A value with its name before it: a security code is known by its label.
            told = each.items() if isinstance(each, Mapping) else (("", child) for child in each)
            for name, child in told:
                text = f"{name}: {child if isinstance(child, str) else ''}"
                if redact(text) != text:
                    raise CardDataRefused("body", "holds card data", "stop sending it: no card data may come here")
                if isinstance(child, Mapping | list):
                    below.append(child)
        if not below:
            return
        level = below
    raise InvalidInput("body", f"is nested more than {MAX_DEPTH} levels deep", FIX)
