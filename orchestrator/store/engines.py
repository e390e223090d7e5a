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
from typing import Any

from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool

from orchestrator.domain.errors import ConfigurationError

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
_IDLE_MS = "5000"
"""A process that was stopped in the middle of a transaction must not lock its payments longer than its claims live."""
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

    write: AsyncEngine
    read: AsyncEngine
    dialect: str
    listens: bool = False

    async def dispose(self) -> None:
        """Close every connection; without it a SQLite driver thread would keep the process alive."""
        await self.write.dispose()
        await self.read.dispose()


def parsed(database_url: str) -> URL:
    """
    Understand a database URL and choose its driver.

    Args:
        database_url: `sqlite:///path`, `postgresql://...` (asyncpg) or `postgresql+psycopg://...`,
            the last with `pooled=true` in its query behind a pooler in transaction mode.

    Raises:
        ConfigurationError: Not a URL, another database, SQLite in memory, or a driver
            that can't work through such a pooler.
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
    return url.set(drivername=driver)


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
            hide_parameters=True, connect_args=_postgresql_arguments(url.get_driver_name(), pooled=pooled),
        )  # fmt: skip
    except (ModuleNotFoundError, NoSuchModuleError):
        raise ConfigurationError(
            KEY, "needs a driver that is not installed", "pip install 'payment-orchestrator[postgresql]'"
        ) from None
    return Engines(engine, engine.execution_options(isolation_level="AUTOCOMMIT"), "postgresql", listens=not pooled)


def open_listener(url: URL) -> AsyncEngine:
    """Give an engine for one connection outside the pool, on which nothing is ever in a transaction."""
    return create_async_engine(
        url.difference_update_query([POOLED]), poolclass=NullPool, hide_parameters=True, isolation_level="AUTOCOMMIT",
        connect_args=_postgresql_arguments(url.get_driver_name(), pooled=False),
    )  # fmt: skip


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


def _postgresql_arguments(driver: str, *, pooled: bool) -> dict[str, Any]:
    if driver == "asyncpg":
        session = {"jit": "off", "timezone": "UTC", "idle_in_transaction_session_timeout": _IDLE_MS}
        return {"timeout": _WAIT_S, "command_timeout": 30.0, "server_settings": session}
    # Statements are not prepared, so that a pooler between us and the server may hand out any connection.
    arguments = {"connect_timeout": int(_WAIT_S), "prepare_threshold": None}
    # A pooler refuses such options: there the role's own settings count. No result depends on them.
    options = f"-c statement_timeout=30000 -c timezone=UTC -c idle_in_transaction_session_timeout={_IDLE_MS}"
    return arguments if pooled else arguments | {"options": options}


def _sqlite(url: URL, *, size: int, read_only: bool = False) -> AsyncEngine:
    engine = create_async_engine(
        url, poolclass=AsyncAdaptedQueuePool, pool_size=size, max_overflow=0, pool_timeout=_WAIT_S,
        hide_parameters=True,
    )  # fmt: skip

    @event.listens_for(engine.sync_engine, "connect")
    def set_up(connection: Any, _record: Any) -> None:
        # The driver's own idea of transactions loses updates: ours begin below.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(f"pragma {pragma}")
        if _may_distrust():
            cursor.execute("pragma trusted_schema = off")
        # A file stays in WAL mode once it is; a look at somebody else's must not change it.
        cursor.execute("pragma query_only = on" if read_only else "pragma journal_mode = wal")
        cursor.close()

    if not read_only:

        @event.listens_for(engine.sync_engine, "begin")
        def start(connection: Connection) -> None:
            connection.exec_driver_sql("begin immediate")

    return engine
