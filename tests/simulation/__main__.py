"""
Simulate seeds: `python -m tests.simulation --seeds N [--first S] [--processes P]`, or one with `--seed S`.

Prints each seed whose invariants don't hold, and the one command that replays it. Exit
status 1 if there is any.
"""

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.simulation.sqlite import in_a_file
from tests.simulation.world import Result, Scene, simulate
from tests.support.quality import row

ON_SQLITE = 1000
"""Of so many seeds `make prove` runs one on SQLite."""
CHUNK = 50
REPLAY = "python -m tests.simulation --seed {seed}{store}"


def run(seed: int, *, on_sqlite: bool) -> Result:
    """Run one seed on its store."""
    if not on_sqlite:
        return simulate(seed)
    with in_a_file() as store:
        return simulate(seed, Scene(store=store))


def told(result: Result, *, on_sqlite: bool) -> str:
    """Say what was found in a seed, and how to see it again."""
    found = "".join(
        f"\n    {each.invariant or each.kind} {each.chain_id} {each.seq or ''} {each.what}" for each in result.findings
    )
    replay = REPLAY.format(seed=result.seed, store=" --sqlite" if on_sqlite else "")
    return f"seed {result.seed}: {len(result.findings)} findings, trace {result.trace[:16]}{found}\n  replay: {replay}"


def chunk(seeds: range, *, sqlite_every: int) -> tuple[list[str], Counter[str]]:
    """Run some seeds; give what was found, and what was seen in all."""
    wrong, counts = [], Counter[str]()
    for seed in seeds:
        on_sqlite = bool(sqlite_every) and seed % sqlite_every == 0
        try:
            result = run(seed, on_sqlite=on_sqlite)
        except Exception as error:  # noqa: BLE001 - a defect of any kind is a finding about its seed
            store = " --sqlite" if on_sqlite else ""
            wrong.append(f"seed {seed}: {error!r}\n  replay: {REPLAY.format(seed=seed, store=store)}")
            continue
        counts.update(result.counts)
        counts["seeds"] += 1
        if result.findings:
            wrong.append(told(result, on_sqlite=on_sqlite))
    return wrong, counts


def one(seed: int, *, on_sqlite: bool, log: bool) -> int:
    result = run(seed, on_sqlite=on_sqlite)
    if log or result.findings:
        print("\n".join(result.lines))
    print(told(result, on_sqlite=on_sqlite))
    return int(bool(result.findings))


def many(first: int, seeds: int, *, processes: int, sqlite_every: int) -> int:
    began, wrong, counts = time.monotonic(), list[str](), Counter[str]()
    last = first + seeds
    chunks = [range(at, min(at + CHUNK, last)) for at in range(first, last, CHUNK)]
    work = partial(chunk, sqlite_every=sqlite_every)
    with ProcessPoolExecutor(processes) as pool:
        for found, seen in map(work, chunks) if processes == 1 else pool.map(work, chunks):
            counts.update(seen)
            wrong += found
            for text in found:
                print(text, flush=True)
    seconds = time.monotonic() - began
    row(
        "simulation", f"{seeds:,} seeds, 0 violations",
        f"{counts['seeds']:,} seeds, {len(wrong)} violations; {counts['payments']:,} payments, "
        f"{counts['entries']:,} entries, {counts['sessions']:,} sessions, {counts['deaths']:,} crashes, "
        f"{counts['held']:,} held at the end, in {seconds:.0f} s",
    )  # fmt: skip
    return int(bool(wrong))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--seeds", type=int, default=500, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one only, with its log if it fails")
    parser.add_argument("--log", action="store_true", help="its log in any case")
    parser.add_argument("--sqlite", action="store_true", help="on a SQLite file instead of memory")
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    if given.seed is not None:
        return one(given.seed, on_sqlite=given.sqlite, log=given.log)
    every = 1 if given.sqlite else ON_SQLITE
    return many(given.first, given.seeds, processes=given.processes, sqlite_every=every)


if __name__ == "__main__":
    sys.exit(main())
