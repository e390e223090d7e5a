"""
Group commit: while one transaction runs, the next one's writes gather.

Owns waiting and sharing only, for any item and any write function. An idle group writes a
single item at once; a busy one, whose last transaction had company, begins the next no sooner
than `gather_s` after it, so that a commit is paid for by many. Must not know SQL. Next: `writes`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

COMPANY = 4
"""From so many items in one transaction on the group is busy."""


class Group(Generic[Item, Result]):
    """
    Writes items of concurrent callers together.

    Args:
        write: Writes the items in one transaction; gives for each, in order, its
            result or the exception that its caller alone gets. Should it raise
            itself, every caller of that transaction gets the exception.
        key: Items with equal keys are never in one transaction; `None` is no key.
        limit: The most items in one transaction.
        gather_s: The least time between the beginnings of two transactions while busy, in seconds.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        key: Callable[[Item], Hashable | None],
        limit: int = 64,
        gather_s: float = 0.0,
    ) -> None:
        self._write = write
        self._key = key
        self._limit = limit
        self._gather_s = gather_s
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._runner: asyncio.Task[None] | None = None

    async def put(self, item: Item) -> Result:
        """
        Write one item, perhaps with others.

        Crash: an item is written whole or not at all. A caller that is cancelled
        does not take its item back: it may be written all the same.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run(), name="group-commit")
        return await future

    async def drain(self) -> None:
        """Wait until everything that was put is written."""
        while self._runner is not None and not self._runner.done():
            await asyncio.wait([self._runner])

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                began, busy = loop.time(), await self._write_next()
                left_s = self._gather_s - (loop.time() - began)
                if busy and len(self._waiting) < self._limit and left_s > 0:
                    await asyncio.sleep(left_s)
        except asyncio.CancelledError:
            for _, future in self._waiting:
                future.cancel()
            self._waiting = []
            raise

    async def _write_next(self) -> bool:
        """Write what has gathered; tell whether it was company."""
        batch = self._take()
        try:
            results: Sequence[Result | Exception] = await self._write([item for item, _ in batch])
            pairs = list(zip(batch, results, strict=True))
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - handed to every caller of this transaction
            pairs = [(waiting, error) for waiting in batch]
        for (_, future), result in pairs:
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
        return len(batch) >= COMPANY

    def _take(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        taken: list[tuple[Item, asyncio.Future[Result]]] = []
        kept: list[tuple[Item, asyncio.Future[Result]]] = []
        keys: set[Hashable] = set()
        for waiting in self._waiting:
            key = self._key(waiting[0])
            if len(taken) == self._limit or (key is not None and key in keys):
                kept.append(waiting)
                continue
            if key is not None:
                keys.add(key)
            taken.append(waiting)
        self._waiting = kept
        return taken
