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
from functools import partial
from importlib import metadata
from pathlib import Path
from random import Random
from types import MappingProxyType

from orchestrator.domain.account import Account, ChannelTerms
from orchestrator.domain.errors import ConfigurationError, InvalidInput
from orchestrator.domain.outcome import Outcome
from orchestrator.domain.payment import Channel
from orchestrator.domain.policy import DIGITAL, PHONE, Backoff, Policy
from orchestrator.domain.settling import OUTCOMES, Resolution, checked_session
from orchestrator.interactions import Definition, bundled, parse
from orchestrator.mark import MarkFile
from orchestrator.ports import Clock
from orchestrator.privacy import FieldVault, checked_text, load_or_create_key_file, redact_card_data
from orchestrator.privacy.phone import checked_phone_number
from orchestrator.privacy.sealed import Sealer
from orchestrator.provider.client import ProviderPool
from orchestrator.provider.config import AUTHORIZE, ROLE_FIELDS, SESSION_STATUS, START, AccountConfig, RoleNames
from orchestrator.provider.gateway import GatewayProfile
from orchestrator.settings import AccountSettings, Settings
from orchestrator.store.incarnation import Witness
from orchestrator.store.store import Lines, SqlStore
from orchestrator.telemetry import emit

_DEFAULTS = {Channel.PHONE: PHONE, Channel.DIGITAL: DIGITAL}
_NAMES = (AUTHORIZE, *START.values(), SESSION_STATUS)

try:
    VERSION = metadata.version("payment-orchestrator")
except metadata.PackageNotFoundError:  # a source tree that was never installed
    VERSION = "0"


class DoorIntake:
    """The checks of everything that a host says."""

    def text(self, field: str, value: object) -> str:
        """Give the text back, normalised."""
        return checked_text(field, value)

    def phone_number(self, field: str, value: str) -> str:
        """Give the number in E.164."""
        return checked_phone_number(field, value)


MAX_PERSON, MAX_REASON = 100, 500


def resolution(
    *, person: str, reason: str, outcome: str | None = None, retry: bool = False, session: str | None = None
) -> Resolution:
    """
    Check a person's word as everything from outside is checked.

    Raises:
        InvalidInput: Person or reason is empty, too long or holds what must not be written
            down; no such outcome; no id of a session can look like this.
    """
    intake, checked = DoorIntake(), {}
    for name, value, most in (("person", person, MAX_PERSON), ("reason", reason, MAX_REASON)):
        checked[name] = intake.text(name, value).strip()
        if not 1 <= len(checked[name]) <= most:
            raise InvalidInput(name, "is empty or too long", f"give 1 to {most} characters")
    if outcome is not None and outcome not in list(Outcome):
        raise InvalidInput("outcome", "is unknown", f"one of {', '.join(OUTCOMES)}")
    named = None if session is None else checked_session(intake.text("session", session))
    return Resolution(**checked, outcome=None if outcome is None else Outcome(outcome), retry=retry, session=named)


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


def longest_life_s(settings: Settings) -> float:
    """Give the longest life, in seconds, that any account's policy gives a session; never less than the provider's."""
    own = [policy_of(name, one, channel) for name, one in settings.accounts.items() for channel in Channel]
    return max(policy.session_life_s for policy in (DIGITAL, *own))


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
        requests_per_second=settings.requests_per_second or None,
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


def build_store(settings: Settings, lines: Lines | None = None) -> SqlStore:
    """Give the store, not opened yet; it notices a database that went back in time."""
    return SqlStore(settings.database_url, witness=partial(Witness, mark_file(settings), told=_tell), lines=lines)


def mark_file(settings: Settings) -> MarkFile | None:
    """Give where this host keeps its mark: as set, else beside a SQLite file, else nowhere."""
    path = settings.mark_file
    if path is None:
        file = sqlite_path(settings.database_url)
        path = file.with_name(f"{file.name}.mark") if file is not None else None
    return MarkFile(path) if path is not None else None


def _tell(event: str, reason: str) -> None:
    """Log what the witness tells; each name stands here in full, for the table of events."""
    match event:
        case "database.rewound":
            emit("database.rewound", reason=reason, fix="orchestrator db restored --as PERSON --reason TEXT")
        case "database.recovered":
            emit("database.recovered", reason=reason)
        case "mark.missing":
            emit("mark.missing", reason=reason)
        case _:
            emit("mark.failed", reason=reason)


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
