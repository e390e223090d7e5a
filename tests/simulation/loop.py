"""
An event loop whose time is a number: it jumps to the next timer instead of waiting.

No sockets, no threads, no selector, so that the order in which callbacks run is
a function of what they do. Tasks and futures are hashed by the order of their
making, because the standard library keeps them in sets and walks those.
"""

import asyncio
import contextvars
from asyncio import base_events, events
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any


class _Numbered:
    """Hashed by a number of its loop's, so that a set of such has an order of its own."""

    _number: int

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class SimTask(_Numbered, asyncio.Task):  # type: ignore[type-arg]
    """A task with a number."""

    def __init__(self, coro: Coroutine[Any, Any, Any], *, number: int, **more: Any) -> None:
        self._number = number
        super().__init__(coro, **more)


class SimFuture(_Numbered, asyncio.Future):  # type: ignore[type-arg]
    """A future with a number."""

    def __init__(self, *, number: int, **more: Any) -> None:
        self._number = number
        super().__init__(**more)


class _Jumper:
    """Stands where the selector would: instead of waiting it moves the loop's time."""

    def __init__(self, loop: "SimLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("nothing will ever happen again, and somebody waits for it")
        if timeout > 0:
            self._loop.at += timeout
        return []

    def close(self) -> None:
        return


class SimLoop(base_events.BaseEventLoop):
    """
    The loop.

    Args:
        born: Told each new task, in the context that made it.
    """

    def __init__(self, born: Callable[["asyncio.Task[Any]"], None] = lambda _: None) -> None:
        super().__init__()
        self.at = 0.0
        self.stood_still_at = float("-inf")
        """When the whole machine stood still, last."""
        self._numbers = count(1)
        self._selector = _Jumper(self)
        self._born = born
        self._alive: dict[int, asyncio.Task[Any]] = {}
        """Nothing else holds a task that waits for what will never happen, as those of a killed process do."""
        self.set_task_factory(self._make_task)  # type: ignore[arg-type]
        self._clock_resolution = 1e-9

    def time(self) -> float:
        """Give seconds since the beginning."""
        return self.at

    def create_future(self) -> "asyncio.Future[Any]":
        """Give a future with a number."""
        return SimFuture(number=next(self._numbers), loop=self)

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **more: Any
    ) -> "asyncio.Task[Any]":
        # Named by its own number: the standard library's counter goes on from loop to loop.
        number = next(self._numbers)
        more.setdefault("name", f"task-{number}")
        task: asyncio.Task[Any] = SimTask(coro, number=number, loop=loop, **more)
        self._alive[number] = task
        task.add_done_callback(self._ended)
        self._born(task)
        return task

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        del self._alive[hash(task)]

    def _process_events(self, event_list: list[Any]) -> None:
        assert not event_list

    def _write_to_self(self) -> None:
        return

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Run to the end of `main`, then cancel what is left, and close."""
        assert events._get_running_loop() is None
        try:
            return self.run_until_complete(self.create_task(main, context=contextvars.copy_context()))
        finally:
            # Again and again: a clean-up may begin something anew, which must end as well.
            while self._alive:
                for task in list(self._alive.values()):
                    task.cancel()
                self.run_until_complete(_turns(3))
            self.run_until_complete(self.shutdown_asyncgens())
            self.close()


async def _turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)
