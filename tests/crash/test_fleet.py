"""Several worker processes on one PostgreSQL: shared work, stopped and replaced; killing them is the soak's."""

import json
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator import HoldReason, Orchestrator, Payment, Query
from tests.crash.fleet import FULL, OPEN, Fleet, fleet, submit_all, until
from tests.support.flow import assert_clean, submit

KINDS = ("PAID", "DECLINED", "HUNGUP", "EXPIRED", "CANCELLED")
WORKERS = 4
LONG_LIFE = {"claim_trust_s": 100, "claim_life_s": 120}
"""A claim that nobody gives back outlives the test: who finds it free got it back in good order."""


def references(count: int, kinds: Sequence[str] = KINDS) -> list[str]:
    return [f"{kinds[number % len(kinds)]}-{number}" for number in range(count)]


async def all_payments(orchestrator: Orchestrator) -> list[Payment]:
    found: list[Payment] = []
    while page := await orchestrator.list(Query(limit=500, after=found[-1].id if found else None)):
        found += page
    return found


async def at_work(made: Fleet, count: int) -> dict[int, str]:
    """Wait until so many workers live; give their ids by process."""

    async def enough() -> dict[int, str] | None:
        found = await made.worker_ids()
        return found if len(found) >= count else None

    return dict(await until(enough))


async def all_ended(made: Fleet, seconds: float = 240) -> None:
    async def none_open() -> bool:
        return await made.count(f"select count(*) from payment where {OPEN}") == 0

    await until(none_open, seconds)


# --- shared -------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
async def test_four_processes_share_the_payments_fairly_and_start_one_session_for_each(
    database: str, tmp_path: Path
) -> None:
    wanted = references(1000 if FULL else 240)
    async with (
        fleet(tmp_path, database, speed=20, concurrency=20, **LONG_LIFE) as made,
        Orchestrator(made.settings) as orchestrator,
    ):
        supervisor = await made.worker("--processes", str(WORKERS))
        workers = await at_work(made, WORKERS)
        began = time.monotonic()
        await submit_all(orchestrator, wanted)
        await all_ended(made)
        took = time.monotonic() - began
        supervisor.send_signal(signal.SIGTERM)
        status = await supervisor.wait()

        rows = await made.ask("select actor, count(*) from audit_entry where trigger = 'request' group by actor")
        shares = {str(actor): int(number) for actor, number in rows}
        print(f"{len(wanted)} payments in {took:.1f} s, shared {sorted(shares.values())}")
        payments = await all_payments(orchestrator)

        assert status == 0
        assert shares.keys() == set(workers.values())
        assert max(shares.values()) <= 2 * min(shares.values())
        assert sorted(payment.reference for payment in payments) == sorted(wanted)
        assert [payment.reference for payment in payments if not payment.ended or payment.hold] == []
        assert made.stats()["sessions_per_reference"] == dict.fromkeys(wanted, 1)
        assert await made.count("select count(*) from worker") == 0
        await assert_clean(orchestrator)


# --- stopped and woken --------------------------------------------------------------------------


async def start_in_flight(made: Fleet, payment_id: str) -> Any:
    """Wait for a start's intent, and lock its payment before the answer is recorded; give the locking connection."""

    async def begun() -> bool:
        statement = "select count(*) from payment where id = $1 and open_attempt is not null"
        return await made.count(statement, payment_id) == 1

    await until(begun)
    connection = await made.connect()
    await connection.execute("begin")
    await connection.execute("select id from payment where id = $1 for update", payment_id)
    ours = await connection.fetchval("select pg_backend_pid()")
    waiting = "select pid from pg_stat_activity where $1::int = any(pg_blocking_pids(pid))"
    # The worker has its answer now, and waits for us to record it.
    await until(lambda: made.ask(waiting, ours))
    return connection


async def entries_of(orchestrator: Orchestrator, payment_id: str) -> list[dict[str, Any]]:
    return [json.loads(entry.body) for entry in await orchestrator.timeline(payment_id)]


@pytest.mark.timeout(120)
async def test_a_worker_that_lapsed_and_woke_is_fenced_and_its_answer_is_in_the_trail(
    database: str, tmp_path: Path
) -> None:
    async with fleet(tmp_path, database) as made, Orchestrator(made.settings) as orchestrator:
        payment = await submit(orchestrator, "SLOWANSWER-1", "digital")
        sleeper = await made.worker(name="sleeper")
        connection = await start_in_flight(made, payment.id)
        (former,) = (await made.worker_ids()).values()
        sleeper.send_signal(signal.SIGSTOP)
        # Its half transaction gets the lock now, stopped as it is, and keeps it until the server gives it up.
        await connection.execute("rollback")
        await connection.close()

        # Another one takes the claim, decides the open attempt as unknown, and gives the claim back.
        other = await made.worker(name="other")
        held = await until(lambda: _held(orchestrator, payment.id))
        other.send_signal(signal.SIGTERM)
        assert await other.wait() == 0
        returned = await orchestrator.get(payment.id)

        sleeper.send_signal(signal.SIGCONT)
        ended = await orchestrator.wait(payment.id, until="ended", timeout=60)
        sleeper.send_signal(signal.SIGTERM)
        assert await sleeper.wait() == 0

        events = [line["event"] for line in made.log("sleeper")]
        entries = await entries_of(orchestrator, payment.id)
        answers = [entry for entry in entries if (entry.get("operation"), entry.get("verdict")) == ANSWERED]

        assert (held.hold, returned.claimed_by) == (HoldReason.SESSION_UNKNOWN, None)
        assert returned.claim_no > 1
        assert "claim.fenced" in events
        assert "worker.lapsed" in events
        assert len(answers) == 1
        assert (ended.state, ended.hold) == ("completed", None)
        assert made.stats()["sessions_per_reference"] == {"SLOWANSWER-1": 1}
        assert [entry["actor"] for entry in entries if entry["trigger"] == "request"] == [former]
        await assert_clean(orchestrator)


