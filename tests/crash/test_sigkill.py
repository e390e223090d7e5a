"""One worker process on SQLite, killed with SIGKILL again and again, under load: nothing lost, nothing doubled."""

from collections import Counter
from pathlib import Path

import pytest

from orchestrator import HoldReason, Orchestrator, Query
from tests.crash.fleet import Fleet, fleet, submit_all, until
from tests.crash.forks import Child, Forks
from tests.support.flow import assert_clean

KINDS = ("PAID", "DECLINED", "HUNGUP", "SLOWANSWER", "EXPIRED")
PAYMENTS = 200
KILLS = 10
ENTRIES = "select count(*) from audit_entry"
OPEN_DIGITAL = "select count(*) from payment where channel = 'digital' and open_attempt is not null"


async def until_idle(made: Fleet, forks: Forks) -> Child:
    log = made.directory / "worker.log"
    return await forks.fork("tests.crash.forks:work", log, config=str(made.config), until_idle=True)


@pytest.mark.timeout(240)
async def test_ten_kills_under_two_hundred_payments_lose_and_double_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'orchestrator.db'}"
    async with (
        fleet(tmp_path, url, speed=2, poll_interval_s=0.02) as made,
        Orchestrator(made.settings) as orchestrator,
        Forks() as forks,
    ):
        await submit_all(orchestrator, [f"{KINDS[number % len(KINDS)]}-{number}" for number in range(PAYMENTS)])
        open_digital = 0
        for kill in range(KILLS):
            # The moments differ: each is a number of entries that the trail reaches while calls are in flight.
            moment = await made.count(ENTRIES) + 3 + 13 * kill
            worker = await until_idle(made, forks)

            async def reached(moment: int = moment) -> bool:
                return await made.count(ENTRIES) >= moment

            await until(reached)
            await worker.killed()
            open_digital += await made.count(OPEN_DIGITAL)
        last = await until_idle(made, forks)
        assert await last.ended() == 0

        payments = await orchestrator.list(Query(limit=PAYMENTS))
        holds = Counter((payment.channel, payment.hold) for payment in payments if payment.hold)

        assert len(payments) == PAYMENTS
        assert [payment.reference for payment in payments if not (payment.ended or payment.hold)] == []
        assert set(holds) <= {("digital", HoldReason.SESSION_UNKNOWN), ("phone", HoldReason.UNSEEN_SESSION)}
        assert holds["digital", HoldReason.SESSION_UNKNOWN] <= open_digital + made.doubts()
        assert max(made.stats()["digital_sessions_per_reference"].values()) == 1
        assert await made.count("select max(claim_no) from payment") > 1
        await assert_clean(orchestrator)
