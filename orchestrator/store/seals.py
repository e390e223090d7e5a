"""
The sealed log's rows: leaves in order, checkpoints over them, and what waits for its leaf.

Owns that a leaf, its checkpoint and the end of its waiting are one transaction, and that one
process seals at a time. Knows no hash tree and no key: whoever seals gives both.
Next: `ledger`.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, delete, exists, func, insert, literal_column, select, text

from orchestrator.compliance import Lag, Leaf, Seal
from orchestrator.store.access import Database
from orchestrator.store.incarnation import life_of
from orchestrator.store.registers import checkpoint, incarnation, log_leaf
from orchestrator.store.schema import audit_entry, unsealed

MOST_COUNTED = 10_000
"""What waits is counted so far: more is simply too much."""
PAGE = 5000

# The lease of the log: whoever has it seals, for one transaction, and the others wait. On SQLite all writers do.
_LEASE = text("select pg_advisory_xact_lock(hashtextextended('seal of ' || current_schema(), 0))")
_WAITING = (
    select(unsealed.c.chain_id, unsealed.c.seq, audit_entry.c.hash)
    .join(audit_entry, (audit_entry.c.chain_id == unsealed.c.chain_id) & (audit_entry.c.seq == unsealed.c.seq))
    .order_by(unsealed.c.chain_id, unsealed.c.seq)
)
_NEWEST = select(checkpoint).order_by(checkpoint.c.size.desc()).limit(1)
_LEAVES = select(log_leaf).order_by(log_leaf.c.idx)

Close = Callable[[str, Seal | None, Sequence[bytes]], Seal]
"""Given the database's life, the newest seal and the hashes to append, gives the next seal."""


class Seals:
    """The verbs of sealing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lag(self) -> Lag:
        """
        Tell how much waits to be sealed, since when, and when was sealed last.

        Raises:
            Unavailable: The database does not answer.
        """
        few = select(unsealed.c.chain_id, unsealed.c.seq).limit(MOST_COUNTED).subquery()
        counted = select(func.count()).select_from(few)
        # Few have to be looked at: what waits for long is a control that has failed, and known as such.
        at = select(audit_entry.c.at).join(
            few, (audit_entry.c.chain_id == few.c.chain_id) & (audit_entry.c.seq == few.c.seq)
        ).subquery()  # fmt: skip
        oldest = select(func.min(at.c.at, type_=audit_entry.c.at.type))

        def work(connection: Connection) -> Lag:
            count = int(connection.execute(counted).scalar_one())
            since = connection.execute(oldest).scalar() if count else None
            newest = connection.execute(_NEWEST).mappings().first()
            return Lag(count, since, None if newest is None else seal_of(newest))

        return await self._database.read(work)

    async def lives(self) -> Sequence[str]:
        """Give the database's lives, the present one last."""
        statement = select(incarnation.c.id).order_by(incarnation.c.number)

        def work(connection: Connection) -> Sequence[str]:
            return list(connection.scalars(statement))

        return await self._database.read(work)

    async def seal(self, close: Close, *, limit: int = PAGE) -> Seal | None:
        """
        Append what waits to the log and put a checkpoint over all of it.

        Args:
            close: Signs; called again when the transaction is tried again. What it raises goes to the caller.
            limit: The most leaves of this checkpoint.

        Returns:
            The new seal; `None` when nothing waits.

        Raises:
            WentBack: The database is an older copy of itself; nothing was sealed.
            IntegrityViolated: The database refuses it: somebody has sealed beside us.
            Unavailable: The database does not answer; the same call again is safe.

        Crash: leaves and checkpoint are there together or not at all; what waits stays waiting until then.
        """

        def work(connection: Connection) -> Seal | None:
            if connection.dialect.name == "postgresql":
                connection.execute(_LEASE)
            rows = connection.execute(_WAITING.limit(limit)).all()
            if not rows:
                return None
            newest = connection.execute(_NEWEST).mappings().first()
            before = None if newest is None else seal_of(newest)
            _, life = life_of(connection)
            made = close(life, before, [bytes(row.hash) for row in rows])
            first = made.size - len(rows)
            leaves = [
                {"idx": first + place, "chain_id": row.chain_id, "seq": row.seq, "hash": row.hash}
                for place, row in enumerate(rows)
            ]
            connection.execute(insert(log_leaf), leaves)
            connection.execute(insert(checkpoint), [{name: getattr(made, name) for name in _COLUMNS}])
            sealed = exists(literal_column("1")).where(
                log_leaf.c.idx >= first, log_leaf.c.chain_id == unsealed.c.chain_id, log_leaf.c.seq == unsealed.c.seq
            )
            connection.execute(delete(unsealed).where(sealed))
            return made

        return await self._database.write(work)

    async def newest_seal(self) -> Seal | None:
        """Give the newest seal, if there is one."""

        def work(connection: Connection) -> Seal | None:
            row = connection.execute(_NEWEST).mappings().first()
            return None if row is None else seal_of(row)

        return await self._database.read(work)

    async def seals(self, after: int = 0, *, limit: int = 100) -> Sequence[Seal]:
        """Give the seals of more than `after` leaves, the smallest first."""
        statement = select(checkpoint).where(checkpoint.c.size > after).order_by(checkpoint.c.size).limit(limit)

        def work(connection: Connection) -> Sequence[Seal]:
            return [seal_of(row) for row in connection.execute(statement).mappings()]

        return await self._database.read(work)

    async def leaf_of(self, chain_id: str, seq: int) -> Leaf | None:
        """Give the leaf of an entry, if it is sealed."""
        found = await self._leaves(_LEAVES.where(log_leaf.c.chain_id == chain_id, log_leaf.c.seq == seq))
        return found[0] if found else None

    async def leaves(self, begin: int, end: int, *, page: int = PAGE) -> AsyncIterator[Sequence[Leaf]]:
        """Give the leaves `[begin, end)` in order, page by page; sealed ones never change, so no snapshot is kept."""
        while begin < end:
            statement = _LEAVES.where(log_leaf.c.idx >= begin, log_leaf.c.idx < end).limit(page)

            found = await self._leaves(statement)
            if not found:
                return
            yield found
            begin = found[-1].idx + 1

    async def _leaves(self, statement: Select[Any]) -> Sequence[Leaf]:
        def work(connection: Connection) -> Sequence[Leaf]:
            rows = connection.execute(statement)
            return [leaf_of_row(row) for row in rows.mappings()]

        return await self._database.read(work)


_COLUMNS = tuple(Seal.__slots__)


def leaf_of_row(row: RowMapping | Mapping[str, Any]) -> Leaf:
    """Give the leaf that the row holds."""
    return Leaf(row["idx"], row["chain_id"], row["seq"], bytes(row["hash"]))


def seal_of(row: RowMapping | Mapping[str, Any]) -> Seal:
    """Give the seal that the row holds."""
    values = {name: row[name] for name in _COLUMNS}
    return Seal(**values | {"root": bytes(values["root"]), "nodes": bytes(values["nodes"])})
