"""
An account's settings: where the provider is, how we sign in, how its answers read.

Owns the frozen models below `accounts.NAME` of `orchestrator.toml` and their
checks. Secrets are resolved while the models are made, so that a missing one
stops the start and not the first payment. Policies stay plain tables here: the
domain knows their names. Must not read files or variables but through a
reference. Next: `settings`.
"""

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator

from orchestrator.privacy.secret import Secret
from orchestrator.provider import config
from orchestrator.settings.gateways import GatewaySettings, gateway_table
from orchestrator.settings.types import (
    BaseUrl,
    Currency,
    Frozen,
    IdOrReference,
    Names,
    NumberOrWord,
    OwnFile,
    Seconds,
    SecretReference,
    TextOrReference,
    is_loopback,
    words,
    wrong,
)

_OWN_PLACEHOLDERS = {
    "BaseUrl": "base_url",
    "ClientId": "client_id",
    "ClientSecret": "client_secret",
    "AccountConfigurationId": "account_configuration_id",
}
"""`#(Key)` names in definitions that are settings of their own."""

_SECRET_NAME = re.compile(
    r"secret|passw|pwd|token|credential|private|api[_-]?key|(?:[_-]|\b)key$|(?-i:(?<=[a-z])Key$)", re.IGNORECASE
)

_DialPrefix = Annotated[str, Field(pattern=r"^\+?[0-9]{1,15}$")]
_RoleName = Annotated[str, Field(min_length=1, max_length=255)]
_ROLES = config.RoleNames()


class DefinitionPaths(Frozen):
    """The account's own `<ApiInteraction>` files, relative to the settings file; `None` is the bundled one."""

    authorize: OwnFile = None
    start_phone_session: OwnFile = None
    start_digital_session: OwnFile = None
    session_status: OwnFile = None


class RoleNames(Frozen):
    """Which data source plays which role; the names of the provider's own call plan by default."""

    access_token: _RoleName = _ROLES.access_token
    session_id: _RoleName = _ROLES.session_id
    number: _RoleName = _ROLES.number
    link_id: _RoleName = _ROLES.link_id
    message: _RoleName = _ROLES.message
    session_state: _RoleName = _ROLES.session_state
    amount: _RoleName = _ROLES.amount
    reference: _RoleName = _ROLES.reference
    currency: _RoleName = _ROLES.currency
    call_guid: _RoleName = _ROLES.call_guid
    phone_number: _RoleName = _ROLES.phone_number


class AccountSettings(Frozen):
    """
    One provider configuration.

    Attributes:
        base_url: Scheme, host and optional path prefix; https, but on loopback or with `allow_http`.
        allow_http: Whether plain http is accepted on other hosts than loopback.
        client_id: The API client's name, in clear or by reference.
        client_secret: By reference.
        account_configuration_id: The provider's id of the payment flow; text, whatever it looks like.
        config: Other `#(Key)` values of the definitions, in clear or by reference.
        definitions: The account's own definitions.
        optional_fields: Names whose absence removes the placeholder instead of stopping the payment.
        roles: Names of the data sources.
        dial_prefixes: What a number to dial may begin with, such as `+44`. The number
            comes from outside: with an empty list none is dialled and phone payments hold.
        currency: ISO 4217 code for submits that name none.
        gateway: How results read: a profile's name, or a table over it.
        amount_unit: How the amount is sent, `12.40` (major) or `1240` (minor).
        transport: The HTTP engine.
        call_deadline_s: The whole of one call, in seconds.
        start_deadline_s: The whole of a Start Session call, in seconds; shorter than a worker trusts its claim.
        body_limit_bytes: The longest answer that is read.
        requests_per_second: The budget of all workers together, shared by those that live; 0 for none.
            It carries this x 450 waiting payments: two looks in the 15 minutes of their evidence.
        policy: Deviations from the default policy, by channel.
    """

    base_url: BaseUrl
    allow_http: bool = False
    client_id: IdOrReference = None
    client_secret: SecretReference = None
    account_configuration_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    config: dict[str, TextOrReference] = Field(default_factory=dict)
    definitions: DefinitionPaths = DefinitionPaths()
    optional_fields: Names = ()
    roles: RoleNames = RoleNames()
    dial_prefixes: Annotated[tuple[_DialPrefix, ...], BeforeValidator(words)] = ()
    currency: Currency | None = None
    gateway: Annotated[GatewaySettings, BeforeValidator(gateway_table)] = GatewaySettings()
    amount_unit: Literal["major", "minor"] = "major"
    transport: Literal["aiohttp", "httpx"] = "aiohttp"
    call_deadline_s: Seconds = 10.0
    start_deadline_s: Seconds = 5.0
    body_limit_bytes: Annotated[int, Field(ge=1024, le=16 * 1024 * 1024)] = 262_144
    requests_per_second: Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)] = 50.0
    policy: dict[Literal["phone", "digital"], dict[str, NumberOrWord]] = Field(default_factory=dict)

    def config_values(self) -> dict[str, str]:
        """
        Give every `#(Key)` value in clear, the account's own settings included.

        For rendering a request; keep it nowhere.
        """
        values = {key: value.reveal() for key, value in self.config.items()}
        for key, setting in _OWN_PLACEHOLDERS.items():
            value = getattr(self, setting)
            if value is not None:
                values[key] = value.reveal() if isinstance(value, Secret) else value
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        parts = urlsplit(self.base_url)
        if parts.scheme == "http" and not self.allow_http and not is_loopback(parts.hostname or ""):
            raise wrong("is not https", "use https, or allow_http = true in a closed network", below=["base_url"])
        for key, value in self.config.items():
            if key in _OWN_PLACEHOLDERS:
                raise wrong("has a setting of its own", f"set {_OWN_PLACEHOLDERS[key]}", below=["config", key])
            if not value.origin and _SECRET_NAME.search(key):
                raise wrong("looks like a secret in clear", "use env:NAME or file:PATH", below=["config", key])
        return self
