"""
How Alembic reaches the database: over the connection it is given, or by a URL.

`orchestrator.store.migrate` gives a connection whose transaction it owns. A
developer's `alembic` command gives none: then the URL comes from the environment
or from `alembic.ini`. Batch mode is never used: on SQLite it drops triggers silently.
Next: `versions/`.
"""

import asyncio
import os
from typing import Any

from alembic import context
from sqlalchemy import Connection

from orchestrator.store.access import Database
from orchestrator.store.migrate import VERSION_TABLE
from orchestrator.store.schema import TABLES, metadata


def _ours(_item: Any, name: str | None, kind: str, _reflected: bool, _other: Any) -> bool:
    """Leave a host's own tables in the same database alone."""
    return kind != "table" or name in TABLES


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection, target_metadata=metadata, version_table=VERSION_TABLE, include_object=_ours,
        render_as_batch=False,
    )  # fmt: skip
    with context.begin_transaction():
        context.run_migrations()


async def _connect(url: str) -> None:
    database = Database(url)
    try:
        await database.engines.write.run(_migrate, begin=True)
    finally:
        await database.close()


def _run() -> None:
    url = os.environ.get("ORCHESTRATOR_DATABASE_URL") or context.config.get_main_option("sqlalchemy.url") or ""
    if context.is_offline_mode():
        context.configure(
            dialect_name=Database(url).dialect,
            target_metadata=metadata,
            version_table=VERSION_TABLE,
            literal_binds=True,
        )
        with context.begin_transaction():
            context.run_migrations()
        return
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _migrate(connection)
    else:
        asyncio.run(_connect(url))


_run()
