"""A trail with stories of every kind, sealed, for the tests of compliance's commands; and somebody who cuts into it."""

import sqlite3
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, closing
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from orchestrator.audit.sealer import Sealer, Terms
from orchestrator.domain.entry import Context
from orchestrator.domain.outcome import Outcome
from orchestrator.domain.payment import Channel
from orchestrator.privacy.signing import PublicKey, SigningKey, new_key_line, signing_keys
from orchestrator.store import SqlStore
from orchestrator.store.ledger import Ledger
from tests.integration.audit.test_tampering import begun, intended, record
from tests.integration.store.conftest import new_schema, postgresql_url
from tests.integration.store.makers import T0
from tests.unit.domain.story import OPENED, UNKNOWN, ended, look, paid, start

DAY = timedelta(days=1)
MIDNIGHT = T0.replace(hour=0, minute=0, second=0)
KEY: SigningKey = signing_keys(new_key_line("tests"))[0]
TRUSTED: Sequence[PublicKey] = [KEY.public]


@pytest.fixture(params=["sqlite", "postgresql"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        file = tmp_path / "payments.db"
        file.write_bytes(request.getfixturevalue("sqlite_template").read_bytes())
        return f"sqlite:///{file}"
    host = request.getfixturevalue("postgresql_host")
    return postgresql_url(host, await new_schema(host))


class Paged:
    """A store whose moments are read in pages of two."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    def ledger(self) -> AbstractAsyncContextManager[Ledger]:
        return self._store.ledger(page=2)


class Clock:
    """A clock that stands."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0


async def stories(store: SqlStore) -> None:
    """Five payments: born, in doubt and held, asked for, paid, declined."""
    await record(store, begun("pay-born"))
    await record(store, intended("pay-doubted").tell(start, UNKNOWN))
    await record(store, intended("pay-asked"))
    await record(store, intended("pay-paid", Channel.PHONE).tell(start, OPENED).tell(look, paid()))
    await record(store, intended("pay-declined").tell(start, OPENED).tell(look, ended(Outcome.DECLINED)))


class QuietSealer(Sealer):
    """A sealer that writes no entry of its own."""

    async def _tell_keys(self, before: object) -> None:
        return


async def seal(store: SqlStore, at: datetime = T0 + timedelta(seconds=30)) -> None:
    """Put a checkpoint over everything."""
    sealer = QuietSealer(store, [KEY], "tests", [], Clock(at), lambda: Context(at, "sealer", "host-1:7"), Terms())
    assert await sealer.seal() is not None


async def read_only(url: str) -> SqlStore:
    """Open what was changed by hand; to be closed."""
    store = SqlStore(url)
    await store.open(to_write=False)
    return store


async def cut(url: str, *statements: str) -> None:
    """Do what the database would refuse, with its guards taken off."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            named = connection.execute("select name from sqlite_master where type = 'trigger'").fetchall()
            for (name,) in named:
                connection.execute(f"drop trigger {name}")
            connection.execute("pragma ignore_check_constraints = on")
            for statement in statements:
                connection.execute(statement)
            connection.commit()
        return
    user, _, host = url.partition("://")[2].partition("@/postgres?host=")
    connection = await asyncpg.connect(host=host, user=user, database="postgres")
    try:
        for table in ("audit_entry", "log_leaf", "checkpoint", "payment", "unsealed", "review"):
            await connection.execute(f"alter table {table} disable trigger all")
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
