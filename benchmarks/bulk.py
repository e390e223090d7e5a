"""
Payments by the hundred thousand, with their trails, for the benchmarks that need many.

One payment goes through the engine, and its rows are the pattern: each copy has an id, a reference
and a session of its own, and a chain that holds together. They are written past triggers and
foreign keys, which are on again afterwards as they were. What is copied is in no sealed log, and
waits for none.
"""

import asyncio
import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Literal

import psycopg

from benchmarks import ours
from benchmarks.harness import Place
from orchestrator import Entry, Orchestrator, Payment
from orchestrator.domain.entry import NO_HASH, instant
from orchestrator.store.rows import ENTRY_COLUMNS, row_of, row_of_entry

LETTERS = "234567abcdefghijklmnopqrstuvwxyz"
"""What ids are made of, in the order of their bytes."""
DIGITS = 6
SPREAD = len(LETTERS) ** DIGITS
TRAILED, UNTRAILED = "o" * 14, "u" * 14
"""The middle of an id: copies with a trail and without one never meet."""
BATCH = 5000
_GUARDED = ("payment", "audit_entry", "payer_data")
_CACHE_KB = 1_000_000

Change = Callable[[int], dict[str, Any]]
"""The columns of a copy's payment that differ from the pattern's, by its number."""


@dataclass(frozen=True, slots=True)
class Original:
    """The payment that is copied, and its entries."""

    payment: Payment
    entries: Sequence[Entry]


def original(place: Place, url: str, until: Literal["handed_over", "ended"]) -> Original:
    """Drive one payment so far, and give it back to be copied."""

    async def work() -> Original:
        async with Orchestrator(ours.settings(place, url)) as orchestrator:
            async with orchestrator.worker():
                payment = await ours.submit(orchestrator, "original")
                await orchestrator.wait(payment.id, until=until, timeout=60)
            return Original(await orchestrator.get(payment.id), await orchestrator.timeline(payment.id))

    return asyncio.run(work())


