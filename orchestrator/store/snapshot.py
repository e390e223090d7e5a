"""
Everything at one moment, in order, for `audit verify` and exports.

Owns that memory does not grow with the trail: pages by key, whatever there is. A row that holds
nothing of ours is told and left out, never believed and never the end. Next: `notifications`.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Select, TextClause, and_, select, text, tuple_

from orchestrator.compliance import Leaf, Placed, Seal, Unreadable
from orchestrator.domain.entry import instant
from orchestrator.domain.errors import IntegrityViolated, Unavailable
from orchestrator.domain.payment import Payment
from orchestrator.store.faults import Silent, heard, unavailable
from orchestrator.store.registers import checkpoint, incarnation, log_leaf
from orchestrator.store.rows import ENTRY_COLUMNS, payment_of
from orchestrator.store.schema import audit_entry, payment
from orchestrator.store.seals import leaf_of_row, seal_of
from orchestrator.store.ways import Bound

MOST = 1000
Made = TypeVar("Made")

_KEY = (audit_entry.c.chain_id, audit_entry.c.seq)
_KINDS = (bytes, bytes, str)
"""Of the two hashes and the body."""
# Plain SQL, so that no value is converted on its way: there are millions, and what stands there is looked at as it is.
_SEAL = "l.idx, l.hash, u.seq as waiting from audit_entry e" + "".join(
    f" left join {table} {short} on {short}.chain_id = e.chain_id and {short}.seq = e.seq"
    for table, short in (("log_leaf", "l"), ("unsealed", "u"))
)
_PLACED = " ".join(["select", *(f"e.{name}," for name in ENTRY_COLUMNS), _SEAL])
_KEYS = "select e.chain_id, e.seq from audit_entry e"
_ORDER = "order by e.chain_id, e.seq limit :most"
_BEHIND = "(e.chain_id, e.seq) > (:chain, :seq)"
_TOUCHED = "select chain_id from log_leaf where idx >= :since union select chain_id from unsealed"
"""The chains that have grown since then; each is read whole, because a chain is only as sound as its beginning."""
_ALONE = text(f"{_PLACED} where e.chain_id = :chain and e.seq = :seq")
_LEAVES = text("select idx, chain_id, seq, hash from log_leaf where idx > :place order by idx limit :most")
LEAVES = 5000
_NOTHING = (None,) * 15
"""What stands for the other columns of a row that can't be read."""
_ASTRAY = (
    select(log_leaf)
    .outerjoin(audit_entry, and_(*(log_leaf.c[name] == audit_entry.c[name] for name in ("chain_id", "seq"))))
    .where(audit_entry.c.chain_id.is_(None))
    .order_by(log_leaf.c.idx)
    .limit(MOST)
)


