"""Submitting inside the host's own transaction: the host's row and our payment are there together, or neither."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import NullPool

from orchestrator import Conflict, InvalidInput, Money, Orchestrator, Query, Settings, Unavailable, load_settings
from orchestrator.sandbox import Sandbox, SandboxOptions
from orchestrator.store import migrate
from orchestrator.store.engines import parsed
from tests.integration.store import conftest as databases
from tests.support.flow import FAST, account, assert_clean, fields_of, submit

postgresql_host = databases.postgresql_host
sqlite_template = databases.sqlite_template
sqlite_url = databases.sqlite_url

KEY = base64.b64encode(bytes(range(32))).decode()
# Nothing that a host sets for its own session may change what we write.
SESSION = {"timezone": "America/New_York", "bytea_output": "escape"}
ELSEWHERE = "http://127.0.0.1:9"


def settings(url: str, directory: Path, base_url: str = ELSEWHERE) -> Settings:
    environment = {"SANDBOX_CLIENT_ID": "sandbox-client", "SANDBOX_CLIENT_SECRET": "sandbox-secret", "KEY": KEY}
    return load_settings(
        environ=environment, cwd=directory,
        overrides={
            "database_url": url, "sealing_key": "env:KEY", "worker": FAST, "accounts": {"test": account(base_url)},
        },
    )  # fmt: skip


def host_engine(url: str, **options: Any) -> AsyncEngine:
    """The host's own engine: none of our settings, and on PostgreSQL unusual ones."""
    known = parsed(url)
    driver = known.get_driver_name()
    if driver == "asyncpg":
        options["connect_args"] = {"server_settings": SESSION}
    elif driver == "psycopg":
        options["connect_args"] = {"options": " ".join(f"-c {name}={value}" for name, value in SESSION.items())}
    return create_async_engine(known, **options)


