"""
What a database consists of, so that it can be compared with what it should.

Owns one look at names and definitions of everything that is ours, triggers and
their switches included, and the digest over it, which says cheaply whether anything
differs. What differs is found by building a fresh copy: in memory for SQLite, in a
scratch schema that is rolled back for PostgreSQL, so that both texts were written
by the same server. Next: `identity`.
"""

import hashlib
import re
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, text

from orchestrator.store.ddl import fresh
from orchestrator.store.schema import TABLES
from orchestrator.store.views import VIEWS

Inventory = Mapping[str, str]
_SCRATCH = "orchestrator_scratch"
_SQLITE = "select type || ' ' || name, sql from sqlite_master where sql is not null and tbl_name in ({names})"
# The switches matter as much as the texts: a disabled trigger keeps its definition. From the catalog itself,
# because the information schema shows each user only what that user may touch.
_POSTGRESQL = """
with ours as (
  select c.oid, c.relname, n.nspname as place, quote_ident(n.nspname) as nspname, c.relkind,
    c.relpersistence, c.relrowsecurity, c.relforcerowsecurity
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = current_schema() and c.relname = any(cast(:names as text[])))
select 'relation ' || relname, concat_ws(' ', relkind, relpersistence, relrowsecurity, relforcerowsecurity) from ours
union all
select 'column ' || o.relname || '.' || a.attname,
    concat_ws(' ', format_type(a.atttypid, a.atttypmod), l.collname, a.attnotnull, a.attidentity, a.attgenerated,
      pg_get_expr(d.adbin, d.adrelid))
  from pg_attribute a join ours o on o.oid = a.attrelid left join pg_collation l on l.oid = a.attcollation
  left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attnum > 0 and not a.attisdropped and o.relkind <> 'v'
union all
select 'constraint ' || o.relname || '.' || k.conname,
    pg_get_constraintdef(k.oid) || ' ' || cast(k.convalidated as text)
  from pg_constraint k join ours o on o.oid = k.conrelid where k.contype <> 'n'
union all
select 'index ' || i.indexname, replace(i.indexdef, ' ' || o.nspname || '.', ' ')
  from pg_indexes i join ours o on o.place = i.schemaname and o.relname = i.tablename
union all
select 'trigger ' || o.relname || '.' || t.tgname,
    replace(pg_get_triggerdef(t.oid), ' ' || o.nspname || '.', ' ') || ' ' || cast(t.tgenabled as text)
  from pg_trigger t join ours o on o.oid = t.tgrelid where not t.tgisinternal
union all
select 'foreign key switch ' || o.relname || '.' || k.conname || '.' || p.proname, min(cast(t.tgenabled as text))
  from pg_trigger t join pg_constraint k on k.oid = t.tgconstraint join ours o on o.oid = t.tgrelid
  join pg_proc p on p.oid = t.tgfoid where t.tgisinternal
  group by o.relname, k.conname, p.proname
union all
select 'rule ' || o.relname || '.' || r.rulename, replace(pg_get_ruledef(r.oid), ' ' || o.nspname || '.', ' ')
  from pg_rewrite r join ours o on o.oid = r.ev_class where r.rulename <> '_RETURN'
union all
select 'function ' || p.proname, concat_ws(' ', p.prosrc, p.prosecdef, cardinality(p.proconfig))
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace
  where n.nspname = current_schema() and p.proname like 'orchestrator\\_%'
union all
select 'view ' || relname, replace(pg_get_viewdef(oid), ' ' || nspname || '.', ' ') from ours where relkind = 'v'
"""


def digest_of(inventory: Inventory) -> str:
    """Give SHA-256 over an inventory: the same for every database with this very schema."""
    lines = (f"{name}\0{inventory[name]}\n" for name in sorted(inventory))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def differences(connection: Connection) -> Sequence[str]:
    """
    Give a line for everything of ours that is missing, changed or additional.

    Args:
        connection: To an upgraded database. On PostgreSQL its user must be allowed to
            create a schema; the transaction must be rolled back afterwards.
    """
    found = inventory_of(connection)
    return compared(found, _expected(connection))


def compared(found: Inventory, expected: Inventory) -> Sequence[str]:
    """Give the lines for two inventories."""
    lines = [f"missing: {name}" for name in expected.keys() - found.keys()]
    lines += [f"additional: {name}" for name in found.keys() - expected.keys()]
    lines += [f"changed: {name}" for name in found.keys() & expected.keys() if found[name] != expected[name]]
    return sorted(lines)


def inventory_of(connection: Connection) -> Inventory:
    """Give what is there; any user of the database may ask, and nothing is written."""
    names = sorted({*TABLES, *VIEWS})
    if connection.dialect.name == "sqlite":
        rows: Sequence[Any] = (connection.exec_driver_sql(_sqlite_statement())).all()
        return {str(row[0]): _plain(str(row[1])) for row in rows}
    rows = connection.execute(text(_POSTGRESQL), {"names": names}).all()
    return {str(row[0]): _unqualified(str(row[0]), str(row[1])) for row in rows}


def _expected(connection: Connection) -> Inventory:
    if connection.dialect.name == "sqlite":
        memory = sqlite3.connect(":memory:")
        try:
            for statement in fresh("sqlite"):
                memory.execute(statement)
            return {name: _plain(sql) for name, sql in memory.execute(_sqlite_statement())}
        finally:
            memory.close()
    # A name of its own, so that two that look at once don't wait for each other.
    scratch = f"{_SCRATCH}_{connection.scalar(text('select pg_backend_pid()'))}"
    connection.exec_driver_sql(f"create schema {scratch}")
    connection.exec_driver_sql(f"set local search_path to {scratch}")
    for statement in fresh("postgresql"):
        connection.exec_driver_sql(statement)
    return inventory_of(connection)


def _sqlite_statement() -> str:
    return _SQLITE.format(names=", ".join(f"'{name}'" for name in sorted({*TABLES, *VIEWS})))


def _unqualified(name: str, definition: str) -> str:
    # PostgreSQL 15 writes a view's columns with their table's name, later versions without.
    if name.startswith("view "):
        return _plain(re.sub(r"\b(payment|audit_entry)\.(?=\w)", "", definition))
    return definition


def _plain(sql: str) -> str:
    return " ".join(sql.split())
