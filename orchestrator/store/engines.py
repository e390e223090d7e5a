"""
How connections to either database are made and set up.

Owns drivers, pools and pragmas. On SQLite one connection writes (its transactions
begin IMMEDIATE: a later upgrade from reading to writing would fail at once,
whatever the busy timeout) and others read, beside it, in WAL mode. Must not know
any table. Next: `faults`.
"""

import sqlite3
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from orchestrator.domain.errors import ConfigurationError
from orchestrator.store.stalled import NAME
from orchestrator.store.ways import Greenlets, Threads, Way

KEY = "database_url"
POOLED = "pooled"
"""Our own word in a URL's query: between us and the server stands a pooler in transaction mode."""
_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
    "postgresql+psycopg": "postgresql+psycopg",
}
_READERS = 4
_POOL = 8
_WAIT_S = 10.0
LOG_GONE = "the log of the open file is gone"
_IDLE_MS = "5000"
"""
A process that was stopped in the middle of a transaction must not lock its payments longer than its claims live;
in the middle of a statement, see `stalled`.
"""
_PRAGMAS = (
    # Set first: the others may have to wait for another process.
    "busy_timeout = 5000",
    # Not NORMAL: a commit that was told to somebody must be on the disk.
    "synchronous = full",
    "foreign_keys = on",
    "secure_delete = on",
    "cell_size_check = on",
)


@dataclass(frozen=True, slots=True)
class Engines:
    """
    The two ways into one database.

    Attributes:
        write: Transactions that write.
        read: Single statements, each its own transaction; on PostgreSQL over the same pool.
        dialect: `sqlite` or `postgresql`.
        listens: Whether a connection of its own can hear what other processes notify.
    """

    write: Way
    read: Way
    dialect: str
    listens: bool = False

    async def dispose(self) -> None:
        """Close every connection."""
        await self.write.dispose()
        await self.read.dispose()


