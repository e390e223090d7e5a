"""A store that goes silent, loses answers or stands still where a test wants it to."""

import asyncio
import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.domain.errors import OrchestratorError, Unavailable
from orchestrator.records import Record
from orchestrator.store import SqlStore


@dataclass
class Fault:
    """
    Trouble with one verb of the store.

    `lost`: the verb does its work, and its answer is lost. `gate`: the call waits for
    it first. `times` counts the calls that `when` lets through; None strikes for ever.
    """

    verb: str
    times: int | None = 1
    lost: bool = False
    error: type[Exception] | None = Unavailable
    when: Callable[..., bool] = lambda *_args, **_kwargs: True
    gate: asyncio.Event | None = None
    struck: int = 0

    def strikes(self, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        if (
            verb != self.verb
            or (self.times is not None and self.struck >= self.times)
            or not self.when(*args, **kwargs)
        ):
            return False
        self.struck += 1
        return True


def records(trigger: str) -> Callable[..., bool]:
    """Match a record with an entry of this trigger."""

    def when(record: Record) -> bool:
        return any(entry.trigger == trigger for entry in record.decision.entries)

    return when


@dataclass
class Troubled:
    """The real store behind the faults; `raised` keeps what the real one refused."""

    store: SqlStore
    faults: list[Fault] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    raised: list[tuple[str, OrchestratorError]] = field(default_factory=list)

    def __getattr__(self, verb: str) -> Any:
        real = getattr(self.store, verb)
        if not inspect.iscoroutinefunction(real):
            return real

        async def troubled(*args: Any, **kwargs: Any) -> Any:
            self.calls[verb] += 1
            fault = next((fault for fault in self.faults if fault.strikes(verb, args, kwargs)), None)
            if fault is not None and fault.gate is not None:
                await fault.gate.wait()
            if fault is not None and fault.error is not None and not fault.lost:
                raise fault.error("the test says so")
            try:
                result = await real(*args, **kwargs)
            except OrchestratorError as error:
                self.raised.append((verb, error))
                raise
            if fault is not None and fault.error is not None:
                raise fault.error("the answer is lost")
            return result

        return troubled
