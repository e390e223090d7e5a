"""
A copy of a SQLite database that is consistent, whole and verified.

Owns how the copy comes into being: SQLite's own online backup, next to the place
where it belongs, moved there only when it has been proven. A database server has
its own tools. Must not know what is in the tables. Next: `store`.
"""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.domain.errors import DatabaseMismatch, IntegrityViolated, InvalidInput, Unavailable
from orchestrator.files import sync_directory
from orchestrator.store import migrate
from orchestrator.store.access import Database
from orchestrator.store.engines import KEY

BUSY_S = 5.0
"""How long a lock of another process is waited for, in seconds."""


@dataclass(frozen=True, slots=True)
class Copy:
    """
    A backup that was made.

    Attributes:
        file: Where it is.
        size: In bytes.
        status: Where the copied database stands, and what in it differs from a fresh one.
    """

    file: Path
    size: int
    status: migrate.Status


async def backup(database_url: str, file: Path) -> Copy:
    """
    Copy the database into a new file that only its owner can read (0600).

    Workers may go on meanwhile: the copy shows one moment. It is checked with
    SQLite's `integrity_check` and against our schema before it gets its name. A
    database that is behind this version can be copied, since that is what one does
    before an upgrade.

    Args:
        database_url: The database.
        file: Where the copy goes; must not exist.

    Raises:
        DatabaseMismatch: It is a PostgreSQL database, there is none, or it is not ours.
        InvalidInput: The file exists, or can't be written.
        IntegrityViolated: The database itself is damaged; no copy was kept.
        Unavailable: The database does not answer, or the disk is full.

    Crash: the database is untouched. A file `NAME.partial-PID` may be left; it is no
    backup and can be deleted. `file` is there only if the whole copy was proven.
    """
    source = Database(database_url)
    try:
        if source.file is None:
            problem = "is a PostgreSQL database, which its own tools copy"
            fix = (
                "take a full dump with `pg_dump --format=custom` and restore it whole with `pg_restore`; never"
                " data-only with --disable-triggers, which would let rows in that the triggers never saw"
            )
            raise DatabaseMismatch(KEY, problem, fix)
        found = await migrate.status(source)
        if found.standing not in (migrate.Standing.CURRENT, migrate.Standing.BEHIND, migrate.Standing.AHEAD):
            found.demand()
    finally:
        await source.close()
    partial = file.with_name(f"{file.name}.partial-{os.getpid()}")
    with _cleared(partial):
        await asyncio.to_thread(_copy, source.file, partial, file)
        status = await migrate.check(f"sqlite:///{partial}")
        if (status.standing, status.revision) != (found.standing, found.revision):
            raise Unavailable("the database was upgraded while it was copied; try again")
        size = await asyncio.to_thread(_publish, partial, file)
    return Copy(file, size, status)


def _copy(source: Path, partial: Path, file: Path) -> None:
    if file.exists():
        raise _exists()
    try:
        # Made first, and empty, so that nobody else can ever read a byte of it.
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        problem = f"can't be written ({type(error).__name__})"
        raise InvalidInput("FILE", problem, "name a new file in a directory that you may write to") from None
    with _told(), _opened(source, "rw") as theirs, _opened(partial, "rw") as ours:
        # In one step: a reader's one moment, while writers go on in the log beside it.
        theirs.backup(ours, pages=-1, progress=_not_locked)
        if ours.execute("pragma integrity_check").fetchall() != [("ok",)]:
            raise IntegrityViolated("the database is damaged: its copy fails SQLite's integrity_check")


def _not_locked(status: int, _remaining: int, _total: int) -> None:
    """Give up on a locked database after the usual wait: the library itself would try for ever."""
    if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        raise sqlite3.OperationalError("the database is locked by another program")


def _publish(partial: Path, file: Path) -> int:
    """Make the copy one file, safe on the disk, and give it its name; tells its size in bytes."""
    with _told(), _opened(partial, "rw") as ours:
        ours.execute("pragma journal_mode = delete")
    _synced(partial)
    try:
        os.link(partial, file)  # unlike a rename it never replaces what is there
    except FileExistsError:
        raise _exists() from None
    except OSError:  # a file system without links
        if file.exists():
            raise _exists() from None
        partial.rename(file)
    sync_directory(file.parent)
    return file.stat().st_size


def _exists() -> InvalidInput:
    return InvalidInput("FILE", "exists already", "name a new file: a backup never replaces another")


def _synced(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    # As a URI, so that a file that is gone is not made anew.
    name = f"{path.absolute().as_uri()}?mode={mode}"
    with contextlib.closing(sqlite3.connect(name, uri=True, timeout=BUSY_S, isolation_level=None)) as connection:
        yield connection


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Tell SQLite's trouble in our words; its own may hold names of files only."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise Unavailable(f"the copy could not be made: {error}") from None
        raise IntegrityViolated(f"the database can't be copied: {error}") from None


@contextlib.contextmanager
def _cleared(partial: Path) -> Iterator[None]:
    """Leave nothing beside the copy, whatever happens."""
    try:
        yield
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            partial.with_name(partial.name + suffix).unlink(missing_ok=True)
