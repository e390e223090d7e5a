"""
What a claim, a submit and the operator's looks cost when much has been paid before.

    python -m benchmarks.history --old 10000 --old 1000000 --old 10000000

Fills a new database with completed payments, six entries each; of more than a million only 10,000
have their trails, the others are rows of `payment` alone. Then, on one connection and without a
worker: submits 200 payments one after the other, claims them by tens (and gives them back, until
there were 200 claims), shows 200 old payments with their timelines, lists the open ones 200 times
and 200 pages by key. One JSON line for each history; `p50_ms` and `p99_ms` are the claim's, the
others have names of their own. Figures are medians of the runs, `ratio` is that of the claim's p50
to the one beside the smallest history. PostgreSQL is analyzed after the loading, SQLite is not.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from benchmarks import bulk, ours
from benchmarks.harness import Place, asked, median_of, parser_of, percentile, place, servers, stub, told
from orchestrator import Orchestrator, Query
from orchestrator.claim import MACHINE_VERSIONS
from orchestrator.clock import SystemClock
from orchestrator.composition import new_worker_id

TRAILED_MOST = 1_000_000
TRAILED_FEW = 10_000
DUE, BATCH = 200, 10
PAGE = 100
YEAR_S = 365 * 86400
CLOCK = SystemClock()


def trailed(old: int) -> int:
    """Give how many of so many old payments have their trail."""
    return old if old <= TRAILED_MOST else TRAILED_FEW


def fill(where: Place, url: str, old: int) -> None:
    """Write a year's payments, evenly, all of them completed."""
    pattern = bulk.original(where, url, "ended")
    assert pattern.payment.state.value == "completed"
    assert len(pattern.entries) == 6
    begin = pattern.payment.created_at - timedelta(seconds=YEAR_S)
    some = trailed(old)

    def change(number: int) -> dict[str, Any]:
        return {"created_at": begin + timedelta(seconds=number * YEAR_S / some)}

    with bulk.connected(where) as connection:
        with bulk.unruled(connection, where.kind):
            bulk.load(connection, where.kind, pattern, some, change)
            if rest := old - some:
                began, every = int(begin.timestamp()), round(YEAR_S / rest, 6)
                bulk.load_untrailed(connection, where.kind, pattern, rest, begin_s=began, every_s=every)
        found = connection.execute("select count(*) from payment where state = 'completed'").fetchone()[0]
        assert found == old + 1, (found, old)
        found = connection.execute("select count(*) from audit_entry where chain_id like 'pay-%'").fetchone()[0]
        assert found == 6 * (some + 1), (found, some)


async def timed(call: Callable[[Any], Awaitable[Any]], arguments: Iterable[Any]) -> list[tuple[float, Any]]:
    """Call with one argument after the other; give what each took and gave."""
    found = []
    for argument in arguments:
        began = time.perf_counter()
        given = await call(argument)
        found.append((time.perf_counter() - began, given))
    return found


async def claims(orchestrator: Orchestrator, calls: int) -> list[float]:
    """Claim what is due by tens, and give it back when it was all taken."""
    store, took = orchestrator.store, []
    while len(took) < calls:
        worker = new_worker_id()
        await store.register(worker, origin="bench", version="0", now=CLOCK.now())

        async def claim(worker: str) -> Any:
            return await store.claim(
                worker, now=CLOCK.now(), limit=BATCH, accounts=("bench",), machine_versions=MACHINE_VERSIONS
            )

        found = await timed(claim, [worker] * (DUE // BATCH))
        assert all(len(taken) == BATCH for _, taken in found)
        assert len({payment.id for _, taken in found for payment in taken}) == DUE
        await store.retire(worker, now=CLOCK.now())
        took += [seconds for seconds, _ in found]
    return took[:calls]


async def run(orchestrator: Orchestrator, old: Sequence[str], calls: int, number: int) -> dict[str, float]:
    """Measure everything once; nothing is open before and after."""

    async def show(payment_id: str) -> int:
        await orchestrator.get(payment_id)
        return len(await orchestrator.timeline(payment_id))

    async def after(payment_id: str) -> Any:
        return await orchestrator.list(Query(after=payment_id, limit=PAGE))

    submits = await timed(partial(ours.submit, orchestrator), [f"{number}-{at}" for at in range(DUE)])
    claimed = await claims(orchestrator, calls)
    shown = await timed(show, random.choices(old, k=calls))
    assert {entries for _, entries in shown} == {6}
    listed = await timed(orchestrator.list, [Query(ended=False, limit=PAGE)] * calls)
    assert all(len(page) == PAGE and not any(one.ended for one in page) for _, page in listed)
    turned = await timed(after, random.choices(old, k=calls))
    assert all(len(page) == PAGE for _, page in turned)  # behind the last old one there are the new ones
    for _, payment in submits:
        ended = await orchestrator.cancel(payment.id)
        assert ended.state.value == "failed"
    figures: dict[str, float] = {}
    for prefix, found in (
        ("", claimed), ("submit_", [took for took, _ in submits]), ("show_", [took for took, _ in shown]),
        ("list_open_", [took for took, _ in listed]), ("list_page_", [took for took, _ in turned]),
    ):  # fmt: skip
        for word, share in (("p50_ms", 0.5), ("p99_ms", 0.99)):
            figures[prefix + word] = percentile(sorted(found), share) * 1000
    return figures


def measured(where: Place, url: str, old: int, calls: int, runs: int) -> dict[str, float]:
    some = trailed(old)
    ids = [bulk.name(number, some) for number in range(some)]

    async def work() -> dict[str, float]:
        began = time.perf_counter()
        async with Orchestrator(ours.settings(where, url)) as orchestrator:
            opened = time.perf_counter() - began
            return median_of([await run(orchestrator, ids, calls, number) for number in range(runs)]) | {
                "open_ms": opened * 1000
            }

    return asyncio.run(work())


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--old", type=int, action="append")
    parser.add_argument("--calls", type=int, default=200)
    words = parser.parse_args()
    olds = sorted(words.old or (10_000, 1_000_000, 10_000_000))
    with stub() as url, servers(words) as databases:
        for kind, server in databases:
            smallest = None
            for old in olds:
                with place(kind, server) as where:
                    ours.prepare(where)
                    before, began = asked(url), time.monotonic()
                    fill(where, url, old)
                    loaded = time.monotonic() - began
                    figures = measured(where, url, old, words.calls, words.runs)
                    assert asked(url)["starts"] == before["starts"] + 1  # the pattern's alone
                    smallest = smallest or figures["p50_ms"]
                    told("history", kind, DUE, 1, figures, old=old, trailed=trailed(old), load_s=loaded,
                         ratio=figures["p50_ms"] / smallest, to=f"{olds[0]} old")  # fmt: skip


if __name__ == "__main__":
    main()
