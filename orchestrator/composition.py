"""
Settings become adapters: the half of the composition root that builds.

Here, and in `orchestrator.py`, the flow's Protocols meet the adapters that
answer them; no other module sees both. Next: `orchestrator.orchestrator`.
"""

import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from types import MappingProxyType

from orchestrator.domain.account import Account, ChannelTerms
from orchestrator.domain.errors import ConfigurationError
from orchestrator.domain.payment import Channel
from orchestrator.domain.policy import DIGITAL, PHONE, Backoff, Policy
from orchestrator.interactions import Definition, bundled, parse
from orchestrator.ports import Clock
from orchestrator.privacy import FieldVault, checked_text, load_or_create_key_file, redact_card_data
from orchestrator.privacy.phone import checked_phone_number
from orchestrator.privacy.sealed import Sealer
from orchestrator.provider.client import ProviderPool
from orchestrator.provider.config import AUTHORIZE, ROLE_FIELDS, SESSION_STATUS, START, AccountConfig, RoleNames
from orchestrator.provider.gateway import GatewayProfile
from orchestrator.settings import AccountSettings, Settings
from orchestrator.store.store import SqlStore
from orchestrator.telemetry import emit

_DEFAULTS = {Channel.PHONE: PHONE, Channel.DIGITAL: DIGITAL}
_NAMES = (AUTHORIZE, *START.values(), SESSION_STATUS)


class DoorIntake:
    """The checks of everything that a host says."""

    def text(self, field: str, value: object) -> str:
        """Give the text back, normalised."""
        return checked_text(field, value)

    def phone_number(self, field: str, value: str) -> str:
        """Give the number in E.164."""
        return checked_phone_number(field, value)


@dataclass(frozen=True, slots=True)
class Definitions:
    """Every account's compiled definitions by operation name."""

    by_account: Mapping[str, Mapping[str, Definition]]

    def all(self) -> dict[str, Definition]:
        """Give each by its digest."""
        return {definition.digest: definition for named in self.by_account.values() for definition in named.values()}


def load_definitions(settings: Settings) -> Definitions:
    """
    Read and compile every account's definitions; the bundled ones where it has none of its own.

    Raises:
        DefinitionError: A document can't be used; names file, line and element.
        ConfigurationError: A file can't be read.
    """
    return Definitions({name: _definitions(name, account) for name, account in settings.accounts.items()})


def _definitions(account: str, settings: AccountSettings) -> dict[str, Definition]:
    found = {}
    for name in _NAMES:
        path: Path | None = getattr(settings.definitions, name)
        if path is None:
            found[name] = parse(bundled(name), name=f"{name}.xml")
            continue
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            key = f"accounts.{account}.definitions.{name}"
            raise ConfigurationError(key, f"can't be read ({type(error).__name__})", "give a UTF-8 file") from None
        found[name] = parse(text, name=path.name)
    return found


def build_accounts(settings: Settings, providers: ProviderPool, backoff: Backoff) -> dict[str, Account]:
    """
    Give what the flow knows of each account.

    Raises:
        ConfigurationError: A policy's name or value makes no sense.
    """
    return {name: _account(name, account, providers, backoff) for name, account in settings.accounts.items()}


def policy_of(name: str, settings: AccountSettings, channel: Channel) -> Policy:
    """
    Give the policy of an account's channel, with a back-off without jitter.

    Raises:
        ConfigurationError: A policy's name or value makes no sense.
    """
    key = f"accounts.{name}.policy.{channel.value}"
    policy = _DEFAULTS[channel].with_overrides(settings.policy.get(channel.value, {}), key=key)
    return replace(policy, dial_prefixes=tuple(settings.dial_prefixes))


def _account(name: str, settings: AccountSettings, providers: ProviderPool, backoff: Backoff) -> Account:
    terms = {}
    for channel in Channel:
        required = providers.fields_to_collect(name, channel)
        terms[channel] = ChannelTerms(
            policy=replace(policy_of(name, settings, channel), backoff=backoff),
            required=required,
            optional=frozenset(providers.fields_used(name, channel)) - frozenset(required),
            definitions=MappingProxyType(providers.pins(name, channel)),
        )
    return Account(
        name,
        MappingProxyType(terms),
        call_guid_field=settings.roles.call_guid,
        phone_fields=frozenset({settings.roles.phone_number}),
    )


def _roles(settings: AccountSettings) -> RoleNames:
    return RoleNames(**{role: getattr(settings.roles, role) for role in ROLE_FIELDS})


def account_config(
    name: str, settings: AccountSettings, definitions: Mapping[str, Definition], digest_key: bytes
) -> AccountConfig:
    """Give what the provider's adapter is told about one account; secrets are in clear in it."""
    gateway = settings.gateway.model_dump(exclude={"profile"})
    return AccountConfig(
        name=name,
        config=settings.config_values() | {"BaseUrl": settings.base_url},
        definitions=definitions,
        roles=_roles(settings),
        gateway=GatewayProfile(**gateway),
        transport=settings.transport,
        call_deadline_s=settings.call_deadline_s,
        start_deadline_s=settings.start_deadline_s,
        body_limit_bytes=settings.body_limit_bytes,
        amount_unit=settings.amount_unit,
        optional_fields=frozenset(settings.optional_fields),
        digest_key=digest_key,
    )


def build_providers(
    settings: Settings,
    definitions: Definitions,
    older: Mapping[str, Definition],
    *,
    clock: Clock,
    random: Random,
    digest_key: bytes,
) -> ProviderPool:
    """
    Give every account's provider.

    Args:
        settings: The accounts.
        definitions: Their compiled definitions.
        older: Digest to definition, for payments that were begun under another one.
        clock: Time.
        random: Chance.
        digest_key: For the digests of requests in the trail.
    """
    configs = [
        account_config(name, account, definitions.by_account[name], digest_key)
        for name, account in settings.accounts.items()
    ]
    return ProviderPool(configs, load=older.get, clock=clock, random=random, redact=redact_card_data)


def build_vault(settings: Settings, *, may_create: bool) -> FieldVault:
    """
    Give the vault for payer data.

    With no key configured, SQLite gets a key file beside the database, 0600, and
    a log line that says so; a database server gets none, because a key file
    beside one of several workers is a key the others don't have.

    Raises:
        ConfigurationError: No usable key.
    """
    if settings.sealing_key is not None:
        return FieldVault(Sealer.parse(settings.sealing_key.reveal()))
    path = sqlite_path(settings.database_url)
    if path is None:
        raise ConfigurationError("sealing_key", "is missing", "set it to env:NAME or file:PATH; every worker needs it")
    loaded = load_or_create_key_file(path.with_name(path.name + ".key"), may_create=may_create)
    if loaded.created:
        emit("sealing_key.created", path=str(path.with_name(path.name + ".key")))
    return FieldVault(loaded.sealer)


def build_store(settings: Settings) -> SqlStore:
    """Give the store, not opened yet."""
    return SqlStore(settings.database_url)


def sqlite_path(url: str) -> Path | None:
    """Give the file of an SQLite URL; `None` for a database server or a database in memory."""
    scheme, _, rest = url.partition("://")
    name = rest.partition("?")[0].removeprefix("/")
    return Path(name) if scheme.startswith("sqlite") and name not in ("", ":memory:") else None


def origin() -> str:
    """Say from where: host name and process id."""
    return f"{socket.gethostname()[:100] or 'localhost'}:{os.getpid()}"


def new_worker_id() -> str:
    """Give an id that no other boot of any worker has."""
    return f"worker-{secrets.token_hex(8)}"
