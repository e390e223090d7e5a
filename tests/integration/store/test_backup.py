"""A backup is one moment of the database, whole, proven, and never in anybody's way."""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.audit import verify
from orchestrator.domain.errors import DatabaseMismatch, IntegrityViolated, InvalidInput, Unavailable
from orchestrator.store import SqlStore, migrate
from orchestrator.store import backup as backups
from orchestrator.store.backup import backup
from orchestrator.store.migrate import Standing
from tests.integration.store.makers import birth


def beside(file: Path) -> list[str]:
    return sorted(path.name for path in file.parent.iterdir() if path != file)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "copies").mkdir()
    return tmp_path / "copies" / "copy.db"


async def test_a_copy_is_one_file_of_its_owner_that_holds_everything_and_verifies(sqlite_url: str, file: Path) -> None:
    async with SqlStore(sqlite_url) as store:
        for number in range(5):
            await store.submit(birth(f"INV-{number}"))
        made = await backup(sqlite_url, file)  # the writer is still there, and its log is not empty
        await store.submit(birth("INV-LATER"))
    async with SqlStore(f"sqlite:///{file}") as copy:
        report = await verify(copy)

    assert (made.file, made.status.standing, made.status.drift) == (file, Standing.CURRENT, ())
    assert made.size > 0
    assert (report.findings, report.counts["payments"]) == ((), 5)
    assert file.stat().st_mode & 0o777 == 0o600
    assert beside(file) == []


async def test_a_copy_needs_no_log_beside_it(sqlite_url: str, file: Path) -> None:
    made = await backup(sqlite_url, file)

    assert (beside(file), made.size) == ([], file.stat().st_size)
    with closing(sqlite3.connect(f"{file.as_uri()}?immutable=1", uri=True)) as connection:
        assert connection.execute("pragma journal_mode").fetchone() == ("delete",)


async def test_a_copy_made_under_writers_is_one_moment_of_theirs(sqlite_url: str, file: Path) -> None:
    async with SqlStore(sqlite_url) as store:
        stop = asyncio.Event()
        written = 0

        async def write() -> None:
            nonlocal written
            while not stop.is_set():
                await store.submit(birth(f"INV-{written}"))
                written += 1

        writer = asyncio.create_task(write())
        while written < 20:
            await asyncio.sleep(0)
        before = written
        await backup(sqlite_url, file)
        stop.set()
        await writer
    async with SqlStore(f"sqlite:///{file}") as copy:
        report = await verify(copy)

    assert report.findings == ()
    assert before <= report.counts["payments"] <= written
    assert report.counts["payments"] == report.counts["entries"]


async def test_a_backup_never_replaces_anything(sqlite_url: str, file: Path) -> None:
    file.write_text("precious")

    with pytest.raises(InvalidInput, match="exists already"):
        await backup(sqlite_url, file)

    assert (file.read_text(), beside(file)) == ("precious", [])


async def test_a_file_that_appears_meanwhile_is_not_replaced_either(sqlite_url: str, file: Path, monkeypatch) -> None:
    check = migrate.check

    async def late(url: str) -> migrate.Status:
        file.write_text("precious")
        return await check(url)

    monkeypatch.setattr(backups.migrate, "check", late)

    with pytest.raises(InvalidInput, match="exists already"):
        await backup(sqlite_url, file)

    assert (file.read_text(), beside(file)) == ("precious", [])


@pytest.mark.parametrize("appears", [False, True])
async def test_a_file_system_without_links_is_no_excuse(sqlite_url: str, file: Path, monkeypatch, appears) -> None:
    def refused(_source: Path, target: Path) -> None:
        if appears:
            target.write_text("precious")
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refused)
    if appears:
        with pytest.raises(InvalidInput, match="exists already"):
            await backup(sqlite_url, file)
        assert file.read_text() == "precious"
    else:
        await backup(sqlite_url, file)
        assert (await migrate.check(f"sqlite:///{file}")).fine
    assert beside(file) == []


