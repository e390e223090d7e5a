"""A database that can't be used: one clear error that names the fix, an exit status, and nothing written."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from orchestrator.cli.exits import FINDINGS, UNAVAILABLE, USAGE, status_of
from orchestrator.domain.errors import ConfigurationError, OrchestratorError, Unavailable
from orchestrator.store import SqlStore, engines, migrate
from tests.integration.store.conftest import new_schema, no_wait, postgresql_url
from tests.integration.store.makers import T0, birth

ROOT = Path(__file__).parents[3]
Verb = Callable[[str], Awaitable[object]]


async def open_(url: str) -> None:
    async with SqlStore(url, sleep=no_wait):
        raise AssertionError("it opened")


async def read(url: str) -> None:
    store = SqlStore(url, sleep=no_wait)
    await store.open(to_write=False)
    await store.close()
    raise AssertionError("it opened")


VERBS: dict[str, Verb] = {"open": open_, "read": read, "check": migrate.check, "upgrade": migrate.upgrade}


@contextmanager
def unchanged(place: Path) -> Iterator[None]:
    def seen() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}

    before = seen()
    yield
    assert seen() == before


def text_file(place: Path) -> str:
    (place / "x.db").write_text("these are notes, and no database\n" * 40)
    return "x.db"


def others_tables(place: Path) -> str:
    connection = sqlite3.connect(place / "x.db")
    connection.execute("create table payment (id integer)")
    connection.close()
    return "x.db"


def damaged(place: Path) -> str:
    connection = sqlite3.connect(place / "x.db")
    connection.execute("create table t (x)")
    connection.close()
    path = place / "x.db"
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * 3996 + path.read_bytes()[4096:])
    return "x.db"


def directory(place: Path) -> str:
    (place / "x.db").mkdir()
    return "x.db"


FILES: dict[str, tuple[Callable[[Path], str], tuple[str, ...], int, str]] = {
    "no SQLite file": (text_file, ("open", "read", "check", "upgrade"), USAGE, "no SQLite database"),
    "another program's": (others_tables, ("open", "read", "upgrade"), USAGE, "tables with our names that are not ours"),
    "damaged": (damaged, ("open", "read", "check", "upgrade"), FINDINGS, "restore a backup"),
    "a directory": (directory, ("open", "read", "check", "upgrade"), USAGE, "names a directory"),
    "in no directory": (lambda _place: "absent/x.db", ("upgrade",), USAGE, "make the directory first"),
    "not there": (lambda _place: "x.db", ("open", "read"), USAGE, "orchestrator db upgrade"),
}


@pytest.mark.parametrize(("what", "verb"), [(what, verb) for what, row in FILES.items() for verb in row[1]])
async def test_a_file_that_cannot_be_used_is_told_and_left_alone(what: str, verb: str, tmp_path: Path) -> None:
    make, _, status, words = FILES[what]
    url = f"sqlite:///{tmp_path / make(tmp_path)}"
    with unchanged(tmp_path), pytest.raises(OrchestratorError, match=words) as told:
        await VERBS[verb](url)
    assert status_of(told.value) == status


OPENING = """
import asyncio, sys
from orchestrator.cli.exits import status_of
from orchestrator.domain.errors import OrchestratorError
from orchestrator.store import SqlStore, migrate

async def main():
    try:
        if sys.argv[2] == "upgrade":
            await migrate.upgrade(sys.argv[1])
        async with SqlStore(sys.argv[1]):
            return 0
    except OrchestratorError as error:
        print(error)
        return status_of(error)

