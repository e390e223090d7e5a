"""
What happens at twice the rate that can be sustained, and how soon it is over.

    python -m benchmarks.overload --seconds 60

A closed loop tells the sustainable rate. Then, on a new database and in one process of its own:
payments one at a time (the unloaded latency), some seconds at half the rate (to warm up), the
overload at twice the rate, and half the rate again until 15 s after it. From then on only a
few probes a second are submitted, until everything has ended. Submits come by the clock,
whatever became of those before (open loop), and a latency counts from when its submit was due.

One JSON line for each database; figures are medians. `payments_per_s` is what ended during the
overload, its `ratio` is to the sustainable rate; `p50_ms` and `p99_ms` are of the payments due
during the overload. The backlog is what was submitted and has not ended, `submits_waiting_max` how
much of it had not even returned from `submit`; `refused` submits raised. After the overload's end
`drained_s` is when the last payment that was due before had ended, and `recovered_s` is from when
on the median of every further second's payments was below twice the unloaded 99th percentile
(`null`: not seen). Memory is what the engine's process had before the overload and at most from
then on, the waiting submits included; `rss_sustained_mb` is the closed loop's. Of `unheard` ones
the end is known from the database alone: they have no latency.
"""

import argparse
import asyncio
import math
import os
import statistics
import time
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import ours
from benchmarks.end_to_end import Configuration, run_ours
from benchmarks.harness import (
    Measured,
    Place,
    Window,
    asked,
    median_of,
    parser_of,
    percentile,
    place,
    processes,
    servers,
    stub,
    told,
    verified,
)
from orchestrator import Orchestrator, Query, telemetry

UNLOADED = 100
"""Payments, one at a time, for the unloaded latency."""
WARM_S = 5.0
TICK_S = 0.005
SAMPLE_S = 0.1
LOOK_S = 1.0
PROBES_PER_S = 4.0
CALM_S = 3.0
"""Probes go on for so long when everything else has ended."""
LIMIT_S = 400.0
"""For the backlog to be worked off; beyond it something is broken."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is submitted when; `rate` is the sustainable one."""

    rate: float
    seconds: float
    after_s: float


@dataclass
class Ledger:
    """
    When each payment was due and when it ended.

    Kept in arrays, so that it is hardly seen in the memory that is measured; ids are told apart by
    their hashes.
    """

    due: "array[float]" = field(default_factory=lambda: array("d"))
    due_ids: "array[int]" = field(default_factory=lambda: array("q"))
    numbers: "array[int]" = field(default_factory=lambda: array("q"))
    ended: "array[float]" = field(default_factory=lambda: array("d"))
    ended_ids: "array[int]" = field(default_factory=lambda: array("q"))
    submitted: int = 0
    refused: int = 0
    most: int = 0
    most_waiting: int = 0

    @property
    def backlog(self) -> int:
        """What was submitted and has not ended; whether a refused one will is not known."""
        return self.submitted - self.refused - len(self.ended)

    def note(self) -> None:
        """Take the backlog's measure."""
        self.most = max(self.most, self.backlog)
        self.most_waiting = max(self.most_waiting, self.submitted - self.refused - len(self.due))

    def hear(self, name: str, fields: Mapping[str, Any]) -> None:
        """Take note of an end."""
        if name == "payment.ended":
            self.ended.append(time.monotonic())
            self.ended_ids.append(hash(fields["payment_id"]))

    def spans(self) -> list[tuple[float, float]]:
        """Give when each accepted payment was due and when it was heard to have ended."""
        ended = dict(zip(self.ended_ids, self.ended, strict=True))
        return [(due, ended[name]) for due, name in zip(self.due, self.due_ids, strict=True) if name in ended]


