"""Hints between processes: sent with the COMMIT of what is due, heard by whoever listens, never a trouble."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from orchestrator.domain.decision import quiet
from orchestrator.domain.errors import ConfigurationError, IntegrityViolated
from orchestrator.records import Record
from orchestrator.store import SqlStore, hints
from orchestrator.store.engines import parsed
from tests.integration.store.conftest import new_schema, no_wait, postgresql_url
from tests.integration.store.makers import T0, at, birth, context, held, outside, walk


class Heard:
    """What a listener heard; waits for hints and proves their absence by a later one."""

    def __init__(self) -> None:
        self.count = 0

    def stir(self) -> None:
        self.count += 1

    async def reaches(self, count: int) -> None:
        async with asyncio.timeout(20):
            while self.count < count:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def listening(store: SqlStore) -> AsyncIterator[Heard]:
    heard = Heard()
    task = asyncio.create_task(store.listen(heard.stir))
    try:
        await heard.reaches(1)  # connected
        yield heard
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(params=["asyncpg", "psycopg"])
async def pair(request: pytest.FixtureRequest, postgresql_host: str) -> AsyncIterator[tuple[SqlStore, SqlStore]]:
    url = postgresql_url(postgresql_host, await new_schema(postgresql_host), request.param)
    async with SqlStore(url, sleep=no_wait) as one, SqlStore(url, sleep=no_wait) as two:
        yield one, two


async def test_what_makes_something_due_is_heard_and_nothing_else(pair: tuple[SqlStore, SqlStore]) -> None:
    here, there = pair
    async with listening(there) as heard:
        first = await here.submit(birth("DUE"))
        await heard.reaches(2)
        await here.submit(birth("LATER", due_at=at(60)))
        await here.submit(birth("NEVER", due_at=None))
        await here.register("w1", origin="h", version="1", now=T0)
        [claimed] = await here.claim("w1", now=T0, limit=9, accounts=["emea"], machine_versions=[1])
        kept = await here.record(held(claimed, "authorize", due=at(1)))
        await here.record(Record(quiet(kept, at(1)), held_claim=True))
        # Had any of these told something, it would have been heard before this one.
        freed = await here.record(outside(kept, "request", seconds=2, due=at(2)))
        await heard.reaches(3)
        told = walk(freed, "start_session", seconds=3).notify("link_sent").due(None)
        await here.record(Record(told, held_claim=False))
        await heard.reaches(4)
        await here.claim("w1", now=at(60), limit=9, accounts=["emea"], machine_versions=[1])
        await here.retire("w1", now=at(61))
        await heard.reaches(5)
        await here.pause_account("emea", reason="why", context=context())
        await here.resume_account("emea", reason="why", context=context())
        await heard.reaches(6)
        assert heard.count == 6
    assert first.version == 1


async def test_a_group_tells_once(pair: tuple[SqlStore, SqlStore]) -> None:
    here, there = pair
    async with listening(there) as heard:
        await here._write([birth(f"G-{number}") for number in range(20)])
        await here.submit(birth("AFTER"))
        await heard.reaches(3)
        assert heard.count == 3


async def test_what_is_rolled_back_is_never_heard(pair: tuple[SqlStore, SqlStore]) -> None:
    here, there = pair
    async with listening(there) as heard:
        with pytest.raises(IntegrityViolated):
            await here.submit(birth("BAD", round=0))
        await here.submit(birth("GOOD"))
        await heard.reaches(2)
        assert heard.count == 2


async def test_another_installation_on_the_same_server_is_not_heard(postgresql_host: str) -> None:
    urls = [postgresql_url(postgresql_host, await new_schema(postgresql_host), "asyncpg") for _ in range(2)]
    async with SqlStore(urls[0]) as ours, SqlStore(urls[1]) as theirs, listening(ours) as heard:
        await theirs.submit(birth())
        await ours.submit(birth())
        await heard.reaches(2)
        assert heard.count == 2


async def _cut(host: str, store: SqlStore) -> int:
    """Let the server end the listener's connection."""
    connection = await asyncpg.connect(host=host, user="postgres", database="postgres")
    ended: int = await connection.fetchval(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = $1 and query ilike 'listen %'",
        store._database.url.username,
    )
    await connection.close()
    return ended


async def test_a_lost_connection_is_made_anew_and_what_was_missed_is_hinted(
    pair: tuple[SqlStore, SqlStore], postgresql_host: str
) -> None:
    here, there = pair
    async with listening(there) as heard:
        for turn in range(2):
            before = heard.count
            assert await _cut(postgresql_host, there) == 1
            await heard.reaches(before + 1)  # connected again
            await here.submit(birth(f"AGAIN-{turn}"))
            await heard.reaches(before + 2)


async def test_a_server_that_is_gone_is_tried_again_ever_more_slowly() -> None:
    waits: list[float] = []
    enough = asyncio.Event()

    async def count(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 12:
            enough.set()
            await asyncio.Event().wait()

    store = SqlStore("postgresql://u:s3cret@localhost:1/d", sleep=count)
    task = asyncio.create_task(store.listen(_never))
    await enough.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await store.close()
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (0.1, 15.0)


def _never() -> None:
    raise AssertionError("nothing was connected")


async def test_a_silent_connection_is_asked_for_a_sign_of_life(
    pair: tuple[SqlStore, SqlStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints, "ALIVE_S", 0.02)
    here, there = pair
    async with listening(there) as heard:
        while not await _asked(here):
            await asyncio.sleep(0.005)
        await here.submit(birth())
        await heard.reaches(2)


async def _asked(store: SqlStore) -> bool:
    asked = "select count(*) from pg_stat_activity where usename = current_user and query = 'select 1'"
    return bool(await store.database.read(lambda connection: connection.exec_driver_sql(asked).scalar()))


@pytest.mark.parametrize("url", ["sqlite:///absent.db", "postgresql+psycopg://u@localhost:1/d?pooled=true"])
async def test_where_nothing_can_be_heard_listening_ends_at_once(url: str) -> None:
    store = SqlStore(url)
    await store.listen(_never)
    await store.close()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://u@h/d?pooled=true", "use postgresql\\+psycopg"),
        ("sqlite:///x.db?pooled=true", "use postgresql\\+psycopg"),
        ("postgresql+psycopg://u@h/d?pooled=perhaps", "true or false"),
    ],
)
def test_a_pooler_needs_the_driver_without_prepared_statements(url: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        parsed(url)
