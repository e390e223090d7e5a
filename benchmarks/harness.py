"""
What every benchmark is made of: databases, the stub, child processes, medians, one JSON line each.

A run takes place in child processes of its own (`spawn`), so that CPU and memory are the
engine's alone. The window of payments in flight is shared: whoever sees a payment end
submits the next one.
"""

import argparse
import base64
import contextlib
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.cli import loop
from orchestrator.privacy.signing import new_key_line
from tests.support.postgresql import Server

WAIT_S = 0.05
"""Between the two looks at a session."""
DATABASES = ("sqlite", "postgresql")


@dataclass(frozen=True, slots=True)
class Place:
    """
    A database to run on.

    Attributes:
        kind: `sqlite` or `postgresql`.
        url: Its SQLAlchemy URL.
        directory: For whatever else a run writes.
    """

    kind: str
    url: str
    directory: Path

    @property
    def file(self) -> Path:
        return self.directory / "bench.db"

    @property
    def socket(self) -> str:
        """Where a driver of PostgreSQL connects to."""
        return self.url.partition("host=")[2]


@contextlib.contextmanager
def postgresql() -> Iterator[Server]:
    """Start a server that keeps every promise: fsync and synchronous_commit are on, as they come."""
    with Server(options={"max_connections": "200", "shared_buffers": "256MB"}) as server:
        server.initialise()
        server.start()
        yield server


def parser_of(about: str | None, *, runs: int = 3) -> argparse.ArgumentParser:
    """Give a parser with the words that every benchmark has."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--database", choices=DATABASES, action="append", help="both by default")
    parser.add_argument("--runs", type=int, default=runs)
    return parser


@contextlib.contextmanager
def servers(words: argparse.Namespace) -> Iterator[list[tuple[str, Server | None]]]:
    """Start what the chosen databases need; give each kind with its server."""
    with contextlib.ExitStack() as stack:
        kinds = words.database or DATABASES
        server = stack.enter_context(postgresql()) if "postgresql" in kinds else None
        yield [(kind, server) for kind in kinds]


@contextlib.contextmanager
def place(kind: str, server: Server | None) -> Iterator[Place]:
    """Give a new database of that kind."""
    with tempfile.TemporaryDirectory(prefix="orchestrator-bench-") as name:
        directory = Path(name)
        if kind == "sqlite":
            yield Place(kind, f"sqlite:///{directory / 'bench.db'}", directory)
            return
        assert server is not None
        database = f"bench_{time.monotonic_ns()}"
        server._psql(f"create database {database}")
        yield Place(kind, f"postgresql://postgres@/{database}?host={server.host}", directory)
        server._psql(f"drop database {database} with (force)")


@contextlib.contextmanager
def stub(looks: int = 2, delay_ms: float = 0) -> Iterator[str]:
    """Start the provider; give its address."""
    command = [sys.executable, "-m", "benchmarks.stub", "--looks", str(looks), "--delay-ms", str(delay_ms)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def asked(url: str) -> dict[str, Any]:
    """Give what the stub was asked so far."""
    with urllib.request.urlopen(f"{url}/bench") as answer:
        told: dict[str, Any] = json.loads(answer.read())
    return told


@dataclass
class Window:
    """
    The payments in flight of all processes of a run.

    Attributes:
        payments: How many are submitted in all.
        in_flight: How many at a time.
        submitted, ended: How many were, by all processes.
        go: Opens when every process is ready.
    """

    payments: int
    in_flight: int
    workers: int
    submitted: Any
    ended: Any
    go: Any

    def next(self) -> int | None:
        """Give the number of the next payment to submit; `None` when that was the last."""
        with self.submitted.get_lock():
            if self.submitted.value >= self.payments:
                return None
            self.submitted.value += 1
            return int(self.submitted.value)

    def end(self) -> None:
        """Count one that ended."""
        with self.ended.get_lock():
            self.ended.value += 1

    @property
    def over(self) -> bool:
        """Whether all have ended."""
        return bool(self.ended.value >= self.payments)


@dataclass
class Measured:
    """What one process measures of itself."""

    began: float = 0.0
    took: float = 0.0
    cpu: float = 0.0
    commits: int = 0
    latencies: list[float] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    rss_mb: float = 0.0

    def start(self) -> None:
        self.began, self.cpu = time.monotonic(), time.process_time()

    def stop(self) -> None:
        self.took, self.cpu = time.monotonic() - self.began, time.process_time() - self.cpu
        self.rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


Engine = Callable[[Window, Place, str, Measured], Any]
"""An engine's run in one process: a coroutine function of window, place and the provider's address."""


def _child(engine: Engine, window: Window, place_: Place, url: str, answers: Any) -> None:
    measured = Measured()
    try:
        with _logged(place_):
            loop.run(engine(window, place_, url, measured))
    except BaseException as error:
        answers.put(RuntimeError(f"{type(error).__name__}: {error}"))
        raise
    answers.put(measured)


@contextlib.contextmanager
def _logged(place_: Place) -> Iterator[None]:
    """Have the log go where a service's goes, to a file; and a profile to the one that `BENCH_PROFILE` names."""
    sys.stderr = (place_.directory / f"log-{os.getpid()}").open("w")
    file = os.environ.get("BENCH_PROFILE")
    if not file:
        yield
        return
    import cProfile  # noqa: PLC0415 - only where it is asked for

    profile = cProfile.Profile()
    profile.enable()
    try:
        yield
    finally:
        profile.disable()
        profile.dump_stats(file)


