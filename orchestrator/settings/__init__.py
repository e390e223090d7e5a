"""
What the orchestrator is told by its operator, frozen at the start.

Owns the whole of the settings and `load_settings`. Making a `Settings` by hand
reads no file and no variable but those that a reference names. Nothing below
this module reads the environment. Next: `accounts`.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from orchestrator.privacy.guard import redact_card_data
from orchestrator.privacy.secret import is_reference
from orchestrator.settings.accounts import AccountSettings, DefinitionPaths, RoleNames
from orchestrator.settings.gateways import GatewaySettings
from orchestrator.settings.privacy import PrivacySettings
from orchestrator.settings.seal import SealSettings
from orchestrator.settings.sources import Problem, explain, find_file, gather, refuse
from orchestrator.settings.types import Frozen, Seconds, SecretReference, Surroundings, resolved, surroundings, wrong

__all__ = [
    "AccountSettings",
    "DefinitionPaths",
    "GatewaySettings",
    "PrivacySettings",
    "RoleNames",
    "SealSettings",
    "Settings",
    "WorkerSettings",
    "load_settings",
]

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
    "postgresql+psycopg": "postgresql+psycopg",
}
_DATABASE_FIX = "write it like sqlite:///orchestrator.db or postgresql://user@host/name"
_PASSWORD = re.compile(r"(?<=://)([^/?#@:]*):.*@|([?&]password=)[^&]*", re.IGNORECASE)

_AccountName = Annotated[str, Field(pattern=r"^[a-z0-9]+(?:[_-][a-z0-9]+)*$", max_length=40)]
"""Lower case, because names of variables can't tell cases apart everywhere."""


def _database_url(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str):
        raise wrong("is not a text", _DATABASE_FIX)
    url = resolved(value, info).reveal() if is_reference(value) else value
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _DRIVERS:
        raise wrong("is not the URL of a database that is supported", _DATABASE_FIX)
    if scheme.startswith("sqlite") and not rest.startswith("/"):
        raise wrong("names a host, which SQLite has not", "write three slashes before the path")
    return f"{_DRIVERS[scheme]}://{rest}"


def _from_base(value: Path | None, info: ValidationInfo) -> Path | None:
    return None if value is None else surroundings(info).base_dir / value.expanduser()


def _without_password(url: str) -> str:
    return _PASSWORD.sub(lambda match: f"{match[1]}:***@" if match[2] is None else f"{match[2]}***", url)


class WorkerSettings(Frozen):
    """
    How a worker works.

    Attributes:
        concurrency: How many payments one worker drives at once.
        heartbeat_s: How often it says that it lives.
        claim_life_s: How long after its last heartbeat others may take its payments.
        claim_trust_s: How long it trusts its own claims after a heartbeat; less than their life,
            because clocks and pauses differ.
        poll_interval_s: How often it looks for due payments; a wake-up is only a hint.
        claim_batch: How many payments one statement claims at most.
        drain_s: How long a stop waits for calls in flight.
        handlers: `module:function`, called with the orchestrator to register event handlers.
    """

    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 200
    heartbeat_s: Seconds = 2.0
    claim_life_s: Seconds = 8.0
    claim_trust_s: Seconds = 6.0
    poll_interval_s: Seconds = 0.25
    claim_batch: Annotated[int, Field(ge=1, le=10_000)] = 100
    drain_s: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 20.0
    handlers: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.claim_trust_s >= self.claim_life_s:
            problem = "is not shorter than claim_life_s"
            raise wrong(problem, "two workers would own one payment; 6 and 8 by default", below=["claim_trust_s"])
        if self.heartbeat_s >= self.claim_trust_s:
            problem = "is not shorter than claim_trust_s"
            raise wrong(problem, "a claim must outlive a heartbeat; 2 and 6 by default", below=["heartbeat_s"])
        return self


