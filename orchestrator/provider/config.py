"""
What the adapter has to be told about one account.

Plain frozen values that the composition root fills from the settings, so that
this package never imports them. Secrets are here in clear, because they have to
be sent; no `repr` shows them. Next: `connections`.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from orchestrator.domain.payment import Channel
from orchestrator.interactions import Definition
from orchestrator.provider.gateway import VCC, GatewayProfile

AUTHORIZE = "authorize"
SESSION_STATUS = "session_status"
START = {Channel.PHONE: "start_phone_session", Channel.DIGITAL: "start_digital_session"}
"""The names under which an account's definitions are given and payments are pinned to them."""

PLAIN_CONFIG = frozenset({"BaseUrl", "AccountConfigurationId"})
"""The `#(Key)` whose values are no secrets; any other is removed from what is kept."""


@dataclass(frozen=True, slots=True)
class RoleNames:
    """
    Which data source plays which part; the defaults are those of the vendor's example call plan.

    Attributes:
        access_token: Written by authorize, used by the others.
        session_id: Written by a start, used by the status call.
        number: The number to dial, written by a phone start.
        link_id: The digits that tie the call to the session, written by a phone start.
        message: The provider's text, written by a start.
        session_state: Written by the status call.
        amount: The payment's amount, in the account's unit.
        reference: The payment's merchant reference.
        currency: The payment's ISO 4217 code.
        call_guid: The VCC call id.
        phone_number: The payer's number for the text.
    """

    access_token: str = "AccessToken"  # noqa: S105 - the name of a data source, not a token
    session_id: str = "GlobalPCI|SessionId"
    number: str = "PCIPal|DtmfFallbackNumber"
    link_id: str = "PCIPal|DtmfLinkId"
    message: str = "GlobalPCI|Message"
    session_state: str = "GlobalPCI|SessionState"
    amount: str = "amount"
    reference: str = "merchantTxnRef"
    currency: str = "currency"
    call_guid: str = "CallGuid"
    phone_number: str = "CustomerPhoneNumber"

    @property
    def supplied(self) -> tuple[str, ...]:
        """The names that the orchestrator fills in itself: nobody has to collect them."""
        return (self.amount, self.reference, self.currency)


@dataclass(frozen=True, slots=True)
class AccountConfig:
    """
    One account, ready for use.

    Attributes:
        name: The account's name, for error texts.
        config: `#(Key)` to value, secrets revealed.
        definitions: The current definitions by operation name; pinned ones may differ.
        roles: See `RoleNames`.
        gateway: How answers about sessions are read.
        transport: The library under httpx: `aiohttp` (faster) or `httpx` (its own).
        call_deadline_s: Total seconds for a token or status call, bursts included.
        start_deadline_s: Total seconds for a Start Session call, the token included; below the
            time that a worker trusts its claim.
        body_limit_bytes: The most that is read of an answer.
        amount_unit: How the amount is sent: `major` ("12.40") or `minor` ("1240").
        optional_fields: Names that may stay unset; they are removed, as VCC does.
        connections: The most requests in flight at once.
        requests_per_second: The account's budget, all workers together; `None` for no limit.
        start_idle_s: For how long a connection may have been idle to carry a Start Session;
            0 takes a fresh one each time. Two seconds or more would make needless unknowns.
        digest_key: Keys the digest of requests, so that nobody can try out payer data against it.
        verify: The TLS context; `None` verifies against certifi's authorities.
    """

    name: str
    config: Mapping[str, str] = field(repr=False)
    definitions: Mapping[str, Definition]
    roles: RoleNames = field(default=RoleNames())
    gateway: GatewayProfile = VCC
    transport: Literal["aiohttp", "httpx"] = "aiohttp"
    call_deadline_s: float = 10.0
    start_deadline_s: float = 5.0
    body_limit_bytes: int = 256 * 1024
    amount_unit: Literal["major", "minor"] = "major"
    optional_fields: frozenset[str] = frozenset()
    connections: int = 512
    requests_per_second: float | None = None
    start_idle_s: float = 1.5
    digest_key: bytes = field(default=b"", repr=False)
    verify: ssl.SSLContext | None = None

    @property
    def key(self) -> str:
        """The account's place in the settings, for error texts."""
        return f"accounts.{self.name}"


ROLE_FIELDS = tuple(role.name for role in fields(RoleNames))
"""Every role's name, in order; settings and documentation list them from here."""
