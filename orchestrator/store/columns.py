"""
Column types that mean the same on both databases, and how constraints are named.

Owns how an instant and a piece of ordered text are stored: PostgreSQL has types
for them, SQLite gets text that sorts the same way. Knows no table.
Next: `schema`.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Dialect, Integer, LargeBinary, MetaData, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

from orchestrator.domain.entry import instant


class Instant(TypeDecorator[datetime]):
    """
    A moment in time, UTC, to the microsecond.

    `TIMESTAMPTZ` on PostgreSQL; on SQLite the 27 characters that entries use
    (`2026-11-24T15:46:40.000000Z`), so that columns compare with bodies and sort by time.

    Raises:
        ValueError: For a moment without a time zone: it would mean another one elsewhere.
    """

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Give the database's own type."""
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Give what the driver takes."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant needs a time zone")
        return instant(value) if dialect.name == "sqlite" else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Give an aware UTC datetime."""
        if value is None:
            return None
        if dialect.name == "sqlite":
            return datetime.fromisoformat(value)
        return value.astimezone(UTC) if isinstance(value, datetime) else None


# Ids sort by bytes on both databases: chains are read, locked and verified in this order,
# and a locale's collation would order them differently on every host.
Id = Text().with_variant(Text(collation="C"), "postgresql")
Hash = LargeBinary
# SQLite numbers rows by itself only for a column that is exactly INTEGER PRIMARY KEY.
RowNumber = BigInteger().with_variant(Integer(), "sqlite")

OURS: MetaData = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)


def needed(name: str, kind: Any, *args: Any, **kwargs: Any) -> Column[Any]:
    """Give a column that can't be null."""
    return Column(name, kind, *args, nullable=False, **kwargs)
