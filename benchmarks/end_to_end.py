"""
Payments per second from submit to completed, beside the floor in the same run.

    python -m benchmarks.end_to_end --in-flight 100 --workers 1 --payments 3000

One payment: a cached token, one Start Session, two looks with 50 ms between them. Each run has a
new database and processes of its own; floor and orchestrator alternate. One JSON line for each
configuration, figures are medians; `ratio` is to the floor.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from benchmarks import bulk, floor, ours
from benchmarks.harness import (
    Place,
    asked,
    median_of,
    parser_of,
    place,
    processes,
    servers,
    stub,
    summed_up,
    told,
    verified,
)


@dataclass(frozen=True, slots=True)
class Configuration:
    """One line of the result."""

    kind: str
    payments: int
    in_flight: int
    workers: int

    def measured(self, engine: Any, where: Place, url: str) -> dict[str, float]:
        found = processes(
            engine, where, url, payments=self.payments, in_flight=self.in_flight, workers=self.workers
        )  # fmt: skip
        return summed_up(found, self.payments)


def run_floor(one: Configuration, server: Any, url: str) -> dict[str, float]:
    with place(one.kind, server) as where:
        floor.prepare(where)
        before = asked(url)
        figures = one.measured(floor.run, where, url)
        floor.check(where, one.payments)
        return figures | verified(before, asked(url), one.payments)


def run_ours(one: Configuration, server: Any, url: str) -> dict[str, float]:
    with place(one.kind, server) as where:
        ours.prepare(where)
        before, first = asked(url), bulk.written(where)
        figures = one.measured(ours.run, where, url)
        if one.kind == "postgresql":
            figures["commits_per_payment"] = (bulk.written(where) - first) / one.payments
        ours.check(where, url, one.payments)
        return figures | verified(before, asked(url), one.payments)


def compared(one: Configuration, server: Any, url: str, *, runs: int, engines: Collection[str]) -> None:
    """Run the engines in turn, and print their lines."""
    floors, found = [], []
    for _ in range(runs):
        if "floor" in engines:
            floors.append(run_floor(one, server, url))
        if "ours" in engines:
            found.append(run_ours(one, server, url))
    least = median_of(floors) if floors else {}
    if floors:
        told("floor", one.kind, one.in_flight, one.workers, least)
    if found:
        figures: dict[str, Any] = dict(median_of(found))
        if floors:
            figures |= {"ratio": figures["payments_per_s"] / least["payments_per_s"], "to": "floor"}
        told("end_to_end", one.kind, one.in_flight, one.workers, figures)


def main(engines: Collection[str] = ("floor", "ours")) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--in-flight", type=int, action="append")
    parser.add_argument("--workers", type=int, action="append")
    parser.add_argument("--payments", type=int, default=3000)
    parser.add_argument("--no-floor", action="store_true")
    words = parser.parse_args()
    chosen = set(engines) - {"floor"} if words.no_floor else engines
    with stub() as url, servers(words) as databases:
        for kind, server in databases:
            for in_flight in words.in_flight or (100, 400):
                for workers in words.workers or (1, 2, 4):
                    one = Configuration(kind, words.payments, in_flight, workers)
                    compared(one, server, url, runs=words.runs, engines=chosen)


if __name__ == "__main__":
    main()
