"""Migrations: inside a running loop, without drift, and never over somebody else's tables."""

import asyncio
import hashlib
import io
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.command import downgrade
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from orchestrator.domain.errors import (
    ConfigurationError,
    Conflict,
    DatabaseMismatch,
    Fenced,
    OrchestratorError,
    Unavailable,
)
from orchestrator.store import SqlStore, migrate
from orchestrator.store.access import Database
from orchestrator.store.migrate import Standing
from orchestrator.store.schema import TABLES, metadata
from tests.integration.store.conftest import new_schema, postgresql_url
from tests.integration.store.makers import PAID, T0, birth, held

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["sqlite", "postgresql"])
async def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new.db'}"
    host = request.getfixturevalue("postgresql_host")
    name = await new_schema(host, empty=True)
    return postgresql_url(host, name)


async def run(url: str, *statements: str) -> None:
    database = Database(url)

    def work(connection: Connection) -> None:
        for statement in statements:
            connection.exec_driver_sql(statement)

    await database.engines.write.run(work, begin=True)
    await database.close()


async def upgraded_to(url: str, revision: str) -> None:
    """Upgrade by Alembic alone, as a developer does by hand."""
    database = Database(url)

    def work(connection: Connection) -> None:
        migrate.command.upgrade(migrate.config(connection), revision)

    await database.engines.write.run(work, begin=True)
    await database.close()


async def test_an_empty_database_is_refused_then_upgraded_then_works(empty: str) -> None:
    with pytest.raises(DatabaseMismatch, match="orchestrator db upgrade"):
        await SqlStore(empty).open()
    assert (await migrate.check(empty)).standing is Standing.EMPTY
    first, second = await migrate.upgrade(empty), await migrate.upgrade(empty)
    assert first == second == await migrate.check(empty)
    assert first.fine
    async with SqlStore(empty) as store:
        payment = await store.submit(birth())
        assert await store.get(payment.id) == payment


async def test_the_other_driver_works_too(postgresql_host: str) -> None:
    url = postgresql_url(postgresql_host, await new_schema(postgresql_host, empty=True), "psycopg")
    assert (await migrate.upgrade(url)).fine
    assert (await migrate.check(url)).fine
    async with SqlStore(url) as store:
        await store.register("w1", origin="h", version="1", now=T0)
        payment = await store.submit(birth())
        [claimed] = await store.claim("w1", now=T0, limit=1, accounts=["emea"], machine_versions=[1])
        stored = await store.record(held(claimed, *PAID))
        assert await store.get(payment.id) == stored
        with pytest.raises(Conflict, match="round"):
            await store.submit(birth(key="another"))
        with pytest.raises(Fenced):
            await store.record(held(claimed, "authorize", seconds=2))
        assert [entry async for entry in store.all_entries()] == list(await store.entries(payment.id))


async def test_two_upgrades_at_once_are_one(empty: str) -> None:
    statuses = await asyncio.gather(*(migrate.upgrade(empty) for _ in range(3)))
    assert all(status.fine for status in statuses)


async def test_looking_at_a_missing_file_does_not_make_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'absent.db'}"
    assert (await migrate.check(url)).standing is Standing.EMPTY
    with pytest.raises(DatabaseMismatch):
        await SqlStore(url).open()
    assert list(tmp_path.iterdir()) == []


async def test_autogenerate_finds_nothing_to_do(empty: str) -> None:
    await migrate.upgrade(empty)
    database = Database(empty)
    ours = {"include_object": lambda item, name, kind, reflected, other: kind != "table" or name in TABLES}
    found = await database.read(
        lambda connection: compare_metadata(MigrationContext.configure(connection, opts=ours), metadata)
    )
    await database.close()
    assert found == []