def letters(number: int) -> str:
    """Write a number with six letters, so that names sort as numbers do."""
    return "".join(LETTERS[number // len(LETTERS) ** place % len(LETTERS)] for place in reversed(range(DIGITS)))


def name(number: int, of: int, middle: str = TRAILED) -> str:
    """Give the id of a copy: ids lie as far from each other as real ones, so that new ones come between them."""
    return f"pay-{letters(number * (SPREAD // of))}{middle}{letters(number)}"


@contextlib.contextmanager
def connected(place: Place) -> Iterator[Any]:
    """Connect from outside; every statement is its own transaction. Both drivers know `execute(...).fetchone()`."""
    connection: Any
    if place.kind == "sqlite":
        connection = sqlite3.connect(place.file, isolation_level=None, timeout=30)
    else:
        database = place.url.partition("@/")[2].partition("?")[0]
        connection = psycopg.connect(host=place.socket, user="postgres", dbname=database, autocommit=True)
    try:
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def unruled(connection: Any, kind: str) -> Iterator[None]:
    """Switch triggers, foreign keys and waiting for the disk off; afterwards all is as it was, and on the disk."""
    if kind == "sqlite":
        with _unruled_sqlite(connection):
            yield
        os.sync()
        return
    always = connection.execute(
        "select tgrelid::regclass::text, tgname from pg_trigger where not tgisinternal and tgenabled = 'A'"
        " and tgrelid::regclass::text = any(%s)", (list(_GUARDED),),
    ).fetchall()  # fmt: skip
    for table, trigger in always:
        connection.execute(f"alter table {table} disable trigger {trigger}")
    connection.execute("set session_replication_role = replica")
    connection.execute("set synchronous_commit = off")
    yield
    connection.execute("set session_replication_role = origin")
    for table, trigger in always:
        connection.execute(f"alter table {table} enable always trigger {trigger}")
    connection.execute("analyze")
    connection.execute("checkpoint")


@contextlib.contextmanager
def _unruled_sqlite(connection: Any) -> Iterator[None]:
    # One transaction without any journal: every page is written once. Whoever kills this begins anew.
    for pragma in (
        "journal_mode = delete", "journal_mode = off", "synchronous = off", "foreign_keys = off",
        "ignore_check_constraints = on", f"cache_size = -{_CACHE_KB}",
    ):  # fmt: skip
        connection.execute(f"pragma {pragma}").fetchall()
    triggers = connection.execute("select name, sql from sqlite_master where type = 'trigger'").fetchall()
    connection.execute("begin")
    for trigger, _ in triggers:
        connection.execute(f"drop trigger {trigger}")
    yield
    for _, sql in triggers:
        connection.execute(sql)
    connection.execute("commit")
    connection.execute("pragma journal_mode = wal").fetchall()


class Copies:
    """
    Makes the rows of copies.

    Args:
        pattern: What is copied.
        kind: The database's.
        of: How many copies there will be in all.
    """

    def __init__(self, pattern: Original, kind: str, of: int) -> None:
        self._kind, self._of = kind, of
        self._payment = row_of(pattern.payment)
        self._entries = [row_of_entry(entry) for entry in pattern.entries]
        self.payment_columns = tuple(self._payment)

    def rows(self, number: int, changes: dict[str, Any]) -> tuple[list[tuple[Any, ...]], tuple[Any, ...]]:
        """Give the entries and the payment of one copy."""
        own, session = name(number, self._of), f"{letters(number * (SPREAD // self._of))}-{letters(number)}"
        reference, prev, entries = f"PAID-{session}", NO_HASH, []
        for entry in self._entries:
            body = entry["body"].replace(entry["chain_id"], own).replace(entry["prev_hash"].hex(), prev.hex())
            body = body.replace(self._payment["reference"], reference)
            body = body.replace(self._payment["session_id"], session)
            digest = hashlib.sha256(b"\0" + body.encode()).digest()
            row = entry | {"chain_id": own, "about": own, "prev_hash": prev, "hash": digest, "body": body}
            entries.append(self._plain(row, ENTRY_COLUMNS))
            prev = digest
        row = self._payment | {"id": own, "reference": reference, "session_id": session, "head_hash": prev} | changes
        return entries, self._plain(row, self.payment_columns)

    def _plain(self, row: dict[str, Any], columns: Iterable[str]) -> tuple[Any, ...]:
        if self._kind == "postgresql":
            return tuple(row[column] for column in columns)
        return tuple(instant(row[column]) if isinstance(row[column], datetime) else row[column] for column in columns)


def load(connection: Any, kind: str, pattern: Original, of: int, change: Change) -> None:
    """Write so many copies with their trails; within `unruled`."""
    copies, numbers = Copies(pattern, kind, of), iter(range(of))
    while batch := list(islice(numbers, BATCH)):
        made = [copies.rows(number, change(number)) for number in batch]
        write(connection, kind, "audit_entry", ENTRY_COLUMNS, (entry for entries, _ in made for entry in entries))
        write(connection, kind, "payment", copies.payment_columns, (payment for _, payment in made))


def write(connection: Any, kind: str, table: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Insert rows by the database's fastest way."""
    if kind == "sqlite":
        marks = ", ".join("?" * len(columns))
        connection.executemany(f"insert into {table} ({', '.join(columns)}) values ({marks})", rows)
        return
    with connection.cursor() as cursor, cursor.copy(f"copy {table} ({', '.join(columns)}) from stdin") as copy:
        for row in rows:
            copy.write_row(row)


def load_untrailed(
    connection: Any, kind: str, pattern: Original, of: int, *, begin_s: int, every_s: float
) -> None:  # fmt: skip
    """
    Write so many copies without their trails, made by the database itself; within `unruled`.

    Args:
        connection: To the database.
        kind: Its kind.
        pattern: What is copied; its row must be there.
        of: How many copies.
        begin_s: When the first was created, in POSIX seconds.
        every_s: The seconds from one to the next.
    """
    connection.execute(f"create temporary table original as select * from payment where id = '{pattern.payment.id}'")
    spread, own = _letters(f"(n * {SPREAD // of})"), _letters("n")
    created = f"{begin_s} + n * {every_s}"
    made = {
        "id": f"'pay-' || {spread} || '{UNTRAILED}' || {own}",
        "reference": f"'PAID-' || {spread} || 'u' || {own}",
        "session_id": f"{spread} || 'u' || {own}",
        "created_at": f"to_timestamp({created})" if kind == "postgresql"
        else f"strftime('%Y-%m-%dT%H:%M:%f', {created}, 'unixepoch') || '000Z'",
    }  # fmt: skip
    columns = tuple(row_of(pattern.payment))
    values = ", ".join(made.get(column, f"original.{column}") for column in columns)
    numbers = f"generate_series(cast(0 as bigint), {of - 1}) as numbers(n)"
    with_ = ""
    if kind == "sqlite":
        with_ = f"with recursive numbers(n) as (select 0 union all select n + 1 from numbers where n < {of - 1}) "
        numbers = "numbers"
    insert = f"insert into payment ({', '.join(columns)})"
    connection.execute(f"{with_}{insert} select {values} from {numbers} cross join original")
    connection.execute("drop table original")


def _letters(number: str) -> str:
    """Give `letters` as an expression of either database."""
    digits = [
        f"substr('{LETTERS}', cast({number} / {len(LETTERS) ** place} % {len(LETTERS)} as integer) + 1, 1)"
        for place in reversed(range(DIGITS))
    ]
    return f"({' || '.join(digits)})"


def written(place: Place) -> int:
    """Give how many transactions have changed something on PostgreSQL, ever; asking is none of them. 0 on SQLite."""
    if place.kind == "sqlite":
        return 0
    with connected(place) as connection:
        return int(connection.execute("select pg_snapshot_xmax(pg_current_snapshot())::text").fetchone()[0])
