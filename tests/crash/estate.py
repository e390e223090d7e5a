"""
One database, processes that die or stop on it, and the process that finishes what they leave.

The heir lives here, in the test's own process, with every account in its settings. It
works for those accounts only whose process is gone: so each process has its payment
to itself until then, and the heir has been there all the time.
"""

import asyncio
import contextlib
import inspect
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from orchestrator import Orchestrator, Payment
from orchestrator.audit import verify
from orchestrator.sandbox import Sandbox, SandboxOptions
from orchestrator.store import SqlStore
from tests.crash.cells import GRIDS, SCRIPTS, SPEED, Cell, settings_of, write_key
from tests.crash.faultpoints import Moment
from tests.crash.forks import Child, Forks

AT_ONCE = 3
"""Processes that live at a time until they reach their point."""

Key = tuple[int, Moment]
"""A cell's number and its moment."""
Made = TypeVar("Made", bound="Estate")


def account_of(key: Key) -> str:
    return f"cell-{key[0]}-{key[1]}"


@dataclass
class Ended:
    """What came of one cell."""

    status: int
    log: str
    died_at: float
    held_claim: bool = False
    """Whether the dead process still held the payment's claim."""
    outcome: tuple[str, int] = ("", 0)
    """The payment's outcome or hold, and the sessions that the provider has made for it."""
    recovered_s: float | None = None
    """From the death until another process had the claim; `None` where the dead one held none."""


@dataclass
class Heir:
    """The finishing process's store: knows the accounts of the dead only, and notes when it first claims what."""

    real: SqlStore
    dead: set[str] = field(default_factory=set)
    claimed_at: dict[str, float] = field(default_factory=dict)

    def __getattr__(self, verb: str) -> Any:
        real = getattr(self.real, verb)
        if not inspect.iscoroutinefunction(real):
            return real

        async def called(*args: Any, **kwargs: Any) -> Any:
            if "accounts" in kwargs:
                kwargs["accounts"] = tuple(self.dead)
            result = await real(*args, **kwargs)
            if verb == "claim":
                self.claimed_at = {payment.id: time.monotonic() for payment in result} | self.claimed_at
            return result

        return called


@dataclass
class Estate:
    """The database and everybody on it."""

    kind: str
    keys: Sequence[Key]
    directory: Path
    database_url: str
    sandbox: Sandbox
    forks: Forks
    orchestrator: Orchestrator
    heir: Heir
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    ended: dict[Key, Ended] = field(default_factory=dict)

    async def run(self) -> None:
        raise AssertionError("each kind runs in its own way")

    def cell(self, key: Key) -> Cell:
        return GRIDS[self.kind][key[0] % len(GRIDS[self.kind])]

    def log(self, key: Key) -> Path:
        return self.directory / f"{account_of(key)}.log"

    async def begin(self, key: Key, *, first: bool = False) -> Child:
        """Begin a process that will run into its point."""
        return await self.forks.fork(
            "tests.crash.cells:play", self.log(key),
            kind=self.kind, number=key[0] % len(GRIDS[self.kind]), first=first, moment=key[1],
            account_name=account_of(key), database_url=self.database_url, base_url=self.sandbox.base_url,
            directory=str(self.directory),
        )  # fmt: skip

    async def gone(self, key: Key, child: Child) -> None:
        """Wait for a process's end."""
        status = await child.ended()
        ended = self.ended[key] = Ended(status, self.log(key).read_text(), time.monotonic())
        payment = await self.payment(key)
        ended.held_claim = payment is not None and payment.claimed_by is not None

    async def payment(self, key: Key) -> Payment | None:
        found = await self.heir.real.of_reference(account_of(key), f"{self.cell(key).reference}-{account_of(key)}")
        return found[0] if found else None

    async def all_as_they_must_end(self) -> bool:
        return all([await self.outcome(key) == self.cell(key).end(key[1]) for key in self.keys])

    async def outcome(self, key: Key) -> tuple[str, int]:
        payment = await self.payment(key)
        if payment is None:
            return "no payment", 0
        made = self.sandbox.stats()["sessions_per_reference"].get(payment.reference, 0)
        return str(payment.hold or payment.outcome), made

    async def reckoned(self) -> tuple[object, ...]:
        """Note what came of every cell; give what the verification finds."""
        for key, ended in self.ended.items():
            payment = await self.payment(key)
            assert payment is not None
            ended.outcome = await self.outcome(key)
            claimed_at = self.heir.claimed_at.get(payment.id)  # none, where the host itself said how it ends
            if ended.held_claim and claimed_at is not None:
                ended.recovered_s = claimed_at - ended.died_at
        return (await verify(self.heir.real)).findings


async def run_estate(made: type[Made], kind: str, keys: Sequence[Key], directory: Path, database_url: str) -> Made:
    """Set everything up, run it, and close it."""
    write_key(directory)
    async with contextlib.AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox(SandboxOptions(speed=SPEED, faults=SCRIPTS)))
        settings = settings_of(directory, database_url, sandbox.base_url, [account_of(key) for key in keys])
        orchestrator = await stack.enter_async_context(Orchestrator(settings))
        orchestrator.on("handed_over", lambda _: None)
        heir = Heir(orchestrator.store)
        orchestrator.store = heir  # type: ignore[assignment]
        forks = await stack.enter_async_context(Forks())
        estate = made(kind, keys, directory, database_url, sandbox, forks, orchestrator, heir)
        await estate.run()
    return estate
