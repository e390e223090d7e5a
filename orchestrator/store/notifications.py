"""
The outbox: what the host is still to be told.

Owns delivery's bookkeeping: at least once, never after its time, and whether a
delivery was ever begun. Must not know the host's handlers. Next: `store`.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ClauseElement, ColumnElement, Connection, Integer, bindparam, exists, or_, select, update

from orchestrator.domain.decision import Notice
from orchestrator.records import Notification
from orchestrator.store.prepared import Prepared, within
from orchestrator.store.schema import notification, payment, worker
from orchestrator.store.writes import Writes


class Notifications(Writes):
    """The verbs of the outbox."""

    async def take_notifications(
        self,
        worker_id: str,
        *,
        events: Sequence[str],
        now: datetime,
        limit: int,
        accounts: Collection[str] | None = None,
    ) -> Sequence[Notification]:
        """
        Begin deliveries: due, unexpired, untaken or taken by a worker that is gone; marks them begun.

        Args:
            worker_id: A registered worker; one that was reaped gets nothing.
            events: What somebody handles in this process.
            now: The present, UTC.
            limit: The most to take.
            accounts: Only notices about payments of these; of all by default.

        Returns:
            The notices, the longest due first; `begun` tells of a delivery before this one.

        Raises:
            Unavailable: The database does not answer. What was taken all the same is
                taken again once this worker is gone.

        Crash: a delivery that was begun is told again, by another worker, until it is settled.
        """
        given = {"worker_id": worker_id, "events": list(events), "now": now, "most": limit}
        statement = _TAKE if accounts is None else _TAKE_OF
        given |= {} if accounts is None else {"accounts": sorted(accounts)}

        def work(connection: Connection) -> Sequence[Notification]:
            rows = [dict(zip(_COLUMNS, row, strict=True)) for row in statement.rows(connection, **given)]
            rows.sort(key=lambda row: (row["due_at"], row["id"]))
            return [_of(row, begun=row["tries"] > 1) for row in rows]

        return await self.act(work, again=False)

    async def lapsed_notifications(
        self, *, now: datetime, limit: int, accounts: Collection[str] | None = None
    ) -> Sequence[Notification]:
        """
        Give undone notifications whose time is over; `begun` tells of any delivery.

        They stay until they are settled.
        """
        given: dict[str, Any] = {"now": now, "most": limit}
        statement = _LAPSED if accounts is None else _LAPSED_OF
        given |= {} if accounts is None else {"accounts": sorted(accounts)}

        def work(connection: Connection) -> Sequence[Notification]:
            rows = [dict(zip(_COLUMNS, row, strict=True)) for row in statement.rows(connection, **given)]
            return [_of(row, begun=row["tries"] > 0) for row in rows]

        return await self._database.read(work)

    async def settle_notification(self, notification_id: int, *, now: datetime, retry_at: datetime | None) -> None:
        """
        Mark a notification done, or due again at `retry_at`.

        Crash: unsettled, it is told again once its worker is gone.
        """
        undone = update(notification).where(notification.c.id == notification_id, notification.c.done_at.is_(None))
        values = {"done_at": now} if retry_at is None else {"due_at": retry_at}

        def work(connection: Connection) -> None:
            connection.execute(undone.values(taken_by=None, **values))

        await self.act(work)


def _of(row: Any, *, begun: bool) -> Notification:
    return Notification(
        id=row["id"],
        payment_id=row["payment_id"],
        notice=Notice(row["event"], row["seq"], row["expires_at"]),
        begun=begun,
        tries=row["tries"],
    )


_COLUMNS = tuple(column.name for column in notification.columns)
_now, _most = bindparam("now", type_=notification.c.due_at.type), bindparam("most", type_=Integer)


def _of_accounts(dialect: str) -> ColumnElement[bool]:
    return exists().where(
        payment.c.id == notification.c.payment_id, within(payment.c.account, "accounts", dialect)
    )  # fmt: skip


def _take(dialect: str, *conditions: ColumnElement[bool]) -> ClauseElement:
    """Take what may be told now, the longest due first; nothing for a worker that is gone."""
    due = (
        select(notification.c.id)
        .where(
            notification.c.done_at.is_(None), notification.c.due_at <= _now,
            within(notification.c.event, "events", dialect),
            or_(notification.c.expires_at.is_(None), notification.c.expires_at > _now),
            or_(notification.c.taken_by.is_(None), ~exists().where(worker.c.id == notification.c.taken_by)),
            exists().where(worker.c.id == bindparam("worker_id")), *conditions,
        )
        .order_by(notification.c.due_at, notification.c.id)
        .limit(_most)
        .with_for_update(skip_locked=True, of=notification)
        .cte("due")
    )  # fmt: skip
    return (
        update(notification)
        .where(notification.c.id.in_(select(due.c.id)))
        .values(taken_by=bindparam("worker_id"), begun_at=_now, tries=notification.c.tries + 1)
        .returning(*notification.columns)
    )


def _lapsed(*conditions: ColumnElement[bool]) -> ClauseElement:
    return (
        select(notification)
        .where(notification.c.done_at.is_(None), notification.c.expires_at <= _now, *conditions)
        .order_by(notification.c.expires_at, notification.c.id)
        .limit(_most)
    )


_TAKE = Prepared(_take, notification.columns)
_TAKE_OF = Prepared(lambda dialect: _take(dialect, _of_accounts(dialect)), notification.columns)
_LAPSED = Prepared(_lapsed(), notification.columns)
_LAPSED_OF = Prepared(lambda dialect: _lapsed(_of_accounts(dialect)), notification.columns)