FROZEN = {
    "0001_sqlite": "e3e6f63070d63f4800d73021944246972ae396a7068ee3bf3ff65726f8a9f4f7",
    "0001_postgresql": "c98d1ca7f8ef5969106391d9ef901302902736419c7332f2b166317c904d418e",
    "0002_sqlite": "2509363e2303d6ebcb7a0d8d379a9ce6f754e3357856feba60e3901a32c729ce",
    "0002_postgresql": "c2abdd125c5548347f4fc5038c1b9021195f82a2705e19bf46409c537f0c035c",
    "0003_sqlite": "15c125768bab5a77bb057363be952f2552ba34075e0e54770ff79ffe4d4fa92b",
    "0003_postgresql": "c9dd0f68a2490670bb5bd4be3faebbb75fab677753fec977c3961d97180d1a59",
    "0004_sqlite": "d92b1bf9d5902c6b9e697914e69ef1aa255e7661227d189f77f422ac88672d1f",
    "0004_postgresql": "7c839af6c36552b7815ff5f2c50fa98e70d94fb0c0f8f5bcfb1a491588aa47e4",
    "0005_sqlite": "4fc092e3561e06073e759f4dfa05a1e34c5f0439be67d98d6d90332a9b8af0b2",
    "0005_postgresql": "4bb10703c21cd5556011383f989a4fc7a22f265bc5cff1c46cc43d3a1d66c576",
}


@pytest.mark.parametrize("script", FROZEN)
def test_a_migration_that_was_released_is_never_changed(script: str) -> None:
    # A new one is made by hand; that all of them give what the code builds is for test_identity to see.
    found = (ROOT / "migrations" / "versions" / f"{script}.sql").read_bytes()
    assert hashlib.sha256(found).hexdigest() == FROZEN[script]


TAMPERED = {
    "a trigger is gone": (
        "drop trigger tr_audit_entry_update",
        "alter table audit_entry disable trigger tr_audit_entry_append_only",
    ),
    "an index is gone": ("drop index ix_payment_due", "drop index ix_payment_due"),
    "a view says something else": (
        "drop view v_payment; create view v_payment as select id from payment",
        "drop view v_payment; create view v_payment as select id from payment",
    ),
    "a trigger no longer refuses": (
        "drop trigger tr_payment_delete; create trigger tr_payment_delete before delete on payment begin select 1; end",
        (
            "create or replace function orchestrator_refuse() returns trigger language plpgsql"
            " as $$ begin return old; end $$"
        ),
    ),
    "a check is gone": (None, "alter table audit_entry drop constraint ck_audit_entry_says"),
    "a key is switched off": (None, "alter table payment disable trigger all"),
    "a column came": ("alter table payment add column note text", "alter table payment add column note text"),
}


@pytest.mark.parametrize("what", TAMPERED)
async def test_drift_is_found(url: str, what: str) -> None:
    statement = TAMPERED[what][not url.startswith("sqlite")]
    if statement is None:
        pytest.skip("SQLite can't change a constraint of a table")
    await run(url, *(statement.split("; ") if "begin" not in statement else _two(statement)))
    status = await migrate.check(url)
    assert not status.fine
    assert status.standing is Standing.CURRENT
    assert len(status.drift) >= 1


def _two(statement: str) -> list[str]:
    return statement.split("; ", 1) if statement.startswith("drop") else [statement]


VERSION = migrate.VERSION_TABLE


@pytest.mark.parametrize(
    ("change", "standing", "told"),
    [
        (f"update {VERSION} set version_num = '9999'", Standing.AHEAD, "later version"),
        (f"delete from {VERSION}", Standing.FOREIGN, "not ours"),
        (f"drop table {VERSION}", Standing.FOREIGN, "not ours"),
    ],
    ids=["ahead", "version lost", "foreign"],
)
async def test_a_database_that_is_not_ours_is_left_alone(url: str, change: str, standing: Standing, told: str) -> None:
    await run(url, change)
    assert (await migrate.check(url)).standing is standing
    for refused in (SqlStore(url).open, lambda: migrate.upgrade(url)):
        with pytest.raises(DatabaseMismatch, match=told):
            await refused()


async def test_a_database_that_is_behind_is_told_to_be_upgraded(empty: str) -> None:
    await upgraded_to(empty, "0001")
    with pytest.raises(DatabaseMismatch, match=r"behind.*orchestrator db upgrade"):
        await SqlStore(empty).open()
    with pytest.raises(DatabaseMismatch, match="behind"):
        await SqlStore(empty).open(to_write=False)
    assert (await migrate.check(empty)).revision == "0001"


