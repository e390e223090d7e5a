"""
What hashing and sealing the trail cost: payments per second with them, and without.

    python -m benchmarks.trail --payments 400

The switch exists here alone: entries get a number instead of a hash, nothing is sealed and nothing
carried away. Runs alternate, each on a new SQLite file (or schema, with --database), the
sandbox in a process of its own. Prints one JSON line for each kind, and one for their ratio.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from orchestrator import Money, Orchestrator, Query, load_settings
from orchestrator.domain import entry
from tests.support.flow import account

SETTINGS = {
    "heartbeat_s": 1.0,
    "claim_life_s": 20.0,
    "claim_trust_s": 15.0,
    "poll_interval_s": 0.05,
    "concurrency": 100,
}
POLICY = {"digital": {"poll_first_s": 0.05, "poll_max_s": 0.05}}


def settings(directory: Path, base_url: str, *, sealed: bool) -> Any:
    every = {"every_s": 1.0, "entries": 500, "verify_every_s": 0}
    return load_settings(
        environ={"SANDBOX_CLIENT_ID": "sandbox-client", "SANDBOX_CLIENT_SECRET": "sandbox-secret"},
        cwd=directory,
        overrides={
            "database_url": f"sqlite:///{directory / 'bench.db'}",
            "seal": every if sealed else every | {"entries": 100_000, "every_s": 3600},
            "worker": SETTINGS, "log_level": "error",
            "accounts": {"bench": account(base_url, policy=POLICY, requests_per_second=0)},
        },
    )  # fmt: skip


@contextlib.contextmanager
def without_hashes() -> Iterator[None]:
    """Number entries instead of hashing them, and carry nothing away."""
    numbers = itertools.count(1)
    with (
        mock.patch.object(entry, "body_hash", lambda _: next(numbers).to_bytes(32)),
        mock.patch("orchestrator.sealing.entry_lines", lambda _: None),
        mock.patch("orchestrator.sealing.build_sealer", lambda *_: None),
    ):
        yield


async def run(base_url: str, payments: int, *, sealed: bool) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as place, contextlib.nullcontext() if sealed else without_hashes():
        async with Orchestrator(settings(Path(place), base_url, sealed=sealed)) as orchestrator:
            began, cpu = time.perf_counter(), time.process_time()
            async with orchestrator.worker():
                made = [await submit(orchestrator, number) for number in range(payments)]
                while await orchestrator.list(Query(ended=False, limit=1)):
                    await asyncio.sleep(0.01)
            took, used = time.perf_counter() - began, time.process_time() - cpu
            states = {(await orchestrator.get(payment.id)).state.value for payment in made}
            assert states == {"completed"}, states
    return {"payments_per_s": payments / took, "cpu_ms_per_payment": used / payments * 1000}


async def submit(orchestrator: Orchestrator, number: int) -> Any:
    fields = {
        "CustomerPhoneNumber": "+447700900123", "cardholderName": "A. Payer", "cardholderPostCode": "RG1 1AA",
        "cardholderAddress": "1 High Street",
    }  # fmt: skip
    return await orchestrator.submit(
        account="bench", channel="digital", reference=f"PAID-{number}", amount=Money("12.40", "GBP"), fields=fields
    )


@contextlib.asynccontextmanager
async def sandbox() -> AsyncIterator[str]:
    """Start the provider's twin; give its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orchestrator", "sandbox", "--port", "0", "--speed", "200",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--payments", type=int, default=400)
    parser.add_argument("--runs", type=int, default=3)
    words = parser.parse_args()
    found: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    async with sandbox() as base_url:
        for number in range(2 * words.runs):
            sealed = number % 2 == 0
            found[sealed].append(await run(base_url, words.payments, sealed=sealed))
    speeds = {}
    for sealed, runs in found.items():
        middle = {name: statistics.median(one[name] for one in runs) for name in runs[0]}
        speeds[sealed] = middle["payments_per_s"]
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        told = {name: round(value, 2) for name, value in middle.items()}
        print(json.dumps({"bench": "trail", "database": "sqlite", "sealed": sealed, **told, "rss_mb": round(rss)}))
    print(
        json.dumps({"bench": "trail", "ratio": round(speeds[True] / speeds[False], 3), "to": "without hash and seal"})
    )


if __name__ == "__main__":
    asyncio.run(main())
