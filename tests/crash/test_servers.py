"""PostgreSQL restarted again and again, and replaced by its replica, under load: nothing that was told is lost."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator import Orchestrator
from tests.crash.fleet import FULL, Fleet, fleet, until
from tests.crash.forks import Forks
from tests.crash.load import LIFE, Load
from tests.integration.store.conftest import new_schema
from tests.support.flow import assert_clean
from tests.support.postgresql import Server
from tests.support.quality import row

pytestmark = pytest.mark.timeout(1800 if FULL else 240)

WORKERS = 3
RESTARTS, UP_S = (40, (2.0, 6.0)) if FULL else (3, (0.5, 1.5))
ENTRIES = 2000 if FULL else 200
BACK_S, WRITING_S = 5.0, 10.0
DURABLE = {"fsync": "on" if FULL else "off"}


def url_of(role: str, driver: str, *servers: Server) -> str:
    port = ":5432" if servers[1:] else ""  # asyncpg wants one with each of several hosts
    hosts = "&".join(f"host={server.host}{port}" for server in servers)
    return f"postgresql+{driver}://{role}@/postgres?{hosts}"


async def role_on(server: Server) -> str:
    await asyncio.to_thread(server.initialise)
    await asyncio.to_thread(server.start)
    return await new_schema(server.host)


@contextlib.asynccontextmanager
async def under_load(made: Fleet) -> AsyncIterator[Load]:
    """Run workers and a host that submits without end; everything is finished and verified afterwards."""
    async with Orchestrator(made.settings) as orchestrator, Forks() as forks:
        load = Load(made, forks, orchestrator, open_at_once=30)
        for _ in range(WORKERS):
            await load.worker()
        await load.ready(WORKERS)
        async with load.submitting():
            yield load
        await load.all_ended()
        assert all(child.living for child in load.workers.values())
        assert max(made.stats()["digital_sessions_per_reference"].values()) == 1
        await assert_clean(orchestrator)


async def grown(load: Load, by: int) -> None:
    """Wait until the workers have been told of so many more entries than now."""
    goal = len(load.told()) + by

    async def enough() -> bool:
        return len(load.told()) >= goal

    await until(enough)


async def lost(load: Load) -> tuple[list[tuple[str, int]], int]:
    """Give what somebody was told is written and is not there, and how much was told."""
    told = load.told()
    written = await load.written()
    return [which for which, digest in told.items() if written.get(which) != digest], len(told)


async def test_a_server_that_restarts_every_few_seconds_loses_nothing_and_is_used_again_at_once(tmp_path: Path) -> None:
    chance = random.Random(5)
    waits = []
    with Server(options=DURABLE) as server:
        url = url_of(await role_on(server), "asyncpg", server)
        async with fleet(tmp_path, url, speed=4, start_deadline_s=2, **LIFE) as made:
            async with under_load(made) as load:
                for number in range(RESTARTS):
                    await asyncio.sleep(chance.uniform(*UP_S))  # any moment: that is the point
                    await asyncio.to_thread(server.stop, "fast" if number % 2 else "immediate")
                    await made.forget()
                    await asyncio.to_thread(server.start)
                    back = time.monotonic()
                    await grown(load, 1)
                    waits.append(time.monotonic() - back)
            gone, told = await lost(load)
            row(
                "PostgreSQL restarted under load", f"0 violations, first transition within {BACK_S:g} s of its return",
                f"{RESTARTS} restarts, half of them crashes, 0 violations; {len(gone)} of {told} acknowledged entries"
                f" lost; first transition after {max(waits):.2f} s at most, {sum(waits) / len(waits):.2f} s on average",
            )  # fmt: skip
    assert gone == []
    assert not FULL or max(waits) <= BACK_S


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_promoted_synchronous_replica_has_everything_and_is_written_to_at_once(
    driver: str, tmp_path: Path
) -> None:
    with Server(options=DURABLE) as primary, Server(options=DURABLE) as replica:
        role = await role_on(primary)
        await asyncio.to_thread(replica.copy_of, primary)
        await asyncio.to_thread(replica.start)
        await asyncio.to_thread(primary.demand_replica)
        url = url_of(role, driver, primary, replica)
        async with fleet(tmp_path, url, speed=4, start_deadline_s=2, **LIFE) as made:
            async with under_load(made) as load:
                await grown(load, ENTRIES)
                died = time.monotonic()
                await asyncio.to_thread(primary.stop, "immediate")
                await made.forget()
                before = load.told()
                await asyncio.to_thread(replica.promote)
                await grown(load, 1)
                took = time.monotonic() - died
                written = await load.written()
                gone_then = [which for which, digest in before.items() if written.get(which) != digest]
            gone, told = await lost(load)
            row(
                f"failover to a synchronous replica, {driver}",
                f"0 of at least 2,000 acknowledged transitions lost, writing again within {WRITING_S:g} s",
                f"{len(gone_then)} of {len(before)} acknowledged before the crash lost, {len(gone)} of {told} in all;"
                f" writing again {took:.2f} s after the crash",
            )  # fmt: skip
    assert gone_then == gone == []
    assert len(before) >= ENTRIES
    assert not FULL or took <= WRITING_S
