"""
How work on a connection is carried out: whole, in a thread on SQLite, in a greenlet on PostgreSQL.

A transaction is one function of a plain connection. SQLite's driver blocks, so the function runs
in a thread of its own: one hop for a transaction, where a hop for each statement would have
it wait for the interpreter's lock again and again. PostgreSQL's drivers are asynchronous, and
SQLAlchemy's greenlet waits for them. Owns turns, threads and nothing else. Next: `access`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

Result = TypeVar("Result")
Work = Callable[[Connection], Result]


class Bound(Protocol):
    """A connection that is kept over several pieces of work."""

    async def run(self, work: Work[Result]) -> Result:
        """Carry out one piece of work on it."""
        ...


class Way(Protocol):
    """One way into a database."""

    @property
    def engine(self) -> Engine:
        """SQLAlchemy's engine, for its events."""
        ...

    async def run(self, work: Work[Result], *, begin: bool) -> Result:
        """
        Carry out the work on a connection of its own.

        Args:
            work: What to do.
            begin: Whether it is a transaction, committed when the work returns.

        Crash: before the COMMIT nothing is left behind.
        """
        ...

    def bound(self) -> AbstractAsyncContextManager[Bound]:
        """Give a connection for several pieces of work."""
        ...

    async def dispose(self) -> None:
        """Close every connection; nothing may be under way."""
        ...


class Threads:
    """
    Blocking connections, each in a thread.

    Args:
        engine: Whose pool holds `size` connections that any thread may use.
        size: How many pieces of work run at once; the others wait for their turn.
        wait_s: How long, at most.
    """

    def __init__(self, engine: Engine, size: int, wait_s: float) -> None:
        self.engine = engine
        self._wait_s = wait_s
        self._turns = asyncio.Semaphore(size)
        self._threads = ThreadPoolExecutor(size, "orchestrator-sqlite")

    async def run(self, work: Work[Result], *, begin: bool) -> Result:
        """See `Way.run`."""

        def whole() -> Result:
            with self.engine.begin() if begin else self.engine.connect() as connection:
                return work(connection)

        async with self._turn():
            return await self.in_thread(whole)

    @asynccontextmanager
    async def bound(self) -> AsyncIterator[Bound]:
        """See `Way.bound`."""
        async with self._turn():
            connection = await self.in_thread(self.engine.connect)
            bound = _InThread(self, connection)
            try:
                yield bound
            finally:
                await bound.over()
                await self.in_thread(connection.close)

    async def in_thread(self, work: Callable[[], Result]) -> Result:
        """Call a function in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def dispose(self) -> None:
        """See `Way.dispose`."""
        self.engine.dispose()
        self._threads.shutdown(wait=False)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._turns.locked():
            try:
                async with asyncio.timeout(self._wait_s):
                    await self._turns.acquire()
            except TimeoutError:
                raise PoolTimeoutError("no connection came free in time") from None
        else:
            await self._turns.acquire()
        try:
            yield
        finally:
            self._turns.release()


class _InThread:
    """A blocking connection whose work goes to the threads, one piece after the other."""

    def __init__(self, threads: Threads, connection: Connection) -> None:
        self._threads = threads
        self._connection = connection
        self._last: asyncio.Task[Any] | None = None

    async def run(self, work: Work[Result]) -> Result:
        task = self._last = asyncio.create_task(self._threads.in_thread(lambda: work(self._connection)))
        return await asyncio.shield(task)

    async def over(self) -> None:
        """Wait for what a caller left behind who was cancelled: until then nobody else may have the connection."""
        if self._last is not None:
            await asyncio.wait([self._last])


class Greenlets:
    """
    Asynchronous connections, each behind a greenlet while it works.

    Args:
        engine: Whose pool limits how many work at once.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self.engine = engine.sync_engine

    async def run(self, work: Work[Result], *, begin: bool) -> Result:
        """See `Way.run`."""

        def whole(connection: Connection) -> Result:
            if not begin:
                return work(connection)
            with connection.begin():
                return work(connection)

        async with self._engine.connect() as connection:
            return await connection.run_sync(whole)

    @asynccontextmanager
    async def bound(self) -> AsyncIterator[Bound]:
        """See `Way.bound`."""
        async with self._engine.connect() as connection:
            yield InGreenlet(connection)

    async def dispose(self) -> None:
        """See `Way.dispose`."""
        await self._engine.dispose()


class InGreenlet:
    """An asynchronous connection, ours or a host's, on which work of ours is carried out."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def run(self, work: Work[Result]) -> Result:
        """See `Bound.run`."""
        return await self._connection.run_sync(work)
