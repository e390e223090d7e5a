"""
What hash partitions of the trail and of payments bring on PostgreSQL, and what it refuses of them.

    python -m benchmarks.partitions --partitions 16 --old 200000

A database that the migrations made is converted while it is empty: `audit_entry` and `unsealed` by
hash of `chain_id`, in a third schema `payment` by hash of `id`, too; every rule is made anew from
the catalog's own words. `log_leaf` is tried by either of its keys and left as it is. What the
server refuses is told in `refused`, and an index without the rule stands for it.

Measured are payments per second from submit to completed as `end_to_end` does, each run in a new
database, the schemas in turn; then, with `--old` completed payments beside it and no worker: one
transaction of 64 records (cancels), the timeline of an old payment, and a page of 1000 entries from
anywhere in the trail, in its order, as `audit verify` reads it. One JSON line for each schema,
figures are medians of the runs; `ratio` (of payments per second) and the other ratios (of p50) are
to the plain one. `--plans force_generic_plan` sets `plan_cache_mode` for all three: left to itself
the server plans nearly every check of a foreign key to a partitioned table anew. Our program does
not open such a schema: here alone it is not asked what it is.
"""

import argparse
import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import psycopg

from benchmarks import bulk, history, ours
from benchmarks.end_to_end import Configuration
from benchmarks.harness import (
    Measured,
    Place,
    Window,
    asked,
    median_of,
    percentile,
    place,
    postgresql,
    stub,
    told,
    verified,
)
from orchestrator import Orchestrator
from orchestrator.domain import asking
from orchestrator.domain.entry import Context
from orchestrator.records import Record

GROUP = 64
PAGE = 1000
_VIEWS = """
select viewname, 'create view ' || viewname || ' as ' || definition
from pg_views where schemaname = current_schema() order by viewname
"""
# Keys before the foreign keys that need them, triggers last; an index to stand for a unique rule that is refused.
_RULES = """
with chosen as (select cast(%(table)s as regclass) as id)
select name, made, instead from (
    select 1 as step, conname as name,
        'alter table ' || conrelid::regclass || ' add constraint ' || conname || ' ' || pg_get_constraintdef(c.oid)
        as made, replace(pg_get_indexdef(conindid), 'CREATE UNIQUE', 'CREATE') as instead
    from pg_constraint c, chosen where conrelid = id and contype in ('p', 'u')
    union all
    select 2, i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid),
        replace(pg_get_indexdef(i.indexrelid), 'CREATE UNIQUE', 'CREATE')
    from pg_index i, chosen where indrelid = id
        and not exists (select 1 from pg_constraint where conindid = i.indexrelid and contype in ('p', 'u'))
    union all
    select 3, conname,
        'alter table ' || conrelid::regclass || ' add constraint ' || conname || ' ' || pg_get_constraintdef(c.oid), ''
    from pg_constraint c, chosen where contype = 'f' and conparentid = 0 and id in (conrelid, confrelid)
    union all
    select 4, tgname, pg_get_triggerdef(t.oid, true), '' from pg_trigger t, chosen
    where tgrelid = id and not tgisinternal
    union all
    select 5, tgname || ' always', 'alter table ' || tgrelid::regclass || ' enable always trigger ' || tgname, ''
    from pg_trigger t, chosen where tgrelid = id and not tgisinternal and tgenabled = 'A'
) as rules order by step, name
"""
_INDEXES = """
select 'alter index ' || c.relname || ' rename to ' || p.relname || substr(t.relname, length(%(table)s) + 1)
from pg_inherits join pg_class c on c.oid = inhrelid join pg_class p on p.oid = inhparent
join pg_index i on i.indexrelid = c.oid join pg_class t on t.oid = i.indrelid
where p.relkind = 'I' and t.oid in (select inhrelid from pg_inherits where inhparent = cast(%(table)s as regclass))
"""
_OF_STATEMENTS = """
select replace(pg_get_triggerdef(t.oid, true), ' ON ' || %(table)s || ' ', ' ON ' || inhrelid::regclass || ' ')
    || '; alter table ' || inhrelid::regclass || ' enable always trigger ' || tgname
from pg_trigger t join pg_inherits on inhparent = tgrelid
where tgrelid = cast(%(table)s as regclass) and not tgisinternal and tgtype & 1 = 0
"""


