"""
What all commands share: settings, who acts, the loop, the opened database.

Owns no command. Reading commands open the store alone: they need neither keys
nor definitions, and never make a database. Next: `app`.
"""

import contextlib
import getpass
import os
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from orchestrator import composition, sealing, telemetry
from orchestrator.cli import loop
from orchestrator.domain.errors import DatabaseMismatch, InvalidInput
from orchestrator.orchestrator import Orchestrator
from orchestrator.settings import AccountSettings, Settings, load_settings
from orchestrator.store.store import SqlStore

T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]
Person = Annotated[
    str | None,
    typer.Option("--as", metavar="PERSON", help="Who does this, for the audit trail; your user name by default."),
]
PaymentId = Annotated[str, typer.Argument(metavar="ID", help="The payment's id, like pay-...", show_default=False)]

MAX_ACTOR = 100


@dataclass(frozen=True, slots=True)
class Called:
    """How the program was called: what stands before the command."""

    config: Path | None


def settings_of(
    context: typer.Context, overrides: Mapping[str, Any] | None = None, *, chatty: bool = False
) -> Settings:
    """
    Load the settings and set up logging to standard error.

    Args:
        context: The command's context.
        overrides: Settings from the command line.
        chatty: Whether the command logs its doings; others log from warnings on.

    Raises:
        ConfigurationError: A setting is wrong.
    """
    called = context.obj if isinstance(context.obj, Called) else Called(None)
    settings = load_settings(called.config, overrides=overrides)
    level = settings.log_level if chatty or settings.log_level == "error" else "warning"
    telemetry.configure(level=level, fmt=settings.log_format)
    return settings


def config_of(context: typer.Context) -> list[str]:
    """Give the options before the command anew, for a process that is to have the same settings."""
    called = context.obj if isinstance(context.obj, Called) else Called(None)
    return [] if called.config is None else ["--config", str(called.config)]


def known_account(settings: Settings, name: str, key: str = "account") -> AccountSettings:
    """
    Give an account's settings.

    Raises:
        InvalidInput: No account has this name; `key` says whose word it was.
    """
    found = settings.accounts.get(name)
    if found is None:
        known = ", ".join(sorted(settings.accounts)) or "none is configured"
        raise InvalidInput(key, "is not configured", f"use one of: {known}")
    return found


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine to its end."""
    return loop.run(work)


def actor(person: str | None) -> str:
    """
    Give who acts: the person named, else the user of the operating system.

    Raises:
        InvalidInput: The name can't be written down.
    """
    if person is None:
        return f"cli:{_user()}"
    name = composition.DoorIntake().text("--as", person).strip()
    if not 1 <= len(name) <= MAX_ACTOR:
        raise InvalidInput("--as", "is empty or too long", f"name the person in 1 to {MAX_ACTOR} characters")
    return name


@contextlib.asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[SqlStore]:
    """
    Open the database to read from it, one that was changed by hand included.

    Raises:
        DatabaseMismatch: It is empty, behind, ahead or not ours.
        Unavailable: It does not answer.
    """
    async with _opened(settings, to_write=False) as store:
        yield store


@contextlib.asynccontextmanager
async def writing(settings: Settings, *, notes_only: bool = False) -> AsyncIterator[SqlStore]:
    """
    Open the database alone, to write to it what needs neither keys nor definitions.

    Args:
        settings: The settings.
        notes_only: For who writes no payment, and may have no right to: the sealer, an examiner.

    Raises:
        DatabaseMismatch: It is empty, behind, ahead, not ours, or was changed by hand.
        Unavailable: It does not answer; `WentBack`: it is an older copy of itself.
    """
    async with _opened(settings, to_write=True, notes_only=notes_only) as store:
        yield store


@contextlib.asynccontextmanager
async def _opened(settings: Settings, *, to_write: bool, notes_only: bool = False) -> AsyncIterator[SqlStore]:
    store = composition.build_store(settings, sealing.entry_lines(settings))
    await store.open(to_write=to_write, notes_only=notes_only)
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def acting(settings: Settings, person: str | None, *, may_create: bool = False) -> AsyncIterator[Orchestrator]:
    """
    Open an orchestrator to act on payments.

    Args:
        settings: The settings.
        person: Who acts, as given with `--as`.
        may_create: Whether a missing SQLite file is made.

    Raises:
        ConfigurationError: Settings, definitions, keys or database don't fit.
        Unavailable: The database does not answer.
    """
    path = composition.sqlite_path(settings.database_url)
    if path is not None and not may_create and not path.exists():
        problem = f"there is no database file {path}"
        raise DatabaseMismatch("database_url", problem, "check --config, or run `orchestrator db upgrade`")
    async with Orchestrator(settings, actor=actor(person)) as orchestrator:
        yield orchestrator


def _user() -> str:
    try:
        return getpass.getuser()[: MAX_ACTOR - 4]
    except (KeyError, OSError, ImportError):  # a container's user often has no name
        return f"uid-{os.getuid()}" if hasattr(os, "getuid") else "unknown"
