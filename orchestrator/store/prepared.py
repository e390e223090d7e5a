"""
Statements that every group of writes carries out, compiled once for each driver.

SQLAlchemy finds a compiled statement by a key that it makes anew, from every column and condition,
each time. Owns the texts and what values look like to
and from a driver. Knows no table. Next: `bulk`.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    ClauseElement,
    Column,
    ColumnElement,
    Connection,
    CursorResult,
    Dialect,
    any_,
    bindparam,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from orchestrator.store.columns import Instant

_INSTANT = Instant()
Statement = ClauseElement | Callable[[str], ClauseElement]


def within(column: ColumnElement[Any], name: str, dialect: str) -> ColumnElement[bool]:
    """Give the condition that a column is one of those bound under this name: a list or a tuple, of any length."""
    if dialect == "sqlite":
        return column.in_(text(f"select value from json_each(:{name})"))  # noqa: S608 - our own word
    return column == any_(bindparam(name, type_=ARRAY(column.type)))


@dataclass(frozen=True, slots=True)
class _Compiled:
    """One text for one driver."""

    text: str
    order: Sequence[str] | None
    """The names of its parameters in order; `None` for a driver that takes them by name."""
    fixed: Mapping[str, Any]


class Prepared:
    """
    A statement to be carried out again and again.

    Args:
        statement: With `bindparam` for all that changes; or a function that makes it for `sqlite` or `postgresql`.
        columns: What its rows hold, in order, if it has any.
    """

    def __init__(self, statement: Statement, columns: Iterable[Column[Any]] = ()) -> None:
        self._statement = statement
        kinds = [column.type for column in columns]
        self._instants = [at for at, kind in enumerate(kinds) if isinstance(kind, Instant)]
        self._booleans = [at for at, kind in enumerate(kinds) if isinstance(kind, Boolean)]  # SQLite has none
        self._compiled: dict[str, _Compiled] = {}

    def run(self, connection: Connection, **values: Any) -> CursorResult[Any]:
        """Carry it out."""
        dialect = connection.dialect
        compiled = self._compiled.get(dialect.driver) or self._for(dialect)
        given = {**compiled.fixed, **{name: _bound(it, dialect) for name, it in values.items()}}
        return connection.exec_driver_sql(
            compiled.text, given if compiled.order is None else tuple([given[name] for name in compiled.order])
        )  # fmt: skip

    def rows(self, connection: Connection, **values: Any) -> Sequence[Sequence[Any]]:
        """Carry it out; give its rows, with the values that their columns stand for."""
        found: Sequence[Sequence[Any]] = self.run(connection, **values).all()
        if not (self._instants or self._booleans):
            return found
        return [self._read(row, connection.dialect) for row in found]

    def _read(self, row: Sequence[Any], dialect: Dialect) -> Sequence[Any]:
        values = list(row)
        for at in self._instants:
            values[at] = _INSTANT.process_result_value(values[at], dialect)
        for at in self._booleans:
            values[at] = bool(values[at])
        return values

    def _for(self, dialect: Dialect) -> _Compiled:
        statement = self._statement
        made = statement if isinstance(statement, ClauseElement) else statement(dialect.name)
        compiled: Any = made.compile(dialect=dialect)
        order = compiled.positiontup if dialect.positional else None
        fixed = {name: value for name, value in compiled.params.items() if value is not None}
        found = _Compiled(compiled.string, order, fixed)
        self._compiled[dialect.driver] = found
        return found


def _bound(value: Any, dialect: Dialect) -> Any:
    if isinstance(value, datetime):
        return _INSTANT.process_bind_param(value, dialect)
    return json.dumps(value) if isinstance(value, list | tuple) and dialect.name == "sqlite" else value