@dataclass(frozen=True, slots=True)
class Schema:
    """
    What the tables are made into.

    Attributes:
        name: As the line tells it.
        tables: Which are partitioned, by which column.
        parts: Into how many.
        plans: The database's `plan_cache_mode`.
    """

    name: str
    tables: Sequence[tuple[str, str]]
    parts: int
    plans: str

    def convert(self, where: Place) -> list[str]:
        """Partition the tables of a database without rows; give what PostgreSQL refused."""
        refused: list[str] = []
        if not self.tables:
            return refused
        with bulk.connected(where) as connection:
            for key in ("idx", "chain_id"):
                with connection.transaction(force_rollback=True):
                    refused += [f"{one} (by {key})" for one in partition(connection, "log_leaf", key, self.parts)]
            with connection.transaction():
                views = connection.execute(_VIEWS).fetchall()
                for name, _ in views:
                    connection.execute(f"drop view {name}")
                for table, key in self.tables:
                    refused += [f"{one} (by {key})" for one in partition(connection, table, key, self.parts)]
                for _, made in views:
                    connection.execute(made)
        return refused


def partition(connection: Any, table: str, key: str, parts: int) -> list[str]:
    """Put a partitioned table in an empty one's place, with all its rules; within a transaction without views."""
    found = connection.execute(f"select count(*) from {table}").fetchone()[0]
    assert found == 0, (table, found)
    rules = connection.execute(_RULES, {"table": table}).fetchall()
    connection.execute(f"alter table {table} rename to {table}_plain")
    like = f"like {table}_plain including all excluding indexes"
    connection.execute(f"create table {table} ({like}) partition by hash ({key})")
    connection.execute(f"drop table {table}_plain cascade")
    for part in range(parts):
        of = f"partition of {table} for values with (modulus {parts}, remainder {part})"
        connection.execute(f"create table {table}_h{part} {of}")
    refused = []
    for name, made, instead in rules:
        words = refusal(connection, made)
        if words:
            refused.append(f"{name}: {words}")
        if words and instead:
            connection.execute(instead)
    # The store knows a rule by its name in what the server says, and that is the name of a partition's index.
    # Triggers of statements are not handed down: without its own a partition could be truncated.
    for query in (_INDEXES, _OF_STATEMENTS):
        for (statement,) in connection.execute(query, {"table": table}).fetchall():
            connection.execute(statement)
    return refused


def refusal(connection: Any, statement: str) -> str:
    """Carry out a statement; give the first line of what the server has against it."""
    try:
        with connection.transaction():
            connection.execute(statement)
    except psycopg.Error as error:
        return str(error).splitlines()[0]
    return ""


@contextlib.contextmanager
def unasked() -> Iterator[None]:
    """Let the store open a schema that the migrations did not make."""
    store = "orchestrator.store.store"
    with (
        mock.patch(f"{store}.demand_identity", lambda *_: None),
        mock.patch(f"{store}.findings", lambda *_: []),
        mock.patch(f"{store}.grant_findings", lambda *_: []),
    ):
        yield


async def run(window: Window, where: Place, url: str, measured: Measured) -> None:
    """Run as `ours` does, on whatever schema there is."""
    with unasked():
        await ours.run(window, where, url, measured)


@contextlib.contextmanager
def prepared(schema: Schema, server: Any) -> Iterator[tuple[Place, list[str]]]:
    """Give a new database with that schema, and what was refused."""
    with place("postgresql", server) as where, unasked():
        ours.prepare(where)
        with bulk.connected(where) as connection:
            database = connection.execute("select current_database()").fetchone()[0]
            connection.execute(f"alter database {database} set plan_cache_mode = {schema.plans}")
        yield where, schema.convert(where)


def paid(schema: Schema, one: Configuration, server: Any, url: str) -> dict[str, float]:
    """Give the figures of one run from submit to completed."""
    with prepared(schema, server) as (where, _):
        before, first = asked(url), bulk.written(where)
        figures = one.measured(run, where, url)
        figures["commits_per_payment"] = (bulk.written(where) - first) / one.payments
        ours.check(where, url, one.payments)
        return figures | verified(before, asked(url), one.payments)


