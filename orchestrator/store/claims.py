"""
Who drives a payment: workers, their heartbeat, and claims.

Owns `claimed_by`, `claim_no` and the due time beside the trail: none of them says
anything about the payment itself, so none needs an entry. A claim whose worker
is not in the table is nobody's, whatever became of it. Next: `reads`.
"""

import hashlib
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, and_, bindparam, delete, exists, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.domain.payment import ENDED, Payment
from orchestrator.store.access import Database
from orchestrator.store.hints import hint
from orchestrator.store.rows import payment_of
from orchestrator.store.schema import payment, worker
from orchestrator.store.stalled import end_stalled

_ORPHANED = and_(payment.c.claimed_by.is_not(None), ~exists().where(worker.c.id == payment.c.claimed_by))
_AGAIN = (
    update(payment)
    .where(payment.c.id == bindparam("at_id"))
    .values(claimed_by=None, due_at=bindparam("to_due_at"))
)  # fmt: skip


class Claims:
    """The verbs of workers."""

    def __init__(self, database: Database) -> None:
        self._database = database

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

        async def work(connection: AsyncConnection) -> None:
            # It may be there already: from a first try whose answer was lost.
            known = await connection.scalar(select(worker.c.id).where(worker.c.id == worker_id))
            if known is None:
                await connection.execute(insert(worker), [row])

        await self._database.write(work)

    async def beat(self, worker_id: str, *, now: datetime) -> bool:
        """
        Say that the worker lives.

        Returns:
            `False` if it was reaped: its claims are gone, and it must take a new id.

        Crash: the beat is there or not; nothing else changes.
        """

        async def work(connection: AsyncConnection) -> bool:
            done = await connection.execute(update(worker).where(worker.c.id == worker_id).values(beat_at=now))
            return done.rowcount == 1

        return await self._database.write(work)

    async def living(self, *, since: datetime) -> int:
        """Count the workers that have said since then that they live."""
        statement = select(func.count()).select_from(worker).where(worker.c.beat_at >= since)

        async def work(connection: AsyncConnection) -> int:
            return int((await connection.execute(statement)).scalar_one())

        return await self._database.read(work)

    async def retire(self, worker_id: str, *, now: datetime) -> None:
        """
        Give every claim back, due times untouched, and forget the worker.

        Args:
            worker_id: Whose claims.
            now: Not used: what was due stays due when it was.

        Crash: all claims are given back or none; then the worker is reaped later.
        """
        del now

        async def work(connection: AsyncConnection) -> None:
            mine = payment.c.claimed_by == worker_id
            held = select(payment.c.id).where(mine).order_by(payment.c.id).with_for_update()
            if (await connection.execute(held)).all():
                # Given back in good order: no crash to count against the payment.
                await connection.execute(
                    update(payment).where(mine).values(claimed_by=None, progress_claim=payment.c.claim_no)
                )
                await hint(connection)
            await connection.execute(delete(worker).where(worker.c.id == worker_id))

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
        due = _due(worker_id, now, accounts, machine_versions).limit(limit)
        due_ids = due.with_for_update(skip_locked=True, of=payment).cte("due")
        statement = (
            update(payment)
            .where(payment.c.id.in_(select(due_ids.c.id)))
            .values(claimed_by=worker_id, claim_no=payment.c.claim_no + 1)
            .returning(*payment.columns)
        )

        async def work(connection: AsyncConnection) -> Sequence[Payment]:
            rows = (await connection.execute(statement)).mappings().all()
            return sorted(map(payment_of, rows), key=lambda taken: (taken.due_at or now, taken.id))

        return await self._database.write(work, again=False)

    async def claimed(self, worker_id: str) -> Sequence[Payment]:
        """Give what the worker holds, by id: after a `claim` whose answer was lost."""
        statement = select(payment).where(payment.c.claimed_by == worker_id).order_by(payment.c.id)

        async def work(connection: AsyncConnection) -> Sequence[Payment]:
            return [payment_of(row) for row in (await connection.execute(statement)).mappings()]

        return await self._database.read(work)

    async def reap(self, *, lapsed_before: datetime, now: datetime, jitter_s: float, limit: int) -> int:
        """
        Free the claims of workers that are gone; they are due again within `jitter_s`.

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
            .order_by(payment.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True, of=payment)
        )

        async def work(connection: AsyncConnection) -> int:
            await end_stalled(connection)
            await connection.execute(delete(worker).where(worker.c.beat_at < lapsed_before))
            rows = (await connection.execute(orphans)).all()
            if rows:
                await connection.execute(
                    _AGAIN,
                    [
                        {
                            "at_id": row.id,
                            # An ended payment that nobody watches has nothing left to be due for.
                            "to_due_at": row.due_at
                            if row.state in ENDED and row.watch_until is None
                            else now + timedelta(seconds=jitter_s * _share(row.id)),
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

        async def work(connection: AsyncConnection) -> bool:
            return (await connection.execute(statement)).rowcount == 1

        return await self._database.write(work)


def _share(payment_id: str) -> float:
    """Give a number from 0 to 1 that is always the same for a payment, and another for the next."""
    return int.from_bytes(hashlib.sha256(payment_id.encode()).digest()[:4], "big") / 2**32


def _due(worker_id: str, now: datetime, accounts: Collection[str], versions: Collection[int]) -> Select[Any]:
    """Select what the worker may take, the longest due first; nothing for a worker that is gone."""
    return (
        select(payment.c.id)
        .where(
            payment.c.due_at.is_not(None), payment.c.due_at <= now, payment.c.claimed_by.is_(None),
            payment.c.account.in_(accounts), payment.c.machine_version.in_(versions),
            exists().where(worker.c.id == worker_id),
        )
        .order_by(payment.c.due_at)
    )  # fmt: skip