ANSWERED = ("start_session", "answered")


async def _held(orchestrator: Orchestrator, payment_id: str) -> Payment | None:
    payment = await orchestrator.get(payment_id)
    return payment if payment.hold else None


@pytest.mark.timeout(120)
async def test_an_old_decision_is_fenced_even_when_the_same_worker_has_the_claim_anew(
    database: str, tmp_path: Path
) -> None:
    async with (
        fleet(tmp_path, database, **LONG_LIFE) as made,
        Orchestrator(made.settings) as orchestrator,
    ):
        payment = await submit(orchestrator, "SLOWANSWER-1", "phone")
        worker = await made.worker()
        connection = await start_in_flight(made, payment.id)
        # Taken, returned and claimed again while its step was under way: only the number differs.
        before = await connection.fetchrow("select claimed_by, claim_no from payment where id = $1", payment.id)
        await connection.execute("update payment set claim_no = claim_no + 2 where id = $1", payment.id)
        await connection.execute("commit")
        await connection.close()
        ended = await orchestrator.wait(payment.id, until="ended", timeout=60)
        worker.send_signal(signal.SIGTERM)
        assert await worker.wait() == 0

        entries = await entries_of(orchestrator, payment.id)
        answers = [entry for entry in entries if (entry.get("operation"), entry.get("verdict")) == ANSWERED]

        assert "claim.fenced" in [line["event"] for line in made.log()]
        assert [entry["actor"] for entry in answers] == [before["claimed_by"]]
        assert ended.claim_no >= before["claim_no"] + 2
        assert ended.state == "completed"
        assert made.stats()["sessions_per_reference"] == {"SLOWANSWER-1": 1}
        await assert_clean(orchestrator)


# --- replaced -----------------------------------------------------------------------------------


@pytest.mark.timeout(240)
async def test_a_rolling_restart_pauses_nothing_and_gives_every_claim_back_at_once(
    database: str, tmp_path: Path
) -> None:
    wanted = references(120 if FULL else 60, ("PAID", "SLOWANSWER", "SLOW"))
    async with fleet(tmp_path, database, speed=2, **LONG_LIFE) as made, Orchestrator(made.settings) as orchestrator:
        supervisor = await made.worker("--processes", "3")
        first = await at_work(made, 3)
        await submit_all(orchestrator, wanted)
        fewest = 3

        async def replaced() -> bool:
            nonlocal fewest
            living = await made.worker_ids()
            fewest = min(fewest, len(living))
            return not living.keys() & first.keys()

        supervisor.send_signal(signal.SIGHUP)
        await until(replaced)
        await all_ended(made)
        second = await at_work(made, 3)
        supervisor.send_signal(signal.SIGTERM)
        assert await supervisor.wait() == 0

        payments = await all_payments(orchestrator)
        passed_on = await made.count("select count(*) from payment where claim_no > 1")
        events = Counter(line["event"] for line in made.log())

        assert fewest >= 3
        assert len(first.keys() | second.keys()) == 6
        assert passed_on > 0
        assert [payment.reference for payment in payments if not payment.ended or payment.hold] == []
        assert made.stats()["sessions_per_reference"] == dict.fromkeys(wanted, 1)
        assert events["process.replaced"] == 3
        assert events["claim.rescued"] == 0
        assert await made.count("select count(*) from worker") == 0
        await assert_clean(orchestrator)


async def test_workers_whose_supervisor_is_killed_drain_and_end(database: str, tmp_path: Path) -> None:
    async with fleet(tmp_path, database, **LONG_LIFE) as made, Orchestrator(made.settings) as orchestrator:
        payment = await submit(orchestrator, "NEVER-1", "digital")
        supervisor = await made.worker("--processes", "2")
        await at_work(made, 2)
        await until(lambda: _claimed(orchestrator, payment.id))
        supervisor.kill()
        await supervisor.wait()

        async def gone() -> bool:
            told = (made.directory / "worker.log").read_text().count('"worker.stopped"')
            return told == 2 and await made.worker_ids() == {}

        await until(gone)

        assert (await orchestrator.get(payment.id)).claimed_by is None


async def _claimed(orchestrator: Orchestrator, payment_id: str) -> bool:
    return (await orchestrator.get(payment_id)).claimed_by is not None