async def test_a_hosts_own_tables_and_alembic_are_undisturbed(empty: str) -> None:
    await run(
        empty, "create table host_order (id integer)", "create table alembic_version (version_num varchar(32))",
        "insert into alembic_version values ('host1')",
    )  # fmt: skip
    assert (await migrate.upgrade(empty)).fine
    assert (await migrate.check(empty)).fine
    database = Database(empty)
    assert await database.read(lambda it: it.scalar(text("select version_num from alembic_version"))) == "host1"
    await database.close()


async def test_there_is_no_way_down(sqlite_url: str) -> None:
    database = Database(sqlite_url)

    def down(connection: Connection) -> None:
        downgrade(migrate.config(connection), "base")

    with pytest.raises(RuntimeError, match="never dropped"):
        await database.engines.write.run(down, begin=False)
    await database.close()
    assert (await migrate.check(sqlite_url)).fine


async def test_a_failed_upgrade_leaves_nothing_behind(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = migrate.command.upgrade

    def broken(*args: object) -> None:
        real(*args)  # type: ignore[arg-type]
        raise OSError("the machine dies here")

    with monkeypatch.context() as patch:
        patch.setattr(migrate.command, "upgrade", broken)
        with pytest.raises(Unavailable):
            await migrate.upgrade(empty)
    assert (await migrate.check(empty)).standing is Standing.EMPTY
    assert (await migrate.upgrade(empty)).fine


def test_a_developer_runs_alembic_by_hand(tmp_path: Path) -> None:
    environment = os.environ | {"ORCHESTRATOR_DATABASE_URL": f"sqlite:///{tmp_path / 'dev.db'}"}
    script = "from alembic.config import main; main(['upgrade', 'head']); main(['check'])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert "No new upgrade operations detected" in done.stdout, done.stderr
    connection = sqlite3.connect(tmp_path / "dev.db")
    assert connection.execute("select count(*) from sqlite_master where type = 'trigger'").fetchone()[0] > 15
    connection.close()


@pytest.mark.parametrize(("url", "guard"), [("sqlite:///x.db", "update"), ("postgresql://h/d", "append_only")])
def test_a_database_administrator_gets_the_script(url: str, guard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", url)
    offline = migrate.config()
    offline.output_buffer = io.StringIO()
    migrate.command.upgrade(offline, "head", sql=True)
    script = offline.output_buffer.getvalue()
    assert f"create trigger tr_audit_entry_{guard}" in script
    assert script.count("CREATE TABLE") - script.count("drop table") == len(TABLES) + 1


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "not a database URL"),
        ("mysql://user:s3cret@host/db", "unknown database"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///file:x?mode=memory&uri=true", "in memory"),
        ("postgresql://user:s3cret@host:port/db", "not a database URL"),
    ],
)
def test_a_url_that_cannot_be_used_is_a_readable_error(url: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as refused:
        SqlStore(url)
    assert refused.value.key == "database_url"
    assert "s3cret" not in str(refused.value)


async def test_a_server_that_is_not_there_is_unavailable_without_its_password() -> None:
    calls: list[float] = []

    async def count(seconds: float) -> None:
        calls.append(seconds)

    for driver in ("asyncpg", "psycopg"):
        store = SqlStore(f"postgresql+{driver}://user:s3cret@localhost:1/db", sleep=count)
        with pytest.raises(OrchestratorError) as silent:
            await store.open()
        assert isinstance(silent.value, Unavailable)
        assert "s3cret" not in str(silent.value)
    assert len(calls) == 8
    assert max(calls) <= 1.0


async def test_postgresql_works_in_any_schema_that_its_user_sees_first(postgresql_host: str) -> None:
    names = [await new_schema(postgresql_host, empty=True) for _ in range(2)]
    for name in names:
        assert (await migrate.upgrade(postgresql_url(postgresql_host, name))).fine
    connection = await asyncpg.connect(host=postgresql_host, user="postgres", database="postgres")
    found = await connection.fetch("select schemaname from pg_tables where tablename = 'payment'")
    await connection.close()
    assert set(names) <= {row[0] for row in found}
