"""
Who drives a payment: workers, their heartbeat, and claims.

Owns `claimed_by`, `claim_no` and the due time beside the trail: none of them says
anything about the payment itself, so none needs an entry. A claim whose worker
is not in the table is nobody's, whatever became of it. Next: `reads`.
"""

import hashlib
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import (
    ClauseElement,
    Connection,
    Integer,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy import text as sql

from orchestrator.domain.payment import ENDED, Payment
from orchestrator.store.hints import hint
from orchestrator.store.prepared import Prepared, within
from orchestrator.store.rows import made_of
from orchestrator.store.schema import payment, worker
from orchestrator.store.stalled import end_stalled
from orchestrator.store.writes import Writes

_ORPHANED = and_(payment.c.claimed_by.is_not(None), ~exists().where(worker.c.id == payment.c.claimed_by))
_AGAIN = (
    update(payment)
    .where(payment.c.id == bindparam("at_id"))
    .values(claimed_by=None, due_at=bindparam("to_due_at"))
)  # fmt: skip


class Claims(Writes):
    """The verbs of workers."""

    async def register(self, worker_id: str, *, origin: str, version: str, now: datetime) -> None:
        """
        Make a worker known, alive from `now` on.

        Args:
            worker_id: New at every boot and after every lapse.
            origin: From where: host name and process id.
            version: The software's version.
            now: The present, UTC.

        Crash: a worker that dies after this is reaped when its beat is too old.
        """
        row = {"id": worker_id, "origin": origin, "version": version, "started_at": now, "beat_at": now}

        def work(connection: Connection) -> None:
            # It may be there already: from a first try whose answer was lost.
            known = connection.scalar(select(worker.c.id).where(worker.c.id == worker_id))
            if known is None:
                connection.execute(insert(worker), [row])

        await self._database.write(work)

    async def beat(self, worker_id: str, *, now: datetime) -> bool:
        """
        Say that the worker lives.

        Returns:
            `False` if it was reaped: its claims are gone, and it must take a new id.

        Crash: the beat is there or not; nothing else changes.
        """

        def work(connection: Connection) -> bool:
            done = connection.execute(update(worker).where(worker.c.id == worker_id).values(beat_at=now))
            return done.rowcount == 1

        return await self._database.write(work)

    async def living(self, *, since: datetime) -> int:
        """Count the workers that have said since then that they live."""
        statement = select(func.count()).select_from(worker).where(worker.c.beat_at >= since)

        def work(connection: Connection) -> int:
            return int(connection.execute(statement).scalar_one())

        return await self._database.read(work)

    async def lapsed(self, *, before: datetime) -> bool:
        """Tell whether a worker has last said before then that it lives; a look into a table of a few rows."""
        statement = select(exists().where(worker.c.beat_at < before))
        return await self._database.read(lambda connection: bool(connection.scalar(statement)))

    async def retire(self, worker_id: str, *, now: datetime) -> None:
        """
        Give every claim back, due times untouched, and forget the worker.

        Args:
            worker_id: Whose claims.
            now: Not used: what was due stays due when it was.

        Crash: all claims are given back or none; then the worker is reaped later.
        """
        del now

        def work(connection: Connection) -> None:
            mine = payment.c.claimed_by == worker_id
            held = select(payment.c.id).where(mine).order_by(payment.c.id).with_for_update()
            if connection.execute(held).all():
                # Given back in good order: no crash to count against the payment.
                connection.execute(
                    update(payment).where(mine).values(claimed_by=None, progress_claim=payment.c.claim_no)
                )
                hint(connection)
            connection.execute(delete(worker).where(worker.c.id == worker_id))

        # A claim whose caller was cancelled may still run, and would come too late to be given back.
        await self._database.settled()
        await self._database.write(work)

    async def claim(
        self,
        worker_id: str,
        *,
        now: datetime,
        limit: int,
        accounts: Collection[str],
        machine_versions: Collection[int],
    ) -> Sequence[Payment]:
        """
        Take due, unclaimed payments, in one statement, each with `claim_no` + 1.

        Args:
            worker_id: A registered worker; one that was reaped gets nothing.
            now: The present, UTC.
            limit: The most payments to take.
            accounts: The accounts that the worker knows.
            machine_versions: The machine versions that the worker knows.

        Returns:
            The payments, the longest due first.

        Raises:
            Unavailable: The database does not answer. It is not tried again here, for
                the claims may have been made: `claimed` tells.

        Crash: claimed payments whose worker is gone are freed by `reap`.
        """
        given = {
            "worker_id": worker_id, "now": now, "most": limit, "accounts": sorted(accounts),
            "versions": sorted(machine_versions),
        }  # fmt: skip

        def work(connection: Connection) -> Sequence[Payment]:
            taken = map(made_of, _CLAIM.rows(connection, **given))
            return sorted(taken, key=lambda payment_: (payment_.due_at or now, payment_.id))

        return await self.act(work, again=False)

    async def claimed(self, worker_id: str) -> Sequence[Payment]:
        """Give what the worker holds, by id: after a `claim` whose answer was lost."""
        statement = select(payment).where(payment.c.claimed_by == worker_id).order_by(payment.c.id)

        def work(connection: Connection) -> Sequence[Payment]:
            return [made_of(row) for row in connection.execute(statement)]

        return await self._database.read(work)

    async def reap(self, *, lapsed_before: datetime, now: datetime, jitter_s: float, limit: int) -> int:
        """
        Free the claims of workers that are gone; they are due when they were, and within `jitter_s` at the latest.

        Connections of stopped processes, which may lock those payments, are ended first.

        Args:
            lapsed_before: A worker whose last beat is older is forgotten; `beat` tells it.
            now: The present, UTC.
            jitter_s: Seconds over which the due times are spread, by the payments' ids.
            limit: The most claims to free.

        Returns:
            How many claims were freed.

        Crash: a claim is freed or still nobody's; the next call goes on.
        """
        orphans = (
            select(payment.c.id, payment.c.state, payment.c.watch_until, payment.c.due_at)
            .where(_ORPHANED)
            # An expression, so that the claimed ones are found by their own index and then sorted.
            .order_by(func.coalesce(payment.c.id, ""))
            .limit(limit)
            .with_for_update(skip_locked=True, of=payment)
        )

        def work(connection: Connection) -> int:
            end_stalled(connection)
            connection.execute(delete(worker).where(worker.c.beat_at < lapsed_before))
            rows = connection.execute(orphans).all()
            latest = now + timedelta(seconds=jitter_s)
            if rows:
                connection.execute(
                    _AGAIN,
                    [
                        {
                            "at_id": row.id,
                            # An ended payment that nobody watches has nothing left to be due for.
                            "to_due_at": row.due_at
                            if row.state in ENDED and row.watch_until is None
                            # What was due before is due as before: it goes ahead of all that has not begun.
                            else min(row.due_at or latest, now + timedelta(seconds=jitter_s * _share(row.id))),
                        }
                        for row in rows
                    ],
                )
            return len(rows)

        return await self._database.write(work)

    async def postpone(self, payment_: Payment, due_at: datetime | None, *, keep_claim: bool) -> bool:
        """
        Move only the due time, under the claim in the payment, without an entry.

        Its worker lives, so its claims so far were not fruitless.

        Returns:
            `False` if fenced: nothing was written.

        Crash: the old due time holds, or the new one.
        """
        same = and_(
            payment.c.id == payment_.id,
            payment.c.version == payment_.version,
            payment.c.claimed_by.is_not_distinct_from(payment_.claimed_by),
            payment.c.claim_no == payment_.claim_no,
        )
        claim = payment_.claimed_by if keep_claim else None
        # A first try whose answer was lost has given the claim back already.
        done_before = and_(
            payment.c.id == payment_.id, payment.c.version == payment_.version, payment.c.claim_no == payment_.claim_no,
            payment.c.claimed_by.is_not_distinct_from(claim), payment.c.due_at.is_not_distinct_from(due_at),
        )  # fmt: skip
        statement = update(payment).where(or_(same, done_before)).values(
            due_at=due_at, claimed_by=claim, progress_claim=payment.c.claim_no
        )  # fmt: skip

        def work(connection: Connection) -> bool:
            return connection.execute(statement).rowcount == 1

        return await self.act(work)


def _share(payment_id: str) -> float:
    """Give a number from 0 to 1 that is always the same for a payment, and another for the next."""
    return int.from_bytes(hashlib.sha256(payment_id.encode()).digest()[:4], "big") / 2**32


def _claim(dialect: str) -> ClauseElement:
    """Take what the worker may take, the longest due first; nothing for a worker that is gone."""
    due = (
        select(payment.c.id)
        .where(
            payment.c.due_at.is_not(None), payment.c.due_at <= bindparam("now"), payment.c.claimed_by.is_(None),
            # An expression: SQLite would look through all that the account ever had, and sort it.
            within(func.coalesce(payment.c.account, sql("''")), "accounts", dialect),
            within(payment.c.machine_version, "versions", dialect),
            exists().where(worker.c.id == bindparam("worker_id")),
        )
        .order_by(payment.c.due_at)
        .limit(bindparam("most", type_=Integer))
        .with_for_update(skip_locked=True, of=payment)
        .cte("due")
    )  # fmt: skip
    return (
        update(payment)
        .where(payment.c.id.in_(select(due.c.id)))
        .values(claimed_by=bindparam("worker_id"), claim_no=payment.c.claim_no + 1)
        .returning(*payment.columns)
    )


_CLAIM = Prepared(_claim, payment.columns)
