"""
SIGSTOP past the claim at every step of a payment, another takes over, SIGCONT: knowledge comes in, decisions don't.

On PostgreSQL, where a transaction that a stopped process has open is ended by the server after 5 s. A file's lock
is nobody's to break: on SQLite the others wait until the process wakes or dies.
"""

import asyncio
import contextlib
import json
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.crash.cells import ZOMBIES, Cell, name_of
from tests.crash.estate import Estate, Key, account_of, run_estate
from tests.crash.faultpoints import Moment
from tests.crash.fleet import FULL, until
from tests.crash.forks import Child
from tests.support.quality import row

pytestmark = pytest.mark.timeout(900 if FULL else 200)

ROUNDS = 100 if FULL else len(ZOMBIES)
KEYS: list[Key] = [(number, ZOMBIES[number % len(ZOMBIES)].moments[0]) for number in range(ROUNDS)]
ZOMBIES_AT_ONCE = 10
"""Each keeps its connections, and the server has a hundred."""
WAKING_S = 20
LOOK_S = 0.25
"""Twenty rounds that look every moment would keep the machine from anything else."""
ANSWERED = ("start sent", "start in flight")
KNOWLEDGE = {"release", "start_session", "hand_over", "observe", "hold", "late_result"}
"""The steps that what a fenced worker has learnt may lead to; none of them sends anything."""


@dataclass
class Round:
    """One zombie."""

    key: Key
    cell: Cell
    was: str
    """Its worker id when it was stopped."""
    taken_at: int
    """The payment's newest entry when it woke."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    outcome: tuple[str, int] = ("", 0)

    @property
    def name(self) -> str:
        return name_of(self.cell, self.key[1])

    @property
    def since(self) -> list[dict[str, Any]]:
        """What the former claim's worker has written since it woke."""
        return [body for body in self.bodies if body["seq"] > self.taken_at and body["actor"] == self.was]

    @property
    def decides(self) -> bool:
        """Whether it was stopped before it recorded a decision, which the fence must refuse."""
        return self.key[1] is Moment.BEFORE and bool(self.cell.point.trigger)

    @property
    def learnt(self) -> bool:
        """Whether it had an answer, and nobody had recorded it."""
        sent = self.cell.name in ANSWERED
        return sent or (self.cell.name == "start recorded" and self.key[1] is Moment.BEFORE)

    @property
    def told(self) -> bool:
        """Whether what became of its start is in the trail, beside what its successor made of it."""
        start = [body for body in self.bodies if body.get("operation") == "start_session" and body.get("attempt") == 1]
        verdicts = [body for body in start if body.get("verdict") and body["seq"] > self.taken_at]
        return bool(verdicts)


class Graves(Estate):
    """Every round on one database."""

    rounds: list[Round]
    places: asyncio.Semaphore
    findings: tuple[object, ...] = ()

    async def run(self) -> None:
        self.places = asyncio.Semaphore(ZOMBIES_AT_ONCE)
        async with self.orchestrator.worker():
            self.rounds = list(await asyncio.gather(*(self.one_of_few(key) for key in self.keys)))
        self.findings = await self.reckoned()

    async def one_of_few(self, key: Key) -> Round:
        async with self.places:
            return await self.round(key)

    async def round(self, key: Key) -> Round:
        async with self.room:
            child = await self.begin(key)
            await until(lambda: self.stopped(key, child), every_s=0.05)
        payment = await self.payment(key)
        assert payment is not None
        assert payment.claimed_by is not None
        former = payment.claimed_by
        self.heir.dead.add(account_of(key))
        await until(lambda: self.finished(key), every_s=LOOK_S)
        payment = await self.payment(key)
        assert payment is not None
        made = Round(key, self.cell(key), former, payment.version)
        child.tell(signal.SIGCONT)
        with contextlib.suppress(TimeoutError):  # what was missing is said in the end, for all rounds at once
            await until(lambda: self.woken(made), WAKING_S, every_s=LOOK_S)
        await child.killed()
        return made

    async def stopped(self, key: Key, child: Child) -> bool:
        assert child.living, self.log(key).read_text()[-4000:]
        return child.stopped.is_set()

    async def finished(self, key: Key) -> bool:
        payment = await self.payment(key)
        return payment is not None and bool(payment.ended or payment.hold)

    async def woken(self, made: Round) -> bool:
        """Whether a zombie has learnt that it was gone, has handed in what it knew, and the payment is finished."""
        payment = await self.payment(made.key)
        assert payment is not None
        made.bodies = [json.loads(entry.body) for entry in await self.heir.real.entries(payment.id)]
        lines = [json.loads(line) for line in self.log(made.key).read_text().splitlines() if line.startswith("{")]
        made.events = [line["event"] for line in lines]
        made.outcome = await self.outcome(made.key)
        known = (made.told or not made.learnt) and (not made.decides or "claim.fenced" in made.events)
        return known and "worker.lapsed" in made.events and made.outcome == self.cell(made.key).end(made.key[1])


async def test_a_worker_that_slept_past_its_claim_decides_nothing_and_forgets_nothing(
    database: str, tmp_path: Path
) -> None:
    began = time.monotonic()

    made = await run_estate(Graves, "zombies", KEYS, tmp_path, database)

    decided = [
        (each.name, body["trigger"]) for each in made.rounds for body in each.since if body["trigger"] not in KNOWLEDGE
    ]
    learnt = [each for each in made.rounds if each.learnt]
    row(
        "zombies: SIGSTOP past the claim, SIGCONT", "0 decisions under a lost claim, 100 % of the answers in the trail",
        f"{len(made.rounds)} rounds in {time.monotonic() - began:.0f} s, {len(decided)} decisions under a lost claim,"
        f" {sum(each.told for each in learnt)} of {len(learnt)} answers in the trail, {len(made.findings)} findings",
    )  # fmt: skip
    assert decided == []
    assert [each.name for each in learnt if not each.told] == []
    assert [(each.name, each.outcome) for each in made.rounds if each.outcome != each.cell.end(each.key[1])] == []
    fenced = [each for each in made.rounds if each.decides]
    assert [each.name for each in fenced if "claim.fenced" not in each.events] == []
    assert max(made.sandbox.stats()["digital_sessions_per_reference"].values()) == 1
    assert made.findings == ()
