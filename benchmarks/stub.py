"""
The provider as the benchmarks need it: the genuine answers, and hardly any work.

    python -m benchmarks.stub --looks 2 --delay-ms 0

Serves the three calls of the bundled definitions on loopback by a hand-written HTTP/1.1
protocol, so that it is not what limits a run; `GET /bench` tells what it was asked and what
CPU that took. Its address is the first line on standard output. Nothing is checked that the
tests check elsewhere: for faults and odd answers there is the sandbox.
"""

import argparse
import asyncio
import contextlib
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable

TOKEN = b'{"access_token":"bench-token","expires_in":7200,"token_type":"Bearer"}'
RUNNING = b'{"sessionGuid":"%s","sessionState":"InProgress","paymentResultData":{}}'
_REFERENCE = re.compile(rb'"merchantTxnRef":"([^"]*)"')
_AMOUNT = re.compile(rb'"amount":"([0-9.]*)"')
_LENGTH = re.compile(rb"(?i)content-length: *([0-9]+)")


class Provider:
    """
    The sessions, and what was asked.

    Args:
        looks: A session is finished from this look on; 0 for never, and then of sessions that it never began, too.
        delay_s: What every answer takes.
    """

    def __init__(self, looks: int, delay_s: float) -> None:
        self.looks = looks
        self.delay_s = delay_s
        self.counts: Counter[str] = Counter()
        self.starts: Counter[bytes] = Counter()
        self.sessions: dict[bytes, list[object]] = {}
        self.unlooked: set[bytes] = set()

    def answer(self, line: bytes, body: bytes) -> bytes:
        """Give the body of the answer to one request."""
        method, path, _ = line.split(b" ", 2)
        if method == b"POST":
            if path.endswith(b"/token"):
                self.counts["tokens"] += 1
                return TOKEN
            return self._start(body)
        if path.endswith(b"/bench"):
            if path == b"/mark/bench":  # from here on it tells how many of these sessions nobody has looked at
                self.unlooked = set(self.sessions)
            return self._told()
        self.counts["statuses"] += 1
        return self._status(path.rsplit(b"/", 1)[1])

    def _start(self, body: bytes) -> bytes:
        self.counts["starts"] += 1
        reference, amount = _REFERENCE.search(body), _AMOUNT.search(body)
        assert reference is not None
        assert amount is not None
        self.starts[reference[1]] += 1
        session = b"00000000-0000-4000-8000-%012x" % self.counts["starts"]
        self.sessions[session] = [0, reference[1], amount[1].replace(b".", b"")]
        return b'{"sessionId":"%s","Message":null,"dtmfFallbackNumber":"+442079460101","dtmfLinkId":"%d"}' % (
            session, self.counts["starts"],
        )  # fmt: skip

    def _status(self, session: bytes) -> bytes:
        self.unlooked.discard(session)
        if not self.looks:
            return RUNNING % session
        found = self.sessions[session]
        found[0] += 1  # type: ignore[operator]
        if found[0] < self.looks:  # type: ignore[operator]
            return RUNNING % session
        return (
            b'{"sessionGuid":"%s","sessionState":"Finished","paymentResultData":{"decision":"ACCEPT",'
            b'"reasonCode":"100","Amount":"%s","MerchantReferenceCode":"%s"}}' % (session, found[2], found[1])
        )

    def _told(self) -> bytes:
        twice = sum(count - 1 for count in self.starts.values())
        told = {"tokens": 0, "starts": 0, "statuses": 0, "connections": 0} | self.counts | {"duplicates": twice}
        return json.dumps(told | {"unlooked": len(self.unlooked), "cpu_s": time.process_time()}).encode()


class Connection(asyncio.Protocol):
    """One connection; requests come one after the other, whole or in parts."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._provider.counts["connections"] += 1

    def data_received(self, data: bytes) -> None:
        self._read += data
        while (end := self._read.find(b"\r\n\r\n")) >= 0:
            head = self._read[:end]
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._read) < whole:
                return
            body, self._read = self._read[end + 4 : whole], self._read[whole:]
            told = self._provider.answer(head[: head.find(b"\r\n")], body)
            answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
                len(told), told,
            )  # fmt: skip
            if self._provider.delay_s:
                asyncio.get_running_loop().call_later(self._provider.delay_s, self._write, answer)
            else:
                self._transport.write(answer)  # type: ignore[attr-defined]

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():  # who asked may be dead by now
            self._transport.write(answer)  # type: ignore[attr-defined]


async def serve(provider: Provider, port: int, ready: Callable[[str], None]) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(provider), "127.0.0.1", port, backlog=4096
    )
    ready(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--looks", type=int, default=2)
    parser.add_argument("--delay-ms", type=float, default=0)
    words = parser.parse_args()
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415 - where it is there

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

    def ready(url: str) -> None:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(Provider(words.looks, words.delay_ms / 1000), words.port, ready))


if __name__ == "__main__":
    main()
