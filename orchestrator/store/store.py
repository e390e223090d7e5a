"""
`SqlStore`: the flow's `Store`, on SQLite or PostgreSQL.

Owns opening and closing; the verbs are in `writes`, `claims`, `reads`,
`notifications`, `admin`, `controls`, `payers`, `reviews`, `ledger` and `seals`. Next: `migrate`.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from sqlalchemy import Connection, insert, select, text

from orchestrator.domain.entry import Entry
from orchestrator.domain.payment import Payment
from orchestrator.ports import Clock
from orchestrator.store import migrate
from orchestrator.store.access import Database, Sleep
from orchestrator.store.claims import Claims
from orchestrator.store.controls import Controls
from orchestrator.store.gathered import Gathered
from orchestrator.store.grants import grant_findings
from orchestrator.store.hints import listen
from orchestrator.store.host import Joined, joined
from orchestrator.store.identity import demand_identity, demand_rights, demand_writable_file, findings
from orchestrator.store.incarnation import Standing, Witness
from orchestrator.store.notifications import Notifications
from orchestrator.store.payers import Payers
from orchestrator.store.reviews import Reviews
from orchestrator.store.rows import row_of_entry
from orchestrator.store.schema import audit_entry, unsealed
from orchestrator.store.seals import Seals
from orchestrator.store.writes import Act, Item, Writes


class Lines(Protocol):
    """Where the hashes of acknowledged entries go."""

    def add(self, entries: Sequence[Entry]) -> None:
        """Take entries; must return at once and not raise."""
        ...

    async def close(self) -> None:
        """Write what is left; must not raise."""
        ...


_CLOCK_LOOKS = 3
_THEIR_CLOCK = text("select clock_timestamp()")


class SqlStore(Claims, Notifications, Gathered, Controls, Payers, Reviews, Seals):
    """
    The database as verbs; use it as `async with`.

    Args:
        database_url: `sqlite:///file`, `postgresql://...` (asyncpg) or `postgresql+psycopg://...`.
        sleep: How to wait between tries of a silent database; seconds.
        group_limit: The most writes that share a transaction.
        witness: Makes, of the SQLite file, what remembers the database, so that one that
            went back in time is not written to; without it nobody looks.
        lines: Hears of every entry that was acknowledged, and is closed with the store.

    Raises:
        ConfigurationError: The URL can't be used, or its driver is not installed.
    """

    def __init__(
        self,
        database_url: str,
        *,
        sleep: Sleep = asyncio.sleep,
        group_limit: int = 128,
        witness: Callable[[Path | None], Witness] | None = None,
        lines: Lines | None = None,
    ) -> None:
        database = Database(database_url, sleep=sleep)
        Writes.__init__(self, database, group_limit=group_limit)
        Gathered.__init__(self, database)
        self._witness = witness(self._database.file) if witness is not None else None
        self._lines = lines

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._database.dialect

    async def open(self, *, to_write: bool = True, notes_only: bool = False) -> None:
        """
        Make sure that the database is the one this version writes, and that it may be written to.

        Args:
            to_write: `False` opens what was changed by hand or is read-only, too: to read
                and to verify it.
            notes_only: For who writes administrative entries, but no payment: the sealer, an examiner.

        Raises:
            DatabaseMismatch: It is behind, ahead, changed by hand, or not ours; says what to do.
            ConfigurationError: User, password or rights don't fit, or it is read-only.
            Unavailable: It does not answer; `WentBack`: it is older than this host's mark.
        """
        file = self._database.file
        try:
            if to_write and file is not None:
                demand_writable_file(file)  # before a connection, which leaves files beside this one
            (await migrate.status(self._database)).demand()
            if to_write:
                await self._database.read(lambda connection: self._demand(connection, notes_only=notes_only))
            if to_write and self._witness is not None:
                await self._database.read(self._witness.begin)
                self._database.guard = self._witness
        except BaseException:
            await self._database.close()
            raise

    def _demand(self, connection: Connection, *, notes_only: bool) -> None:
        if self._database.dialect == "postgresql":
            demand_rights(connection, notes_only=notes_only)
        demand_identity(connection, migrate.head())

    @property
    def database(self) -> Database:
        """The way to the database itself, for other modules of the store."""
        return self._database

    @property
    def standing(self) -> Standing:
        """How the database stands in time, as this process sees it."""
        return self._witness.standing if self._witness is not None else Standing()

    @property
    def mark_trouble(self) -> str:
        """Why the mark outside the database can't be kept; empty if it can."""
        return self.standing.trouble

    async def check_life(self) -> None:
        """
        Make sure that the database is still the one this process knows.

        Raises:
            WentBack: It is an older copy of itself.
            Unavailable: It does not answer.
        """
        if self._witness is not None:
            await self._database.read(self._witness.demand)

    def _acknowledged(self, items: Sequence[Item], results: Sequence[Any]) -> None:
        acknowledged: list[Entry] = []
        for item, result in zip(items, results, strict=True):
            if isinstance(item, Act):
                continue
            entries = item.decision.entries
            # A birth that was there already is no news, and its entry may be another's.
            if entries and isinstance(result, Payment) and result.head == entries[-1].hash:
                acknowledged += entries
        if acknowledged:
            self._heard(acknowledged)

    def _acknowledged_note(self, entry: Entry) -> None:
        self._heard([entry])

    def _heard(self, entries: Sequence[Entry]) -> None:
        if self._witness is not None:
            self._witness.saw(entries[-1], len(entries))
        if self._lines is not None:
            self._lines.add(entries)

    async def beat(self, worker_id: str, *, now: datetime) -> bool:
        """
        Say that the worker lives, and keep the mark.

        Returns:
            `False` if it was reaped: its claims are gone, and it must take a new id.

        Crash: as the parent's; the former mark or the new one is there.
        """
        alive = await super().beat(worker_id, now=now)
        if self._witness is not None:
            await self._database.read(self._witness.catch_up)
            await self._witness.keep()
        return alive

    async def within(self, connection: object) -> Joined:
        """
        Give the verbs of a submit inside the host's own transaction, which is begun if none runs.

        Args:
            connection: The host's `AsyncConnection` to this same database.

        Raises:
            InvalidInput: Not an open `AsyncConnection`, or no transaction can run on it.
            Conflict: It leads to another database or another schema.
            Unavailable: The database does not answer.

        Crash: nothing was written; afterwards the host's COMMIT decides.
        """
        return await joined(self._database, connection)

    async def schema_findings(self) -> Sequence[str]:
        """
        Tell what is wrong with the schema as a whole: tables, keys, triggers, views, their record, and grants.

        Raises:
            Unavailable: The database does not answer.
        """

        def work(connection: Connection) -> Sequence[str]:
            return [*findings(connection, migrate.head()), *grant_findings(connection)]

        return await self._database.read(work)

    async def clock_offset(self, clock: Clock) -> float:
        """
        Give by how many seconds our clock is ahead of the database's; 0.0 on SQLite, where they are one.

        Args:
            clock: Our wall clock. The database's is taken to be read half-way between
                asking and hearing; of several looks the quickest counts.

        Raises:
            Unavailable: The database does not answer.
        """
        if self._database.dialect == "sqlite":
            return 0.0

        def work(connection: Connection) -> float:
            looks = []
            for _ in range(_CLOCK_LOOKS):
                asked = clock.now()
                theirs: datetime = connection.execute(_THEIR_CLOCK).scalar_one()
                took = clock.now() - asked
                looks.append((took, (asked + took / 2 - theirs).total_seconds()))
            return min(looks)[1]

        return await self._database.read(work)

    async def listen(self, stir: Callable[[], None]) -> None:
        """
        Call `stir` whenever another process may have made something due; until cancelled.

        Args:
            stir: Called in the loop; must return at once and not raise. Also called after
                each (re)connection, for what was missed.

        A hint only, over a connection of its own: polling is the truth. Never raises for
        trouble of the database. Returns at once on SQLite, and with `?pooled=true`,
        since a pooler in transaction mode forgets who listens.
        """
        await listen(self._database, stir)

    async def close(self) -> None:
        """
        Write what is waiting, then close every connection.

        Crash: nothing that was acknowledged is lost.
        """
        await self._group.drain()
        if self._witness is not None:
            await self._witness.keep()
        if self._lines is not None:
            await self._lines.close()
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

        def work(connection: Connection) -> None:
            last = select(audit_entry.c.hash).where(audit_entry.c.hash == hashes[-1])
            here = (audit_entry.c.chain_id == rows[-1]["chain_id"]) & (audit_entry.c.seq == rows[-1]["seq"])
            if connection.execute(last.where(here)).first() is not None:
                return
            connection.execute(insert(audit_entry), rows)
            leaves = [{"chain_id": row["chain_id"], "seq": row["seq"]} for row in rows]
            connection.execute(insert(unsealed), leaves)

        if rows:
            await self._database.write(work)
