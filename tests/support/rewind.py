"""
Databases that can be sent back in time: a copy is made, and put back later under whoever works on them.

On PostgreSQL each is a database of its own on the run's server, copied as a template; on
SQLite it is a file, put back by renaming the copy or by writing over the file.
"""

import shutil
import sqlite3
import uuid
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from orchestrator.store import migrate


@dataclass
class Rewindable:
    """A migrated database; `copy` it, and later `put_back` what it was then."""

    url: str
    copy: Callable[[], Awaitable[None]]
    put_back: Callable[[], Awaitable[None]]

    @property
    def kind(self) -> str:
        return "sqlite" if self.url.startswith("sqlite") else "postgresql"


def sqlite(template: Path, directory: Path, *, over: bool = False, name: str = "orchestrator.db") -> Rewindable:
    """Give a file; `over` writes the copy over it in place, otherwise the copy is renamed to it."""
    file, kept = directory / name, directory / "kept.db"
    shutil.copy(template, file)

    async def copy() -> None:
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(kept)) as target:
            source.backup(target)

    async def put_back() -> None:
        # As a person does it: the former file's log goes first.
        for suffix in ("-wal", "-shm"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
        if over:
            shutil.copyfile(kept, file)
        else:
            again = kept.with_suffix(".again")
            shutil.copy(kept, again)
            again.replace(file)

    return Rewindable(f"sqlite:///{file}", copy, put_back)


_TEMPLATES: dict[str, str] = {}


async def postgresql(host: str, driver: str = "asyncpg") -> Rewindable:
    """Give a database of its own on this server."""
    name = f"r{uuid.uuid4().hex[:20]}"
    if host not in _TEMPLATES:
        template = f"t{uuid.uuid4().hex[:20]}"
        await _told(host, f"create database {template} template template0")
        await migrate.upgrade(_url(host, template, driver))
        _TEMPLATES[host] = template
    await _told(host, f"create database {name} template {_TEMPLATES[host]}")

    async def copy() -> None:
        await _told(
            host, f"drop database if exists {name}_kept", *_emptied(name),
            f"create database {name}_kept template {name}", f"alter database {name} allow_connections true",
        )  # fmt: skip

    async def put_back() -> None:
        await _told(
            host, *_emptied(name), f"drop database {name}", f"create database {name} template {name}_kept",
        )  # fmt: skip

    return Rewindable(_url(host, name, driver), copy, put_back)


def _url(host: str, name: str, driver: str) -> str:
    return f"postgresql+{driver}://postgres@/{name}?host={host}"


def _emptied(name: str) -> tuple[str, str]:
    return (
        f"alter database {name} allow_connections false",
        f"select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '{name}'",
    )


async def _told(host: str, *statements: str) -> None:
    connection: Any = await asyncpg.connect(host=host, user="postgres", database="postgres")
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
