"""
One simulation: a seed, everything that it draws, the real flow, and what the invariants say in the end.

A busy time in foul weather; then fair weather until everything has come to rest; then
the thirteen invariants over every payment, with everything that was seen beside the
database. Two runs of one seed are the same to the byte.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

from orchestrator import telemetry
from orchestrator.audit.chain import Finding, read_chain
from orchestrator.audit.invariants import check
from orchestrator.audit.observed import Limits, Observed
from orchestrator.claim import Claims, Rhythm
from orchestrator.domain.payment import Payment
from orchestrator.domain.policy import Policy
from orchestrator.execute import Bench
from orchestrator.rounds import Limits as Room
from orchestrator.worker import Worker
from tests.simulation.door import CANARIES, MAX_CLAIMS, MAX_SESSIONS, OpenVault, account_of
from tests.simulation.lives import Life, Weather, weather_of
from tests.simulation.loop import SimLoop
from tests.simulation.memory import Memory
from tests.simulation.people import People
from tests.simulation.vendor import Port, Vendor
from tests.simulation.watch import Watch, Wire
from tests.support.virtual import START

BUSY = Rhythm(beat_s=2, life_s=8, trust_s=6, poll_s=1.0)
CALM = Rhythm(beat_s=5, life_s=20, trust_s=15, poll_s=5.0)
LONGEST_S = 3000.0
"""After so many seconds of fair weather nothing may be waiting any more: several times the longest life."""
LIMITS = Limits(sessions=MAX_SESSIONS, claims=MAX_CLAIMS + 8, looks=150, calls=40)


@dataclass(frozen=True, slots=True)
class Scene:
    """
    What a mutant, or a test, may choose for itself; all else is drawn.

    Attributes:
        weather: The weather; drawn if left out.
        store: Makes the store; one in memory if left out.
        payments, workers: How many; drawn if left out.
        busy_s: How long the foul weather lasts.
        names: Gives worker ids; new ones at each boot if left out. With names, a supervisor takes
            a process that stands still for dead, and starts another of the same name.
        also: What else happens, told the world.
    """

    weather: Weather | None = None
    store: Callable[[Callable[[], datetime]], Any] = Memory
    payments: int | None = None
    workers: int | None = None
    busy_s: float = 60.0
    names: Callable[[int], str] | None = None
    also: Callable[[Any], Coroutine[Any, Any, None]] | None = None


@dataclass(slots=True)
class Result:
    """
    What a run came to.

    Attributes:
        seed: Of the run.
        findings: What the invariants found.
        trace: SHA-256 over every log event and every entry's hash, in order.
        lines: The event log.
        counts: Payments, entries, sessions, deaths, holds at the end.
    """

    seed: int
    findings: list[Finding]
    trace: str
    lines: list[str]
    counts: Counter[str]
    payments: list[Payment]
    chains: dict[str, Any]
    observed: Observed


class Host:
    """The host's handlers in one worker's process."""

    events = ("handed_over", "link_sent", "completed", "failed", "held", "overdue", "money_changed")

    def __init__(self, people: People, life: Life) -> None:
        self._people = people
        self._life = life

    async def deliver(self, event: str, payment: Payment) -> None:
        await self._people.handle(self._life, event, payment)


class World:
    """Everything of one run."""

    def __init__(self, seed: int, scene: Scene) -> None:
        self.seed, self.scene = seed, scene
        self.random = Random(f"payments {seed}")
        self.weather = scene.weather or weather_of(self.random)
        self.lines: list[str] = []
        self.lives: list[Life] = []
        self.counts: Counter[str] = Counter()
        self.poisoned: set[str] = set()
        self.settled: dict[str, int] = {}
        self.pausing = self.weather.pauses
        self.away_until = 0.0
        self._tasks: list[asyncio.Task[Any]] = []
        self._slots: dict[int, tuple[Life, Worker]] = {}
        self._resting = False
        self.accounts = {"emea": account_of(self.random)}

    # --- what the others ask of the world --------------------------------------------------------

    def log(self, event: str, /, *, error: BaseException | None = None, **fields: Any) -> None:
        """Keep one line of the event log."""
        told = " ".join(f"{name}={value}" for name, value in fields.items())
        at = asyncio.get_running_loop().time()
        self.lines.append(f"{at:.6f} {event} {told}{f' {type(error).__name__}: {error}' if error else ''}")

    def true_now(self) -> datetime:
        return START + timedelta(seconds=asyncio.get_running_loop().time())

    def born(self, name: str) -> Life:
        life = Life(f"{name}-{len(self.lives) + 1}", self.random, self.weather, self._killed)
        life.given_up = self.scene.names is not None
        self.lives.append(life)
        return life

    def _killed(self, life: Life) -> None:
        self.counts["deaths"] += 1
        self.log("killed", life=life.name)
        self.watch.killed(life)

    def wire(self, life: Life) -> Wire:
        return Wire(self.store, life, self.watch, self.random, self.away)

    def port(self, life: Life) -> Port:
        return Port(self.vendor, life, self.watch, lambda id_: bool(life.worker_ids) and id_ in self.poisoned)

    def away(self) -> bool:
        return asyncio.get_running_loop().time() < self.away_until

    def terms(self, payment: Payment) -> Policy:
        return self.accounts[payment.account].terms[payment.channel].policy

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.ensure_future(coroutine)
        self._tasks.append(task)
        return task

    # --- the run ----------------------------------------------------------------------------------

    async def run(self) -> Result:
        """Run the seed to its end, and close it."""
        try:
            return await self._run()
        finally:
            self.close()

    async def _run(self) -> Result:
        self.store = self.scene.store(self.true_now)
        self.people = People(self)
        self.vendor = Vendor(self.random, self.weather, self.people.announced, self.log)
        self.watch = Watch(self.store, self.vendor)
        self.vendor.intended = self.watch.intended
        workers = self.scene.workers or self.random.randint(2, 4)
        payments = self.scene.payments or self.random.choice((4, 6, 6, 8, 8, 12, 20))
        slots = [self.spawn(self.slot(number)) for number in range(workers)]
        hosts = [self.spawn(self.people.buy(number)) for number in range(payments)]
        self.spawn(self.evils())
        self.spawn(self.persons())
        if self.scene.also is not None:
            self.spawn(self.scene.also(self))
        await asyncio.wait(hosts, timeout=self.scene.busy_s)
        await asyncio.sleep(self.random.uniform(0, 20))
        await self.rest(slots, hosts)
        return self.reckon()

    def close(self) -> None:
        """Let nothing of what is left reach the outside any more, nor wait for it."""
        for life in self.lives:
            life.closing = life.dead = True
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.exception()  # looked at: of several only the first is raised

    async def rest(self, slots: list["asyncio.Task[Any]"], hosts: list["asyncio.Task[Any]"]) -> None:
        """Let the weather clear and everything come to its end."""
        self.weather = self.vendor.weather = self.weather.calmed()
        self.away_until, self._resting = 0.0, True
        for life in self.lives:
            life.weather = self.weather
            life.clock.off_s = 0.0
        self.log("calm")
        for _, worker in self._slots.values():
            worker.stop()
        _, late = await asyncio.wait(slots, timeout=120)
        for number, slot in enumerate(slots):
            if slot in late:
                self._slots[number][0].kill()
        heir = self.spawn(self.slot(0))
        until = asyncio.get_running_loop().time() + LONGEST_S
        while asyncio.get_running_loop().time() < until:
            await asyncio.sleep(10)
            if all(task.done() for task in hosts) and self.over():
                break
        self._slots[0][1].stop()
        self._resting = False
        await asyncio.wait({heir}, timeout=120)
        for task in self._tasks:
            if task.done() and not task.cancelled() and task.exception() is not None:
                raise task.exception()  # type: ignore[misc]

    def over(self) -> bool:
        if self.people.telling or any(made.ends_at > self.vendor.now for made in self.vendor.sessions.values()):
            return False
        return all(
            (one.hold is not None and one.due_at is None) or (one.ended and one.watch_until is None)
            for one in self.store.everybody()
        )

    async def slot(self, number: int) -> None:
        """Keep one worker's process running: whenever it dies, another is started."""
        calm = self._resting
        while self._resting is calm:
            life = self.born(f"worker{number}")
            worker = self.worker(life, number, CALM if calm else BUSY)
            self._slots[number] = life, worker
            running = asyncio.ensure_future(worker.run())
            await asyncio.wait({running, life.end}, return_when=asyncio.FIRST_COMPLETED)
            if running.done() and not running.cancelled() and running.exception() is not None:
                self.log("worker failed", life=life.name, error=running.exception())
            if self._resting is calm:
                await asyncio.sleep(self.random.uniform(0.3, 6))

    def worker(self, life: Life, number: int, rhythm: Rhythm) -> Worker:
        wire, names = self.wire(life), self.scene.names

        def new_id() -> str:
            self.counts["boots"] += 1
            return names(number) if names else f"worker-{self.counts['boots']}"

        claims = Claims(
            wire, life.clock, rhythm, accounts=tuple(self.accounts), new_id=new_id, origin=life.name, version="1"
        )  # fmt: skip
        bench = Bench(wire, self.port(life), OpenVault(), self.accounts, life.clock, claims)
        return Worker(bench, Host(self.people, life), Room(concurrency=20, batch=10, drain_s=60))

    async def evils(self) -> None:
        """Let the database go away for a while, and wall clocks jump."""
        outages, jumps = self.weather.outages, self.weather.jumps
        for evil in self.random.sample([*["outage"] * outages, *["jump"] * jumps], outages + jumps):
            await asyncio.sleep(self.random.uniform(0, 1.4 * self.scene.busy_s / (outages + jumps)))
            if self._resting:
                return
            if evil == "outage":
                self.away_until = asyncio.get_running_loop().time() + self.random.uniform(1, 15)
                self.log("outage", until=round(self.away_until, 3))
            elif self._slots:
                life, _ = self.random.choice(list(self._slots.values()))
                life.disturbed_at = self.vendor.now
                life.clock.off_s = self.random.choice((0.4, -0.4, 3, -3, 30, -30, 3600, -3600, 90000, 0))
                self.log("clock", life=life.name, off_s=life.clock.off_s)

    async def persons(self) -> None:
        while True:
            await asyncio.sleep(self.random.uniform(10, 30))
            await self.people.settle_holds()

    def reckon(self) -> Result:
        """Check every payment; give what was found."""
        observed = self.watch.observed(limits=LIMITS, canaries=CANARIES, texts=("\n".join(self.lines),))
        findings: list[Finding] = []
        payments = sorted(self.store.everybody(), key=lambda one: one.id)
        trace = hashlib.sha256("\n".join(self.lines).encode())
        chains = {one.id: list(self.store.chain(one.id)) for one in payments}
        for payment in payments:
            story, wrong = read_chain(payment.id, chains[payment.id])
            findings += wrong + check(payment, story, observed)
            trace.update(b"".join(entry.hash for entry in chains[payment.id]))
            self.counts["entries"] += len(chains[payment.id])
            self.counts["held"] += payment.hold is not None
            self.counts[f"{payment.channel} {payment.hold or payment.outcome or payment.state}"] += 1
        self.counts["payments"] = len(payments)
        self.counts["sessions"] = len(self.vendor.sessions)
        return Result(
            self.seed, findings, trace.hexdigest(), self.lines, self.counts, payments, chains, observed
        )  # fmt: skip


@contextmanager
def listening(log: Callable[..., None]) -> Iterator[None]:
    """Put the world's event log in the place of the process's."""
    import sys

    real = telemetry.emit
    homes = [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("orchestrator") and getattr(module, "emit", None) is real
    ]
    for module in homes:
        module.emit = log  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in homes:
            module.emit = real  # type: ignore[attr-defined]


def simulate(seed: int, scene: Scene = Scene()) -> Result:
    """Run one seed."""
    world = World(seed, scene)
    with listening(world.log):
        result: Result = SimLoop().run(world.run())
    return result
