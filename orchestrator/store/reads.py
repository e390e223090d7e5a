"""
What is there: payments, chains, and everything in order for `audit verify`.

Owns no write but a definition's publication. Reads never wait for a writer.
Next: `notifications`.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, select, tuple_
from sqlalchemy import text as sql

from orchestrator.domain.entry import Entry
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.payment import ENDED, Payment, State
from orchestrator.records import Holds, Query
from orchestrator.store.access import Database
from orchestrator.store.prepared import Prepared, within
from orchestrator.store.rows import ENTRY_COLUMNS, entry_of, made_of, payment_of
from orchestrator.store.rules import OPEN, UNENDED, of_row
from orchestrator.store.schema import audit_entry, definition, payer_data, payment
from orchestrator.store.snapshot import MOST, Snapshot

_ENTRY = select(*(audit_entry.c[name] for name in ENTRY_COLUMNS)).order_by(audit_entry.c.chain_id, audit_entry.c.seq)

_PAIRS = {
    "sqlite": "select a.value, r.value from json_each(:accounts) a join json_each(:references) r using (key)",
    "postgresql": "select * from unnest(cast(:accounts as text[]), cast(:references as text[]))",
}
_OF = Prepared(
    lambda dialect: (
        select(payment)
        .where(tuple_(payment.c.account, payment.c.reference).in_(sql(_PAIRS[dialect])))
        .order_by(payment.c.round)
    ),
    payment.columns,
)
_SEALED = Prepared(
    lambda dialect: select(payer_data.c.payment_id, payer_data.c.sealed).where(
        within(payer_data.c.payment_id, "ids", dialect)
    )
)


class Reads:
    """The reading verbs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ping(self) -> None:
        """
        Ask the database for a sign of life.

        Raises:
            Unavailable: There is none.
        """
        await self._rows(select(1))

    async def get(self, payment_id: str) -> Payment | None:
        """Give the payment, if there is one."""
        rows = await self._rows(select(payment).where(payment.c.id == payment_id))
        return payment_of(rows[0]) if rows else None

    async def of_reference(self, account: str, reference: str) -> Sequence[Payment]:
        """Give every payment of the reference, oldest round first."""
        return (await self._of_references([(account, reference)]))[0]

    async def of_session(self, account: str, session_id: str) -> Sequence[Payment]:
        """Give the account's payments of this session, as written or all in lower or upper case; newest first."""
        spelled = sorted({session_id, session_id.lower(), session_id.upper()})
        same = and_(payment.c.account == account, payment.c.session_id.in_(spelled))
        statement = select(payment).where(same).order_by(payment.c.created_at.desc(), payment.c.id)
        return [payment_of(row) for row in await self._rows(statement)]

    async def held_before(self, at: datetime) -> Holds:
        """Count the payments that have been held since before `at`, and give the oldest hold."""
        # The index's own words, as in `unended`: what is held is a small part of all.
        old = and_(sql("hold is not null"), payment.c.held_at < at)
        counted: tuple[ColumnElement[Any], ...] = (
            func.count().label("count"),
            func.min(payment.c.held_at).label("oldest"),
        )
        (row,) = await self._rows(select(*counted).select_from(payment).where(old))
        return Holds(int(row["count"]), row["oldest"])

    async def list(self, query: Query) -> Sequence[Payment]:
        """
        Give the payments that match everything asked for, oldest first.

        Args:
            query: `after` is the id of the last payment of the page before.

        Raises:
            InvalidInput: `limit` is out of range, or no payment has the id in `after`.
        """
        if not 1 <= query.limit <= MOST:
            raise InvalidInput("limit", "is out of range", f"1 to {MOST}")
        statement = select(payment).where(*_wanted(query))
        if query.after is not None:
            place = await self._rows(select(payment.c.created_at, payment.c.id).where(payment.c.id == query.after))
            if not place:
                raise InvalidInput("after", "is not a payment's id", "give the last id of the page before")
            at, identity = place[0]["created_at"], place[0]["id"]
            # Written out: a row comparison would lose the instants' types.
            later = (payment.c.created_at > at) | ((payment.c.created_at == at) & (payment.c.id > identity))
            statement = statement.where(payment.c.created_at >= at, later)
        order: ColumnElement[Any] = payment.c.created_at
        if query.ended is False:
            # By an expression, so that the open ones are found by their own index and then sorted: in the
            # index of creation they lie behind the whole history.
            order = func.coalesce(order, order)
        ordered = statement.order_by(order, payment.c.id).limit(query.limit)
        return [payment_of(row) for row in await self._rows(ordered)]

    async def entries(self, chain_id: str) -> Sequence[Entry]:
        """Give the chain, first entry first; empty if there is none."""
        return [entry_of(row) for row in await self._rows(_ENTRY.where(audit_entry.c.chain_id == chain_id))]

    async def chains(self, after: str | None, limit: int) -> Sequence[str]:
        """Give up to `limit` chain ids in order, those behind `after`."""
        statement = select(audit_entry.c.chain_id).where(audit_entry.c.seq == 1, audit_entry.c.chain_id > (after or ""))
        return [row["chain_id"] for row in await self._rows(statement.order_by(audit_entry.c.chain_id).limit(limit))]

    async def sealed(self, payment_id: str) -> bytes | None:
        """Give the payment's sealed fields; `None` if it has none, or they were erased."""
        return (await self._sealed_of([payment_id]))[0]

    async def holds_payer_data(self) -> bool:
        """Tell whether anything is sealed here: then a new key would open nothing of it."""
        return bool(await self._rows(select(payer_data.c.payment_id).limit(1)))

    async def unended(self) -> int:
        """Count what can go on by itself: not ended, not held, not waiting for fields of the host's."""
        # The index's own words: a partial index is not used for parameters that only mean the same.
        open_ = sql(UNENDED) & ((payment.c.state != State.COLLECTING.value) | (payment.c.missing == "[]"))
        rows = await self._rows(select(func.count().label("count")).select_from(payment).where(open_))
        return int(rows[0]["count"])

    async def definition(self, digest: str) -> str | None:
        """Give the masked text of a definition, if it was published."""
        rows = await self._rows(select(definition.c.text).where(definition.c.digest == digest))
        return str(rows[0]["text"]) if rows else None

    async def definitions(self) -> dict[str, tuple[str, str]]:
        """Give every published definition: digest to name and masked text."""
        rows = await self._rows(select(definition.c.digest, definition.c.name, definition.c.text))
        return {row["digest"]: (row["name"], row["text"]) for row in rows}

    @asynccontextmanager
    async def snapshot(self, *, page: int = MOST, since: int = 0) -> AsyncIterator[Snapshot]:
        """
        Read everything as it is at one moment, however long it takes; with `since`, what came after so many leaves.

        Raises:
            Unavailable: The database does not answer.
        """
        async with self._database.snapshot() as bound:
            yield Snapshot(bound, page, since)

    async def all_entries(self) -> AsyncIterator[Entry]:
        """Give every entry, by chain and number, of one moment."""
        async with self.snapshot() as snapshot:
            async for placed in snapshot.entries():
                yield placed.entry

    async def all_payments(self) -> AsyncIterator[Payment]:
        """Give every payment, by id, of one moment."""
        async with self.snapshot() as snapshot:
            async for found in snapshot.payments():
                yield found

    async def _of_references(self, wanted: Sequence[tuple[str, str]]) -> Sequence[Sequence[Payment]]:
        pairs = sorted(set(wanted))
        accounts, references = [pair[0] for pair in pairs], [pair[1] for pair in pairs]

        def work(connection: Connection) -> Sequence[Payment]:
            return [made_of(row) for row in _OF.rows(connection, accounts=accounts, references=references)]

        found: dict[tuple[str, str], list[Payment]] = {}
        for each in await self._database.read(work):
            found.setdefault((each.account, each.reference), []).append(each)
        return [found.get(one, []) for one in wanted]

    async def _sealed_of(self, wanted: Sequence[str]) -> Sequence[bytes | None]:
        def work(connection: Connection) -> dict[str, bytes]:
            return {row[0]: bytes(row[1]) for row in _SEALED.rows(connection, ids=list(wanted))}

        found = await self._database.read(work)
        return [found.get(one) for one in wanted]

    async def _rows(self, statement: Select[Any]) -> Sequence[Any]:
        def work(connection: Connection) -> Sequence[Any]:
            rows: Sequence[Any] = connection.execute(statement).mappings().all()
            return rows

        return await self._database.read(work)


def _wanted(query: Query) -> Sequence[ColumnElement[bool]]:
    same = {
        "state": query.state, "account": query.account, "reference": query.reference, "call_guid": query.call_guid,
        "channel": query.channel and query.channel.value,
    }  # fmt: skip
    found: tuple[ColumnElement[bool], ...] = tuple(
        payment.c[name] == value for name, value in same.items() if value is not None
    )
    if query.held is not None:
        found += (payment.c.hold.is_not(None) if query.held else payment.c.hold.is_(None),)
    if query.ended is not None:
        # The index's own words, as in `unended`.
        found += (payment.c.state.in_(sorted(ENDED)) if query.ended else and_(sql(of_row(OPEN))),)
    if query.created_from is not None:
        found += (payment.c.created_at >= query.created_from,)
    if query.created_to is not None:
        found += (payment.c.created_at < query.created_to,)
    return found
