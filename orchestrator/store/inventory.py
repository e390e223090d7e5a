"""
What a database consists of, so that it can be compared with what it should.

Owns one look at names and definitions of everything that is ours, triggers and
their switches included. What it should be is found by building a fresh copy: in
memory for SQLite, in a scratch schema that is rolled back for PostgreSQL, so that
both texts were written by the same server. Next: `migrate`.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.store.ddl import fresh
from orchestrator.store.schema import TABLES
from orchestrator.store.views import VIEWS

Inventory = Mapping[str, str]
_SCRATCH = "orchestrator_scratch"
_SQLITE = "select type || ' ' || name, sql from sqlite_master where sql is not null and tbl_name in ({names})"
# The switches matter as much as the texts: a disabled trigger keeps its definition.
_POSTGRESQL = """
select 'column ' || table_name || '.' || column_name,
    data_type || coalesce(' ' || collation_name, '') || ' ' || is_nullable || coalesce(' ' || column_default, '')
    || coalesce(' ' || generation_expression, '') || ' ' || is_identity
  from information_schema.columns where table_schema = current_schema() and table_name = any(cast(:names as text[]))
union all
select 'constraint ' || c.relname || '.' || k.conname,
    pg_get_constraintdef(k.oid) || ' ' || cast(k.convalidated as text)
  from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = current_schema() and c.relname = any(cast(:names as text[])) and k.contype <> 'n'
union all
select 'index ' || indexname, replace(indexdef, ' ' || schemaname || '.', ' ')
  from pg_indexes where schemaname = current_schema() and tablename = any(cast(:names as text[]))
union all
select 'trigger ' || c.relname || '.' || t.tgname,
    replace(pg_get_triggerdef(t.oid), ' ' || n.nspname || '.', ' ') || ' ' || cast(t.tgenabled as text)
  from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = current_schema() and c.relname = any(cast(:names as text[])) and not t.tgisinternal
union all
select 'foreign key switch ' || c.relname || '.' || k.conname || '.' || p.proname, min(cast(t.tgenabled as text))
  from pg_trigger t join pg_constraint k on k.oid = t.tgconstraint join pg_class c on c.oid = t.tgrelid
  join pg_proc p on p.oid = t.tgfoid join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = current_schema() and c.relname = any(cast(:names as text[])) and t.tgisinternal
  group by c.relname, k.conname, p.proname
union all
select 'function ' || p.proname, p.prosrc from pg_proc p join pg_namespace n on n.oid = p.pronamespace
  where n.nspname = current_schema() and p.proname like 'orchestrator\\_%'
union all
select 'view ' || viewname, replace(definition, ' ' || schemaname || '.', ' ')
  from pg_views where schemaname = current_schema() and viewname = any(cast(:names as text[]))
"""


async def differences(connection: AsyncConnection) -> Sequence[str]:
    """
    Give a line for everything of ours that is missing, changed or additional.

    Args:
        connection: To an upgraded database. On PostgreSQL its user must be allowed to
            create a schema; the transaction must be rolled back afterwards.
    """
    found = await _inventory(connection)
    return compared(found, await _expected(connection))


def compared(found: Inventory, expected: Inventory) -> Sequence[str]:
    """Give the lines for two inventories."""
    lines = [f"missing: {name}" for name in expected.keys() - found.keys()]
    lines += [f"additional: {name}" for name in found.keys() - expected.keys()]
    lines += [f"changed: {name}" for name in found.keys() & expected.keys() if found[name] != expected[name]]
    return sorted(lines)


async def _inventory(connection: AsyncConnection) -> Inventory:
    names = sorted({*TABLES, *VIEWS})
    if connection.dialect.name == "sqlite":
        rows: Sequence[Any] = (await connection.exec_driver_sql(_sqlite_statement())).all()
        return {str(row[0]): _plain(str(row[1])) for row in rows}
    rows = (await connection.execute(text(_POSTGRESQL), {"names": names})).all()
    return {str(row[0]): str(row[1]) for row in rows}


async def _expected(connection: AsyncConnection) -> Inventory:
    if connection.dialect.name == "sqlite":
        memory = sqlite3.connect(":memory:")
        try:
            for statement in fresh("sqlite"):
                memory.execute(statement)
            return {name: _plain(sql) for name, sql in memory.execute(_sqlite_statement())}
        finally:
            memory.close()
    await connection.exec_driver_sql(f"create schema {_SCRATCH}")
    await connection.exec_driver_sql(f"set local search_path to {_SCRATCH}")
    for statement in fresh("postgresql"):
        await connection.exec_driver_sql(statement)
    return await _inventory(connection)


def _sqlite_statement() -> str:
    return _SQLITE.format(names=", ".join(f"'{name}'" for name in sorted({*TABLES, *VIEWS})))


def _plain(sql: str) -> str:
    return " ".join(sql.split())
