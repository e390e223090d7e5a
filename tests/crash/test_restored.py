"""An old copy of the database put back under running workers: no new session, everything held, one command to go on."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator import Orchestrator, Payment, Query, Unavailable
from orchestrator.audit import verify
from orchestrator.clock import SystemClock
from orchestrator.domain.entry import Context
from orchestrator.domain.errors import WentBack
from orchestrator.mark import MarkFile
from orchestrator.store import SqlStore
from orchestrator.store.incarnation import Witness
from orchestrator.store.restored import begin_anew
from tests.crash import doomed
from tests.crash.fleet import FULL, OPEN, Fleet, fleet, until
from tests.crash.forks import Forks
from tests.crash.load import LIFE, Load, lines_of
from tests.integration.store.conftest import new_schema, postgresql_url, sqlite_template
from tests.integration.store.makers import births
from tests.support import rewind
from tests.support.flow import assert_clean, submit
from tests.support.quality import row
from tests.support.rewind import Rewindable

__all__ = ["sqlite_template"]

pytestmark = pytest.mark.timeout(600 if FULL else 240)

WORKERS = 3 if FULL else 2
SINCE = 120 if FULL else 40
"""Sessions that are started after the copy was made, and that it knows nothing of."""
UNSTARTED = "select count(*) from payment where state in ('collecting', 'authorized') and due_at is not null"
REFUSALS = 3
"""How often each worker must have been refused before we believe that it keeps being so."""


@pytest.fixture(params=["sqlite", "postgresql"])
async def past(request: pytest.FixtureRequest, tmp_path: Path) -> Rewindable:
    if request.param == "sqlite":
        return rewind.sqlite(request.getfixturevalue("sqlite_template"), tmp_path)
    return await rewind.postgresql(request.getfixturevalue("postgresql_host"))


@contextlib.asynccontextmanager
async def at_work(made: Fleet) -> AsyncIterator[Load]:
    async with Orchestrator(made.settings) as orchestrator, Forks() as forks:
        load = Load(made, forks, orchestrator, open_at_once=40)
        for _ in range(WORKERS):
            await load.worker()
        await load.ready(WORKERS)
        yield load


def starts(load: Load) -> int:
    """Count the intents of starts that workers were told are written: nothing else lets one send."""
    return sum(
        line["trigger"] == "request"
        for name in load.workers
        for line in lines_of(load.made.directory / f"{name}.log")
        if line["event"] == "payment.recorded"
    )


def refusals(load: Load, name: str) -> int:
    """Count what a worker was refused since it noticed."""
    events = [line["event"] for line in lines_of(load.made.directory / f"{name}.log")]
    return (
        events[events.index("database.rewound") :].count("database.unavailable") if "database.rewound" in events else 0
    )


async def all_told(load: Load, event: str) -> None:
    async def told() -> bool:
        logs = [lines_of(load.made.directory / f"{name}.log") for name in load.workers]
        return all(any(line["event"] == event for line in log) for log in logs)

    await until(told)


async def held(orchestrator: Orchestrator) -> list[Payment]:
    return list(await orchestrator.list(Query(held=True, ended=False, limit=500)))


async def test_an_old_copy_put_back_under_running_workers_starts_nothing_and_one_command_goes_on(
    past: Rewindable, tmp_path: Path
) -> None:
    async with fleet(tmp_path, past.url, speed=4, start_deadline_s=2, **LIFE) as made:
        made.config.write_text(f'mark_file = "{tmp_path / "the.mark"}"\n{made.config.read_text()}')
        async with at_work(made) as load:
            async with load.submitting():

                async def some_unstarted() -> bool:
                    return made.stats()["session_calls"] > 10 and await made.count(UNSTARTED) > 3

                await until(some_unstarted)
                await made.forget()
                await past.copy()
                goal = made.stats()["session_calls"] + SINCE

                async def enough() -> bool:
                    return int(made.stats()["session_calls"]) >= goal

                await until(enough)
            await made.forget()
            await past.put_back()
            intended = starts(load)
            began = time.monotonic()
            await all_told(load, "database.rewound")
            noticed_s = time.monotonic() - began

            async def refused() -> bool:
                return all(refusals(load, name) >= REFUSALS for name in load.workers)

            await until(refused)
            with pytest.raises(WentBack):
                await submit(load.orchestrator, "PAID-late", "digital", 999_999)
            sessions = made.stats()["session_calls"]
            unstarted = await made.count(UNSTARTED)
            assert starts(load) == intended
            assert sessions <= intended

            newcomer = await made.worker(name="newcomer")
            assert await newcomer.wait() == 3
            assert "orchestrator db restored --as PERSON --reason TEXT" in (tmp_path / "newcomer.log").read_text()

            words = ("--as", "ada", "--reason", "an old copy was put back")
            command = await made.start("restored", "--config", str(made.config), "db", "restored", *words)
            assert await command.wait() == 0, (tmp_path / "restored.log").read_text()
            unheld = await made.count(f"select count(*) from payment where {OPEN}")
            waiting = await held(load.orchestrator)
            await all_told(load, "database.recovered")
            assert all(child.living for child in load.workers.values())

            # Looks go on by themselves: what the provider can tell is found out without anybody's word.
            async def looked() -> bool:
                return all(p.hold == "session_unknown" for p in await held(load.orchestrator))

            await until(looked)
            doubted = await held(load.orchestrator)
            after = made.stats()["session_calls"]
            row(
                f"an old copy put back under running workers, {past.kind}",
                "0 new sessions, everything held, one command to go on",
                f"{after - sessions} new sessions, though {unstarted} payments seemed unstarted; noticed by all of"
                f" {WORKERS} workers within {noticed_s:.2f} s; {unheld} payments not held, {len(waiting)} held,"
                f" {len(waiting) - len(doubted)} of them settled by looks",
            )  # fmt: skip
            assert (unheld, after) == (0, sessions)
            assert unstarted > 0

            await said_by_a_person(load, doubted)
            await load.all_ended()
            late = await submit(load.orchestrator, "PAID-late", "digital", 999_999)
            assert (await load.orchestrator.wait(late.id, timeout=60)).outcome == "paid"
            assert max(made.stats()["digital_sessions_per_reference"].values()) == 1
            await assert_clean(load.orchestrator)


async def said_by_a_person(load: Load, doubted: list[Payment]) -> None:
    """Say what a person finds at the provider: those without a session may go on."""
    made = load.made.stats()["sessions_per_reference"]
    assert any(payment.reference in made for payment in doubted), "the copy must have forgotten sessions"
    for payment in doubted:
        word = {"outcome": "declined"} if payment.reference in made else {"retry": True}
        with contextlib.suppress(Unavailable):
            await load.orchestrator.resolve(payment.id, person="ada", reason="seen at the provider", **word)  # type: ignore[arg-type]


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
async def test_the_command_may_die_anywhere_and_the_same_again_does_the_rest(
    dialect: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    outcomes = {}
    async with Forks() as forks:
        for moment in doomed.MOMENTS:
            directory = tmp_path / moment.replace(" ", "-")
            directory.mkdir()
            if dialect == "sqlite":
                url = rewind.sqlite(request.getfixturevalue("sqlite_template"), directory).url
            else:
                host = request.getfixturevalue("postgresql_host")
                url = postgresql_url(host, await new_schema(host), "asyncpg")
            outcomes[moment] = await died_and_done_again(forks, url, directory, moment)
    row(
        f"SIGKILL of `db restored`, {dialect}", "the same command again does the rest",
        f"{len(outcomes)} boundaries; held before and after: {', '.join(f'{a} + {b}' for a, b in outcomes.values())}",
    )  # fmt: skip
    assert outcomes == dict(zip(doomed.MOMENTS, ((4, 6), (10, 0), (10, 0)), strict=True))


async def died_and_done_again(forks: Forks, url: str, directory: Path, moment: str) -> tuple[int, int]:
    """Give how many payments were held by the process that died, and by the one after it."""
    mark = directory / "the.mark"

    def store() -> SqlStore:
        return SqlStore(url, witness=lambda file: Witness(MarkFile(mark), file, lambda *_: None))

    async with store() as known:
        await asyncio.gather(*(known.submit(birth) for birth in births(10)))
    child = await forks.fork(
        "tests.crash.doomed:restore", directory / "log", url=url, mark=str(mark), moment=moment
    )  # fmt: skip
    assert await child.ended() == -signal.SIGKILL, (directory / "log").read_text()
    async with SqlStore(url) as looking:
        first = len(await looking.list(Query(held=True)))
    async with store():  # a mark of the life before is as good as one of the life after
        pass
    clock = SystemClock()
    done = await begin_anew(
        url, MarkFile(mark), lambda: Context(clock.now(), "ada", "here:1"), reason="put back", new_id="f" * 32
    )
    async with store() as again:
        assert len(await again.list(Query(held=True))) == 10
        assert (await verify(again)).findings == ()
    return first, done.held
