"""
Many rows in one statement: one trip to the server, one step of the engine.

SQLite takes rows of VALUES, a table a statement. PostgreSQL takes one JSON document for each table
(an array for each column would take its drivers longer), and all tables in one statement. Owns
those texts, made once for a table and its columns, and what their values look like to a
driver. Knows no table. Next: `rows`.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, LargeBinary, Table

from orchestrator.domain.entry import instant
from orchestrator.store.columns import Instant

# ruff: noqa: S608 - the names are those of our own tables; every value is bound

Row = Sequence[Any]
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_LARGEST = 128
"""Rows of SQLite's largest statement."""


class Bulk:
    """
    What is done with many rows of one table.

    Args:
        table: The table.
        columns: What a row gives, in this order.
    """

    def __init__(self, table: Table, columns: Iterable[str]) -> None:
        self.table = table.name
        self.columns = tuple(columns)
        self.kinds = [table.c[name].type for name in self.columns]
        self._instants = [at for at, kind in enumerate(self.kinds) if isinstance(kind, Instant)]
        self._hashes = [at for at, kind in enumerate(self.kinds) if isinstance(kind, LargeBinary)]

    def insert(self, rows: Sequence[Row]) -> "Change":
        """Add the rows."""
        return Change(self, _insert, rows)

    def upsert(self, rows: Sequence[Row]) -> "Change":
        """Add the rows, or put them in the place of those with the same first column."""
        return Change(self, _upsert, rows)

    def update(self, rows: Sequence[Row]) -> "Change":
        """Change the rows whose first column is the same."""
        return Change(self, _update, rows)

    def document(self, rows: Sequence[Row]) -> str:
        """Give the rows as one JSON text, for PostgreSQL to read each value as its column's type."""
        found = []
        for row in rows:
            plain = self.plain(row)
            if self._hashes:
                plain = list(plain)
                for at in self._hashes:
                    plain[at] = "\\x" + plain[at].hex()
            found.append(dict(zip(self.columns, plain, strict=True)))
        return _encode(found)

    def plain(self, row: Row) -> Row:
        """Give the row with instants as SQLite keeps them, and PostgreSQL reads them."""
        if not self._instants:
            return row
        plain = list(row)
        for at in self._instants:
            if plain[at] is not None:
                plain[at] = instant(plain[at])
        return plain


@dataclass(frozen=True, slots=True)
class Change:
    """What is done with these rows; get it from a `Bulk`."""

    bulk: Bulk
    verb: Callable[[Bulk, str, str], str]
    rows: Sequence[Row]


def carry_out(connection: Connection, changes: Iterable[Change]) -> None:
    """
    Make the changes, in this order; on PostgreSQL at once, so that each sees what was there before all of them.

    Crash: part of the caller's transaction.
    """
    made = [change for change in changes if change.rows]
    if connection.dialect.name == "sqlite":
        for change in made:
            _in_chunks(connection, change)
    elif made:
        # The main one is carried out before those that only have a name: the first change, and what it may be
        # refused for. It stands behind them.
        made = [*made[1:], made[0]]
        documents = tuple([change.bulk.document(change.rows) for change in made])
        kinds = tuple([(change.bulk, change.verb) for change in made])
        connection.exec_driver_sql(_at_once(connection.dialect, kinds), documents)


def _in_chunks(connection: Connection, change: Change) -> None:
    bulk, rows = change.bulk, change.rows
    for at in range(0, len(rows), _LARGEST):
        chunk = rows[at : at + _LARGEST]
        # The next power of two, filled up with nothing: few statements to prepare, and one for each chunk.
        size = 1 << (len(chunk) - 1).bit_length()
        flat = [value for row in chunk for value in bulk.plain(row)]
        flat += [None] * ((size - len(chunk)) * len(bulk.columns))
        connection.exec_driver_sql(_of_values(bulk, change.verb, size), tuple(flat))


@lru_cache(maxsize=256)
def _of_values(bulk: Bulk, verb: Callable[[Bulk, str, str], str], size: int) -> str:
    marks = f"({', '.join('?' * len(bulk.columns))})"
    source = f"select * from (values {', '.join([marks] * size)}) where column1 is not null"
    return verb(bulk, source, "sqlite")


@lru_cache(maxsize=256)
def _at_once(dialect: Dialect, kinds: Sequence[tuple[Bulk, Callable[[Bulk, str, str], str]]]) -> str:
    parts = []
    for at, (bulk, verb) in enumerate(kinds, 1):
        typed = [kind.compile(dialect=dialect).partition(" COLLATE")[0] for kind in bulk.kinds]
        columns = ", ".join(f"{name} {kind}" for name, kind in zip(bulk.columns, typed, strict=True))
        mark = f"${at}" if dialect.paramstyle == "numeric_dollar" else "%s"
        source = f"select {', '.join(bulk.columns)} from json_to_recordset({mark}::json) as given({columns})"
        parts.append(verb(bulk, source, "postgresql"))
    *others, main = parts
    named = ", ".join(f"change_{at} as ({part})" for at, part in enumerate(others))
    return f"with {named} {main}" if named else main


def _insert(bulk: Bulk, source: str, _dialect: str) -> str:
    return f"insert into {bulk.table} ({', '.join(bulk.columns)}) {source}"


def _upsert(bulk: Bulk, source: str, dialect: str) -> str:
    key, *others = bulk.columns
    anew = ", ".join(f"{name} = excluded.{name}" for name in others)
    return f"{_insert(bulk, source, dialect)} on conflict ({key}) do update set {anew}"


def _update(bulk: Bulk, source: str, dialect: str) -> str:
    key, *others = bulk.columns
    given = [f"v.column{at}" for at in range(1, len(bulk.columns) + 1)]
    if dialect != "sqlite":
        given = [f"v.{name}" for name in bulk.columns]
    changes = ", ".join(f"{name} = {value}" for name, value in zip(others, given[1:], strict=True))
    return f"update {bulk.table} set {changes} from ({source}) as v where {bulk.table}.{key} = {given[0]}"
