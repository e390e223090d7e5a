"""Cost does not grow with history: every query of the flow finds its rows by an index."""

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import event

from orchestrator.records import Query
from orchestrator.store import SqlStore
from orchestrator.store.incarnation import Witness
from tests.integration.store.conftest import direct_only
from tests.integration.store.makers import T0, at, birth, held, outside

SMALL = ("worker", "due", "incarnation", "control_failure", "CONSTANT", "(subquery-1)")
"""Tables of a few rows for ever, and what a statement itself has made."""
Verb = Callable[[SqlStore], Awaitable[Any]]
VERBS: dict[str, Verb] = {
    "claim": lambda store: store.claim("w1", now=at(1), limit=10, accounts=["emea"], machine_versions=[1]),
    "claimed": lambda store: store.claimed("w1"),
    "reap": lambda store: store.reap(lapsed_before=T0, now=at(1), jitter_s=1, limit=10),
    "retire": lambda store: store.retire("w2", now=at(1)),
    "unended": lambda store: store.unended(),
    "list": lambda store: store.list(Query()),
    "list held": lambda store: store.list(Query(held=True)),
    "held_before": lambda store: store.held_before(at(1)),
    "of_session": lambda store: store.of_session("emea", "5e55"),
    "list open": lambda store: store.list(Query(ended=False)),
    "list open of an account": lambda store: store.list(Query(ended=False, account="emea")),
    "list of a reference": lambda store: store.list(Query(account="emea", reference="INV-1")),
    "list of a day": lambda store: store.list(Query(created_from=T0, created_to=at(86400))),
    "paused_accounts": lambda store: store.paused_accounts(),
    "list of a call": lambda store: store.list(Query(call_guid="call-1")),
    "of_reference": lambda store: store.of_reference("emea", "INV-1"),
    "entries": lambda store: store.entries("pay-x"),
    "chains": lambda store: store.chains("pay-x", 10),
    "take_notifications": lambda store: store.take_notifications("w1", events=["held"], now=at(1), limit=9),
    "lapsed_notifications": lambda store: store.lapsed_notifications(now=at(1), limit=9),
    "submit": lambda store: store.submit(birth("INV-2")),
    "check_life": lambda store: store.check_life(),
}


async def record(store: SqlStore) -> None:
    (payment,) = await store.of_reference("emea", "INV-1")
    (claimed,) = await store.claim("w1", now=at(1), limit=1, accounts=["emea"], machine_versions=[1])
    assert payment.id == claimed.id
    await store.record(held(claimed, "authorize"))


@pytest.mark.parametrize("verb", [*VERBS, "record"])
async def test_no_verb_scans_a_table_that_grows(sqlite_url: str, verb: str) -> None:
    heard: list[tuple[str, Any]] = []
    async with SqlStore(sqlite_url, witness=lambda file: Witness(None, file, lambda *_: None)) as store:
        await store.register("w1", origin="h", version="1", now=T0)
        await store.submit(birth("INV-1"))
        for way in (store._database.engines.write, store._database.engines.read):
            event.listen(
                way.engine,
                "before_cursor_execute",
                lambda _c, _cursor, sql, values, _context, many: heard.append((sql, values[0] if many else values)),
            )
        await (VERBS | {"record": record})[verb](store)
    connection = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))
    scans = [
        (step[3], sql)
        for sql, values in heard
        if sql.split()[0].lower() in ("select", "update", "delete", "with")
        for step in connection.execute(f"explain query plan {sql}", values)
        if step[3].startswith("SCAN") and " USING " not in step[3] and step[3].split()[1] not in SMALL
        and "VIRTUAL TABLE" not in step[3]  # what the statement was given
    ]  # fmt: skip
    connection.close()
    assert heard
    assert scans == []


@pytest.mark.parametrize(("verb", "index"), [("claim", "ix_payment_due"), ("reap", "ix_payment_claimed")])
async def test_claiming_and_rescuing_do_not_look_through_what_an_account_ever_had(
    sqlite_url: str, verb: str, index: str
) -> None:
    async with SqlStore(sqlite_url) as store:
        heard: list[tuple[str, Any]] = []
        event.listen(
            store._database.engines.write.engine,
            "before_cursor_execute",
            lambda _c, _cursor, sql, values, _context, _many: heard.append((sql, values)),
        )
        await VERBS[verb](store)
    connection = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))
    steps = [
        step[3]
        for sql, values in heard
        if sql.split()[0].lower() in ("select", "with")
        for step in connection.execute(f"explain query plan {sql}", values)
    ]
    connection.close()

    assert any(index in step for step in steps)
    assert not any("autoindex_payment_2" in step for step in steps)


async def test_the_open_payments_are_not_looked_for_among_all_that_ever_were(sqlite_url: str) -> None:
    async with SqlStore(sqlite_url) as store:
        heard: list[tuple[str, Any]] = []
        event.listen(
            store._database.engines.read.engine,
            "before_cursor_execute",
            lambda _c, _cursor, sql, values, _context, _many: heard.append((sql, values)),
        )
        await store.list(Query(ended=False))
    ((statement, values),) = heard
    connection = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))
    steps = [step[3] for step in connection.execute(f"explain query plan {statement}", values)]
    connection.close()

    assert steps[0] == "SCAN payment USING INDEX uq_payment_live_reference", "its size is the backlog's"


@direct_only
async def test_a_store_outlives_its_connections(postgresql: str) -> None:
    """A failover ends every connection; the next verb goes over a new one."""
    import asyncpg

    async with SqlStore(postgresql) as store:
        payment = await store.submit(birth("INV-1"))
        for step in ("authorize", "start_session", "hand_over"):
            connection = await asyncpg.connect(
                host=str(store._database.url.query["host"]), user=store._database.url.username, database="postgres"
            )
            ended = await connection.fetch(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where usename = current_user and pid <> pg_backend_pid()"
            )
            await connection.close()
            assert ended
            payment = await store.record(outside(payment, step))
            assert await store.get(payment.id) == payment
        assert payment.version == 4
