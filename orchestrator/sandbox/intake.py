"""
What the provider takes and what it refuses: requests read strictly, before any effect.

Owns the shape of the three requests as VCC documents them ("Authentication
API", "Payment API", the IVR call plan). Pure: bytes and header values in, a
value or `Refused` out; knows no HTTP server and no session. Next: `bodies`.
"""

import base64
import binascii
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote_plus

from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.money import Money
from orchestrator.sandbox.options import SandboxOptions
from orchestrator.sandbox.script import Channel

REFERENCE_NAMES = ("merchantTxnRef", "MerchantReferenceCode", "merchantReference")
"""Members of `PaymentData` that may carry the merchant reference: it differs by gateway."""

_AMOUNT_NAMES = ("amount", "Amount")
_CURRENCY_NAMES = ("currency", "Currency")
_PHONE = re.compile(r"\+?[1-9][0-9]{6,14}")


class Refused(Exception):  # noqa: N818 - reads as what happened
    """
    A request that the provider refuses; nothing happened.

    Args:
        status: The HTTP status of the answer.
        body: Its JSON body.
        headers: Further headers.
    """

    def __init__(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.body = body
        self.headers = headers or {}
        super().__init__(status)


@dataclass(frozen=True, slots=True)
class StartRequest:
    """
    A request for a session that can be granted.

    Attributes:
        reference: The merchant reference.
        money: Amount and currency.
        call_guid: The call; `None` for a digital session.
        inputs: `PaymentData` as it came, echoed in every status.
    """

    reference: str
    money: Money
    call_guid: str | None
    inputs: Mapping[str, str]


def unauthorized() -> Refused:
    """Give the refusal of a request whose token is missing, unknown or too old."""
    text = "The access token is invalid or has expired"
    return Refused(401, {"Message": text}, {"WWW-Authenticate": 'Bearer error="invalid_token"'})


def read_bearer(authorization: str | None) -> str:
    """
    Take the token out of an Authorization header.

    Raises:
        Refused: 401, when there is none.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise unauthorized()
    return token.strip()


def check_token_request(content_type: str, body: bytes, authorization: str | None, options: SandboxOptions) -> None:
    """
    Check a request for a token.

    Args:
        content_type: The media type without parameters.
        body: The form.
        authorization: The Authorization header, which may carry the client's credentials (HTTP Basic).
        options: What is accepted.

    Raises:
        Refused: 400 with `error` and `error_description` (RFC 6749, section 5.2; VCC, "Authentication API").
    """
    form = _form(content_type, body)
    if form.get("grant_type") != "client_credentials":
        _refuse_token("unsupported_grant_type", "Invalid grant_type")
    if form.get("scope") != options.scope:
        _refuse_token("invalid_scope", "The scope is missing or unknown")
    offers = _basic(authorization or "")
    if not offers:
        offers = [(form.get("client_id", ""), form.get("client_secret", ""))]
    elif {"client_id", "client_secret"} & form.keys():
        _refuse_token("invalid_request", "Credentials are given twice")
    wanted = f"{options.client_id}\0{options.client_secret}".encode()
    if not any(hmac.compare_digest("\0".join(offer).encode(), wanted) for offer in offers):
        raise Refused(400, {"error": "invalid_client"})


def read_start(content_type: str, body: bytes, channel: Channel, options: SandboxOptions) -> StartRequest:
    """
    Read a request for a session.

    Top-level names are compared ignoring case, as the provider's own pages vary
    them; the names in `PaymentData` belong to the gateway and are exact.

    Args:
        content_type: The media type without parameters.
        body: The JSON text.
        channel: Whose endpoint was called: `phone` needs `CallGuid`, `digital` needs `CustomerPhoneNumber`.
        options: Which configuration exists, and the currency if the request names none.

    Raises:
        Refused: 415 for another media type, 400 with a `Message` for everything else.
    """
    members = _json_object(content_type, body)
    config_id = members.get("accountconfigurationid")
    if config_id is None or config_id == "" or isinstance(config_id, bool) or not isinstance(config_id, str | int):
        _refuse("AccountConfigurationId is missing")
    if str(config_id) != options.account_configuration_id:
        _refuse(f"Account configuration does not exists for account: sandbox, configuration Id: {config_id}")
    inputs = _payment_data(members.get("paymentdata"))
    reference = _required(inputs, REFERENCE_NAMES)
    money = _money(inputs, options.currency)
    if channel is Channel.DIGITAL:
        if not _PHONE.fullmatch(_required(inputs, ("CustomerPhoneNumber",))):
            _refuse("PaymentData.CustomerPhoneNumber is not a phone number")
        return StartRequest(reference, money, None, inputs)
    call_guid = members.get("callguid")
    if not isinstance(call_guid, str) or not call_guid.strip():
        _refuse("CallGuid is missing")
    return StartRequest(reference, money, call_guid, inputs)


def read_advance(content_type: str, body: bytes) -> float:
    """
    Read how far the sandbox's clock is to be moved.

    Raises:
        Refused: 400 or 415, unless the body is `{"seconds": n}` with n from 0 to ten years.
    """
    seconds = _json_object(content_type, body).get("seconds")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= 315_360_000:
        _refuse("seconds is not a number from 0 to 315360000")
    return float(seconds)


def _refuse(message: str) -> NoReturn:
    raise Refused(400, {"Message": message})


def _refuse_token(error: str, description: str) -> NoReturn:
    raise Refused(400, {"error": error, "error_description": description})


def _form(content_type: str, body: bytes) -> dict[str, str]:
    if content_type != "application/x-www-form-urlencoded":
        _refuse_token("invalid_request", "The body is not application/x-www-form-urlencoded")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=bool(body), errors="strict")
    except ValueError:
        _refuse_token("invalid_request", "The form can't be read")
    form = dict(pairs)
    if len(form) != len(pairs):
        _refuse_token("invalid_request", "A parameter is given twice")
    return form


def _basic(authorization: str) -> list[tuple[str, str]]:
    """Give the possible readings: RFC 6749 encodes both halves (section 2.3.1), many clients don't."""
    scheme, _, credentials = authorization.partition(" ")
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode() if scheme.lower() == "basic" else ""
    except (binascii.Error, ValueError):
        return []
    name, colon, secret = text.partition(":")
    return [(name, secret), (unquote_plus(name), unquote_plus(secret))] if colon else []


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name is given twice")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _json_object(content_type: str, body: bytes) -> dict[str, Any]:
    if content_type != "application/json":
        raise Refused(415, {"Message": "The request's media type is not application/json"})
    try:
        members = json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        _refuse("The request is not valid JSON")
    if not isinstance(members, dict):
        _refuse("The request is not a JSON object")
    return {name.lower(): value for name, value in members.items()}


def _payment_data(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict) or not value:
        _refuse("PaymentData is missing")
    for name, text in value.items():
        if not isinstance(text, str):
            _refuse(f"PaymentData.{name} is not a string")
        if any("\ud800" <= character <= "\udfff" for character in text):  # JSON can escape half a character
            _refuse(f"PaymentData.{name} is not valid text")
    return value


def _required(inputs: Mapping[str, str], names: tuple[str, ...]) -> str:
    text = next((inputs[name] for name in names if inputs.get(name, "").strip()), None)
    if text is None:
        _refuse(f"PaymentData.{names[0]} is missing")
    return text


def _money(inputs: Mapping[str, str], default_currency: str) -> Money:
    currency = next((inputs[name] for name in _CURRENCY_NAMES if inputs.get(name)), default_currency)
    try:
        return Money(_required(inputs, _AMOUNT_NAMES), currency)
    except InvalidInput as error:
        _refuse(f"PaymentData.{error.field} {error.problem}")