def parsed(database_url: str) -> URL:
    """
    Understand a database URL and choose its driver.

    Args:
        database_url: `sqlite:///path`, `postgresql://...` (asyncpg) or `postgresql+psycopg://...`,
            the last with `pooled=true` in its query behind a pooler in transaction mode. Of several
            hosts (`?host=A:5432&host=B:5432`) the one that takes writes is used, whichever that is.

    Raises:
        ConfigurationError: Not a URL, another database, SQLite in memory, a driver that
            can't work through such a pooler, or hosts that can't be told apart.
    """
    try:
        url = make_url(database_url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(KEY, "is not a database URL", "write sqlite:///payments.db") from None
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise ConfigurationError(KEY, "names an unknown database or driver", "use sqlite or postgresql")
    if driver.startswith("sqlite") and (url.database in (None, "", ":memory:") or "mode" in url.query):
        raise ConfigurationError(KEY, "names a database in memory", "name a file: payments must outlive the process")
    _pooled(url, driver)
    url = url.set(drivername=driver)
    if not driver.startswith("sqlite"):
        _demand_readable_hosts(url)
    return url


def _demand_readable_hosts(url: URL) -> None:
    problem = ConfigurationError(
        KEY, "names its hosts in a way that the driver can't read",
        "of several, name each with its port: postgresql://user@/database?host=A:5432&host=B:5432",
    )  # fmt: skip
    if "," in (url.host or ""):
        raise problem
    try:
        url.get_dialect()().create_connect_args(url)
    except (ArgumentError, ValueError):
        raise problem from None


def _wants_primary(url: URL) -> bool:
    if "target_session_attrs" in url.query:
        return False  # whoever names what he wants gets it
    told = url.query.get("host", "")
    return len(told) > 1 if isinstance(told, tuple) else "," in told


def _pooled(url: URL, driver: str) -> bool:
    told = url.query.get(POOLED, "false")
    if told not in ("true", "false"):
        raise ConfigurationError(KEY, f"has an odd `{POOLED}`", "true or false")
    if told == "true" and driver != "postgresql+psycopg":
        # The others keep prepared statements in a session that the pooler gives to somebody else.
        raise ConfigurationError(KEY, f"has `{POOLED}=true` with a driver that can't", "use postgresql+psycopg://")
    return told == "true"


def open_engines(url: URL) -> Engines:
    """
    Make the engines; nothing connects yet.

    Raises:
        ConfigurationError: The driver is not installed.
    """
    try:
        if url.get_backend_name() == "sqlite":
            return Engines(_sqlite(url, size=1), _sqlite(url, size=_READERS, read_only=True), "sqlite")
        pooled = _pooled(url, url.drivername)
        engine = create_async_engine(
            url.difference_update_query([POOLED]), pool_size=_POOL, max_overflow=0, pool_timeout=_WAIT_S,
            hide_parameters=True, connect_args=_postgresql_arguments(url, pooled=pooled),
        )  # fmt: skip
    except (ModuleNotFoundError, NoSuchModuleError):
        raise ConfigurationError(
            KEY, "needs a driver that is not installed", "pip install 'payment-orchestrator[postgresql]'"
        ) from None
    read = engine.execution_options(isolation_level="AUTOCOMMIT")
    return Engines(Greenlets(engine), Greenlets(read), "postgresql", listens=not pooled)


def open_listener(url: URL) -> AsyncEngine:
    """Give an engine for one connection outside the pool, on which nothing is ever in a transaction."""
    return create_async_engine(
        url.difference_update_query([POOLED]), poolclass=NullPool, hide_parameters=True, isolation_level="AUTOCOMMIT",
        connect_args=_postgresql_arguments(url, pooled=False),
    )  # fmt: skip


def _with_log(file: Path) -> tuple[tuple[int, int] | None, ...]:
    """Tell which file and which write-ahead log are there: neither is replaced while a connection lives."""
    return file_identity(file), file_identity(file.with_name(f"{file.name}-wal"))


def file_identity(file: Path | None) -> tuple[int, int] | None:
    """Tell which file is at this path now (device and number); `None` for none, and for a database server."""
    if file is None:
        return None
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@cache
def _may_distrust() -> bool:
    """
    Tell whether this SQLite lets an untrusted schema use JSON functions.

    Some builds (3.40) count them among the unsafe ones, and our own rules need them.
    """
    memory = sqlite3.connect(":memory:")
    try:
        memory.execute("pragma trusted_schema = off")
        memory.execute("create table probe (body text check (json_extract(body, '$.x') is 1))")
        memory.execute("insert into probe values ('{\"x\":1}')")
    except sqlite3.OperationalError:
        return False
    finally:
        memory.close()
    return True


def _postgresql_arguments(url: URL, *, pooled: bool) -> dict[str, Any]:
    # The former primary may come back as a replica, and stands first in the list.
    primary = {"target_session_attrs": "read-write"} if _wants_primary(url) else {}
    if url.get_driver_name() == "asyncpg":
        session = {
            "jit": "off", "timezone": "UTC", "idle_in_transaction_session_timeout": _IDLE_MS, "application_name": NAME,
        }  # fmt: skip
        return {"timeout": _WAIT_S, "command_timeout": 30.0, "server_settings": session, **primary}
    # Statements are not prepared, so that a pooler between us and the server may hand out any connection.
    arguments = {"connect_timeout": int(_WAIT_S), "prepare_threshold": None, "application_name": NAME, **primary}
    # A pooler refuses such options: there the role's own settings count. No result depends on them.
    options = f"-c statement_timeout=30000 -c timezone=UTC -c idle_in_transaction_session_timeout={_IDLE_MS}"
    return arguments if pooled else arguments | {"options": options}


def _sqlite(url: URL, *, size: int, read_only: bool = False) -> Threads:
    engine = create_engine(
        url.set(drivername="sqlite"), poolclass=QueuePool, pool_size=size, max_overflow=0, hide_parameters=True,
        connect_args={"check_same_thread": False},
    )  # fmt: skip
    _watch_file(engine, Path(url.database or ""), read_only=read_only)
    return Threads(engine, size, _WAIT_S)


def _watch_file(engine: Engine, file: Path, *, read_only: bool) -> None:
    """Set connections up, and mind that what they have open is what is at the file's place."""
    seen = False

    @event.listens_for(engine, "do_connect")
    def make_none(*_: Any) -> None:
        if seen and not file.exists():
            raise sqlite3.OperationalError("unable to open database file")  # instead of an empty one

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, record: Any) -> None:
        nonlocal seen
        # The driver's own idea of transactions loses updates: ours begin below.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(f"pragma {pragma}")
        if _may_distrust():
            cursor.execute("pragma trusted_schema = off")
        # A file stays in WAL mode once it is; a look at somebody else's must not change it.
        cursor.execute("pragma query_only = on" if read_only else "pragma journal_mode = wal")
        cursor.execute("select 1 from sqlite_master limit 1")  # opens the log, for as long as we live
        cursor.fetchall()
        cursor.execute("pragma journal_mode")
        record.info["logs"] = cursor.fetchone()[0] == "wal"
        cursor.close()
        record.info["file"] = _with_log(file)
        seen = True

    @event.listens_for(engine, "checkout")
    def same_file(_connection: Any, record: Any, _proxy: Any) -> None:
        # A file that was replaced is still open here under its old number: what is at its place now counts.
        (known, known_log), (there, log) = record.info["file"], _with_log(file)
        if there != known or (log != known_log and not record.info["logs"]):
            raise DisconnectionError
        # What we wrote would be lost with us, and a new connection in this process would share our torn state.
        record.info["torn"] = log != known_log

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        if connection.info["torn"]:
            raise sqlite3.OperationalError(LOG_GONE)
        if not read_only:
            connection.exec_driver_sql("begin immediate")