@asynccontextmanager
async def disposed(engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    try:
        yield engine
    finally:
        await engine.dispose()


@dataclass
class Host:
    """A host with a table of its own, in our database."""

    url: str
    engine: AsyncEngine
    orchestrator: Orchestrator

    async def order(self, connection: AsyncConnection, reference: str) -> None:
        await connection.execute(text("insert into host_order (reference) values (:r)"), {"r": reference})

    async def orders(self) -> list[str]:
        async with self.engine.connect() as connection:
            found = await connection.execute(text("select reference from host_order order by reference"))
            return list(found.scalars())

    async def payments(self) -> list[str]:
        return sorted(payment.reference for payment in await self.orchestrator.list(Query()))

    async def both(self) -> tuple[list[str], list[str]]:
        return await self.orders(), await self.payments()


@asynccontextmanager
async def opened(url: str, directory: Path, base_url: str = ELSEWHERE) -> AsyncIterator[Host]:
    async with disposed(host_engine(url)) as engine:
        async with engine.begin() as connection:
            await connection.execute(text("create table host_order (reference varchar(50) primary key)"))
        async with Orchestrator(settings(url, directory, base_url)) as orchestrator:
            yield Host(url, engine, orchestrator)
            await assert_clean(orchestrator)


@pytest.fixture(params=["sqlite", "asyncpg", "psycopg"])
async def url(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_url"))
    server = request.getfixturevalue("postgresql_host")
    return databases.postgresql_url(server, await databases.new_schema(server), request.param)


@pytest.fixture
async def host(url: str, tmp_path: Path) -> AsyncIterator[Host]:
    async with opened(url, tmp_path) as host:
        yield host


@pytest.fixture
async def postgresql(postgresql_host: str, tmp_path: Path) -> AsyncIterator[Host]:
    url = databases.postgresql_url(postgresql_host, await databases.new_schema(postgresql_host), "asyncpg")
    async with opened(url, tmp_path) as host:
        yield host


@pytest.mark.parametrize("commits", [True, False], ids=["committed", "rolled back"])
async def test_the_hosts_row_and_the_payment_are_there_together_or_not_at_all(host: Host, commits: bool) -> None:
    async with host.engine.connect() as connection:
        await host.order(connection, "INV-1")
        payment = await submit(host.orchestrator, "INV-1", "phone", connection=connection)
        await host.order(connection, "INV-1b")
        assert await host.both() == ([], [])
        await (connection.commit() if commits else connection.rollback())
    assert await host.both() == ((["INV-1", "INV-1b"], ["INV-1"]) if commits else ([], []))
    if commits:
        assert await host.orchestrator.get(payment.id) == payment
    else:
        assert (await submit(host.orchestrator, "INV-1", "phone")).id == payment.id


@pytest.mark.parametrize("fails", [True, False], ids=["rolled back", "released"])
async def test_a_savepoint_of_the_host_decides_about_what_was_submitted_in_it(host: Host, fails: bool) -> None:
    async with host.engine.begin() as connection:
        await host.order(connection, "INV-1")
        await submit(host.orchestrator, "INV-1", "phone", connection=connection)
        savepoint = await connection.begin_nested()
        await host.order(connection, "INV-2")
        await submit(host.orchestrator, "INV-2", "digital", connection=connection)
        await (savepoint.rollback() if fails else savepoint.commit())
        await host.order(connection, "INV-3")
    there = ["INV-1"] if fails else ["INV-1", "INV-2"]
    assert await host.both() == ([*there, "INV-3"], there)


class Base(DeclarativeBase): ...


class Order(Base):
    __tablename__ = "host_order"
    reference: Mapped[str] = mapped_column(primary_key=True)


async def test_a_session_of_the_host_shares_its_transaction(host: Host) -> None:
    async with AsyncSession(host.engine) as session:
        session.add(Order(reference="INV-1"))
        await session.flush()
        payment = await submit(host.orchestrator, "INV-1", "phone", connection=await session.connection())
        assert await host.both() == ([], [])
        await session.commit()
    assert await host.both() == (["INV-1"], ["INV-1"])
    assert [entry.trigger for entry in await host.orchestrator.timeline(payment.id)] == ["submit"]


async def test_the_same_submit_in_one_transaction_gives_the_same_payment(host: Host) -> None:
    async with host.engine.begin() as connection:
        first = await submit(host.orchestrator, "INV-1", "phone", connection=connection)
        assert await submit(host.orchestrator, "INV-1", "phone", connection=connection) == first
    async with host.engine.begin() as connection:
        assert await submit(host.orchestrator, "INV-1", "phone", connection=connection) == first
    assert await submit(host.orchestrator, "INV-1", "phone") == first
    assert len(await host.orchestrator.timeline(first.id)) == 1


DIFFERENT: dict[str, tuple[dict[str, Any], str]] = {
    "the amount differs": ({"amount": Money("12.41", "GBP")}, r"^amount: differs"),
    "a field differs": ({"fields": fields_of("phone") | {"cardholderName": "B"}}, r"^fields\.cardholderName: differs"),
    "it is still open": ({"again": True}, "is still open"),
    "another key": ({"idempotency_key": "k2"}, "under another key"),
    "another key, again": ({"idempotency_key": "k2", "again": True}, "is still open"),
}


async def test_what_differs_is_named_though_the_first_submit_is_not_committed_yet(
    host: Host, subtests: pytest.Subtests
) -> None:
    async with host.engine.begin() as connection:
        await submit(host.orchestrator, "INV-1", "phone", connection=connection)
        for what, (more, told) in DIFFERENT.items():
            with subtests.test(what), pytest.raises(Conflict, match=told):
                await submit(host.orchestrator, "INV-1", "phone", connection=connection, **more)
        await host.order(connection, "INV-1")
    assert await host.both() == (["INV-1"], ["INV-1"])


REFUSED: dict[str, tuple[str, int, dict[str, Any], str]] = {
    "other content": ("TAKEN", 1, {"amount": Money("1.00", "GBP")}, r"^amount: differs"),
    "the call is taken": ("INV-2", 1, {}, "CallGuid: has a payment session"),
    "no such field": ("INV-2", 2, {"fields": {"Colour": "red"}}, r"fields\.Colour"),
    "no money": ("INV-2", 2, {"amount": "12.40"}, "is not Money"),
}


async def test_a_refusal_of_ours_leaves_the_hosts_transaction_usable(host: Host, subtests: pytest.Subtests) -> None:
    await submit(host.orchestrator, "TAKEN", "phone")
    async with host.engine.begin() as connection:
        for what, (reference, number, more, told) in REFUSED.items():
            await host.order(connection, f"BEFORE {what}")
            with subtests.test(what), pytest.raises(InvalidInput, match=told):
                await submit(host.orchestrator, reference, "phone", number, connection=connection, **more)
        await submit(host.orchestrator, "INV-3", "phone", 3, connection=connection)
        await host.order(connection, "INV-3")
    assert await host.both() == ([*sorted(f"BEFORE {what}" for what in REFUSED), "INV-3"], ["INV-3", "TAKEN"])


async def test_many_transactions_with_the_same_submit_make_one_payment(host: Host) -> None:
    async def one(number: int) -> str:
        async with host.engine.begin() as connection:
            payment = await submit(host.orchestrator, "INV-1", "phone", connection=connection)
            await host.order(connection, f"INV-1-{number}")
            return payment.id

    ids = await asyncio.gather(*(one(number) for number in range(8)))
    assert len(set(ids)) == 1
    orders, payments = await host.both()
    assert (len(orders), payments) == (8, ["INV-1"])


async def test_a_worker_takes_the_payment_only_after_the_commit(url: str, tmp_path: Path) -> None:
    async with Sandbox(SandboxOptions(speed=20)) as sandbox, opened(url, tmp_path, sandbox.base_url) as host:
        host.orchestrator.on("handed_over", lambda payment: None)
        async with host.orchestrator.worker(), host.engine.connect() as connection:
            payment = await submit(host.orchestrator, "PAID-1", "phone", connection=connection)
            if not url.startswith("sqlite"):
                # On SQLite nobody else writes while the host's transaction is open.
                other = await submit(host.orchestrator, "PAID-2", "phone", 2)
                await host.orchestrator.wait(other.id, timeout=30)
            assert "PAID-1" not in sandbox.stats()["sessions_per_reference"]
            await connection.commit()
            ended = await host.orchestrator.wait(payment.id, timeout=30)
        assert (ended.state, ended.money) == ("completed", "taken")
        assert sandbox.stats()["sessions_per_reference"]["PAID-1"] == 1


async def test_a_host_that_begins_by_itself_on_sqlite_is_joined(sqlite_url: str, tmp_path: Path) -> None:
    async with opened(sqlite_url, tmp_path) as host:
        engine = host_engine(sqlite_url)

        # What SQLAlchemy's documentation tells hosts to do for whole transactions.
        @event.listens_for(engine.sync_engine, "connect")
        def connected(connection: Any, _record: Any) -> None:
            connection.isolation_level = None

        @event.listens_for(engine.sync_engine, "begin")
        def begun(connection: Any) -> None:
            connection.exec_driver_sql("begin")

        for reference, end in (("INV-1", "rollback"), ("INV-2", "commit")):
            async with engine.connect() as connection:
                await submit(host.orchestrator, reference, "digital", connection=connection)
                await host.order(connection, reference)
                await getattr(connection, end)()
        await engine.dispose()
        assert await host.both() == (["INV-2"], ["INV-2"])


# What can't be joined: how it is made, what is raised, what is told.


@asynccontextmanager
async def synchronous(host: Host) -> AsyncIterator[object]:
    url = make_url(host.url)
    plain = url.set(drivername="sqlite" if url.get_backend_name() == "sqlite" else "postgresql+psycopg")
    engine = create_engine(plain, poolclass=NullPool)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@asynccontextmanager
async def an_engine(host: Host) -> AsyncIterator[object]:
    yield host.engine


@asynccontextmanager
async def a_session(host: Host) -> AsyncIterator[object]:
    async with AsyncSession(host.engine) as session:
        yield session


@asynccontextmanager
async def unopened(host: Host) -> AsyncIterator[object]:
    yield host.engine.connect()


@asynccontextmanager
async def closed(host: Host) -> AsyncIterator[object]:
    async with host.engine.connect() as connection:
        pass
    yield connection


@asynccontextmanager
async def committing_each(host: Host) -> AsyncIterator[object]:
    async with host.engine.connect() as connection:
        yield await connection.execution_options(isolation_level="AUTOCOMMIT")


@asynccontextmanager
async def failed(host: Host) -> AsyncIterator[object]:
    async with host.engine.connect() as connection:
        with pytest.raises(DBAPIError):
            await connection.execute(text("select * from nowhere"))
        if connection.dialect.name == "sqlite":  # where a failed statement doesn't end the transaction
            await connection.rollback()
            await connection.close()
        yield connection


@asynccontextmanager
async def empty(host: Host) -> AsyncIterator[object]:
    if host.engine.dialect.name == "sqlite":
        engine = create_async_engine("sqlite+aiosqlite://")
    else:
        engine = host_engine(host.url.replace("/postgres?", "/template1?"))
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


@asynccontextmanager
async def equal(host: Host) -> AsyncIterator[object]:
    """Everything is the same, and migrated, but it is another one."""
    if host.engine.dialect.name == "sqlite":
        path = Path(parsed(host.url).database or "")
        other = f"sqlite:///{path.with_name('other.db')}"
        await migrate.upgrade(other)
    else:
        server = str(make_url(host.url).query["host"])
        other = databases.postgresql_url(server, await databases.new_schema(server), host.engine.dialect.driver)
    engine = host_engine(other)
    async with engine.connect() as connection:
        yield connection
        await connection.rollback()
    async with engine.connect() as connection:
        assert (await connection.execute(text("select count(*) from payment"))).scalar() == 0
    await engine.dispose()


Made = Callable[[Host], Any]
UNFIT: dict[str, tuple[Made, type[InvalidInput], str]] = {
    "a synchronous connection": (synchronous, InvalidInput, "is not an AsyncConnection"),
    "an engine": (an_engine, InvalidInput, "is not an AsyncConnection"),
    "a session": (a_session, InvalidInput, r"await session\.connection\(\)"),
    "a connection that is not open yet": (unopened, InvalidInput, "is not open"),
    "a closed connection": (closed, InvalidInput, "is not open"),
    "one that commits each statement": (committing_each, InvalidInput, "without AUTOCOMMIT"),
    "one whose transaction failed": (failed, InvalidInput, "roll it back first|is not open"),
    "one to an empty database": (empty, Conflict, "another database"),
    "one to another of our databases": (equal, Conflict, "another database"),
}


async def test_a_connection_that_is_unfit_is_told_what_is_wrong(host: Host, subtests: pytest.Subtests) -> None:
    for what, (made, error, told) in UNFIT.items():
        with subtests.test(what):
            async with made(host) as connection:
                with pytest.raises(error, match=f"^connection: .*({told})") as refused:
                    await submit(host.orchestrator, "INV-1", "phone", connection=connection)
            assert type(refused.value) is error
            assert await host.both() == ([], [])


async def test_another_kind_of_database_is_refused(host: Host, postgresql_host: str, tmp_path: Path) -> None:
    sqlite = host.engine.dialect.name == "sqlite"
    other = databases.postgresql_url(postgresql_host, "postgres") if sqlite else f"sqlite:///{tmp_path / 'other.db'}"
    engine = create_async_engine(parsed(other))
    async with engine.connect() as connection:
        with pytest.raises(Conflict, match="another database"):
            await submit(host.orchestrator, "INV-1", "phone", connection=connection)
    await engine.dispose()


# What may be tried again.


async def test_a_connection_that_broke_is_unavailable_and_the_submit_can_be_repeated(postgresql: Host) -> None:
    async with postgresql.engine.connect() as connection, postgresql.engine.connect() as other:
        own = (await connection.execute(text("select pg_backend_pid()"))).scalar()
        await other.execute(text("select pg_terminate_backend(:pid, 5000)"), {"pid": own})
        with pytest.raises(Unavailable):
            await submit(postgresql.orchestrator, "INV-1", "phone", connection=connection)
    async with postgresql.engine.begin() as connection:
        await submit(postgresql.orchestrator, "INV-1", "phone", connection=connection)
    assert await postgresql.payments() == ["INV-1"]


async def test_a_snapshot_older_than_the_same_payment_is_told_to_begin_again(postgresql: Host) -> None:
    async with postgresql.engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        await connection.execute(text("select 1 from host_order"))
        elsewhere = await submit(postgresql.orchestrator, "INV-1", "phone")
        with pytest.raises(Unavailable, match="begin it again"):
            await submit(postgresql.orchestrator, "INV-1", "phone", connection=connection)
        await postgresql.order(connection, "USABLE")
        await connection.commit()
        assert await submit(postgresql.orchestrator, "INV-1", "phone", connection=connection) == elsewhere
    assert await postgresql.both() == (["USABLE"], ["INV-1"])


async def begins_too_late(connection: AsyncConnection, host: Host) -> Callable[[], Awaitable[Any]]:
    await connection.exec_driver_sql("begin")
    await connection.execute(text("select count(*) from host_order"))
    await submit(host.orchestrator, "OTHER", "digital")
    return connection.rollback


async def finds_it_locked(connection: AsyncConnection, host: Host) -> Callable[[], Awaitable[Any]]:
    await connection.exec_driver_sql("pragma busy_timeout = 0")
    locking = host_engine(host.url)
    holder = await locking.connect()
    await holder.exec_driver_sql("begin immediate")

    async def free() -> None:
        await holder.rollback()
        await holder.close()
        await locking.dispose()
        await connection.rollback()

    return free


@pytest.mark.parametrize("trouble", [begins_too_late, finds_it_locked])
async def test_a_transaction_that_sqlite_will_not_let_write_is_unavailable(
    sqlite_url: str, tmp_path: Path, trouble: Callable[[AsyncConnection, Host], Awaitable[Callable[[], Awaitable[Any]]]]
) -> None:
    async with opened(sqlite_url, tmp_path) as host, host.engine.connect() as connection:
        over = await trouble(connection, host)
        with pytest.raises(Unavailable, match="does not answer"):
            await submit(host.orchestrator, "INV-1", "phone", connection=connection)
        await over()
        await submit(host.orchestrator, "INV-1", "phone", connection=connection)
        await connection.commit()
        assert "INV-1" in await host.payments()
