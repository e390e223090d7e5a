"""
A TCP proxy before PostgreSQL's socket that can cut a connection around a COMMIT.

Speaks no protocol: it looks for the word in what a client sends. Bound to a port of
the system's choice on the loopback.
"""

import asyncio
import re
from collections import deque
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

COMMIT = re.compile(rb"\bcommit\b", re.IGNORECASE)
"""Not the isolation level's READ COMMITTED."""


class Cut(StrEnum):
    """Where to cut."""

    BEFORE = "before the server gets the COMMIT"
    AFTER = "when the server has answered, before the client hears it"


class CommitCutter:
    """
    The proxy; use it as `async with`.

    Args:
        directory: Where PostgreSQL's socket is.
    """

    def __init__(self, directory: str) -> None:
        self._socket = str(Path(directory) / ".s.PGSQL.5432")
        self._tasks: set[asyncio.Task[None]] = set()
        self.planned: deque[Cut] = deque()
        """One for each of the next COMMITs."""
        self.done = 0
        """How many connections were cut."""
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        if self._tasks:  # each ends with its client
            await asyncio.wait(self._tasks, timeout=20)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        theirs, ours = await asyncio.open_unix_connection(self._socket)
        cut = asyncio.Event()
        asked = asyncio.create_task(self._asked(reader, ours, cut))
        answers = asyncio.create_task(self._answers(theirs, writer, cut))
        # Whoever hangs up first, the other side hears it; but an answer that must not arrive is waited for.
        await asyncio.wait([asked, answers], return_when=asyncio.FIRST_COMPLETED)
        if cut.is_set():
            await answers
        for each in (asked, answers):
            each.cancel()
        await asyncio.gather(asked, answers, return_exceptions=True)
        for end in (writer, ours):
            end.close()
            with suppress(ConnectionError):
                await end.wait_closed()

    async def _asked(self, reader: asyncio.StreamReader, ours: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        while chunk := await _read(reader):
            where = self.planned.popleft() if self.planned and COMMIT.search(chunk) else None
            if where is Cut.AFTER:
                cut.set()  # before the server can answer
            if where is not Cut.BEFORE:
                ours.write(chunk)
            if where is not None:
                self.done += 1
                return

    async def _answers(self, theirs: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        while chunk := await _read(theirs):
            if cut.is_set():
                return  # it was done, and nobody is told
            writer.write(chunk)


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(65536)
    except ConnectionError:
        return b""
