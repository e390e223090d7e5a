"""A loopback HTTP/1.1 server that does, byte for byte, what a script says: resets, stalls, drips, half bodies."""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass
class Seen:
    """One request whose head has arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    connection: int = 0


@dataclass
class Exchange:
    """What a script step can do with one request."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    seen: Seen
    open: bool = True

    async def read_body(self) -> None:
        self.seen.body = await self.reader.readexactly(int(self.seen.headers.get("content-length", 0)))

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Close with RST, so that the peer sees a reset and not an end."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        self.open = False

    def close(self) -> None:
        self.writer.close()
        self.open = False


Step = Callable[[Exchange], Awaitable[None]]


def answer(status: int = 200, body: Any = b"", headers: Mapping[str, str] | None = None) -> Step:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def step(exchange: Exchange) -> None:
        await exchange.read_body()
        await exchange.write(head(status, len(raw), headers) + raw)

    return step


def head(status: int, length: int, headers: Mapping[str, str] | None = None) -> bytes:
    lines = {"Content-Type": "application/json", "Content-Length": str(length)} | dict(headers or {})
    return "\r\n".join([f"HTTP/1.1 {status} X", *(f"{k}: {v}" for k, v in lines.items()), "", ""]).encode()


async def reset_before_body(exchange: Exchange) -> None:
    exchange.reset()


async def reset_after_body(exchange: Exchange) -> None:
    await exchange.read_body()
    exchange.reset()


async def hang_up_after_body(exchange: Exchange) -> None:
    await exchange.read_body()
    exchange.close()


async def stall(exchange: Exchange) -> None:
    await exchange.read_body()
    await exchange.reader.read()  # until the client gives up
    exchange.close()


def drip(data: bytes) -> Step:
    """Send a byte at a time, for as long as the client listens."""

    async def step(exchange: Exchange) -> None:
        await exchange.read_body()
        gone = asyncio.ensure_future(exchange.reader.read())
        try:
            for byte in data:
                exchange.writer.write(bytes([byte]))
                await asyncio.wait({gone}, timeout=0.02)
                if gone.done() or exchange.writer.is_closing():
                    break
        finally:
            gone.cancel()
            exchange.close()

    return step


drip_head = drip(head(200, 1000) * 1000)
drip_body = drip(head(200, 100_000) + b" " * 99_999)


async def half_body(exchange: Exchange) -> None:
    await exchange.read_body()
    await exchange.write(head(200, 100) + b'{"sessionId": "s-1", "dtmf')
    exchange.close()


async def garbage(exchange: Exchange) -> None:
    await exchange.read_body()
    await exchange.write(b"this is not HTTP\r\n\r\n")
    exchange.close()


@dataclass
class RawServer:
    """
    Async context manager. `scripts` maps a path's beginning to the steps of its requests in
    order; the last step repeats.
    """

    scripts: dict[str, list[Step]]
    context: ssl.SSLContext | None = None
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self.context)
        scheme = "http" if self.context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def count(self, path: str) -> int:
        return sum(seen.path.startswith(path) for seen in self.seen)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        number = self.connections
        try:
            while await self._serve(reader, writer, number):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        request, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = request.split(" ")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines if line)}
        seen = Seen(method, path, headers, connection=number)
        self.seen.append(seen)
        steps = next(steps for beginning, steps in self.scripts.items() if path.startswith(beginning))
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        exchange = Exchange(reader, writer, seen)
        await step(exchange)
        return exchange.open and headers.get("connection", "").lower() != "close"
