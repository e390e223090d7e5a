"""
Bringing a database to this version, and telling where it stands.

Owns Alembic: its configuration is built here, in code, with a version table of
our own, so that a host's Alembic in the same database is undisturbed. Works
inside a running event loop. The trail is never dropped: there is no way down.
Next: `migrations/`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from orchestrator.domain.entry import Context
from orchestrator.domain.errors import DatabaseMismatch
from orchestrator.store import schema
from orchestrator.store.access import Database
from orchestrator.store.admin import noted_within
from orchestrator.store.engines import KEY
from orchestrator.store.faults import Silent, heard, unavailable
from orchestrator.store.grants import grant_findings
from orchestrator.store.identity import demand_file, demand_writable_file, findings, record_schema
from orchestrator.store.inventory import differences
from orchestrator.store.schema import TABLES

VERSION_TABLE, OWN_TABLES = schema.VERSION_TABLE, schema.OWN_TABLES

# Any number, but always the same: two upgrades of one PostgreSQL wait for each other.
_LOCK = 7_213_300_116


class Standing(StrEnum):
    """Where a database stands."""

    CURRENT = "current"
    EMPTY = "empty"
    """Nothing of ours is in it."""
    BEHIND = "behind"
    AHEAD = "ahead"
    """A later version than this has upgraded it."""
    FOREIGN = "foreign"
    """Tables with our names that our migrations did not make."""


_TOLD = {
    Standing.EMPTY: (
        "has none of our tables",
        "run `orchestrator db upgrade` to make them, unless the URL names another program's",
    ),
    Standing.BEHIND: ("is behind this version", "run `orchestrator db upgrade`"),
    Standing.AHEAD: ("was upgraded by a later version", "run that version, or a later one"),
    Standing.FOREIGN: (
        "has tables with our names that are not ours",
        "name another database; `orchestrator db upgrade` makes its own",
    ),
}


@dataclass(frozen=True, slots=True)
class Status:
    """
    Where a database stands.

    Attributes:
        standing: In one word.
        revision: The revision that it is at; `None` before the first.
        head: The revision that this version needs.
        drift: What differs from a fresh database; looked for only by `check`.
    """

    standing: Standing
    revision: str | None
    head: str
    drift: tuple[str, ...] = ()

    @property
    def fine(self) -> bool:
        """Whether this version can work with it and nothing differs."""
        return self.standing is Standing.CURRENT and not self.drift

    def demand(self) -> None:
        """
        Insist on a current database.

        Raises:
            DatabaseMismatch: It isn't; says what to do.
        """
        if self.standing is not Standing.CURRENT:
            problem, fix = _TOLD[self.standing]
            raise DatabaseMismatch(KEY, problem, fix)


def config(connection: Connection | None = None) -> Config:
    """Give Alembic's configuration, for this connection if there is one."""
    packaged = files("orchestrator") / "_migrations"
    place = "orchestrator:_migrations" if packaged.is_dir() else str(Path(__file__).parents[2] / "migrations")
    made = Config()
    made.set_main_option("script_location", place.replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    made.attributes["connection"] = connection
    return made


async def upgrade(database_url: str, context: Context | None = None) -> Status:
    """
    Bring the database to this version; a SQLite file is made if there is none.

    The digest of the schema is recorded at the end; at a current database too, when
    the record is missing because somebody ran Alembic by hand.

    Args:
        database_url: The database.
        context: Who does it, when, from where: for the entry `schema.upgraded`, which is written if the
            revision changes. Only somebody who ran Alembic alone would leave none, and so does `None`.

    Raises:
        ConfigurationError: It can't be reached in this way, or not be written to.
        DatabaseMismatch: It is ahead or foreign, or was changed by hand; it is unchanged.
        Unavailable: It does not answer.

    Crash: all steps are one transaction on both databases: it is as before, or upgraded.
    """
    database = Database(database_url)
    try:
        if database.file is not None:
            demand_writable_file(database.file)
            _refuse_others(await status(database))
        # The first connection to a new SQLite file makes it a WAL file, for which it waits for nobody:
        # two programs that do so at once would refuse one of them, though each only has to look again.
        return await database.write(
            lambda connection: _upgraded(connection, context), again=database.file is not None
        )  # fmt: skip
    finally:
        await database.close()


async def check(database_url: str) -> Status:
    """
    Tell where the database stands and what in it differs from a fresh one; changes nothing.

    On PostgreSQL the user must be allowed to create a schema: the fresh one is built
    beside it, and rolled back.

    Raises:
        ConfigurationError: It can't be reached in this way, or the user lacks rights.
        Unavailable: It does not answer.
    """
    database = Database(database_url)
    try:
        found = await status(database)
        if found.standing is not Standing.CURRENT:
            return found
        return Status(found.standing, found.revision, found.head, tuple(await _drift(database)))
    finally:
        await database.close()


async def status(database: Database) -> Status:
    """
    Tell where the database stands, without looking for drift.

    Raises:
        ConfigurationError: It can't be reached in this way.
        Unavailable: It does not answer.
    """
    if database.file is not None:
        demand_file(database.file)
    if database.file is not None and not database.file.exists():
        # Connecting would make the file.
        return Status(Standing.EMPTY, None, head())
    return await database.read(_status)


def _upgraded(connection: Connection, context: Context | None) -> Status:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"select pg_advisory_xact_lock({_LOCK})")
    before, found = _upgrade(connection)
    record_schema(connection, found.head)
    if context is not None and before != found.revision:
        details = {"revision_before": before, "revision": found.revision}
        noted_within(connection, "schema.upgraded", about="schema", context=context, details=details)
    return found


def _upgrade(connection: Connection) -> tuple[str | None, Status]:
    found = _status(connection)
    _refuse_others(found)
    if found.standing is not Standing.CURRENT:
        command.upgrade(config(connection), "head")
    return found.revision, _status(connection)


def _refuse_others(found: Status) -> None:
    # On SQLite also before a connection that may write: that alone changes the file's mode.
    if found.standing in (Standing.AHEAD, Standing.FOREIGN):
        found.demand()


def head() -> str:
    """Give the revision that this version needs."""
    return _scripts().get_current_head() or ""


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(config())


def _status(connection: Connection) -> Status:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    heads = context.get_current_heads()
    scripts = _scripts()
    needed = scripts.get_current_head() or ""
    if heads:
        known = {script.revision for script in scripts.walk_revisions()}
        ahead = any(revision not in known for revision in heads)
        standing = Standing.AHEAD if ahead else Standing.CURRENT if heads == (needed,) else Standing.BEHIND
        return Status(standing, ", ".join(heads), needed)
    ours = TABLES & set(inspect(connection).get_table_names())
    return Status(Standing.FOREIGN if ours else Standing.EMPTY, None, needed)


async def _drift(database: Database) -> Sequence[str]:
    def work(connection: Connection) -> Sequence[str]:
        # The look at the whole comes first: the other one changes the search path on PostgreSQL.
        whole = [*findings(connection, head()), *grant_findings(connection)]
        return [*differences(connection), *whole]

    if database.dialect == "sqlite":
        return await database.read(work)
    # Builds its scratch schema in a transaction that is never committed.
    try:
        async with database.snapshot() as bound:
            with heard():
                return await bound.run(work)
    except Silent as silent:
        raise unavailable(silent) from silent
