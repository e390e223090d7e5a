"""
Places off the database that the seal is carried to: an append-only file, a syslog server.

Owns the file's form: lines of JSON, each an entry's hash (`entry`), a leaf (`leaf`) or a
checkpoint's note (`checkpoint`). Entries' hashes are collected and written by a thread of
their own, so that no disk is waited for. Must not know what a hash is of.
Next: `composition`.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from orchestrator.domain.entry import Entry

_TAIL = 1 << 16
"""Bytes at a file's end in which its newest checkpoint is looked for first."""
PAUSE_S = 0.2
"""How long hashes are collected before they are written."""
_FACILITY_AUDIT, _NOTICE = 13, 5
"""RFC 5424 section 6.2.1: log audit, notice."""


class FileSink:
    """
    A file that is only ever appended to; several processes of one host may share it.

    Args:
        path: Where; on other storage than the database, writable by the sealer, and best append-only
            for it (`chattr +a`).
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """The file's path."""
        return str(self.path)

    def reached(self) -> str | None:
        """
        Give the note of the newest checkpoint in the file.

        Raises:
            OSError: It can't be read.
        """
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                for most in (_TAIL, size):
                    file.seek(max(0, size - most))
                    newest = _newest(file.read())
                    if newest is not None or most >= size:
                        return newest
        except FileNotFoundError:
            if not self.path.parent.is_dir():
                raise  # storage that is not mounted must not look like a first start
        return None

    def write(self, lines: Sequence[bytes]) -> None:
        """
        Append lines, and wait until they are on disk.

        Raises:
            OSError: They can't be written; some of them may be there.

        Crash: some of the lines are there, the last of them perhaps cut; who writes next begins a new one.
        """
        self.append(lines, sync=True)

    def append(self, lines: Sequence[bytes], *, sync: bool) -> None:
        """Do as `write` does; without `sync` the disk is not waited for."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            with _locked(descriptor):
                size = os.fstat(descriptor).st_size
                torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                rest = memoryview((b"\n" if torn else b"") + b"".join(line + b"\n" for line in lines))
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                if sync:
                    os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _newest(text: bytes) -> str | None:
    for line in reversed(text.split(b"\n")):
        if line.startswith(b'{"checkpoint"'):
            with contextlib.suppress(ValueError):
                return str(json.loads(line)["checkpoint"])
    return None


class SyslogSink:
    """
    A syslog server, told by datagrams (RFC 5424 over UDP, RFC 5426); it can't be asked what it holds.

    Args:
        host: Its name or address.
        port: Its UDP port, usually 514.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port

    @property
    def name(self) -> str:
        """The server's address."""
        return f"syslog://{self._host}:{self._port}"

    def reached(self) -> str | None:
        """Nobody can tell: everything is sent again after a start."""
        return None

    def write(self, lines: Sequence[bytes]) -> None:
        """
        Send lines, each a message of its own.

        Raises:
            OSError: The server's name is unknown, or nothing can be sent.

        Crash: some of the lines were sent.
        """
        family, kind, _, _, address = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)[0]
        head = f"<{_FACILITY_AUDIT * 8 + _NOTICE}>1 - {socket.gethostname()[:100] or '-'} orchestrator - seal - "
        with socket.socket(family, kind) as sending:
            for line in lines:
                sending.sendto(head.encode() + line, address)


class HashLines:
    """
    Entries' hashes on their way into a file: whatever was acknowledged is there within a moment.

    A crash loses those of the last moment; their leaves are carried to the same file by the sealer.

    Args:
        sink: The file.
        line: Makes an entry's line.
        failed: Told why nothing could be written, once until it can be again.
    """

    def __init__(self, sink: FileSink, line: Callable[[Entry], bytes], failed: Callable[[str], None]) -> None:
        self._sink = sink
        self._line = line
        self._failed = failed
        self._entries: list[Entry] = []
        self._writing: asyncio.Task[None] | None = None
        self.trouble = ""

    def add(self, entries: Sequence[Entry]) -> None:
        """Take entries whose commit was acknowledged; their lines are written soon."""
        self._entries += entries
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._soon())

    async def _soon(self) -> None:
        await asyncio.sleep(PAUSE_S)
        self._writing = None
        await self.flush()

    async def flush(self) -> None:
        """Write what was taken; trouble is told, never raised: the lines are dropped, the sealer's leaves remain."""
        entries, self._entries = self._entries, []
        if not entries:
            return
        try:
            await asyncio.to_thread(self._append, entries)
        except OSError as error:
            why = f"{self._sink.name} can't be written to ({type(error).__name__})"
            if not self.trouble:
                self._failed(why)
            self.trouble = why
        else:
            self.trouble = ""

    def _append(self, entries: Sequence[Entry]) -> None:
        self._sink.append([self._line(entry) for entry in entries], sync=False)

    async def close(self) -> None:
        """Write what is left."""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        await self.flush()
