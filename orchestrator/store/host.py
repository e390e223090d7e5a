"""
The host's own transaction, as a database whose statements all go through one connection.

Owns what the host's connection must be like, and that a transaction really runs on it.
When it is committed, tried again or rolled back is the host's to say. Must not know
any table but by its place. Next: `store`.
"""

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.domain.errors import Conflict, InvalidInput, Unavailable
from orchestrator.domain.payment import Payment
from orchestrator.records import Birth
from orchestrator.store.access import Database
from orchestrator.store.faults import Refused, Silent, heard, unavailable
from orchestrator.store.guards_postgresql import DEFERRED
from orchestrator.store.incarnation import LIFE
from orchestrator.store.reads import Reads
from orchestrator.store.ways import InGreenlet, Result, Work
from orchestrator.store.writes import Writes

FIELD = "connection"
_FAILED = "25P02"
# What the server is, which of its databases this is, and which schema is seen first.
_PLACE = text(
    "select cast(extract(epoch from pg_postmaster_start_time()) as text) || ' ' || cast(d.oid as text)"
    " || ' ' || cast(cast(to_regclass('payment') as oid) as text)"
    " from pg_database d where d.datname = current_database()"
)


class HostTransaction(Database):
    """
    A database that writes and reads inside the host's transaction; get it from `joined`.

    Args:
        ours: The database that the connection belongs to.
        connection: The host's, with a transaction on it.
    """

    def __init__(self, ours: Database, connection: AsyncConnection) -> None:
        # Not the parent's: nothing is opened here, and nothing of it is ever closed here.
        self.url, self.engines, self.dialect = ours.url, ours.engines, ours.dialect
        self.guard = None  # `joined` has asked it, on a connection that sees the present
        self._bound = InGreenlet(connection)

    async def transact(self, work: Work[Result], *, again: bool = False) -> Result:  # noqa: ARG002 - never again
        """
        Do the work in a savepoint, once: a refusal leaves the host's transaction usable.

        Raises:
            Refused: The database kept a rule; nothing of the work is left.
            Silent: No answer, or the transaction can't go on.

        Crash: the host's COMMIT decides; without it nothing is left behind.
        """
        with heard():
            return await self._bound.run(lambda connection: _in_savepoint(connection, work))

    async def read(self, work: Work[Result]) -> Result:
        """
        Do one reading statement, which sees what the transaction has written.

        Raises:
            Unavailable: The database does not answer.
        """
        try:
            with heard():
                return await self._bound.run(work)
        except Silent as silent:
            raise unavailable(silent) from silent


def _in_savepoint(connection: Connection, work: Work[Result]) -> Result:
    with connection.begin_nested():
        done = work(connection)
        if connection.dialect.name == "postgresql":
            # What is wrong is told now, and the rules wait for the host's COMMIT again.
            for when in ("immediate", "deferred"):
                connection.exec_driver_sql(f"set constraints {', '.join(DEFERRED)} {when}")
        return done


class _HostWrites(Writes):
    def _unseen(self, refused: Refused) -> Exception:  # noqa: ARG002 - the parent's name
        return Unavailable("the same payment was submitted elsewhere since this transaction began; begin it again")


class Joined:
    """The verbs that a submit needs, inside the host's transaction."""

    def __init__(self, database: HostTransaction) -> None:
        self._writes = _HostWrites(database)
        reads = Reads(database)
        self.of_reference, self.sealed = reads.of_reference, reads.sealed

    async def submit(self, birth: Birth) -> Payment:
        """
        Record a birth, or give the payment that already has this id.

        Raises:
            Conflict: A live payment has the same (account, reference), or a live phone
                session the same (account, CallGuid). The transaction goes on.
            Unavailable: The database does not answer, or the transaction can't go on:
                roll it back and begin it again.

        Crash: the host's COMMIT decides whether there is a payment.
        """
        return await self._writes.alone(birth)


async def joined(ours: Database, connection: object) -> Joined:
    """
    Join the host's transaction; it is begun if none runs on the connection.

    Args:
        ours: The database that the payments are in.
        connection: The host's `AsyncConnection`.

    Raises:
        InvalidInput: Not an open `AsyncConnection`, or no transaction can run on it.
        Conflict: It leads to another database, another schema, or an older copy of it.
        Unavailable: The database does not answer; `WentBack`: it is older than what is known of it.

    Crash: nothing was written.
    """
    if not isinstance(connection, AsyncConnection):
        raise InvalidInput(
            FIELD, "is not an AsyncConnection of SQLAlchemy",
            "give that of your AsyncEngine, or `await session.connection()` of an AsyncSession",
        )  # fmt: skip
    if connection.sync_connection is None or connection.closed:
        raise InvalidInput(FIELD, "is not open", "submit inside its `async with`")
    elsewhere = Conflict(FIELD, "leads to another database or schema", "connect to the one in database_url")
    if connection.dialect.name != ours.dialect:
        raise elsewhere
    try:
        with heard():
            await connection.run_sync(_begun)
            theirs = await connection.run_sync(_place)
    except Silent as silent:
        cause = silent.__cause__
        if isinstance(cause, PendingRollbackError) or _sqlstate(cause) == _FAILED:
            raise InvalidInput(FIELD, "has a transaction that failed before", "roll it back first") from None
        raise unavailable(silent) from silent
    if theirs is None or theirs != await ours.read(_place):
        raise elsewhere
    if ours.guard is not None:
        # On a connection of ours: the host's may see an earlier moment, which is no sign of anything.
        await ours.read(ours.guard.demand)
        with heard():
            life = await connection.scalar(LIFE)
        if life != await ours.read(lambda own: own.scalar(LIFE)):
            raise Conflict(FIELD, "leads to a file that was replaced", "make the AsyncEngine's connections anew")
    return Joined(HostTransaction(ours, connection))


def _begun(connection: Connection) -> None:
    """Make sure that a transaction runs: SQLite's driver may not have begun it, and a lone savepoint would commit."""
    raw: Any = connection.connection
    adapted: Any = raw.dbapi_connection
    commits_each = connection.dialect.detect_autocommit_setting(adapted)
    autocommit = InvalidInput(FIELD, "commits each statement by itself", "give one without AUTOCOMMIT")
    if connection.dialect.name != "sqlite":
        if commits_each:
            raise autocommit
        return
    new = not connection.in_transaction()
    if new:
        connection.begin()
    driver = raw.driver_connection
    if driver is not None and not driver.in_transaction:
        # A host that begins by itself has done so by now; one whose driver never begins can't commit either.
        if commits_each:
            if new:
                connection.rollback()
            raise autocommit
        connection.exec_driver_sql("begin immediate")


def _place(connection: Connection) -> str | None:
    """Say where a connection leads, so that two can be compared; `None`: not to any payment."""
    if connection.dialect.name == "sqlite":
        files = {row.name: row.file for row in connection.exec_driver_sql("pragma database_list")}
        return _resolved(files["main"])
    found: str | None = connection.execute(_PLACE).scalar()
    return found


def _resolved(file: str) -> str | None:
    return str(Path(file).resolve()) if file else None


def _sqlstate(error: BaseException | None) -> str | None:
    return getattr(getattr(error, "orig", None), "sqlstate", None)
