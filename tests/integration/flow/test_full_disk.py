"""A database that refuses every write for a while: nothing is sent without its intent, and all goes on by itself."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import Connection

from orchestrator import Orchestrator, Unavailable
from orchestrator.domain.errors import Fenced
from orchestrator.health import Colour
from orchestrator.sandbox import Sandbox, SandboxOptions
from tests.crash.cells import settings_of, write_key
from tests.integration.flow.troubled import Troubled
from tests.integration.store.conftest import new_schema, postgresql_host, postgresql_url, sqlite_template
from tests.support.flow import assert_clean, submit

__all__ = ["postgresql_host", "sqlite_template"]

PAYMENTS = 12
# What the server itself says: no room, a transaction that lost against another, a deadlock.
STATES = {"disk full": "53100", "serialization": "40001", "deadlock": "40P01"}
TRIGGERS = """
create function {name}.refuse_all() returns trigger language plpgsql as $$
begin raise exception 'no' using errcode = '{state}'; end $$;
create trigger refuse_entries before insert on {name}.audit_entry for each row execute function {name}.refuse_all();
create trigger refuse_beats before update on {name}.worker for each row execute function {name}.refuse_all();
"""


@dataclass
class Trouble:
    """A database, and how it is made to refuse and to take writes again."""

    url: str
    begin: Callable[[Orchestrator], Awaitable[None]]
    end: Callable[[Orchestrator], Awaitable[None]]


async def pages(orchestrator: Orchestrator, most: int) -> int:
    """Let the file have at most so many pages, or none more than now; give how many it may have."""

    def work(connection: Connection) -> int:
        return int(connection.exec_driver_sql(f"pragma max_page_count = {most}").scalar_one())

    return await orchestrator.store.database.aside(work)


def small_disk(template: Path, directory: Path) -> Trouble:
    shutil.copy(template, directory / "orchestrator.db")

    async def begin(orchestrator: Orchestrator) -> None:
        await pages(orchestrator, 1)  # as many as it has
        with contextlib.suppress(Unavailable):
            for number in range(1000):  # whatever room is left in them
                await submit(orchestrator, f"FILLER-{number}", "digital", 1000 + number)
            raise AssertionError("it never gets full")

    async def end(orchestrator: Orchestrator) -> None:
        await pages(orchestrator, 1_000_000)

    return Trouble(f"sqlite:///{directory / 'orchestrator.db'}", begin, end)


@contextlib.asynccontextmanager
async def refusing_server(host: str, state: str) -> AsyncIterator[Trouble]:
    name = await new_schema(host)
    connection = await asyncpg.connect(host=host, user="postgres", database="postgres")

    async def begin(_: Orchestrator) -> None:
        await connection.execute(TRIGGERS.format(name=name, state=state))

    async def end(_: Orchestrator) -> None:
        while True:
            with contextlib.suppress(asyncpg.DeadlockDetectedError):  # the workers go on meanwhile
                await connection.execute(f"drop function {name}.refuse_all() cascade")
                return

    try:
        yield Trouble(postgresql_url(host, name, "asyncpg"), begin, end)
    finally:
        await connection.close()


@pytest.mark.parametrize("kind", ["sqlite", *STATES])
async def test_nothing_is_sent_without_its_intent_while_no_write_is_taken_and_all_goes_on_afterwards(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        if kind == "sqlite":
            trouble = small_disk(request.getfixturevalue("sqlite_template"), tmp_path)
        else:
            host = request.getfixturevalue("postgresql_host")
            trouble = await stack.enter_async_context(refusing_server(host, STATES[kind]))
        write_key(tmp_path)
        sandbox = await stack.enter_async_context(Sandbox(SandboxOptions(speed=20)))
        settings = settings_of(tmp_path, trouble.url, sandbox.base_url, ["test"])
        orchestrator = await stack.enter_async_context(Orchestrator(settings))
        orchestrator.on("handed_over", lambda _: None)
        made = [await submit(orchestrator, f"PAID-{n}", ("digital", "phone")[n % 2], n) for n in range(PAYMENTS)]
        await trouble.begin(orchestrator)
        store = Troubled(orchestrator.store)
        orchestrator.store = store  # type: ignore[assignment]

        # A full file may have room for a claim, or none.
        wanted = ("record", "claim") if kind == "sqlite" else ("record",)

        async with orchestrator.worker():
            async with asyncio.timeout(30):
                while sum(isinstance(error, Unavailable) for verb, error in store.raised if verb in wanted) < 2:
                    await asyncio.sleep(0.01)
            # On a busy machine a claim may lapse in the middle of it.
            assert {type(error) for verb, error in store.raised if verb in wanted} <= {Unavailable, Fenced}
            if kind in ("sqlite", "disk full"):
                assert any("no room left on its disk" in str(error) for _, error in store.raised), store.raised
            if kind != "sqlite":
                assert sandbox.stats()["session_calls"] == 0
                async with asyncio.timeout(30):
                    while (await orchestrator.health()).colour is not Colour.RED:
                        await asyncio.sleep(0.02)
            await trouble.end(orchestrator)
            ended = [await orchestrator.wait(payment.id, timeout=60) for payment in made]

        orchestrator.store = store.store
        assert {payment.outcome for payment in ended} == {"paid"}
        assert {payment.sessions for payment in ended} == {1}
        assert max(sandbox.stats()["sessions_per_reference"].values()) == 1
        await assert_clean(orchestrator)