sys.exit(asyncio.run(main()))
"""


@pytest.mark.parametrize("verb", ["open", "upgrade"])
@pytest.mark.parametrize("what", ["file", "directory"])
def test_a_read_only_file_is_told(sqlite_template: Path, what: str, verb: str) -> None:
    # The superuser may write to anything, so in a container that right is dropped first.
    drop = []
    if os.getuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("the superuser's rights can't be dropped here")
        drop = ["setpriv", "--bounding-set=-dac_override"]
    place = Path(tempfile.mkdtemp(prefix="orchestrator-ro-"))
    try:
        file = place / "x.db"
        shutil.copy(sqlite_template, file)
        (file if what == "file" else place).chmod(0o444 if what == "file" else 0o555)
        before = file.read_bytes()
        done = subprocess.run(
            [*drop, sys.executable, "-c", OPENING, f"sqlite:///{file}", verb], cwd=ROOT,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout.strip()) == (
            USAGE, "database_url: names a read-only file; let this user write to the file and its directory",
        ), done.stderr  # fmt: skip
        assert [path.name for path in place.iterdir()] == ["x.db"]
        assert file.read_bytes() == before
    finally:
        place.chmod(0o755)
        shutil.rmtree(place)


@pytest.mark.parametrize("verb", ["write", "upgrade"])
async def test_another_program_that_keeps_the_lock_is_named(
    sqlite_url: str, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_PRAGMAS", ("busy_timeout = 1", *engines._PRAGMAS[1:]))
    locker = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    locker.execute("begin immediate")
    async with SqlStore(sqlite_url, sleep=no_wait) as store:
        with pytest.raises(Unavailable, match="another program holds the file's lock") as told:
            await (store.submit(birth()) if verb == "write" else migrate.upgrade(sqlite_url))
        assert status_of(told.value) == UNAVAILABLE
        locker.execute("rollback")
        locker.close()
        assert await store.submit(birth())


async def test_several_of_our_own_processes_may_share_a_file(sqlite_url: str) -> None:
    stores = [SqlStore(sqlite_url) for _ in range(3)]
    for number, store in enumerate(stores):
        await store.open()
        await store.submit(birth(f"P-{number}"))
    assert len([payment async for payment in stores[0].all_payments()]) == 3
    for store in stores:
        await store.close()


Make = Callable[[str, str], list[str]]
"""Gives statements for a role and the schema with our tables."""

ALL = "grant usage on schema {1} to {0}; alter role {0} set search_path = {1}"
ROLES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "no schema in sight": ("alter role {0} set search_path = absent", ("upgrade",), "sees no schema"),
    "no rights on the tables": (ALL, ("open", "read", "check"), "without the rights"),
    "rights to read only": (
        ALL + "; grant select on all tables in schema {1} to {0}", ("open",), "without the right to write",
    ),
    "read-only by default": (
        ALL + "; grant all on all tables in schema {1} to {0}; alter role {0} set default_transaction_read_only = on",
        ("open",), "read-only database; name the primary",
    ),
    "no right to make tables": (
        "create schema {0}; grant usage on schema {0} to {0}; alter role {0} set search_path = {0}",
        ("upgrade",), "without the rights",
    ),
    "a wrong password": (ALL, ("open", "read", "check", "upgrade"), "wrong user or password"),
}  # fmt: skip


async def administer(host: str, *statements: str) -> None:
    connection = await asyncpg.connect(host=host, user="postgres", database="postgres")
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


async def needs_password(host: str, role: str) -> None:
    """Let the server ask this one role for its password; others it trusts as before."""
    connection = await asyncpg.connect(host=host, user="postgres", database="postgres")
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock(42)")
        file = await connection.fetchval("show hba_file")
        rules = await connection.fetchval("select pg_read_file($1)", file)
        lines = [f"local all {role} scram-sha-256", *rules.splitlines()]
        await connection.execute("create temp table hba (line text) on commit drop")
        await connection.executemany("insert into hba values ($1)", [(line,) for line in lines])
        await connection.execute(f"copy hba to '{file}'")
    await connection.execute("select pg_reload_conf()")
    await connection.close()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
@pytest.mark.parametrize("what", ROLES)
async def test_a_role_that_cannot_is_told_what_it_lacks(postgresql_host: str, what: str, driver: str) -> None:
    statements, verbs, words = ROLES[what]
    schema = await new_schema(postgresql_host)
    role = f"role_{schema}"
    await administer(postgresql_host, f"create role {role} login password 'right'", statements.format(role, schema))
    password = ""
    if what == "a wrong password":
        await needs_password(postgresql_host, role)
        password = ":s3cret"
    url = postgresql_url(postgresql_host, role, driver).replace("@", f"{password}@")
    for verb in verbs:
        with pytest.raises(ConfigurationError, match=words) as told:
            await _until_reloaded(VERBS[verb], url) if password else await VERBS[verb](url)
        assert (told.value.key, status_of(told.value)) == ("database_url", USAGE)
        assert "s3cret" not in str(told.value)
        assert role not in str(told.value)
    async with SqlStore(postgresql_url(postgresql_host, schema)) as owner:
        assert [payment async for payment in owner.all_payments()] == []
        assert await owner.schema_findings() == []


async def _until_reloaded(verb: Verb, url: str) -> None:
    """Wait for the server's reload: until then it trusts the role, which then lacks rights."""
    while True:
        try:
            await verb(url)
        except ConfigurationError as error:
            if "rights" not in str(error):
                raise


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
@pytest.mark.parametrize(
    ("change", "words"), [(("/postgres?", "/absent?"), "does not exist"), (("//", "//nobody_"), "may not connect")]
)
async def test_a_database_or_user_that_is_not_there_is_told(
    postgresql_host: str, change: tuple[str, str], words: str, driver: str
) -> None:
    url = postgresql_url(postgresql_host, "postgres", driver).replace(*change)
    for verb in VERBS.values():
        with pytest.raises(ConfigurationError, match=words) as told:
            await verb(url)
        assert status_of(told.value) == USAGE


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_server_that_cannot_be_reached_is_unavailable(driver: str) -> None:
    with pytest.raises(Unavailable) as told:
        await open_(f"postgresql+{driver}://u:s3cret@localhost:1/d")
    assert status_of(told.value) == UNAVAILABLE


async def test_a_role_that_reads_may_verify_a_read_only_database(postgresql_host: str) -> None:
    schema = await new_schema(postgresql_host)
    role = f"role_{schema}"
    await administer(
        postgresql_host, f"create role {role} login", ALL.format(role, schema),
        f"grant select on all tables in schema {schema} to {role}",
        f"alter role {role} set default_transaction_read_only = on",
    )  # fmt: skip
    reader = SqlStore(postgresql_url(postgresql_host, role), sleep=no_wait)
    await reader.open(to_write=False)
    assert await reader.schema_findings() == []
    assert [entry async for entry in reader.all_entries()] == []
    with pytest.raises(Unavailable, match="read-only"):
        await reader.register("w1", origin="h", version="1", now=T0)
    await reader.close()