class ServiceSettings(Frozen):
    """
    How `orchestrator serve` listens.

    Attributes:
        host: The address to listen on; TLS is the business of what stands in front of it.
        port: The port; 0 takes a free one.
        webhook_token: The bearer token that webhooks must carry, by reference, at least 16 characters.
    """

    host: Annotated[str, Field(min_length=1, max_length=255)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8088
    webhook_token: SecretReference = None


class Settings(Frozen):
    """
    All settings.

    Attributes:
        database_url: Where the state is; a plain `sqlite://` or `postgresql://` gets its
            asynchronous driver. A relative SQLite path starts from the working directory.
            Behind pgbouncer in transaction mode: `postgresql+psycopg://...?pooled=true`.
        sealing_key: The keys for payer data, by reference; without it SQLite makes a key
            file beside the database.
        mark_file: Where this host remembers how far the database was, to notice an old copy that
            was put back. Beside a SQLite file by default; for PostgreSQL name one. Best on other
            storage than the database's.
        hold_age_s: After how many seconds a hold that nobody resolves turns health amber.
        seal: How the trail is sealed.
        privacy: How long payer data is kept.
        worker: How a worker works.
        service: How `orchestrator serve` listens.
        accounts: Provider configurations by name.
        log_level: The least severe log line that is written.
        log_format: `auto` is the console on a terminal and JSON elsewhere.
    """

    database_url: Annotated[str, BeforeValidator(_database_url), PlainSerializer(_without_password)] = Field(
        default="sqlite+aiosqlite:///orchestrator.db", repr=False
    )
    sealing_key: SecretReference = None
    mark_file: Annotated[Path | None, AfterValidator(_from_base)] = None
    hold_age_s: Annotated[float, Field(gt=0, le=30 * 86400, allow_inf_nan=False)] = 4 * 3600.0
    seal: SealSettings = SealSettings()
    privacy: PrivacySettings = PrivacySettings()
    worker: WorkerSettings = WorkerSettings()
    service: ServiceSettings = ServiceSettings()
    accounts: dict[_AccountName, AccountSettings] = Field(default_factory=dict)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"

    def describe(self) -> dict[str, Any]:
        """Give everything as JSON-ready data; secrets appear as the references they came from."""
        return self.model_dump(mode="json")

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, account in self.accounts.items():
            if redact_card_data(name) != name:
                raise wrong("has an account whose name looks like a card number", "name it otherwise")
            if account.start_deadline_s >= self.worker.claim_trust_s:
                problem = "is not shorter than worker.claim_trust_s"
                fix = "a start must end while its claim is trusted; 5 and 6 by default"
                raise wrong(problem, fix, below=["accounts", name, "start_deadline_s"])
        return self


def load_settings(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """
    Read, merge and check the settings, and resolve every secret in them.

    The strongest first: overrides, `ORCHESTRATOR_*` variables (`__` between names),
    the file `ORCHESTRATOR_CONFIG` or `orchestrator.toml` in the working directory.
    Below `config` the case of a variable's name is kept; elsewhere it doesn't matter.
    Relative paths start from the file's directory, or without one from `cwd`.

    Args:
        path: The file, instead of the variable's or the directory's.
        environ: The environment, `os.environ` by default.
        cwd: The working directory, the process's by default.
        overrides: Nested settings by name, such as a command line's; `None` is not given.

    Raises:
        ConfigurationError: Something is missing or wrong: one error with a line for each
            setting, naming its full dotted name, what is wrong and what would be right,
            never a value.
    """
    environ = os.environ if environ is None else environ
    cwd = cwd or Path.cwd()
    file = find_file(path, environ, cwd)
    merged, from_file = gather(file, environ, overrides or {})
    around = Surroundings(environ, file.parent if file else cwd)
    problems = _passwords(from_file)
    try:
        settings = Settings.model_validate(merged, context={"surroundings": around})
    except ValidationError as error:
        problems += explain(error, Settings)
    else:
        if not problems:
            return settings
    raise refuse(problems)  # outside the handler: a validation error carries the values


def _passwords(from_file: Mapping[str, Any]) -> list[Problem]:
    url = from_file.get("database_url")
    if not isinstance(url, str) or is_reference(url):
        return []
    try:
        parts = urlsplit(url)
        found = bool(parts.password) or "password" in dict(parse_qsl(parts.query))
    except ValueError:
        found = "@" in url
    return [Problem("database_url", "holds a password in the file", "use env:NAME or file:PATH")] if found else []