class Snapshot:
    """
    One moment of the database, read in pages; get it from `Reads.snapshot`.

    Args:
        bound: Holds the moment.
        page: How many rows are fetched at a time.
        since: Only what has been added since the log had so many leaves: those chains, payments and leaves.
    """

    has_payments = True
    """Whether payments can be read, to be compared with their chains."""

    def __init__(self, bound: Bound, page: int = MOST, since: int = 0) -> None:
        self._bound = bound
        self._page = page
        self._since = since

    async def entries(self, unreadable: Unreadable | None = None) -> AsyncIterator[Placed]:
        """
        Give every entry with its place in the log, by chain and number.

        Args:
            unreadable: Told of each row that can't be an entry; such a row is left out.

        Raises:
            IntegrityViolated: A row can't be an entry, and there is nobody to be told.
        """
        place: dict[str, Any] = {}
        while True:
            rows = await self._stored(place)
            for row in rows:
                placed = _placed(row)
                if placed is not None:
                    yield placed
                else:
                    _tell(unreadable, row)
            if len(rows) < self._page:
                return
            place = {"chain": rows[-1][0], "seq": rows[-1][1]}

    async def _stored(self, place: Mapping[str, Any]) -> Sequence[Any]:
        """Give a page of entries' rows; one by one when the driver itself can't read one: that has its key alone."""
        conditions = [_BEHIND] if place else []
        values: dict[str, Any] = {"most": self._page, **place}
        if self._since:
            conditions.append(f"e.chain_id in ({_TOUCHED})")
            values["since"] = self._since
        behind = f"{'where ' if conditions else ''}{' and '.join(conditions)} {_ORDER}"
        try:
            return await self._plain(text(f"{_PLACED} {behind}"), values)
        except Unavailable:
            keys = await self._plain(text(f"{_KEYS} {behind}"), values)  # is it a row, or is the database gone?
        rows: list[Any] = []
        for key in keys:
            try:
                rows += await self._plain(_ALONE, {"chain": key[0], "seq": key[1]})
            except Unavailable:
                rows.append((*key, *_NOTHING))
        return rows

    async def payments(self, unreadable: Unreadable | None = None) -> AsyncIterator[Payment]:
        """Give every payment, by id; `unreadable` as in `entries`."""
        place = ""
        while True:
            statement = select(payment).where(payment.c.id > place).order_by(payment.c.id)
            if self._since:
                statement = statement.where(payment.c.id.in_(text(_TOUCHED).bindparams(since=self._since)))
            keys, found = await self._page_of(statement, [payment.c.id], payment_of, unreadable)
            for one in found:
                yield one
            if len(keys) < self._page:
                return
            place = keys[-1][0]

    async def leaves(self) -> AsyncIterator[Sequence[Leaf]]:
        """Give the log's leaves in order, page by page."""
        place = self._since - 1
        while page := await self._plain(_LEAVES, {"place": place, "most": LEAVES}):
            yield [Leaf._make(row) for row in page]
            place = page[-1][0]

    async def seals(self) -> AsyncIterator[Sequence[Seal]]:
        """Give the checkpoints, the smallest first, page by page."""
        place = self._since
        ordered = select(checkpoint).order_by(checkpoint.c.size)
        while page := await self._rows(ordered.where(checkpoint.c.size > place)):
            yield [seal_of(row) for row in page]
            place = page[-1]["size"]

    async def seal_of_size(self, size: int) -> Seal | None:
        """Give the seal over so many leaves, if there is one."""
        rows = await self._rows(select(checkpoint).where(checkpoint.c.size == size))
        return seal_of(rows[0]) if rows else None

    async def lives(self) -> Sequence[str]:
        """Give the database's lives, the present one last."""
        return [row["id"] for row in await self._rows(select(incarnation.c.id).order_by(incarnation.c.number))]

    async def astray(self) -> Sequence[Leaf]:
        """Give the leaves whose entry is gone; at most 1,000."""
        return [leaf_of_row(row) for row in await self._rows(_ASTRAY.where(log_leaf.c.idx >= self._since))]

    async def hashes(self, keys: Collection[tuple[str, int]]) -> Mapping[tuple[str, int], bytes]:
        """Give the hashes of those entries that are there."""
        wanted = select(*_KEY, audit_entry.c.hash).where(tuple_(*_KEY).in_(sorted(keys)))
        return {(row["chain_id"], row["seq"]): bytes(row["hash"]) for row in await self._rows(wanted)}

    async def _page_of(
        self, statement: Select[Any], key: Sequence[Any], make: Callable[[Any], Made], unreadable: Unreadable | None
    ) -> tuple[Sequence[Any], Sequence[Made]]:  # fmt: skip
        """Give a page's keys and what its rows hold; row by row when one of them holds nothing of ours."""
        only_keys = statement.with_only_columns(*key)
        try:
            rows = await self._rows(statement)
            return [tuple(row[column.name] for column in key) for row in rows], [make(row) for row in rows]
        except Exception:  # noqa: BLE001 - whoever tampered with a row may have put anything into it
            keys = [tuple(row.values()) for row in await self._rows(only_keys)]
        found = []
        for place in keys:
            same = and_(*(column == value for column, value in zip(key, place, strict=True)))
            try:
                found += [make(row) for row in await self._rows(statement.where(same))]
            except Exception:  # noqa: BLE001 - as above
                await self._rows(only_keys.where(same))  # is it the row, or is the database gone?
                if unreadable is None:
                    raise IntegrityViolated(f"a row of {place[0]} holds no value of ours") from None
                unreadable(place[0], place[1] if len(place) > 1 else None)
        return keys, found

    async def _plain(self, statement: TextClause, values: Mapping[str, Any]) -> Sequence[Any]:
        try:
            with heard():
                return await self._bound.run(lambda connection: connection.execute(statement, values).all())
        except Silent as silent:
            raise unavailable(silent) from silent

    async def _rows(self, statement: Select[Any], limit: int | None = None) -> Sequence[Any]:
        """Give a page's rows: so many as `limit` says, or the snapshot's page has."""
        try:
            with heard():
                bounded = statement.limit(limit or self._page)
                return await self._bound.run(lambda connection: connection.execute(bounded).mappings().all())
        except Silent as silent:
            raise unavailable(silent) from silent


def _tell(unreadable: Unreadable | None, row: Any) -> None:
    if unreadable is None:
        raise IntegrityViolated(f"a row of {row[0]} holds no value of ours")
    unreadable(row[0], row[1])


def _placed(row: Any) -> Placed | None:
    """Give the row as it is, if its hashes are bytes and its number is one: all else is for the auditor to judge."""
    if tuple(map(type, row[11:14])) != _KINDS or type(row[1]) is not int:
        return None
    at = row[5]
    return Placed._make((*row[:5], at if type(at) is str else instant(at), *row[6:16], row[16] is not None))
