"""
One database: transactions that retry, reads, and a snapshot.

Owns when a transaction is tried again and how a caller's cancellation is kept
away from connections. Must not know any table. Next: `writes`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from orchestrator.store.engines import Engines, open_engines, parsed
from orchestrator.store.faults import Refused, Silent, heard, unavailable
from orchestrator.store.ways import Bound, Result, Work

Sleep = Callable[[float], Awaitable[None]]
TRIES = 5


class Guard(Protocol):
    """What must be so before anything is written, and after."""

    def demand(self, connection: Connection) -> None:
        """Raise what the caller gets instead of a write."""
        ...

    def refusal(self, connection: Connection) -> Exception | None:
        """Give that, with word of it left in the transaction, which is committed with nothing else in it."""
        ...

    def unmoved(self) -> bool:
        """Tell whether the write went where the database is."""
        ...


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What the guard left in the transaction, instead of the work; raised when that is committed."""

    error: Exception


class Database:
    """
    The way to one database; connections are made when they are needed.

    Args:
        database_url: As `engines.parsed` takes it.
        sleep: How to wait between tries; seconds.
    """

    def __init__(self, database_url: str, *, sleep: Sleep = asyncio.sleep) -> None:
        self.url = parsed(database_url)
        self.engines: Engines = open_engines(self.url)
        self.dialect = self.engines.dialect
        self.sleep = sleep
        self.guard: Guard | None = None
        self._running: set[asyncio.Task[Any]] = set()
        self._retrying = AsyncRetrying(
            retry=retry_if_exception_type(Silent), stop=stop_after_attempt(TRIES),
            wait=wait_exponential(multiplier=0.05, max=1.0), sleep=sleep, reraise=True,
        )  # fmt: skip

    @property
    def file(self) -> Path | None:
        """The SQLite file; `None` on PostgreSQL."""
        return Path(self.url.database or "") if self.dialect == "sqlite" else None

    async def transact(self, work: Work[Result], *, again: bool = True) -> Result:
        """
        Do the work in one transaction, which is committed when this returns.

        Args:
            work: Uses the connection it is given; is done anew when tried again, so it
                must look at what is there before it writes.
            again: Whether to try again when the database is silent, even when that
                happened at the COMMIT.

        Raises:
            Refused: The database kept a rule; nothing was written.
            Silent: No answer after the last try.

        Crash: before the COMMIT nothing is left behind; after it everything is.
        """

        async def once() -> Result:
            with heard():
                done = await self.engines.write.run(lambda connection: self._guarded(connection, work), begin=True)
            if isinstance(done, _Refusal):
                raise done.error
            if self.guard is not None and not self.guard.unmoved():
                raise Silent("its file was replaced meanwhile")
            return done

        return await self._shielded(self._tried(once) if again else once())

    async def _tried(self, once: Callable[[], Awaitable[Result]]) -> Result:
        """Try, and again while the database is silent."""
        try:
            return await once()  # nearly always enough: the machinery below costs more than a transaction
        except Silent as silent:
            known = [silent]

        async def more() -> Result:
            if known:
                raise known.pop()
            return await once()

        return await self._retrying.copy()(more)

    def _guarded(self, connection: Connection, work: Work[Result]) -> "Result | _Refusal":
        refusal = self.guard.refusal(connection) if self.guard is not None else None
        return work(connection) if refusal is None else _Refusal(refusal)

    async def write(self, work: Work[Result], *, again: bool = True) -> Result:
        """
        Do as `transact` does, for a caller outside the store.

        Raises:
            OrchestratorError: `Unavailable`, `Conflict` or `IntegrityViolated`.
        """
        try:
            return await self.transact(work, again=again)
        except Refused as refused:
            raise refused.told() from None
        except Silent as silent:
            raise unavailable(silent) from silent

    async def read(self, work: Work[Result]) -> Result:
        """
        Do one reading statement.

        Raises:
            Unavailable: The database does not answer.
        """

        async def once() -> Result:
            with heard():
                return await self.engines.read.run(work, begin=False)

        try:
            return await self._shielded(self._tried(once))
        except Silent as silent:
            raise unavailable(silent) from silent

    async def aside(self, work: Work[Result]) -> Result:
        """
        Do what no transaction may be around, on the writer's connection; once.

        Raises:
            Silent: No answer.
        """

        async def once() -> Result:
            with heard():
                return await self.engines.write.run(work, begin=False)

        return await self._shielded(once())

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Bound]:
        """
        Give a connection whose reads all see one moment.

        Raises:
            Unavailable: The database does not answer.
        """
        async with AsyncExitStack() as stack:
            try:
                with heard():
                    way = self.engines.read if self.dialect == "sqlite" else self.engines.write
                    bound = await stack.enter_async_context(way.bound())
                    await bound.run(_one_moment)
            except Silent as silent:
                raise unavailable(silent) from silent
            yield bound

    async def settled(self) -> None:
        """Wait for everything that runs now, callers that went away included."""
        if self._running:
            await asyncio.wait(set(self._running))

    async def close(self) -> None:
        """Let what runs come to its end, then close every connection."""
        await self.settled()
        await self.engines.dispose()

    async def _shielded(self, work: Coroutine[Any, Any, Result]) -> Result:
        # A statement that is torn in the middle would leave a connection in doubt; so it
        # ends by itself, and only its caller goes away.
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be left to look at it


def _one_moment(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("begin")
        return
    connection.execution_options(isolation_level="REPEATABLE READ")
    # Whoever reads the whole trail may think about it.
    connection.exec_driver_sql("set local idle_in_transaction_session_timeout = 0")
