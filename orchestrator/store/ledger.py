"""
One moment of the database as compliance staff read it: periods, leaves, books.

Owns the queries behind completeness, samples, reviews and reconciliation, each read in
pages of one snapshot, so that memory does not grow with the trail. A period is found by
a pass over the trail in the order of its key: writing pays for no index that only reviews
would use. Knows no rule. Next: `reviews`.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, literal, select, tuple_
from sqlalchemy import text as sql

from orchestrator.compliance import Booked, Seal, Unreadable
from orchestrator.domain.entry import Entry
from orchestrator.domain.payment import ENDED, Payment
from orchestrator.store.access import Database
from orchestrator.store.registers import checkpoint, log_leaf, schema_record
from orchestrator.store.rows import ENTRY_COLUMNS, entry_of, payment_of
from orchestrator.store.schema import audit_entry, payment, unsealed
from orchestrator.store.seals import MOST_COUNTED, seal_of
from orchestrator.store.snapshot import MOST, Snapshot

LEAVES = 5000
MANY = 50_000
"""Rows of a page where each is a short name."""
_KEY = (audit_entry.c.chain_id, audit_entry.c.seq)
_ENTRY = select(*(audit_entry.c[name] for name in ENTRY_COLUMNS)).order_by(*_KEY)
_SAME_ENTRY = and_(log_leaf.c.chain_id == audit_entry.c.chain_id, log_leaf.c.seq == audit_entry.c.seq)


def _within(column: ColumnElement[Any], since: datetime | None, until: datetime | None) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [] if since is None else [column >= since]
    return found if until is None else [*found, column < until]


class Ledger(Snapshot):
    """One moment of the database; get it from `Ledgers.ledger`."""

    async def newest(self) -> Seal | None:
        """Give the newest seal, if there is one."""
        rows = await self._rows(select(checkpoint).order_by(checkpoint.c.size.desc()), 1)
        return seal_of(rows[0]) if rows else None

    async def waiting(self) -> int:
        """Count the entries that wait for their leaf."""
        (row,) = await self._rows(select(func.count().label("count")).select_from(unsealed))
        return int(row["count"])

    async def within(
        self, since: datetime | None, until: datetime | None, unreadable: Unreadable
    ) -> AsyncIterator[Entry]:
        """Give the entries of a period by chain and number; `unreadable` as in `entries`."""
        period = _within(audit_entry.c.at, since, until)
        place: tuple[str, int] | None = None
        while True:
            later = [] if place is None else [tuple_(*_KEY) > tuple_(*place)]
            keys, found = await self._page_of(_ENTRY.where(*period, *later), list(_KEY), entry_of, unreadable)
            for entry in found:
                yield entry
            if len(keys) < self._page:
                return
            place = keys[-1]

    async def chain(self, chain_id: str) -> Sequence[Entry]:
        """Give one chain, whole; a row that can't be read is left out."""
        unread: Unreadable = lambda _chain, _seq: None  # noqa: E731 - whoever reads the period was told of it
        found: list[Entry] = []
        while True:
            last = found[-1].seq if found else -(1 << 31)
            statement = _ENTRY.where(audit_entry.c.chain_id == chain_id, audit_entry.c.seq > last)
            keys, page = await self._page_of(statement, list(_KEY), entry_of, unread)
            found += page
            if len(keys) < self._page or not page:
                return found

    async def orphans(self, since: datetime | None, until: datetime | None) -> AsyncIterator[tuple[str, int, datetime]]:
        """Give chain, number and time of a period's entries whose predecessor is not there."""
        before = audit_entry.alias("before")
        missing = ~exists(literal(1)).where(
            before.c.chain_id == audit_entry.c.chain_id, before.c.seq == audit_entry.c.seq - 1
        )
        statement = (
            select(*_KEY, audit_entry.c.at).order_by(*_KEY)
            .where(*_within(audit_entry.c.at, since, until), audit_entry.c.seq > 1, missing)
        )  # fmt: skip
        place: tuple[str, int] = ("", 0)
        while rows := await self._rows(statement.where(tuple_(*_KEY) > tuple_(*place))):
            for row in rows:
                yield row["chain_id"], row["seq"], row["at"]
            place = (rows[-1]["chain_id"], rows[-1]["seq"])

    async def begun(self, since: datetime | None, until: datetime | None, size: int) -> AsyncIterator[tuple[str, int]]:
        """Give id and leaf of each payment whose first entry is of the period and among the first `size` leaves."""
        statement = (
            select(audit_entry.c.chain_id, log_leaf.c.idx)
            .join(log_leaf, _SAME_ENTRY)
            .where(sql("audit_entry.seq = 1"), func.substr(audit_entry.c.chain_id, 1, 4) == "pay-")
            .where(log_leaf.c.idx < size, *_within(audit_entry.c.at, since, until))
            .order_by(audit_entry.c.chain_id)
        )
        place = ""
        while rows := await self._rows(statement.where(audit_entry.c.chain_id > place)):
            for row in rows:
                yield row["chain_id"], row["idx"]
            place = rows[-1]["chain_id"]

    async def placed(
        self, since: datetime | None, until: datetime | None, size: int
    ) -> AsyncIterator[tuple[str, int, int]]:
        """Give chain, number and leaf of each entry of the period among the first `size` leaves."""
        statement = (
            select(*_KEY, log_leaf.c.idx).join(audit_entry, _SAME_ENTRY).order_by(log_leaf.c.idx)
            .where(log_leaf.c.idx < size, *_within(audit_entry.c.at, since, until))
        )  # fmt: skip
        place = -1
        while rows := await self._rows(statement.where(log_leaf.c.idx > place), LEAVES):
            for row in rows:
                yield row["chain_id"], row["seq"], row["idx"]
            place = rows[-1]["idx"]

    async def sealings(
        self, since: datetime | None, until: datetime | None
    ) -> AsyncIterator[tuple[Seal, datetime | None]]:
        """Give the seals of a period, each with the time of the oldest entry under its new leaves."""
        statement = (
            select(checkpoint).where(*_within(checkpoint.c.created_at, since, until)).order_by(checkpoint.c.size)
        )
        place = 0
        while rows := await self._rows(statement.where(checkpoint.c.size > place), 100):
            for row in rows:
                yield seal_of(row), await self._oldest(row["size"])
            place = rows[-1]["size"]

    async def _oldest(self, size: int) -> datetime | None:
        last = select(func.max(checkpoint.c.size)).where(checkpoint.c.size < size).scalar_subquery()
        statement = (
            select(func.min(audit_entry.c.at, type_=audit_entry.c.at.type).label("at"))
            .join(log_leaf, _SAME_ENTRY)
            .where(log_leaf.c.idx >= func.coalesce(last, 0), log_leaf.c.idx < size)
        )
        (row,) = await self._rows(statement)
        found: datetime | None = row["at"]
        return found

    async def oldest_waiting(self) -> datetime | None:
        """Give the time of the oldest entry that waits for its leaf; of more than 10,000 any of them will do."""
        # A limit, so that these few are looked up, and not the whole trail for its oldest.
        few = select(unsealed.c.chain_id, unsealed.c.seq).limit(MOST_COUNTED).subquery()
        same = and_(few.c.chain_id == audit_entry.c.chain_id, few.c.seq == audit_entry.c.seq)
        at = select(audit_entry.c.at).join(few, same).subquery()
        (row,) = await self._rows(select(func.min(at.c.at, type_=audit_entry.c.at.type).label("at")))
        found: datetime | None = row["at"]
        return found

    async def held(self, before: datetime, unreadable: Unreadable) -> AsyncIterator[Payment]:
        """Give the payments that are held now and were before that time, by id."""
        place = ""
        while True:
            # The index's own words, as in `Reads.held_before`; and an expression, so that the few are found by
            # that index and sorted, and not looked for among all payments in the order of their ids.
            identity = func.coalesce(payment.c.id, payment.c.id)
            old = and_(sql("hold is not null"), payment.c.held_at < before, identity > place)
            keys, found = await self._page_of(
                select(payment).where(old).order_by(identity), [payment.c.id], payment_of, unreadable
            )
            for one in found:
                yield one
            if len(keys) < self._page:
                return
            place = keys[-1][0]

    async def schemas(self, since: datetime | None, until: datetime | None) -> Sequence[tuple[datetime, str]]:
        """Give when the schema was recorded in a period, and as which revision; at most a page."""
        statement = select(schema_record).where(*_within(schema_record.c.recorded_at, since, until))
        return [
            (row["recorded_at"], row["revision"]) for row in await self._rows(statement.order_by(schema_record.c.id))
        ]

    async def actors(self, since: datetime, until: datetime) -> AsyncIterator[str]:
        """Give everybody who is named as the actor of an entry of the period, each once."""
        actor = audit_entry.c.actor
        named = select(actor).where(*_within(audit_entry.c.at, since, until)).distinct().order_by(actor)
        place = ""
        while rows := await self._rows(named.where(actor > place), MANY):
            for row in rows:
                yield row["actor"]
            place = rows[-1]["actor"]

    async def booked(self, since: datetime, until: datetime, account: str | None) -> AsyncIterator[Booked]:
        """Give the payments that were created in a period, of one account or of all, oldest first."""
        head = and_(audit_entry.c.chain_id == payment.c.id, audit_entry.c.seq == payment.c.version)
        columns = (
            "id", "account", "reference", "amount_minor", "currency", "session_id", "money", "state", "hold",
            "created_at",
        )  # fmt: skip
        statement = (
            select(*(payment.c[name] for name in columns), audit_entry.c.at.label("changed_at"))
            .outerjoin(audit_entry, head)
            .where(payment.c.created_at < until, *([] if account is None else [payment.c.account == account]))
            .order_by(payment.c.created_at, payment.c.id)
        )
        at, identity = since, ""
        while True:
            later = (payment.c.created_at > at) | ((payment.c.created_at == at) & (payment.c.id > identity))
            rows = await self._rows(statement.where(payment.c.created_at >= at, later))
            for row in rows:
                yield _booked_of(row)
            if len(rows) < self._page:
                return
            at, identity = rows[-1]["created_at"], rows[-1]["id"]


def _booked_of(row: Any) -> Booked:
    return Booked(
        row["id"], row["account"], row["reference"], row["amount_minor"], row["currency"], row["session_id"],
        row["money"], row["state"] not in ENDED or row["hold"] is not None, row["created_at"],
        row["changed_at"] or row["created_at"],
    )  # fmt: skip


class Ledgers:
    """The verb that reads one moment for compliance staff."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def ledger(self, *, page: int = MOST) -> AsyncIterator[Ledger]:
        """
        Read the trail as it is at one moment, however long it takes.

        Raises:
            Unavailable: The database does not answer.
        """
        async with self._database.snapshot() as bound:
            yield Ledger(bound, page)