async def test_a_database_before_its_upgrade_can_be_copied(sqlite_url: str, file: Path) -> None:
    first = min(script.revision for script in migrate._scripts().walk_revisions())
    change(sqlite_url, f"update orchestrator_schema_version set version_num = '{first}'")

    made = await backup(sqlite_url, file)

    assert (made.status.standing, made.status.revision) == (Standing.BEHIND, first)


async def test_what_differs_in_the_database_is_told_of_the_copy(sqlite_url: str, file: Path) -> None:
    change(sqlite_url, "create index ix_own on payment (reference)")

    made = await backup(sqlite_url, file)

    assert any("ix_own" in line for line in made.status.drift)
    assert file.exists()


@pytest.mark.parametrize(
    ("statement", "words"),
    [("delete from orchestrator_schema_version", "not ours"), (None, "none of our tables")],
)
async def test_what_is_not_our_database_is_not_copied(sqlite_url: str, file: Path, statement, words) -> None:
    if statement is None:
        Path(sqlite_url.removeprefix("sqlite:///")).unlink()
    else:
        change(sqlite_url, statement)

    with pytest.raises(DatabaseMismatch, match=words):
        await backup(sqlite_url, file)

    assert not file.exists()
    assert beside(file) == []


async def test_a_directory_that_is_not_there_is_told(sqlite_url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"FILE.*FileNotFoundError"):
        await backup(sqlite_url, tmp_path / "nowhere" / "copy.db")


async def test_a_damaged_database_gives_no_copy(sqlite_url: str, file: Path) -> None:
    async with SqlStore(sqlite_url) as store:
        for number in range(200):
            await store.submit(birth(f"INV-{number}"))
    source = Path(sqlite_url.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(source)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
        # A page in the middle of the payments' own tree.
        (page,) = (
            connection.execute("select max(pageno) from dbstat where name = 'payment'").fetchone()
            if has_dbstat(connection)
            else (connection.execute("pragma page_count").fetchone()[0] // 2,)
        )
        size = connection.execute("pragma page_size").fetchone()[0]
    content = bytearray(source.read_bytes())
    content[(page - 1) * size : page * size] = b"\x7f" * size
    source.write_bytes(content)

    with pytest.raises(IntegrityViolated):
        await backup(sqlite_url, file)

    assert not file.exists()
    assert beside(file) == []


async def test_a_database_that_another_program_has_locked_is_unavailable(sqlite_url: str, file: Path, monkeypatch):
    monkeypatch.setattr(backups, "BUSY_S", 0.05)
    status = migrate.status
    source = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)

    async def then_locked(database):
        found = await status(database)
        await database.engines.dispose()
        source.execute("pragma locking_mode = exclusive")
        source.execute("begin exclusive")
        return found

    monkeypatch.setattr(backups.migrate, "status", then_locked)
    try:
        with pytest.raises(Unavailable, match="locked"):
            await backup(sqlite_url, file)
    finally:
        source.close()

    assert not file.exists()
    assert beside(file) == []


async def test_an_upgrade_during_the_copy_is_noticed(sqlite_url: str, file: Path, monkeypatch) -> None:
    async def other(_url: str) -> migrate.Status:
        return migrate.Status(Standing.CURRENT, "9999", "9999")

    monkeypatch.setattr(backups.migrate, "check", other)

    with pytest.raises(Unavailable, match="upgraded while"):
        await backup(sqlite_url, file)

    assert beside(file) == []
    assert not file.exists()


async def test_a_database_server_is_left_to_its_own_tools(file: Path) -> None:
    with pytest.raises(DatabaseMismatch, match=r"pg_dump.*never data-only with --disable-triggers"):
        await backup("postgresql://me@127.0.0.1:9/none", file)


def change(sqlite_url: str, statement: str) -> None:
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        connection.execute(statement)
        connection.commit()


def has_dbstat(connection: sqlite3.Connection) -> bool:
    return ("ENABLE_DBSTAT_VTAB",) in connection.execute("pragma compile_options").fetchall()
