"""
What it costs one worker to watch 100,000 payments that wait for their payer.

    python -m benchmarks.waiting --payments 100000 --seconds 60

Loads digital payments whose sessions run and never finish, past the engine, and lets one worker
claim them all and look at them, in two rhythms:

- `restart`: all are due when the worker begins, as after a deploy. The default policy begins anew
  with its first look, then 5 s, 7.5 s and so on: a flood that lasts for minutes. Measured is the
  time from its begin until all are claimed (`claimed_s`), and the seconds after that.
- `steady`: they become due evenly over five minutes, and are looked at every five minutes, which is
  the rhythm that the default policy has reached after a quarter of an hour. Measured are the seconds
  after the last one was claimed.

`p50_ms` and `p99_ms` tell how much later than planned a look was begun, of every eighth payment;
`behind` how many looks were due at the end and had not begun, `lapsed` how often the worker was so
busy that its claims were taken away. `commits_per_s` counts transactions
that wrote, `rss_mb` is the worker's at its most, `rss_grown_mb` its growth in the seconds measured.
One JSON line for each rhythm and database.
"""

import asyncio
import contextlib
import multiprocessing
import queue
import resource
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks import bulk, ours
from benchmarks.harness import (
    Measured,
    Place,
    apart,
    asked,
    median_of,
    parser_of,
    percentile,
    place,
    servers,
    stub,
    told,
)
from orchestrator import Orchestrator, telemetry
from orchestrator.composition import build_vault
from orchestrator.domain.payment import Payment
from orchestrator.waiting import Waiting

RHYTHMS = ("restart", "steady")
SAMPLED = bulk.LETTERS[::8]
"""The last letters of the ids that are timed: to remember the time of every payment would weigh as much as they do."""
LEAD_S, LOADED_PER_S = 5, 5000
ROOM = 400
"""The looks that may be under way when the provider is asked how many there were."""


@dataclass(frozen=True, slots=True)
class Terms:
    """
    What is measured.

    Attributes:
        payments: How many wait.
        seconds: How long they are watched.
        policy: How looks deviate from the default rhythm.
        lead_s: The first payment is due so long after the loading began; it should be over by then.
        spread_s: The last one is due so long after the first.
    """

    payments: int
    seconds: float
    policy: dict[str, float]
    lead_s: float = 0
    spread_s: float = 0


class Lateness:
    """Notes for when the waiting room plans a look, and when it lets it begin."""

    def __init__(self) -> None:
        self.looks = 0
        self.late: list[float] = []
        self._planned: dict[str, float] = {}

    @property
    def behind(self) -> int:
        """How many looks are due and have not begun."""
        now = time.monotonic()
        return sum(at < now for at in self._planned.values()) * len(bulk.LETTERS) // len(SAMPLED)

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        push, take = Waiting.push, Waiting.take

        def planned(room: Waiting, payment: Payment, at: float, *rest: Any) -> None:
            if payment.id[-1] in SAMPLED:
                self._planned[payment.id] = at
            push(room, payment, at, *rest)

        def begun(room: Waiting, now: float, *rest: Any) -> Iterable[str]:
            for payment_id in take(room, now, *rest):
                self.looks += 1
                at = self._planned.pop(payment_id, None)
                if at is not None:
                    self.late.append(time.monotonic() - at)
                yield payment_id

        with mock.patch.object(Waiting, "push", planned), mock.patch.object(Waiting, "take", begun):
            yield


def fill(where: Place, url: str, terms: Terms) -> None:
    """Write payments that wait, their fields sealed."""
    pattern = bulk.original(where, url, "handed_over")
    begin = pattern.payment.session_at
    assert begin is not None
    assert len(pattern.entries) == 5
    vault = build_vault(ours.settings(where, url), may_create=False)
    copies = terms.payments - 1  # the pattern waits, too

    def change(number: int) -> dict[str, Any]:
        return {"due_at": begin + timedelta(seconds=terms.lead_s + number * terms.spread_s / copies)}

    def sealed() -> Iterator[tuple[Any, ...]]:
        at = begin if where.kind == "postgresql" else bulk.instant(begin)
        for number in range(copies):
            own = bulk.name(number, copies)
            yield own, vault.seal(ours.fields_of(own, "digital"), payment_id=own), at

    with bulk.connected(where) as connection, bulk.unruled(connection, where.kind):
        bulk.load(connection, where.kind, pattern, copies, change)
        bulk.write(connection, where.kind, "payer_data", ("payment_id", "sealed", "updated_at"), sealed())


