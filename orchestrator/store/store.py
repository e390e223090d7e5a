"""
`SqlStore`: the flow's `Store`, on SQLite or PostgreSQL.

Owns opening and closing; the verbs are in `writes`, `claims`, `reads` and
`notifications`. Next: `migrate`.
"""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.domain.entry import Entry
from orchestrator.store import migrate
from orchestrator.store.access import Database, Sleep
from orchestrator.store.claims import Claims
from orchestrator.store.notifications import Notifications
from orchestrator.store.reads import Reads
from orchestrator.store.rows import row_of_entry
from orchestrator.store.schema import audit_entry, unsealed
from orchestrator.store.writes import Writes


class SqlStore(Writes, Claims, Reads, Notifications):
    """
    The database as verbs; use it as `async with`.

    Args:
        database_url: `sqlite:///file`, `postgresql://...` (asyncpg) or `postgresql+psycopg://...`.
        sleep: How to wait between tries of a silent database; seconds.
        group_limit: The most writes that share a transaction.

    Raises:
        ConfigurationError: The URL can't be used, or its driver is not installed.
    """

    def __init__(self, database_url: str, *, sleep: Sleep = asyncio.sleep, group_limit: int = 64) -> None:
        Writes.__init__(self, Database(database_url, sleep=sleep), group_limit=group_limit)

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._database.dialect

    async def open(self) -> None:
        """
        Make sure that the database is the one this version writes.

        Raises:
            DatabaseMismatch: It is behind, ahead, or not ours; says what to do.
            Unavailable: It does not answer.
        """
        try:
            (await migrate.status(self._database)).demand()
        except BaseException:
            await self._database.close()
            raise

    async def close(self) -> None:
        """
        Write what is waiting, then close every connection.

        Crash: nothing that was acknowledged is lost.
        """
        await self._group.drain()
        await self._database.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def append(self, entries: Sequence[Entry]) -> None:
        """
        Append entries to chains that are not a payment's (`worker-...`, `admin-...`).

        Raises:
            IntegrityViolated: An entry doesn't extend its chain; nothing was written.
            Unavailable: The database does not answer; the same call again is safe.

        Crash: all entries are there or none.
        """
        rows = [row_of_entry(entry) for entry in entries]
        hashes = [entry.hash for entry in entries]

        async def work(connection: AsyncConnection) -> None:
            last = select(audit_entry.c.hash).where(audit_entry.c.hash == hashes[-1])
            here = (audit_entry.c.chain_id == rows[-1]["chain_id"]) & (audit_entry.c.seq == rows[-1]["seq"])
            if (await connection.execute(last.where(here))).first() is not None:
                return
            await connection.execute(insert(audit_entry), rows)
            leaves = [{"chain_id": row["chain_id"], "seq": row["seq"]} for row in rows]
            await connection.execute(insert(unsealed), leaves)

        if rows:
            await self._database.write(work)
