"""
The real store on a SQLite file, as the simulation needs one: each verb is one moment.

It runs in a loop and a thread of its own, and whoever calls waits for it with everything
else standing still: so nothing depends on how fast a disk is, and a seed stays a seed.
"""

import asyncio
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from orchestrator.domain.entry import Context, Entry
from orchestrator.domain.payment import Payment
from orchestrator.mark import MarkFile
from orchestrator.records import Query
from orchestrator.store import SqlStore, migrate
from orchestrator.store.incarnation import Witness
from orchestrator.store.restored import begin_anew


class Beside:
    """A real loop in a thread, which runs a coroutine while everybody waits."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class FileStore:
    """`ports.Store` on a file, and what a watcher sees of it; an older copy of it can be put back."""

    def __init__(self, beside: Beside, path: Path, true_now: Callable[[], datetime]) -> None:
        self._beside = beside
        self._path = path
        self._mark = MarkFile(path.with_name("mark"))
        self._true_now = true_now
        self._store: SqlStore | None = None
        self._reader = self._opened(SqlStore(self.url))

    @property
    def url(self) -> str:
        return f"sqlite:///{self._path}"

    def __getattr__(self, verb: str) -> Any:
        async def called(*args: Any, **kwargs: Any) -> Any:
            if self._store is None:
                # As a process does that starts, or finds its file replaced: raises while nobody has said that it may.
                self._store = self._opened(
                    SqlStore(self.url, witness=lambda file: Witness(self._mark, file, lambda *_: None))
                )
            return self._beside.run(getattr(self._store, verb)(*args, **kwargs))

        return called

    def _opened(self, store: SqlStore) -> SqlStore:
        self._beside.run(store.open())
        return store

    def close(self) -> None:
        for store in (self._store, self._reader):
            if store is not None:
                self._beside.run(store.close())
        self._store = None

    def copied(self) -> bytes:
        """Give a backup."""
        copy = self._path.with_name("copy.db")
        with closing(sqlite3.connect(self._path)) as here, closing(sqlite3.connect(copy)) as there:
            here.backup(there)
        return copy.read_bytes()

    def put_back(self, copy: bytes) -> None:
        """Put a backup in the database's place, while nobody has it open."""
        self.close()
        for name in ("-wal", "-shm", ""):
            Path(f"{self._path}{name}").unlink(missing_ok=True)
        self._path.write_bytes(copy)
        self._reader = self._opened(SqlStore(self.url))

    def restored(self, number: int) -> None:
        """Say, as a person, that it was put back."""
        context = Context(self._true_now(), "ann", "here", version="1")
        self._beside.run(begin_anew(self.url, self._mark, lambda: context, reason="drill", new_id=f"{number:032x}"))

    async def listen(self, stir: Callable[[], None]) -> None:
        del stir
        await asyncio.Event().wait()

    async def clock_offset(self, clock: Any) -> float:
        """Give the offset that a database server would tell of: a file knows no clock."""
        return float((clock.now() - self._true_now()).total_seconds())

    def look(self, payment_id: str) -> Payment | None:
        return self._beside.run(self._reader.get(payment_id))  # type: ignore[no-any-return]

    def chain(self, chain_id: str) -> tuple[Entry, ...]:
        return tuple(self._beside.run(self._reader.entries(chain_id)))

    def everybody(self) -> list[Payment]:
        return list(self._beside.run(self._reader.list(Query(limit=1000))))


@cache
def _template() -> bytes:
    """Migrate one file, and keep its bytes."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "payments.db"
        asyncio.run(migrate.upgrade(f"sqlite:///{path}"))
        return path.read_bytes()


@contextmanager
def in_a_file() -> Iterator[Callable[[Callable[[], datetime]], FileStore]]:
    """Give what makes the store of one run, on a new file."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "payments.db"
        path.write_bytes(_template())
        beside, made = Beside(), list[FileStore]()

        def make(true_now: Callable[[], datetime]) -> FileStore:
            made.append(FileStore(beside, path, true_now))
            return made[0]

        try:
            yield make
        finally:
            for store in made:
                store.close()
            beside.close()
