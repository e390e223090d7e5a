"""Connections are set up as promised, and waiting is for the caller's clock."""

import asyncio
import sqlite3
from typing import Any

import pytest
from sqlalchemy import Connection, text

from orchestrator.domain.errors import ConfigurationError, Conflict, Unavailable
from orchestrator.store import SqlStore, engines
from orchestrator.store.engines import _may_distrust, _postgresql_arguments, open_engines, parsed
from tests.integration.store.conftest import direct_only, host_engine
from tests.integration.store.makers import T0, birth, births

PROMISED = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1, "cell_size_check": 1}


@pytest.mark.parametrize("which", ["write", "read"])
async def test_every_sqlite_connection_keeps_the_promises(sqlite_url: str, which: str) -> None:
    made = open_engines(parsed(sqlite_url))

    def work(connection: Connection) -> dict[str, Any]:
        asked = (*PROMISED, "query_only", "trusted_schema")
        return {pragma: connection.scalar(text(f"pragma {pragma}")) for pragma in asked}

    found = await getattr(made, which).run(work, begin=False)
    await made.dispose()
    assert found.pop("query_only") == int(which == "read")
    assert found.pop("trusted_schema") == int(not _may_distrust())
    assert found == PROMISED


@direct_only  # the role's own settings count there
async def test_postgresql_connections_speak_utc_and_the_trail_is_synchronous(postgresql: str) -> None:
    made = open_engines(parsed(postgresql))
    async with made.write.bound() as bound:
        assert await bound.run(lambda connection: connection.scalar(text("show timezone"))) == "UTC"
        assert await bound.run(lambda connection: connection.scalar(text("show synchronous_commit"))) == "on"
    await made.dispose()


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:///x.db", "sqlite+aiosqlite"),
        ("sqlite+aiosqlite:///x.db", "sqlite+aiosqlite"),
        ("postgres://u@h/d", "postgresql+asyncpg"),
        ("postgresql://u@h/d", "postgresql+asyncpg"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg"),
    ],
)
def test_a_url_chooses_its_driver(url: str, driver: str) -> None:
    assert parsed(url).drivername == driver


@pytest.mark.parametrize(
    ("url", "several"),
    [
        ("postgresql://u@/d?host=/a:5432&host=/b:5433", True),
        ("postgresql://u@/d?host=a,b&port=5432,5433", True),
        ("postgresql+psycopg://u@/d?host=a&host=b", True),
        ("postgresql://u@/d?host=a:5432&host=b:5432&target_session_attrs=any", False),
        ("postgresql://u@/d?host=/a", False),
        ("postgresql://u@h:5432/d", False),
    ],
)
def test_of_several_hosts_the_primary_is_wanted(url: str, several: bool) -> None:
    wanted = _postgresql_arguments(parsed(url), pooled=False).get("target_session_attrs")
    assert wanted == ("read-write" if several else None)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@/d?host=/a&host=/b",
        "postgresql://u@/d?host=a:5432&host=b",
        "postgresql://u@/d?host=a:5432&host=b:5432&port=5432",
        "postgresql://u@/d?host=a,b&port=5432",
        "postgresql://u@/d?host=a:x&host=b:y",
        "postgresql://u@a,b/d",
    ],
)
def test_hosts_that_a_driver_can_not_read_are_told_with_the_way_to_write_them(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"\?host=A:5432&host=B:5432"):
        parsed(url)


