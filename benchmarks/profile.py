"""
Where a payment's CPU goes, by part: samples of the running worker, sorted by whose code was at work.

    python -m benchmarks.profile --database postgresql

Runs `benchmarks.end_to_end` under py-spy, which looks only at threads that hold the
interpreter, and shares the CPU of a run without it among the parts. One JSON line for each
part, the largest first. `--raw FILE` keeps the folded stacks, which any flame graph program draws.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.harness import DATABASES

RATE = 250
PARTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    # The first that is found anywhere in a stack counts.
    ("HTTP: aiohttp", ("aiohttp/", "multidict", "yarl")),
    ("HTTP: httpx", ("httpx/", "httpx_aiohttp/")),
    ("HTTP: wire, connections", ("provider/transport.py", "provider/connections.py")),
    ("SQL", ("sqlalchemy/", "asyncpg/", "store/ways.py", "store/access.py")),
    ("logging", ("orchestrator/telemetry.py", "structlog/")),
    ("hashing and canonical JSON", ("canonical (", "body_hash (", "sealed_entry (")),
    ("machine and decisions", ("domain/machine.py", "domain/decision.py", "domain/decide.py", "domain/")),
    ("encoding: definitions", ("orchestrator/interactions/",)),
    ("reading answers", ("provider/answers.py", "provider/gateway.py", "provider/message.py")),
    ("provider: budget, breaker, tokens", ("orchestrator/provider/",)),
    ("checks and sealing of fields", ("orchestrator/privacy/", "phonenumbers/")),
    ("submit", ("orchestrator/submit.py",)),
    ("store: rows and groups", ("orchestrator/store/",)),
    ("sealing the trail", ("audit/sealer.py", "orchestrator/sealing.py", "orchestrator/sinks.py", "audit/")),
    ("flow: claim, execute, wait", ("orchestrator/execute.py", "orchestrator/worker.py", "orchestrator/")),
)
_NOT_STEADY = ("importlib", "Orchestrator.__init__", "load_settings", "check (benchmarks", "prepare (benchmarks")


def stacks(file: Path) -> Iterator[tuple[str, int]]:
    """Give the steady run's stacks, each with its samples."""
    for line in file.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        ours = "_child (benchmarks" in stack or "concurrent/futures/thread.py" in stack
        if ours and not any(word in stack for word in _NOT_STEADY):
            yield stack, int(count)


def shares(found: Iterable[tuple[str, int]]) -> Counter[str]:
    """Give each part's samples."""
    counted: Counter[str] = Counter()
    for stack, count in found:
        part = next((name for name, words in PARTS if any(word in stack for word in words)), "the loop and the rest")
        counted[part] += count
    return counted


def measured(words: argparse.Namespace, before: Iterable[str] = ()) -> dict[str, float]:
    """Run the benchmark; give its figures."""
    run = [sys.executable, "-m", "benchmarks.end_to_end", "--no-floor", "--runs", "1", "--workers", "1"]
    run += ["--in-flight", str(words.in_flight), "--payments", str(words.payments), "--database", words.database]
    done = subprocess.run([*before, *run], stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=DATABASES, default="postgresql")
    parser.add_argument("--in-flight", type=int, default=100)
    parser.add_argument("--payments", type=int, default=4000)
    parser.add_argument("--raw", type=Path, help="keep the folded stacks in this file")
    words = parser.parse_args()
    cpu_ms = measured(words)["cpu_ms_per_payment"]
    with tempfile.TemporaryDirectory() as place:
        raw = words.raw or Path(place) / "stacks"
        spy = [str(Path(sys.executable).with_name("py-spy")), "record", "--gil", "--subprocesses", "-r", str(RATE)]
        measured(words, [*spy, "-f", "raw", "-o", str(raw), "--"])
        counted = shares(stacks(raw))
    total = counted.total()
    for part, count in counted.most_common():
        share = count / total
        told = {"part": part, "share": round(share, 3), "cpu_ms_per_payment": round(share * cpu_ms, 3)}
        print(json.dumps({"bench": "profile", "database": words.database} | told))


if __name__ == "__main__":
    main()
