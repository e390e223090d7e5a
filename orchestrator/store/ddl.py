"""
Everything that a fresh database consists of, as statements.

Owns the order only: tables, indexes, triggers, views. The first migration is this
text, frozen; after every upgrade path a database must equal a fresh one, which
`inventory` compares. Next: `inventory`, `migrate`.
"""

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import CreateIndex, CreateTable

from orchestrator.store.guards import sqlite_guards
from orchestrator.store.guards_postgresql import postgresql_guards
from orchestrator.store.schema import metadata
from orchestrator.store.views import views


def fresh(name: str) -> list[str]:
    """
    Give the statements that build an empty database.

    Args:
        name: `sqlite` or `postgresql`.
    """
    dialect: Dialect = sqlite.dialect() if name == "sqlite" else postgresql.dialect()  # type: ignore[no-untyped-call]
    made: list[str] = []
    for table in metadata.sorted_tables:
        made.append(str(CreateTable(table).compile(dialect=dialect)))
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        made += [str(CreateIndex(index).compile(dialect=dialect)) for index in indexes]
    guards = sqlite_guards() if name == "sqlite" else postgresql_guards()
    return [tidy(statement) for statement in (*made, *guards, *views(name))]


def tidy(statement: str) -> str:
    """Give the statement without the blanks and blank lines that compilers leave behind."""
    return "\n".join(line.rstrip() for line in statement.replace("\t", "  ").splitlines() if line.strip())