class Source:
    """
    Submits by the clock.

    Args:
        orchestrator: Has a worker.
        ledger: What is told.
    """

    def __init__(self, orchestrator: Orchestrator, ledger: Ledger) -> None:
        self._orchestrator = orchestrator
        self._ledger = ledger
        self._submits: set[asyncio.Task[None]] = set()

    async def submit(self, due: float) -> None:
        ledger = self._ledger
        ledger.submitted += 1
        number = ledger.submitted
        try:
            payment = await ours.submit(self._orchestrator, number)
        except Exception:  # noqa: BLE001 - whatever it says, the host has been refused
            ledger.refused += 1
            return
        ledger.due.append(due)
        ledger.due_ids.append(hash(payment.id))
        ledger.numbers.append(number)

    async def pour(self, rate: float, until: float) -> None:
        """Submit at that rate until then; who is late submits what is due at once."""
        began = time.monotonic()
        count = 0
        while True:
            now = min(time.monotonic(), until)
            while (due := began + count / rate) < now:
                count += 1
                submit = asyncio.create_task(self.submit(due))
                self._submits.add(submit)
                submit.add_done_callback(self._submits.discard)
            if now >= until:
                return
            await asyncio.sleep(TICK_S)

    async def probe(self) -> None:
        """Submit a few a second until hardly anything else is left, and for a while from then on."""
        probes = asyncio.create_task(self.pour(PROBES_PER_S, math.inf))
        await self.drained(but=int(PROBES_PER_S))
        await asyncio.sleep(CALM_S)
        probes.cancel()

    async def drained(self, but: int = 0) -> None:
        """Wait until so many are left, by the database: it knows of ends that nobody told, and of refused ones."""
        looked = time.monotonic()
        while True:
            if self._ledger.backlog <= but or time.monotonic() - looked > LOOK_S:
                left = await self._orchestrator.list(Query(ended=False, limit=but + 1))
                if len(left) <= but and len(self._submits) <= but:
                    return
                looked = time.monotonic()
            await asyncio.sleep(TICK_S)


@dataclass
class Moments:
    """When the parts of a run began and ended, and what was seen then."""

    warm: float = 0.0
    began: float = 0.0
    end: float = 0.0
    over: float = 0.0
    backlog_at_end: int = 0
    before_mb: float = 0.0
    most_mb: float = 0.0


