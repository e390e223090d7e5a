"""Two clocks: a worker whose own is far from the database's does not begin."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest

from orchestrator import claim
from orchestrator.claim import Claims, Rhythm
from orchestrator.cli.exits import USAGE, status_of
from orchestrator.clock import SystemClock
from orchestrator.domain.errors import ConfigurationError, Unavailable
from orchestrator.store import SqlStore
from tests.integration.store.conftest import no_wait


class Skewed(SystemClock):
    def __init__(self, seconds: float) -> None:
        self._off = timedelta(seconds=seconds)

    def now(self) -> datetime:
        return super().now() + self._off


def claims(store: SqlStore, seconds: float, rhythm: Rhythm | None = None) -> Claims:
    return Claims(
        store, Skewed(seconds), rhythm or Rhythm(),
        accounts=["emea"], new_id=lambda: "w1", origin="h", version="1",
    )  # fmt: skip


async def registered(store: SqlStore) -> bool:
    return await store.beat("w1", now=SystemClock().now())


@contextmanager
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, dict[str, object]]]]:
    events: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr(claim, "emit", lambda name, **fields: events.append((name, fields)))
    yield events


@pytest.mark.parametrize("seconds", [-3600.0, -0.0, 2.5, 86400.0])
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_the_offset_is_ours_minus_the_databases(postgresql: str, seconds: float, driver: str) -> None:
    async with SqlStore(postgresql.replace("asyncpg", driver)) as store:
        assert await store.clock_offset(Skewed(seconds)) == pytest.approx(seconds, abs=0.5)


async def test_half_of_the_quickest_way_there_and_back_is_taken_off(postgresql: str) -> None:
    async with SqlStore(postgresql) as store:
        real, times = SystemClock(), iter([0.0, 40.0, 0.0, 0.0, 0.0, 90.0])

        class Slow(SystemClock):
            def now(self) -> datetime:
                return real.now() + timedelta(seconds=next(times))

        # The middle look took no time; the others say they took 40 and 90 seconds.
        assert await store.clock_offset(Slow()) == pytest.approx(0, abs=0.5)


async def test_a_file_has_our_own_clock(sqlite_url: str) -> None:
    async with SqlStore(sqlite_url) as store:
        assert await store.clock_offset(Skewed(9999)) == 0.0
        await claims(store, 9999).begin()
        assert await registered(store)


@pytest.mark.parametrize(("seconds", "words"), [(7.0, "7.0 s ahead of"), (-3600.0, "3600.0 s behind")])
async def test_a_worker_far_off_is_refused_and_nothing_is_written(
    postgresql: str, seconds: float, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SqlStore(postgresql) as store:
        with told(monkeypatch) as events, pytest.raises(ConfigurationError) as refused:
            await claims(store, seconds).begin()
        assert (refused.value.key, status_of(refused.value)) == ("clock", USAGE)
        shown = str(refused.value).replace("7.1", "7.0").replace("6.9", "7.0").replace("3599.9", "3600.0")
        assert words in shown
        assert "NTP" in shown
        assert events == []
        assert not await registered(store)
        await claims(store, seconds, Rhythm(skew_s=10_000)).begin()
        assert await registered(store)


@pytest.mark.parametrize(("seconds", "names"), [(3.0, ["clock.skewed", "worker.started"]), (0.0, ["worker.started"])])
async def test_a_worker_somewhat_off_begins_and_the_log_says_so(
    postgresql: str, seconds: float, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SqlStore(postgresql) as store:
        with told(monkeypatch) as events:
            await claims(store, seconds).begin()
        assert [name for name, _ in events] == names
        if len(events) == 2:
            assert events[0][1]["offset_s"] == pytest.approx(seconds, abs=0.5)
        assert await registered(store)


async def test_a_database_that_does_not_answer_has_no_clock() -> None:
    store = SqlStore("postgresql://u@localhost:1/d", sleep=no_wait)
    with pytest.raises(Unavailable):
        await claims(store, 0).begin()
    await store.close()
