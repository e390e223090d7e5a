"""
Named fault points: where a process kills or stops itself, to the verb.

The flow reaches the outside by its ports only, so the points are set from outside as
well: doubles before the real store, provider and handlers, which pass everything on,
and send this process SIGKILL or SIGSTOP before or after the call that a point names.
The package itself knows nothing of them.
"""

import asyncio
import inspect
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from orchestrator import Orchestrator
from orchestrator.domain.machine import Operation
from orchestrator.domain.payment import Payment
from orchestrator.ports import Prepared, Provider
from orchestrator.records import Record


class Moment(StrEnum):
    """When the process dies, as seen from the call."""

    BEFORE = "before"
    AMID = "amid"
    """The provider has done its work and has not answered."""
    AFTER = "after"
    """What the call did is done, and nobody here has heard of it."""


@dataclass(frozen=True)
class Point:
    """
    One boundary that something durable lies behind.

    `verb`: the port's verb, `store.record`. `trigger`: of an entry in the record.
    `operation`: of a request to the provider. `needs`: a trigger that must have been
    recorded before by this process. `full`: only a call that gives something counts;
    before the call nobody knows, so then the first one does. `nth`: which of the calls.
    """

    verb: str
    trigger: str = ""
    operation: Operation | None = None
    needs: str = ""
    full: bool = False
    nth: int = 1

    def names(self, verb: str, args: Sequence[Any]) -> bool:
        """Whether a call is the one, as far as what goes into it tells."""
        if verb != self.verb:
            return False
        if self.trigger:
            return self.trigger in triggers_of(args[0])
        return self.operation is None or args[0] is self.operation


def triggers_of(record: Any) -> set[str]:
    """Give what a record writes down; a birth writes down `submit`."""
    return {entry.trigger for entry in record.decision.entries} if isinstance(record, Record) else {"submit"}


@dataclass
class Bomb:
    """
    Waits for its point, and strikes once: with SIGKILL, or with SIGSTOP, after which all goes on when somebody says so.

    `done_amid`, for `AMID`: whether the provider has done its work.
    """

    point: Point
    moment: Moment
    number: int = signal.SIGKILL
    done_amid: Callable[[], Awaitable[bool]] | None = None
    recorded: set[str] = field(default_factory=set)
    calls: int = 0
    struck: bool = False

    def before(self, verb: str, args: Sequence[Any]) -> bool:
        """Note a call; strike if the moment is before it. Tells whether it is the call in question."""
        if self.struck or not self.point.names(verb, args):
            return False
        if self.moment is not Moment.BEFORE and self.point.full:
            return True
        if self.point.needs and self.point.needs not in self.recorded:
            return False
        self.calls += 1
        if self.calls != self.point.nth:
            return False
        if self.moment is Moment.BEFORE:
            self.strike()
        return True

    def after(self, result: Any) -> None:
        """Strike after the call in question, if it gave what the point asks for."""
        if self.moment is Moment.AFTER and (result or not self.point.full):
            self.strike()

    def strike(self) -> None:
        """End or stop at once, as by the kernel's hand: no handler, no flush, no goodbye."""
        self.struck = True
        os.kill(os.getpid(), self.number)


class Guarded:
    """Any port before the real one."""

    def __init__(self, real: Any, port: str, bomb: Bomb) -> None:
        self._real, self._port, self._bomb = real, port, bomb

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if not inspect.iscoroutinefunction(real):
            return real

        async def guarded(*args: Any, **kwargs: Any) -> Any:
            struck = self._bomb.before(f"{self._port}.{name}", args)
            try:
                result = await real(*args, **kwargs)
            except Exception:
                self._bomb.calls -= struck  # a lost race is tried again: that call counts
                raise
            if struck:
                self._bomb.after(result)
            if name == "record":
                self._bomb.recorded |= triggers_of(args[0])
            return result

        return guarded


class GuardedProvider:
    """A provider whose requests remember which operation they are for."""

    def __init__(self, real: Provider, operations: dict[int, Operation], bomb: Bomb) -> None:
        self._real, self._operations, self._bomb = real, operations, bomb

    def prepare(self, operation: Operation, payment: Payment, fields: Mapping[str, str]) -> Prepared:
        prepared = self._real.prepare(operation, payment, fields)
        self._operations[id(prepared)] = operation
        return prepared

    async def send(self, prepared: Prepared, **how: Any) -> Any:
        return await self._strike("provider.send", self._operations[id(prepared)], self._real.send(prepared, **how))

    async def authorize(self) -> Any:
        return await self._strike("provider.authorize", Operation.AUTHORIZE, self._real.authorize())

    async def _strike(self, verb: str, operation: Operation, call: Awaitable[Any]) -> Any:
        struck = self._bomb.before(verb, (operation,))
        if struck and self._bomb.moment is Moment.AMID:
            return await self._amid(asyncio.ensure_future(call))
        result = await call
        if struck:
            self._bomb.after(result)
        return result

    async def _amid(self, call: asyncio.Future[Any]) -> Any:
        assert self._bomb.done_amid is not None
        while not (call.done() or await self._bomb.done_amid()):
            await asyncio.sleep(0.01)
        assert not call.done(), "it was answered before we could die"
        self._bomb.strike()
        return await call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class GuardedProviders:
    """Every account's provider, guarded."""

    def __init__(self, real: Any, bomb: Bomb) -> None:
        self._real, self._bomb = real, bomb
        self._operations: dict[int, Operation] = {}

    def of(self, payment: Payment) -> GuardedProvider:
        return GuardedProvider(self._real.of(payment), self._operations, self._bomb)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def arm(orchestrator: Orchestrator, bomb: Bomb) -> None:
    """Put the doubles before what an entered orchestrator works with."""
    orchestrator.store = Guarded(orchestrator.store, "store", bomb)  # type: ignore[assignment]
    orchestrator._providers = GuardedProviders(orchestrator._providers, bomb)  # type: ignore[assignment]
    orchestrator._handlers = Guarded(orchestrator._handlers, "notifier", bomb)  # type: ignore[assignment]
    orchestrator._door = replace(orchestrator._door, store=orchestrator.store)
    orchestrator._ear = replace(orchestrator._ear, store=orchestrator.store, providers=orchestrator._providers)