def resident_mb() -> float:
    """Give the memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def run(window: Window, where: Place, url: str, measured: Measured, *, plan: Plan) -> None:
    """Carry the plan out; the figures are in `measured.more`."""
    telemetry.configure(level="info", fmt="json")
    ledger, moments = Ledger(), Moments()
    async with Orchestrator(ours.settings(where, url)) as orchestrator:
        source = Source(orchestrator, ledger)
        async with orchestrator.worker(), asyncio.timeout(plan.seconds + plan.after_s + LIMIT_S):
            await asyncio.sleep(0.3)
            window.go.wait()
            with telemetry.listened(ledger.hear):
                await _calm(source, moments, plan)
                assert not ledger.refused, "refused before the overload"
                ledger.most = ledger.most_waiting = 0
                watch = asyncio.create_task(_watch(ledger, moments))
                measured.start()
                already = len(ledger.ended)
                await _storm(source, ledger, moments, plan)
                measured.stop()
                watch.cancel()
    measured.more = _figures(ledger, moments, plan) | {
        "cpu_ms_per_payment": measured.cpu / (len(ledger.ended) - already) * 1000,
        "numbers": ledger.numbers, "refused": ledger.refused,
    }  # fmt: skip


async def _calm(source: Source, moments: Moments, plan: Plan) -> None:
    """Find the unloaded latency, and warm up."""
    for _ in range(UNLOADED):
        await source.submit(time.monotonic())
        await source.drained()
    moments.warm = time.monotonic()
    await source.pour(plan.rate / 2, moments.warm + WARM_S)
    await source.drained()


async def _storm(source: Source, ledger: Ledger, moments: Moments, plan: Plan) -> None:
    """Overload, and see it through."""
    moments.before_mb = resident_mb()
    moments.began = time.monotonic()
    moments.end = moments.began + plan.seconds
    await source.pour(2 * plan.rate, moments.end)
    moments.backlog_at_end = ledger.backlog
    await source.pour(plan.rate / 2, moments.end + plan.after_s)
    await source.probe()
    moments.over = time.monotonic()
    await source.drained()


async def _watch(ledger: Ledger, moments: Moments) -> None:
    while True:
        ledger.note()
        moments.most_mb = max(moments.most_mb, resident_mb())
        await asyncio.sleep(SAMPLE_S)


def _figures(ledger: Ledger, moments: Moments, plan: Plan) -> dict[str, Any]:
    spans = ledger.spans()

    def latencies(since: float, until: float) -> list[float]:
        return sorted(ended - due for due, ended in spans if since <= due < until)

    unloaded_p99 = percentile(latencies(0, moments.warm), 0.99)
    seconds = [latencies(moments.end + n, moments.end + n + 1) for n in range(int(moments.over - moments.end))]
    recovered_s = _recovered(seconds, 2 * unloaded_p99)
    during = latencies(moments.began, moments.end)
    return {
        "payments_per_s": sum(moments.began <= at < moments.end for at in ledger.ended) / plan.seconds,
        "rss_before_mb": moments.before_mb,
        "rss_mb": moments.most_mb,
        "p50_ms": percentile(during, 0.5) * 1000,
        "p99_ms": percentile(during, 0.99) * 1000,
        "unloaded_p99_ms": unloaded_p99 * 1000,
        "backlog_max": ledger.most,
        "backlog_at_end": moments.backlog_at_end,
        "submits_waiting_max": ledger.most_waiting,
        "drained_s": max(0.0, max(ended for due, ended in spans if due < moments.end) - moments.end),
        "recovered_s": recovered_s,
        "unheard": len(ledger.due) - len(spans),
        "recovered_p99_ms": percentile(latencies(moments.end + recovered_s, math.inf), 0.99) * 1000,
    }


def _recovered(seconds: list[list[float]], limit: float) -> float:
    """Give after how many seconds no further one's median was over the limit; infinity if the last one's was."""
    slow = [n for n, found in enumerate(seconds) if not found or statistics.median(found) >= limit]
    if not slow:
        return 0.0
    return math.inf if slow[-1] == len(seconds) - 1 else slow[-1] + 1.0


def check(where: Place, url: str, accepted: set[int]) -> int:
    """Insist that every payment is completed, and that each accepted one is among them; give how many there are."""

    async def completed() -> list[int]:
        async with Orchestrator(ours.settings(where, url)) as orchestrator:
            found = []
            async for payment in orchestrator.store.all_payments():
                assert payment.state.value == "completed", payment
                found.append(int(payment.reference.rpartition("-")[2]))
            return found

    found = asyncio.run(completed())
    lost = accepted - set(found)
    assert not lost, f"{len(lost)} lost"
    assert len(set(found)) == len(found)
    return len(found)


def overload(kind: str, server: Any, url: str, plan: Plan) -> dict[str, Any]:
    with place(kind, server) as where:
        ours.prepare(where)
        before = asked(url)
        more = processes(partial(run, plan=plan), where, url, payments=0, in_flight=0)[0].more
        numbers = more.pop("numbers")
        payments = check(where, url, set(numbers))
        assert len(numbers) <= payments <= len(numbers) + more["refused"], (len(numbers), payments, more["refused"])
        verified(before, asked(url), payments)
        ours.check(where, url, payments)
        return more


def measure(kind: str, server: Any, url: str, words: argparse.Namespace) -> dict[str, Any]:
    """Find the sustainable rate, then go beyond it."""
    closed = run_ours(Configuration(kind, words.payments, words.in_flight, 1), server, url)
    rate = closed["payments_per_s"]
    found = overload(kind, server, url, Plan(rate, words.seconds, words.after))
    return found | {
        "sustainable_per_s": rate, "rss_sustained_mb": closed["rss_mb"], "ratio": found["payments_per_s"] / rate,
    }  # fmt: skip


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--after", type=float, default=15)
    parser.add_argument("--payments", type=int, default=2000, help="of the closed loop")
    parser.add_argument("--in-flight", type=int, default=400, help="of the closed loop")
    words = parser.parse_args()
    with stub() as url, servers(words) as databases:
        for kind, server in databases:
            middle = median_of([measure(kind, server, url, words) for _ in range(words.runs)])
            finite = {name: None if value == math.inf else value for name, value in middle.items()}
            told("overload", kind, words.in_flight, 1, finite, to="sustainable", seconds=words.seconds)


if __name__ == "__main__":
    main()
