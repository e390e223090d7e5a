"""A worker process killed with SIGKILL again and again, under load: nothing lost, nothing doubled, all explained."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import sys
from collections import Counter
from pathlib import Path

import pytest

from orchestrator import HoldReason, Orchestrator, Query
from orchestrator.sandbox import Sandbox, SandboxOptions
from tests.crash.worker_process import settings
from tests.support.flow import assert_clean, submit

SCRIPT = Path(__file__).with_name("worker_process.py")
KINDS = ("PAID", "DECLINED", "HUNGUP", "SLOWANSWER", "EXPIRED")
PAYMENTS = 200
KILLS = 10


async def start(base_url: str, directory: Path) -> asyncio.subprocess.Process:
    # Coverage's settings come by environment where they are wanted; `-P` would hide the tests' own package.
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), base_url, str(directory), env=environment, stderr=asyncio.subprocess.DEVNULL
    )


def read(directory: Path, statement: str) -> int:
    with contextlib.closing(sqlite3.connect(directory / "orchestrator.db", timeout=10)) as connection:
        return int(connection.execute(statement).fetchone()[0])


async def until(condition: object, seconds: float) -> None:
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.mark.timeout(240)
async def test_ten_kills_under_two_hundred_payments_lose_and_double_nothing(tmp_path: Path) -> None:
    options = SandboxOptions(speed=2)
    async with Sandbox(options) as sandbox, Orchestrator(settings(sandbox.base_url, tmp_path)) as orchestrator:
        for number in range(PAYMENTS):
            channel = "digital" if number % 2 else "phone"
            await submit(orchestrator, f"{KINDS[number % len(KINDS)]}-{number}", channel, number)
        open_digital = 0
        for kill in range(KILLS):
            # The moments differ: each is a number of entries that the trail reaches while calls are in flight.
            seen = read(tmp_path, "select count(*) from audit_entry")
            worker = await start(sandbox.base_url, tmp_path)
            moment = seen + 3 + 13 * kill
            await until(lambda m=moment: read(tmp_path, "select count(*) from audit_entry") >= m, 30)
            worker.send_signal(signal.SIGKILL)
            assert await worker.wait() == -signal.SIGKILL
            open_digital += read(
                tmp_path, "select count(*) from payment where channel = 'digital' and open_attempt is not null"
            )
        last = await start(sandbox.base_url, tmp_path)
        assert await asyncio.wait_for(last.wait(), 90) == 0

        payments = await orchestrator.list(Query(limit=PAYMENTS))
        holds = Counter((payment.channel, payment.hold) for payment in payments if payment.hold)

        assert len(payments) == PAYMENTS
        assert [payment.reference for payment in payments if not (payment.ended or payment.hold)] == []
        assert set(holds) <= {("digital", HoldReason.SESSION_UNKNOWN), ("phone", HoldReason.UNSEEN_SESSION)}
        assert holds["digital", HoldReason.SESSION_UNKNOWN] <= open_digital
        assert max(sandbox.stats()["digital_sessions_per_reference"].values()) == 1
        assert read(tmp_path, "select max(claim_no) from payment") > 1
        await assert_clean(orchestrator)