def processes(
    engine: Engine, place_: Place, url: str, *, payments: int, in_flight: int, workers: int = 1
) -> list[Measured]:
    """Run an engine in so many processes; all begin at once."""
    context = multiprocessing.get_context("spawn")
    window = Window(
        payments, in_flight, workers, context.Value("q", 0), context.Value("q", 0), context.Barrier(workers)
    )
    answers = context.Queue()
    children = [context.Process(target=_child, args=(engine, window, place_, url, answers)) for _ in range(workers)]
    for child in children:
        child.start()
    found: list[Measured] = []
    for _ in children:
        answer = answers.get(timeout=600)
        if isinstance(answer, BaseException):
            for child in children:
                child.kill()
            raise answer
        found.append(answer)
    for child in children:
        child.join()
    return found


def summed_up(found: list[Measured], payments: int) -> dict[str, float]:
    """Give the figures of one run."""
    took = max(one.began + one.took for one in found) - min(one.began for one in found)
    latencies = sorted(latency for one in found for latency in one.latencies)
    return {
        "payments_per_s": payments / took,
        "commits_per_payment": sum(one.commits for one in found) / payments,
        "cpu_ms_per_payment": sum(one.cpu for one in found) / payments * 1000,
        "rss_mb": max(one.rss_mb for one in found),
        "p50_ms": percentile(latencies, 0.5) * 1000,
        "p99_ms": percentile(latencies, 0.99) * 1000,
    }


def percentile(ordered: list[float], share: float) -> float:
    """Give the value below which so large a share lies; of sorted values."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def median_of(runs: list[dict[str, float]]) -> dict[str, float]:
    """Give each figure's median."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def told(bench: str, kind: str, in_flight: int, workers: int, figures: dict[str, Any], **more: Any) -> None:
    """Print one configuration's JSON line."""
    line = {"bench": bench, "database": kind, "in_flight": in_flight, "workers": workers, **figures, **more}
    rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in line.items()}
    print(json.dumps(rounded), flush=True)


def verified(before: dict[str, Any], after: dict[str, Any], payments: int) -> dict[str, float]:
    """Insist that the provider was asked what had to be asked, and nothing twice; give what its answers cost it."""
    starts, statuses = after["starts"] - before["starts"], after["statuses"] - before["statuses"]
    assert starts == payments, (starts, payments)
    assert statuses == 2 * payments, (statuses, 2 * payments)
    assert after["duplicates"] == before["duplicates"] == 0
    cpu = after["cpu_s"] - before["cpu_s"]
    return {
        "stub_requests_per_cpu_s": (starts + statuses) / cpu if cpu else 0.0,
        "connections": after["connections"] - before["connections"],
    }


SECRETS = {
    "BENCH_CLIENT_ID": "bench-client",
    "BENCH_CLIENT_SECRET": "bench-secret",
    "BENCH_SEALING_KEY": base64.b64encode(bytes(range(32))).decode(),
    "BENCH_SIGNING_KEY": new_key_line("bench"),
}


def apart(work: Callable[..., Any], place_: Place, *words: Any) -> Any:
    """Run a coroutine function in a process of its own, which may be killed; its log goes to a file."""
    process = multiprocessing.get_context("spawn").Process(target=_alone, args=(work, place_, words), daemon=True)
    process.start()
    return process


def _alone(work: Callable[..., Any], place_: Place, words: tuple[Any, ...]) -> None:
    try:
        with _logged(place_):
            loop.run(work(place_, *words))
    except BaseException as error:
        print(f"{work.__name__}: {type(error).__name__}: {error}", file=sys.__stderr__)
        raise
