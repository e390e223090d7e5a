"""
Whether a database is the very one that the migrations made, and whether we may write to it.

Owns the digests that each revision's schema has, and the record of what each
upgrade left behind. Comparing is one look at the catalog, cheap enough for every
start. A database that was changed by hand may still be read, so that it can be
verified, but nothing is written to it. Next: `migrate`.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy import Connection, select, text

from orchestrator.domain.errors import ConfigurationError, DatabaseMismatch
from orchestrator.store.engines import KEY
from orchestrator.store.inventory import digest_of, inventory_of
from orchestrator.store.registers import schema_record
from orchestrator.store.schema import TABLES

DIGESTS: Mapping[str, Mapping[str, str]] = {
    "0005": {
        "sqlite": "31900c961901e9bd108a5ea016de21df6cf27e63267c6469627ab64cf313052f",
        "postgresql": "3ab7aff37efa3cf9dec05c530379f0cdff846a90ca90790776c29ae32c8c3271",
    },
}
"""What the schema's digest is at each revision that this code can work with; a test compares them with fresh ones."""

CHANGED = "its schema is not what revision {revision} makes"
UNRECORDED = "the record of its schema is missing or says something else"
_SEE = "see `orchestrator db check` for what differs; undo that, or restore a backup"
_RENEW = "run `orchestrator db upgrade`, which records it anew if nothing else differs"

_NOW = {"sqlite": "strftime('%Y-%m-%dT%H:%M:%f', 'now') || '000Z'", "postgresql": "now()"}
_NEWEST = select(schema_record.c.revision, schema_record.c.digest).order_by(schema_record.c.id.desc()).limit(1)
_RIGHTS = text(
    "select current_setting('transaction_read_only') = 'on' as read_only,"
    " coalesce((select bool_and(has_table_privilege(quote_ident(current_schema()) || '.' || name, 'select')"
    " and has_table_privilege(quote_ident(current_schema()) || '.' || name, 'insert'))"
    " and (:notes_only or has_table_privilege(quote_ident(current_schema()) || '.payment', 'update'))"
    " from unnest(cast(:names as text[])) as name), false) as may_write"
)
_NOTED = ("audit_entry", "unsealed")
_WRITTEN = ("audit_entry", "payment", "payer_data", "unsealed", "notification", "worker")


def findings(connection: Connection, revision: str) -> Sequence[str]:
    """
    Tell what is wrong with the schema as a whole; writes nothing.

    Args:
        connection: To a database at that revision.
        revision: One of `DIGESTS`.
    """
    inventory = inventory_of(connection)
    found, expected = digest_of(inventory), DIGESTS[revision][connection.dialect.name]
    is_there = any(name.endswith(" schema_record") for name in inventory)
    newest = connection.execute(_NEWEST).first() if is_there else None
    wrong = [] if found == expected else [CHANGED.format(revision=revision)]
    if newest is None or tuple(newest) != (revision, found):
        wrong.append(UNRECORDED)
    return wrong


def demand_identity(connection: Connection, revision: str) -> None:
    """
    Insist that the schema is what the migrations make, and recorded so.

    Raises:
        DatabaseMismatch: It isn't; says what to do.
    """
    wrong = findings(connection, revision)
    if wrong:
        raise DatabaseMismatch(KEY, wrong[0], _RENEW if wrong == [UNRECORDED] else _SEE)


def record_schema(connection: Connection, revision: str) -> None:
    """
    Write down what the schema is, at the end of an upgrade; nothing if that is recorded already.

    Raises:
        DatabaseMismatch: The schema is not what the migrations make. The upgrade must be
            rolled back: it would bless what somebody changed.

    Crash: part of the upgrade's transaction; there or not with all of it.
    """
    wrong = findings(connection, revision)
    if not wrong:
        return
    if wrong != [UNRECORDED]:
        raise DatabaseMismatch(KEY, wrong[0], _SEE)
    dialect = connection.dialect.name
    values = f"(:revision, :digest, {_NOW[dialect]})"
    statement = text(f"insert into schema_record (revision, digest, recorded_at) values {values}")  # noqa: S608 - our own words
    connection.execute(statement, {"revision": revision, "digest": DIGESTS[revision][dialect]})


def demand_file(file: Path) -> None:
    """
    Insist that what is at this path, if anything, is a file.

    Raises:
        ConfigurationError: It is a directory.
    """
    if file.is_dir():
        raise ConfigurationError(KEY, "names a directory", "name a file in it")


def demand_writable_file(file: Path) -> None:
    """
    Insist that a SQLite file and its place can be written to, before a write fails half-way.

    Raises:
        ConfigurationError: They can't, or the file is none.
    """
    demand_file(file)
    if not file.parent.is_dir():
        raise ConfigurationError(KEY, "names a file in a directory that does not exist", "make the directory first")
    # SQLite keeps its write-ahead log beside the file.
    wanted = (file, file.parent) if file.exists() else (file.parent,)
    if not all(os.access(path, os.W_OK) for path in wanted):
        raise ConfigurationError(KEY, "names a read-only file", "let this user write to the file and its directory")


def demand_rights(connection: Connection, *, notes_only: bool = False) -> None:
    """
    Insist that PostgreSQL lets us write.

    Args:
        connection: To an upgraded database.
        notes_only: Whether entries of our own are all that will be written, besides what a role is made for.

    Raises:
        ConfigurationError: The database is read-only, or the user lacks rights.
    """
    asked = {"names": sorted(TABLES & set(_NOTED if notes_only else _WRITTEN)), "notes_only": notes_only}
    row = connection.execute(_RIGHTS, asked).one()
    if row.read_only:
        raise ConfigurationError(
            KEY, "leads to a read-only database", "name the primary, or turn default_transaction_read_only off"
        )
    if not row.may_write:
        raise ConfigurationError(KEY, "names a user without the right to write", "grant it, or name another user")
