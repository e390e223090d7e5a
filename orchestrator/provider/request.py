"""
One operation's request, rendered once to find its faults and again to be sent.

Owns which value each data source gets, and what of a request may be shown. Must
not know the wire. Next: `line`.

The access token is filled in only at the moment of sending, because a renewed
token makes no other request: the digest of the intent must not depend on it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from urllib.parse import quote

from orchestrator.domain.machine import Operation
from orchestrator.domain.payment import Channel, Payment
from orchestrator.interactions import Definition, Place, Rendered, Template, digest_of, render, render_headers
from orchestrator.provider.config import PLAIN_CONFIG, AccountConfig, RoleNames

STAND_IN = "token"
"""Stands where the access token will, in the request that is checked and digested."""


@dataclass(frozen=True, slots=True)
class Request:
    """
    A request, ready to be sent; made by `prepared`.

    Attributes:
        operation: What it is for.
        definition: What it is rendered from.
        channel: How the payer pays.
        currency: The payment's, to read amounts by.
        url: The URL as it may be shown.
        needs_token: Whether the definition uses the access token.
    """

    operation: Operation
    definition: Definition
    channel: Channel
    currency: str
    url: str
    needs_token: bool
    _account: AccountConfig = field(repr=False)
    _config: Mapping[str, str] = field(repr=False)
    _data: Mapping[str, str | None] = field(repr=False)
    _checked: Rendered = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 in hex over method, URL, headers but Authorization, and body; keyed if the account has a key."""
        return digest_of(self._checked, key=self._account.digest_key)

    def rendered(self, token: str | None) -> Rendered:
        """Give the request with the token in it."""
        if token is None:
            return self._checked
        role = self._account.roles.access_token
        data = {**self._data, role: token}
        if self.definition.only_in_headers(role):
            headers = _known_headers(self.definition, role, token)
            if headers is None:
                headers = render_headers(self.definition, data, self._config, optional=self._account.optional_fields)
            return replace(self._checked, headers=headers)
        return render(self.definition, data, self._config, optional=self._account.optional_fields)

    def private(self, token: str | None) -> Iterable[str]:
        """Give every value that was sent and must not be kept."""
        left_out = open_roles(self._account.roles) | {self._account.roles.access_token}
        # A number is often quoted without its plus.
        yield from (value.lstrip("+") for name, value in self._data.items() if value and name not in left_out)
        yield from secrets_of(self.definition, self._config)
        if token is not None:
            yield token


def prepared(
    operation: Operation,
    payment: Payment,
    fields: Mapping[str, str],
    *,
    account: AccountConfig,
    definition: Definition,
    config: Mapping[str, str],
) -> Request:
    """
    Render an operation's request.

    Args:
        operation: What it is for.
        payment: Gives amount, reference, currency, call id and session.
        fields: What the host has collected; the payment's own values win over equal names.
        account: Whose request it is.
        definition: What to render.
        config: `#(Key)` to value.

    Raises:
        InvalidInput: A field is missing, or can't be encoded for its place.
        ConfigurationError: A setting is missing.
    """
    roles = account.roles
    data = {**fields, **_own(payment, account)}
    if roles.amount in definition.data_names:
        amount = payment.amount
        data[roles.amount] = f"{amount.major:f}" if account.amount_unit == "major" else str(amount.minor)
    needs_token = roles.access_token in definition.data_names
    data[roles.access_token] = STAND_IN
    headers = _known_headers(definition, roles.access_token, STAND_IN)
    checked = render(definition, data, config, optional=account.optional_fields, headers=headers)
    url = shown_url(definition.url, data, config, open_roles(roles))
    return Request(operation, definition, payment.channel, payment.amount.currency, url, needs_token,
                   account, config, data, checked)  # fmt: skip


@lru_cache(maxsize=64)
def _known_headers(definition: Definition, role: str, token: str) -> tuple[tuple[str, str], ...] | None:
    """Give headers that depend on the token alone, as nearly all do; they are the same for every payment."""
    return render_headers(definition, {role: token}, {}) if definition.headers_need_only(role) else None


def _own(payment: Payment, account: AccountConfig) -> dict[str, str]:
    """What the payment itself supplies by role, but for the amount; what it does not have yet is left out."""
    roles = account.roles
    own = {
        roles.reference: payment.reference,
        roles.currency: payment.amount.currency,
        roles.call_guid: payment.call_guid,
        roles.session_id: payment.session_id,
        roles.number: payment.number,
        roles.link_id: payment.link_id,
    }
    return {name: value for name, value in own.items() if value is not None}


def open_roles(roles: RoleNames) -> frozenset[str]:
    """Give the names whose values may be shown: those of the payment, none of the payer's."""
    return frozenset({roles.amount, roles.reference, roles.currency, roles.call_guid, roles.session_id})


def secrets_of(definition: Definition, config: Mapping[str, str]) -> Iterable[str]:
    """Give the configured values in a request that must not be kept."""
    yield from (secret.reveal() for secret in definition.lifted.values())
    yield from (config[name] for name in definition.config_names if name in config and name not in PLAIN_CONFIG)


def shown_url(
    template: Template, data: Mapping[str, str | None], config: Mapping[str, str], shown: frozenset[str]
) -> str:
    """Give a URL for the trail: names instead of values that are not listed, and no query values."""
    parts: list[str] = []
    for part in template.parts:
        if isinstance(part, bytes):
            parts.append(part.decode("ascii"))
        elif part.place is Place.BASE_URL:
            parts.append(config.get(part.name, "").rstrip("/"))
        elif part.source == "data" and part.name in shown:
            parts.append(quote(data.get(part.name) or "", safe=""))
        else:
            parts.append(f"[{part.name}]")
    path, question, query = "".join(parts).partition("?")
    return path + question + "&".join(pair.partition("=")[0] + "=" for pair in query.split("&") if pair)
