"""Payments without end for workers that die, and what they logged as written before they did."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from orchestrator import Orchestrator, Unavailable
from tests.crash.fleet import OPEN, Fleet, until
from tests.crash.forks import Child, Forks
from tests.support.flow import submit

KINDS = ("PAID", "SLOWANSWER", "DECLINED", "SLOWANSWER", "HUNGUP", "EXPIRED")
LIFE = {"claim_trust_s": 2.4, "claim_life_s": 3.0}
"""With a start's deadline of 2 s below it."""


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Read a log; whoever is killed may leave half a line."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return [line for line in found if isinstance(line, dict)]


@dataclass
class Load:
    """A host that keeps so many payments open, and its workers."""

    made: Fleet
    forks: Forks
    orchestrator: Orchestrator
    open_at_once: int = 60
    references: list[str] = field(default_factory=list)
    acknowledged: dict[tuple[str, int], str] = field(default_factory=dict)
    """What the host was told is written: payment and version to the entry's hash."""
    workers: dict[str, Child] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    async def worker(self) -> str:
        """Start a worker; give its name."""
        name = f"worker-{next(self.numbers)}"
        log = self.made.directory / f"{name}.log"
        self.workers[name] = await self.forks.fork("tests.crash.forks:work", log, config=str(self.made.config))
        return name

    async def ready(self, workers: int) -> None:
        """Wait until so many of the living have begun."""

        async def enough() -> bool:
            living = {child.pid for child in self.workers.values() if child.living}
            return len(living & (await self.made.worker_ids()).keys()) >= workers

        await until(enough)

    @contextlib.asynccontextmanager
    async def submitting(self) -> AsyncIterator[None]:
        """Submit whenever fewer than so many are open, as a host that tries again when nobody answers."""
        stop = asyncio.Event()
        task = asyncio.create_task(self._submit_until(stop))
        try:
            yield
        finally:
            stop.set()
            await task

    async def _submit_until(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with contextlib.suppress(Unavailable):
                if await self.orchestrator.store.unended() < self.open_at_once:
                    await asyncio.gather(*(self._submit() for _ in range(10)))
                    continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.05)

    async def _submit(self) -> None:
        number = len(self.references)
        reference = f"{KINDS[number // 2 % len(KINDS)]}-{number}"
        self.references.append(reference)
        while True:
            try:
                payment = await submit(self.orchestrator, reference, "digital" if number % 2 else "phone", number)
            except Unavailable:
                continue  # the same submit again is safe
            break
        if payment.version == 1:
            self.acknowledged[payment.id, 1] = payment.head.hex()

    def told(self) -> dict[tuple[str, int], str]:
        """Give all that anybody was told is written: the host, and every worker by its log."""
        return self.acknowledged | {
            (line["payment_id"], line["version"]): line["entry_hash"]
            for path in self.made.directory.glob("worker-*.log")
            for line in lines_of(path)
            if line["event"] == "payment.recorded"
        }

    def doubts(self) -> int:
        """Count the starts that no kill made doubtful: unknown answers, and steps of workers that lapsed."""
        lines = [line for path in self.made.directory.glob("worker-*.log") for line in lines_of(path)]
        unknown = [line for line in lines if line["event"] == "operation.answered" and line["verdict"] == "unknown"]
        return len(unknown) + sum(line["in_flight"] for line in lines if line["event"] == "worker.lapsed")

    async def written(self) -> dict[tuple[str, int], str]:
        rows = await self.made.ask("select chain_id, seq, encode(hash, 'hex') from audit_entry")
        return {(str(row[0]), int(row[1])): str(row[2]) for row in rows}

    async def all_ended(self, seconds: float = 120) -> None:
        async def none_open() -> bool:
            return await self.made.count(f"select count(*) from payment where {OPEN}") == 0

        await until(none_open, seconds)
