"""
Payer data as rows of their own: sealed anew under another key, erased, found when their time is over.

Owns that nothing is lost to a concurrent write, and that an erasure and its entry are one
transaction. Knows no key and no retention: whoever asks gives both. Next: `admin`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, select, update

from orchestrator.domain.entry import Context
from orchestrator.domain.errors import Conflict, NotFound
from orchestrator.domain.payment import ENDED
from orchestrator.records import Census, ErasureTold
from orchestrator.store.admin import Admin
from orchestrator.store.faults import Silent, unavailable
from orchestrator.store.schema import audit_entry, payer_data, payment

ERASED = "subject.erased"
"""The kind of an erasure's entry."""

_STANDING = (payment.c.id, payment.c.state, payment.c.hold, payment.c.watch_until)


class Payers(Admin):
    """The verbs of payer data."""

    async def erasable(self, payment_id: str) -> bool:
        """
        Tell whether there is payer data of this payment, and make sure that it may be erased.

        Raises:
            NotFound: No such payment.
            Conflict: It has not ended, is held, or is still watched.
            Unavailable: The database does not answer.
        """
        return await self._database.read(lambda connection: _erasable(connection, payment_id, lock=False))

    async def erase(
        self, payment_id: str, *, reason: str, context: Context, told: ErasureTold | None = None, replayed: bool = False
    ) -> bool:
        """
        Erase a payment's data, with an entry `subject.erased` in the same transaction.

        Args:
            payment_id: The payment.
            reason: Why, for the entry; no payer data.
            context: Who, when, from where.
            told: Hears of it before the COMMIT, and may prevent it by raising; again when
                the transaction is tried again.
            replayed: Whether it was erased before, in a copy of this database that is gone.

        Returns:
            `False` if there is nothing of it (any more): nothing was written.

        Raises:
            NotFound, Conflict: As `erasable`. Nothing was written.
            Unavailable: The database does not answer; the same call again is safe.

        Crash: data and entry are as before, or the data is gone and the entry is there.
        What `told` was told may be all that happened.
        """

        def change(connection: Connection) -> bool:
            if not _erasable(connection, payment_id, lock=True):
                return False
            connection.execute(delete(payer_data).where(payer_data.c.payment_id == payment_id))
            if told is not None:
                told(payment_id, context.now)
            return True

        details: dict[str, Any] = {"reason": reason} | ({"replayed": True} if replayed else {})
        return await self.note(ERASED, about=payment_id, context=context, details=details, change=change) is not None

    async def outlived(self, before: datetime, after: str, limit: int) -> tuple[Sequence[str], str | None]:
        """
        Look through a page of payer data for payments whose last word is older than `before`.

        By the primary key of what is not erased yet, whose number retention itself bounds; what
        was collected lately needs no second look.

        Args:
            before: Whatever ended, and was last spoken of, before this is outlived.
            after: The last id of the page before.
            limit: How many rows are looked at.

        Returns:
            The payments to erase, and where to go on; `None` behind the last page.

        Raises:
            Unavailable: The database does not answer.
        """
        page = (
            select(payer_data.c.payment_id, payer_data.c.updated_at)
            .where(payer_data.c.payment_id > after)
            .order_by(payer_data.c.payment_id)
            .limit(limit)
        )
        last_word = and_(audit_entry.c.chain_id == payment.c.id, audit_entry.c.seq == payment.c.version)

        def work(connection: Connection) -> tuple[Sequence[str], str | None]:
            rows = connection.execute(page).all()
            old = [row.payment_id for row in rows if row.updated_at < before]
            place = rows[-1].payment_id if len(rows) == limit else None
            if not old:
                return (), place
            over = (payment.c.state.in_(sorted(ENDED)), payment.c.hold.is_(None), payment.c.watch_until.is_(None))
            due = (
                select(payment.c.id)
                .join(audit_entry, last_word)
                .where(payment.c.id.in_(old), *over, audit_entry.c.at < before)
                .order_by(payment.c.id)
            )
            return list(connection.execute(due).scalars()), place

        return await self._database.read(work)

    async def census(self, headers: Sequence[bytes], digests: str) -> Census:
        """
        Count what is sealed, and under what.

        Args:
            headers: How a sealed value begins; each is counted.
            digests: How the digests of payments begin that need no older key.

        Raises:
            Unavailable: The database does not answer.
        """
        counted = [func.count().filter(_begins(header)) for header in headers]
        mine = func.substr(payment.c.content_digest, 1, len(digests)) == digests

        def work(connection: Connection) -> Census:
            total, *under = (connection.execute(select(func.count(), *counted).select_from(payer_data))).one()
            older = connection.scalar(select(func.count()).select_from(payment).where(~mine))
            return Census(total, tuple(under), older or 0)

        return await self._database.read(work)

    async def sealed_otherwise(self, header: bytes, after: str, limit: int) -> Sequence[tuple[str, bytes]]:
        """
        Give a page of the values that begin otherwise, with their payments, by payment.

        Raises:
            Unavailable: The database does not answer.
        """
        statement = (
            select(payer_data.c.payment_id, payer_data.c.sealed)
            .where(payer_data.c.payment_id > after, ~_begins(header))
            .order_by(payer_data.c.payment_id)
            .limit(limit)
        )

        def work(connection: Connection) -> Sequence[tuple[str, bytes]]:
            return [(row.payment_id, bytes(row.sealed)) for row in connection.execute(statement)]

        return await self._database.read(work)

    async def reseal(self, rows: Sequence[tuple[str, bytes, bytes]]) -> int:
        """
        Put other bytes in place of those that are known, in one transaction.

        Args:
            rows: Payment, the value that was seen, and the one to be.

        Returns:
            How many were replaced: a value that changed, or was erased, meanwhile is left alone.

        Raises:
            Unavailable: The database does not answer; the same call again is safe.

        Crash: all of them are replaced or none.
        """

        def work(connection: Connection) -> int:
            done = 0
            for payment_id, seen, anew in rows:
                same = (payer_data.c.payment_id == payment_id) & (payer_data.c.sealed == seen)
                # Not `updated_at`: nothing was collected, and retention counts from there.
                done += connection.execute(update(payer_data).where(same).values(sealed=anew)).rowcount
            return done

        return await self._database.write(work) if rows else 0

    async def truncate_log(self) -> bool | None:
        """
        Take what was overwritten out of SQLite's log, too.

        Returns:
            Whether that could be done: not while another connection reads from the log. `None`
            on PostgreSQL, whose log is the server's business.

        Raises:
            Unavailable: The database does not answer.

        Crash: the log is as it was, or empty; no data is lost.
        """
        if self._database.dialect != "sqlite":
            return None
        try:
            return await self._database.aside(_truncated)
        except Silent as silent:
            raise unavailable(silent) from silent


def _truncated(connection: Connection) -> bool:
    driver: Any = connection.connection.driver_connection  # outside a transaction: in one it is refused
    ((busy, *_),) = driver.execute("pragma wal_checkpoint(truncate)").fetchall()
    return not busy


def _erasable(connection: Connection, payment_id: str, *, lock: bool) -> bool:
    standing = select(*_STANDING).where(payment.c.id == payment_id)
    found = connection.execute(standing.with_for_update() if lock else standing).first()
    if found is None:
        raise NotFound("no payment has this id")
    if found.state not in ENDED:
        raise Conflict(found.id, "has not ended: its fields are still needed", "cancel it, or wait")
    if found.hold is not None:
        raise Conflict(found.id, "is held: its fields are still needed", "resolve it first")
    if found.watch_until is not None:
        raise Conflict(found.id, "is still watched: its fields are still needed", "wait until nothing can come late")
    here = select(payer_data.c.payment_id).where(payer_data.c.payment_id == payment_id)
    return connection.scalar(here) is not None


def _begins(header: bytes) -> ColumnElement[bool]:
    return func.substr(payer_data.c.sealed, 1, len(header), type_=payer_data.c.sealed.type) == header