def resident_mb() -> float:
    """Give what this process holds in memory now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


async def watch(where: Place, url: str, terms: Terms, answers: Any) -> None:
    """Be the worker, and measure yourself."""
    telemetry.configure(level="info", fmt="json")
    claimed, lapsed, lateness, measured = [0], [0], Lateness(), Measured()

    def heard(name: str, fields: Any) -> None:
        if name == "payment.claimed":
            claimed[0] += fields["count"]
        lapsed[0] += name == "worker.lapsed"

    async with Orchestrator(ours.unhurried(where, url, terms.policy)) as orchestrator:
        ours.count_commits(orchestrator, measured)
        before_mb, began = resident_mb(), time.monotonic()
        with telemetry.listened(heard), lateness.noted():
            async with orchestrator.worker():
                while claimed[0] < terms.payments:
                    await asyncio.sleep(0.05)
                figures = {"claimed_s": time.monotonic() - began, "rss_before_mb": before_mb}
                figures |= await watched(where, url, terms.seconds, lateness, measured)
    answers.put(figures | {"rss_mb": measured.rss_mb, "lapsed": lapsed[0]})


async def watched(
    where: Place, url: str, seconds: float, lateness: Lateness, measured: Measured
) -> dict[str, float]:  # fmt: skip
    """Measure so many seconds of watching."""

    async def counts() -> tuple[int, int]:
        statuses = (await asyncio.to_thread(asked, url))["statuses"]
        commits = measured.commits if where.kind == "sqlite" else await asyncio.to_thread(bulk.written, where)
        return statuses, commits

    statuses, commits = await counts()
    looks, late, grown = lateness.looks, len(lateness.late), resident_mb()
    measured.start()
    await asyncio.sleep(seconds)
    measured.stop()
    looks, lates, grown = lateness.looks - looks, sorted(lateness.late[late:]), resident_mb() - grown
    behind = lateness.behind
    statuses_after, commits_after = await counts()
    assert abs(statuses_after - statuses - looks) <= ROOM + looks / 20, (statuses_after - statuses, looks)
    return {
        "looks_per_s": looks / measured.took,
        "p50_ms": percentile(lates, 0.5) * 1000,
        "p99_ms": percentile(lates, 0.99) * 1000,
        "behind": behind,
        "commits_per_s": (commits_after - commits) / measured.took,
        "cpu_share": measured.cpu / measured.took,
        "rss_grown_mb": grown,
    }


def answered(process: Any, answers: Any) -> dict[str, float]:
    """Wait for what the worker tells of itself; it may have died."""
    while True:
        try:
            figures: dict[str, float] = answers.get(timeout=1)
        except queue.Empty:
            assert process.exitcode in (None, 0), "the worker failed"
            continue
        process.join()
        return figures


def terms_of(rhythm: str, payments: int, seconds: float, slowest_s: float) -> Terms:
    if rhythm == "restart":
        return Terms(payments, seconds, {"poll_max_s": slowest_s})
    slowest = {"poll_first_s": slowest_s, "poll_max_s": slowest_s}
    return Terms(payments, seconds, slowest, lead_s=LEAD_S + payments / LOADED_PER_S, spread_s=slowest_s)


def run(where: Place, url: str, terms: Terms) -> dict[str, float]:
    ours.prepare(where)
    began = time.monotonic()
    fill(where, url, terms)
    loaded, answers = time.monotonic() - began, multiprocessing.get_context("spawn").Queue()
    before = asked(url)
    figures = answered(apart(watch, where, url, terms, answers), answers)
    with bulk.connected(where) as connection:
        states = connection.execute("select state, count(*), count(claimed_by) from payment group by state").fetchall()
    assert [tuple(row) for row in states] == [("awaiting_payment", terms.payments, 0)], states
    after = asked(url)
    assert after["starts"] == before["starts"], after  # the pattern's alone
    return figures | {"load_s": loaded}


def main() -> None:
    parser = parser_of(__doc__, runs=1)
    parser.add_argument("--rhythm", choices=RHYTHMS, action="append")
    parser.add_argument("--payments", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--slowest-s", type=float, default=300, help="between two looks at the most; less for a try")
    words = parser.parse_args()
    with stub(looks=0) as url, servers(words) as databases:
        for kind, server in databases:
            for rhythm in words.rhythm or RHYTHMS:
                runs, terms = [], terms_of(rhythm, words.payments, words.seconds, words.slowest_s)
                for _ in range(words.runs):
                    with place(kind, server) as where:
                        runs.append(run(where, url, terms))
                told("waiting", kind, words.payments, 1, median_of(runs), rhythm=rhythm)


if __name__ == "__main__":
    main()
