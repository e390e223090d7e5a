"""
A person's word that the database was put back: hold what was under way, begin a new life.

Owns the order, which makes a crash harmless: the holds first, page by page, then the
new life together with its entry, then the mark. Until the new life is there every
process that noticed still refuses to write; the same command again goes on where this
one stopped. Must not decide anything about a payment itself. Next: `migrate`.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update
from sqlalchemy import text as sql

from orchestrator.domain.entry import Context
from orchestrator.domain.errors import ConfigurationError, Conflict, DatabaseDamaged, Fenced
from orchestrator.domain.payment import Payment
from orchestrator.domain.policy import DIGITAL
from orchestrator.domain.restoring import restored
from orchestrator.mark import Mark, MarkFile
from orchestrator.records import Record
from orchestrator.store.incarnation import life_of, lost_lives, settle_failures
from orchestrator.store.registers import incarnation
from orchestrator.store.rows import payment_of
from orchestrator.store.rules import ENDED_LIST
from orchestrator.store.schema import notification, payment, worker
from orchestrator.store.store import SqlStore

# A call that the copy holds for waiting may have been handed over since: nobody is sent there a second time.
_NEVER_AGAIN = (
    update(notification)
    .where(notification.c.done_at.is_(None), notification.c.expires_at.is_not(None))
    .values(expires_at=bindparam("now"), begun_at=bindparam("now"), tries=notification.c.tries + 1, taken_by=None)
)
PAGE = 500
"""Payments held in one transaction; a huge backlog must not hold locks for long."""


@dataclass(frozen=True, slots=True)
class Restoration:
    """
    What was done.

    Attributes:
        incarnation: The new life's id.
        previous: The id of the life that the copy was made in.
        held: How many payments this run has held.
        newest: When the newest payment of the copy was submitted; `None` if it has none. What
            was submitted later is not in it.
    """

    incarnation: str
    previous: str
    held: int
    newest: datetime | None


async def begin_anew(
    database_url: str,
    sink: MarkFile | None,
    context: Callable[[], Context],
    *,
    reason: str,
    new_id: str,
    longest_s: float = DIGITAL.session_life_s,
) -> Restoration:
    """
    Hold every payment that has not ended, free every claim, and begin a new life.

    Args:
        database_url: The database that was put back.
        sink: Where this host keeps its mark.
        context: Who says so (`actor`), when, from where.
        reason: Why; row and entry keep it. No payer data.
        new_id: The new life's id: 32 hexadecimal digits, never used before.
        longest_s: The longest life that any account's policy gives a session.

    Raises:
        ConfigurationError: The mark can't be written, or not a database that this version
            writes (`DatabaseMismatch`). Nothing was changed.
        Conflict: Somebody else has begun a new life at the same time; that one counts.
        DatabaseDamaged: A SQLite file is damaged, as by a log (`-wal`) of the former file beside it.
        Unavailable: The database does not answer; the same call again goes on.

    Crash: between two pages some payments are held and no new life has begun: nobody who
    noticed writes; the same call again holds the rest. After the new life's commit and
    before the mark's, the mark names a former life, which every process accepts.
    """
    if sink is not None:
        await asyncio.to_thread(sink.demand_writable)
    store = SqlStore(database_url, group_limit=PAGE)
    await store.open()
    try:
        await _sound(store)
        newest = await store.database.read(_newest)
        held = await _hold_all(store, context, longest_s)
        word = _Word(context(), reason, new_id, await asyncio.to_thread(_marked, sink), held)
        previous = await _new_life(store, word)
    finally:
        await store.close()
    if sink is not None:
        await asyncio.to_thread(sink.write, Mark(new_id))
    return Restoration(new_id, previous, held, newest)


def _newest(connection: Connection) -> datetime | None:
    found: datetime | None = connection.scalar(select(func.max(payment.c.created_at)))
    return found


async def _sound(store: SqlStore) -> None:
    if store.dialect != "sqlite":
        return

    def work(connection: Connection) -> object:
        return connection.exec_driver_sql("pragma integrity_check(1)").scalar_one()

    if await store.database.read(work) != "ok":
        raise DatabaseDamaged("the file is damaged: put the copy back anew, with no `-wal` and `-shm` beside it")


async def _hold_all(store: SqlStore, context: Callable[[], Context], longest_s: float) -> int:
    """Go through the pages by id; what somebody else changes meanwhile is read and decided again."""
    held, place = 0, ""
    while True:
        unended = sql(f"state not in ({ENDED_LIST})")
        statement = select(payment).where(unended, payment.c.id > place).order_by(payment.c.id).limit(PAGE)
        page = await _payments(store, statement)
        if not page:
            return held
        decisions = [restored(found, context(), longest_s) for found in page]
        records = [Record(decision, held_claim=False) for decision in decisions if not decision.quiet]
        results = await asyncio.gather(*(store.record(record) for record in records), return_exceptions=True)
        failed = [result for result in results if isinstance(result, BaseException)]
        for error in failed:
            if not isinstance(error, Fenced):
                raise error
        held += len(results) - len(failed)
        if not failed:
            place = page[-1].id


async def _payments(store: SqlStore, statement: object) -> Sequence[Payment]:
    def work(connection: Connection) -> Sequence[Payment]:
        return [payment_of(row) for row in connection.execute(statement).mappings()]  # type: ignore[call-overload]

    return await store.database.read(work)


@dataclass(frozen=True, slots=True)
class _Word:
    """What the person says, and what the mark knows."""

    context: Context
    reason: str
    new_id: str
    marked: str
    held: int


async def _new_life(store: SqlStore, word: _Word) -> str:
    """Begin the new life; give the one before it, which is the copy's."""
    number, previous = await store.database.read(life_of)
    context = word.context

    def change(connection: Connection) -> bool:
        if life_of(connection) != (number, previous):
            return False
        # Workers of the copy's time are gone, and those that run take a new id when they find theirs forgotten.
        connection.execute(update(payment).where(payment.c.claimed_by.is_not(None)).values(claimed_by=None))
        connection.execute(delete(worker))
        connection.execute(_NEVER_AGAIN, {"now": context.now})
        # The lives that are lost are named before it, so that whoever knew one of them finds it settled.
        lives = [previous, *lost_lives(connection, word.marked), word.new_id]
        rows = [
            {"number": number + place, "id": lives[place], "previous": lives[place - 1], "started_at": context.now,
             "person": context.actor, "reason": word.reason}
            for place in range(1, len(lives))
        ]  # fmt: skip
        connection.execute(insert(incarnation), rows)
        settle_failures(connection, context, word.reason)
        return True

    details = {"previous": previous, "reason": word.reason, "held": word.held}
    note = await store.note("database.restored", about=word.new_id, context=context, details=details, change=change)
    if note is None:
        raise Conflict("incarnation", "was begun anew by somebody else meanwhile", "see `orchestrator list --held`")
    return previous


def _marked(sink: MarkFile | None) -> str:
    try:
        mark = sink.read() if sink is not None else None
    except ConfigurationError:
        return ""  # a damaged one is replaced
    return mark.incarnation if mark is not None else ""