async def groups(orchestrator: Orchestrator, run_: int, calls: int) -> list[float]:
    """Cancel 64 new payments in one transaction, again and again; give what each transaction took."""
    took = []
    for number in range(calls):
        names = [f"{run_}-{number}-{at}" for at in range(GROUP)]
        submitted = await asyncio.gather(*(ours.submit(orchestrator, name) for name in names))
        context = Context(history.CLOCK.now(), "host", "bench")
        records = [Record(asking.cancel(payment, context, reason=""), held_claim=False) for payment in submitted]
        ((seconds, written),) = await history.timed(orchestrator.store._write, [records])
        assert {payment.state.value for payment in written} == {"failed"}
        took.append(seconds)
    return took


async def pages(orchestrator: Orchestrator, old: Sequence[str], calls: int) -> list[float]:
    """Read as many pages of the trail, each from behind an old payment."""
    async with orchestrator.store.snapshot(page=PAGE) as snapshot:
        read: Callable[[Any], Awaitable[Any]] = snapshot._stored
        first = old[: max(1, len(old) - PAGE // 6)]  # behind them there is a whole page
        places = [{"chain": one, "seq": 6} for one in random.choices(first, k=calls)]
        found = await history.timed(read, places)
    assert all(len(rows) == PAGE for _, rows in found)
    assert all([row[:2] for row in rows] == sorted(row[:2] for row in rows) for _, rows in found)
    return [seconds for seconds, _ in found]


async def looks(orchestrator: Orchestrator, old: Sequence[str], calls: int, run_: int) -> dict[str, float]:
    """Measure beside the old payments once."""
    shown = await history.timed(orchestrator.timeline, random.choices(old, k=calls))
    assert {len(entries) for _, entries in shown} == {6}
    figures: dict[str, float] = {}
    for name, found in (
        ("group", await groups(orchestrator, run_, max(1, calls // 10))), ("timeline", [took for took, _ in shown]),
        ("page", await pages(orchestrator, old, max(1, calls // 4))),
    ):  # fmt: skip
        for word, share in (("p50_ms", 0.5), ("p99_ms", 0.99)):
            figures[f"{name}_{word}"] = percentile(sorted(found), share) * 1000
    return figures


def beside_old(schema: Schema, server: Any, url: str, *, old: int, calls: int, runs: int) -> dict[str, Any]:
    """Give the figures beside so many old payments, and what was refused."""
    with prepared(schema, server) as (where, refused):
        history.fill(where, url, old)
        ids = [bulk.name(number, history.trailed(old)) for number in range(history.trailed(old))]

        async def work() -> dict[str, float]:
            async with Orchestrator(ours.settings(where, url)) as orchestrator:
                once = partial(looks, orchestrator, ids, calls)
                await once(runs)  # not counted: the first of each kind is planned
                return median_of([await once(number) for number in range(runs)])

        return asyncio.run(work()) | {"refused": refused}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--partitions", type=int, default=16)
    parser.add_argument("--payments", type=int, default=3000)
    parser.add_argument("--in-flight", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--old", type=int, default=200_000)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--plans", choices=("auto", "force_generic_plan"), default="auto")
    words = parser.parse_args()
    trail, name = (("audit_entry", "chain_id"), ("unsealed", "chain_id")), f"hash {words.partitions}"
    schemas = (
        Schema("plain", (), 0, words.plans), Schema(name, trail, words.partitions, words.plans),
        Schema(f"{name}, payment too", (*trail, ("payment", "id")), words.partitions, words.plans),
    )  # fmt: skip
    one = Configuration("postgresql", words.payments, words.in_flight, words.workers)
    with contextlib.ExitStack() as stack:
        url, server = stack.enter_context(stub()), stack.enter_context(postgresql())
        turns = [[paid(schema, one, server, url) for schema in schemas] for _ in range(words.runs)]
        plain: dict[str, Any] = {}
        for schema, runs in zip(schemas, zip(*turns, strict=True), strict=True):
            found = median_of(list(runs)) | beside_old(
                schema, server, url, old=words.old, calls=words.calls, runs=words.runs
            )  # fmt: skip
            plain = plain or found
            ratios = {
                f"{what}_ratio": found[f"{what}_p50_ms"] / plain[f"{what}_p50_ms"]
                for what in ("group", "timeline", "page")
            }
            told("partitions", one.kind, one.in_flight, one.workers, found, **ratios, old=words.old,
                 plans=words.plans, schema=schema.name,
                 ratio=found["payments_per_s"] / plain["payments_per_s"], to="plain")  # fmt: skip


if __name__ == "__main__":
    main()
