"""
The outbox: what the host is still to be told.

Owns delivery's bookkeeping: at least once, never after its time, and whether a
delivery was ever begun. Must not know the host's handlers. Next: `store`.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, exists, or_, select, update

from orchestrator.domain.decision import Notice
from orchestrator.records import Notification
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
        due = _due(worker_id, events, now).where(*_of_accounts(accounts)).limit(limit)
        due_ids = due.with_for_update(skip_locked=True, of=notification).cte("due")
        statement = (
            update(notification)
            .where(notification.c.id.in_(select(due_ids.c.id)))
            .values(taken_by=worker_id, begun_at=now, tries=notification.c.tries + 1)
            .returning(*notification.columns)
        )

        def work(connection: Connection) -> Sequence[Notification]:
            rows = connection.execute(statement).mappings().all()
            return [
                _of(row, begun=row["tries"] > 1) for row in sorted(rows, key=lambda row: (row["due_at"], row["id"]))
            ]

        return await self.act(work, again=False)

    async def lapsed_notifications(
        self, *, now: datetime, limit: int, accounts: Collection[str] | None = None
    ) -> Sequence[Notification]:
        """
        Give undone notifications whose time is over; `begun` tells of any delivery.

        They stay until they are settled.
        """
        statement = (
            select(notification)
            .where(notification.c.done_at.is_(None), notification.c.expires_at <= now, *_of_accounts(accounts))
            .order_by(notification.c.expires_at, notification.c.id)
            .limit(limit)
        )

        def work(connection: Connection) -> Sequence[Notification]:
            rows = connection.execute(statement).mappings()
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


def _of_accounts(accounts: Collection[str] | None) -> Sequence[ColumnElement[bool]]:
    if accounts is None:
        return ()
    return (exists().where(payment.c.id == notification.c.payment_id, payment.c.account.in_(accounts)),)


def _due(worker_id: str, events: Sequence[str], now: datetime) -> Select[Any]:
    """Select what may be told now, the longest due first; nothing for a worker that is gone."""
    return (
        select(notification.c.id)
        .where(
            notification.c.done_at.is_(None), notification.c.due_at <= now, notification.c.event.in_(events),
            or_(notification.c.expires_at.is_(None), notification.c.expires_at > now),
            or_(notification.c.taken_by.is_(None), ~exists().where(worker.c.id == notification.c.taken_by)),
            exists().where(worker.c.id == worker_id),
        )
        .order_by(notification.c.due_at, notification.c.id)
    )  # fmt: skip
