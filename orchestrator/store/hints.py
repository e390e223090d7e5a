"""
Hints between processes: something may be due.

Owns PostgreSQL's LISTEN and NOTIFY. A hint is sent inside the transaction that makes
something due, so it arrives after its COMMIT or never; one that is lost costs one
poll. Every installation of a server shares the channel, told apart by schema.
Must not know what is due. Next: `identity`.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from orchestrator.domain.errors import OrchestratorError
from orchestrator.store.access import Database
from orchestrator.store.engines import open_listener
from orchestrator.store.faults import Refused, Silent, heard

CHANNEL = "orchestrator_due"
ALIVE_S = 30.0
"""After so long without a word the connection is asked for a sign of life: a dead peer says nothing for ever."""

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 15.0
_NOTIFY = text(f"select pg_notify('{CHANNEL}', cast(current_schema() as text))")
_SCHEMA = text("select cast(current_schema() as text)")


def hint(connection: Connection) -> None:
    """
    Tell the other processes, when this transaction is committed; on SQLite nothing.

    Crash: without the COMMIT nobody is told; with it, whoever listens at that moment.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_NOTIFY)


async def listen(database: Database, stir: Callable[[], None]) -> None:
    """
    Call `stir` at every hint for our schema and after each connection, until cancelled.

    Args:
        database: Where. Its way of sleeping paces the tries to connect again.
        stir: Called in the loop.
    """
    if not database.engines.listens:
        return
    wait = _FIRST_WAIT_S
    while True:
        engine = open_listener(database.url)
        try:
            with heard():
                async with engine.connect() as connection:
                    schema = await connection.scalar(_SCHEMA)
                    wait = _FIRST_WAIT_S
                    await _hear(connection, str(schema), stir)
        except (Silent, Refused, OrchestratorError):
            pass  # whatever it is, the polls meet it too, and tell
        finally:
            await _closed(engine)
        await database.sleep(wait)
        wait = min(wait * 2, _LONGEST_WAIT_S)


async def _closed(engine: AsyncEngine) -> None:
    try:
        with heard():
            await engine.dispose()
    except (Silent, Refused, OrchestratorError):
        pass  # it was lost already


async def _hear(connection: AsyncConnection, schema: str, stir: Callable[[], None]) -> None:
    """Hear until the connection is lost."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
    heard_of = _heard_by_asyncpg if connection.dialect.driver == "asyncpg" else _heard_by_psycopg
    await heard_of(driver, lambda payload: stir() if payload == schema else None, stir)


async def _heard_by_asyncpg(driver: Any, told: Callable[[str], None], connected: Callable[[], None]) -> None:
    lost = asyncio.Event()
    driver.add_termination_listener(lambda _driver: lost.set())
    await driver.add_listener(CHANNEL, lambda _driver, _pid, _channel, payload: told(payload))
    connected()
    while not lost.is_set():
        try:
            async with asyncio.timeout(ALIVE_S):
                await lost.wait()
        except TimeoutError:
            await driver.execute("select 1", timeout=ALIVE_S)


async def _heard_by_psycopg(driver: Any, told: Callable[[str], None], connected: Callable[[], None]) -> None:
    await driver.execute(f"listen {CHANNEL}")
    connected()
    while True:
        async for notice in driver.notifies(timeout=ALIVE_S):
            told(notice.payload)
        async with asyncio.timeout(ALIVE_S):
            await driver.execute("select 1")