async def test_a_locked_file_is_waited_for_on_the_callers_clock(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_PRAGMAS", ("busy_timeout = 1", *engines._PRAGMAS[1:]))
    locker = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    locker.execute("begin immediate")
    waits: list[float] = []

    async def released_at_the_third(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            locker.execute("rollback")

    async with SqlStore(sqlite_url, sleep=released_at_the_third) as store:
        payment = await store.submit(birth())
        assert await store.get(payment.id) == payment
    assert len(waits) == 3
    assert waits == sorted(waits)
    locker.close()


async def test_a_file_that_stays_locked_is_unavailable_and_nothing_is_written(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_PRAGMAS", ("busy_timeout = 1", *engines._PRAGMAS[1:]))
    locker = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    locker.execute("begin immediate")
    waits: list[float] = []

    async def count(seconds: float) -> None:
        waits.append(seconds)

    async with SqlStore(sqlite_url, sleep=count) as store:
        results = await asyncio.gather(*(store.submit(each) for each in births(3)), return_exceptions=True)
        assert [type(result) for result in results] == [Unavailable] * 3
        with pytest.raises(Unavailable):
            await store.register("w1", origin="h", version="1", now=T0)
        locker.execute("rollback")
        locker.close()
        assert [payment async for payment in store.all_payments()] == []
        assert await store.submit(birth("INV-0")) is not None
    # The first of a group has its own transaction; the others share one; the worker's is the third.
    assert len(waits) % 4 == 0
    assert waits


async def test_a_claim_that_is_cancelled_leaves_the_connection_in_order(store: SqlStore) -> None:
    for each in births(5):
        await store.submit(each)
    await store.register("w1", origin="h", version="1", now=T0)
    for turns in range(6):
        task = asyncio.create_task(store.claim("w1", now=T0, limit=1, accounts=["emea"], machine_versions=[1]))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await store.submit(birth("AFTER"))
    await store.retire("w1", now=T0)
    await store.register("w2", origin="h", version="1", now=T0)
    taken = await store.claim("w2", now=T0, limit=9, accounts=["emea"], machine_versions=[1])
    assert len(taken) == 6


async def test_closing_writes_what_is_waiting(sqlite_url: str) -> None:
    store = SqlStore(sqlite_url)
    await store.open()
    tasks = [asyncio.create_task(store.submit(each)) for each in births(9)]
    await asyncio.sleep(0)
    await store.close()
    assert len({payment.id for payment in await asyncio.gather(*tasks)}) == 9
    async with SqlStore(sqlite_url) as again:
        assert len([payment async for payment in again.all_payments()]) == 9


async def test_a_hosts_connection_to_another_kind_of_database_is_refused(sqlite_url: str, postgresql: str) -> None:
    engine = host_engine(parsed(postgresql))
    async with SqlStore(sqlite_url) as store, engine.connect() as connection:
        with pytest.raises(Conflict, match="another database"):
            await store.within(connection)
    await engine.dispose()


async def test_the_same_birth_in_two_host_transactions_is_one(postgresql: str) -> None:
    engine = host_engine(parsed(postgresql))
    async with SqlStore(postgresql) as store, engine.connect() as first, engine.connect() as second:
        won = await (await store.within(first)).submit(birth("INV-1"))
        waiting = asyncio.create_task((await store.within(second)).submit(birth("INV-1", content_digest="e" * 64)))
        while not await _blocked(store):
            await asyncio.sleep(0)
        await first.commit()
        assert await waiting == won
        await second.commit()
        assert len([entry async for entry in store.all_entries()]) == 1
    await engine.dispose()


async def _blocked(store: SqlStore) -> bool:
    waiting = text("select count(*) from pg_locks l join pg_stat_activity a using (pid)"
                   " where not l.granted and a.usename = current_user")  # fmt: skip
    return bool(await store.database.read(lambda connection: connection.scalar(waiting)))


async def test_a_birth_that_waited_for_the_same_birth_elsewhere_is_that_one(postgresql: str) -> None:
    engine = host_engine(parsed(postgresql))
    async with SqlStore(postgresql) as store, engine.connect() as host:
        won = await (await store.within(host)).submit(birth("INV-1"))
        waiting = asyncio.create_task(store.submit(birth("INV-1", content_digest="e" * 64)))
        while not await _blocked(store):
            await asyncio.sleep(0)
        await host.commit()
        assert await waiting == won
    await engine.dispose()


async def test_a_snapshot_of_a_database_that_is_gone_is_unavailable() -> None:
    async def at_once(_seconds: float) -> None: ...

    store: Any = SqlStore("postgresql://u:s3cret@localhost:1/d", sleep=at_once)
    with pytest.raises(Unavailable):
        _ = [entry async for entry in store.all_entries()]
    with pytest.raises(Unavailable) as silent:
        await store.submit(birth())
    assert "s3cret" not in str(silent.value)
    await store.close()
