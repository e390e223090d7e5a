"""
One request on the wire, under one total deadline.

Owns the deadline, the limit on requests in flight and the limit on a body. Requests
go straight to httpx's transports, never through its client, so that nothing is
redirected, authenticated or sent again behind our back. Must not know what a
status means (`verdicts`) or why a request is sent (`account`). Next: `message`.

A deadline is enforced by cancelling, since a server that drips one byte at a time
never trips the timeouts of single reads. Cancelling poisons
a shared pool of httpx's own transport; `connections` sees to it that there is none.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, ItemsView, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import httpx

from orchestrator.interactions import Rendered
from orchestrator.provider.connections import LaneShelf, SharedShelf, Shelf, closed, released

IDLE_S = 20.0
"""How long a connection for repeatable calls is kept: below the usual minute of servers and balancers."""
CONNECT_SHARE = 0.35
"""
The share of the time left for TCP, and again for TLS: a call that can't connect must end
by that, which is `not_sent`, and not by its deadline, which is `unknown`.
"""
LEAST_SHARE = 0.1
"""The share of the deadline that a call must have left when its turn comes."""


class PoolWait(Exception):  # noqa: N818 - reads as what happened
    """No connection slot came free before the deadline; nothing was sent."""


class DeadlinePassed(Exception):  # noqa: N818
    """The call's total time was over; the request may have been sent."""


@dataclass(slots=True)
class Answer:
    """
    What came back.

    Attributes:
        status: HTTP status.
        headers: By name, in any case.
        body: What was read of the body.
        flaw: Why that is not all of it: an exception, or `None` for a whole body.
        too_large: Whether the body exceeds the limit.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    flaw: Exception | None = None
    too_large: bool = False


@dataclass(slots=True)
class _Progress:
    """How far a call has come."""

    begun: bool = False
    answer: Answer | None = None


class Wire:
    """
    Sends requests of one account.

    Args:
        transport: The library under httpx.
        context: Verifies the server; `None` trusts certifi's authorities.
        body_limit: The most bytes read of an answer.
        connections: The most requests in flight.
        start_idle_s: See `AccountConfig.start_idle_s`.
        monotonic: A clock that never goes back, in seconds.
    """

    def __init__(
        self,
        transport: Literal["aiohttp", "httpx"],
        context: ssl.SSLContext | None,
        *,
        body_limit: int,
        connections: int,
        start_idle_s: float,
        monotonic: Callable[[], float],
    ) -> None:
        context = context or httpx.create_ssl_context(trust_env=False)
        self._body_limit = body_limit
        self._slots = asyncio.Semaphore(connections)
        self._fresh: Shelf
        self._kept: Shelf
        if transport == "aiohttp":
            self._fresh, self._kept = SharedShelf(context, start_idle_s), SharedShelf(context, IDLE_S)
        else:
            self._fresh = LaneShelf(context, start_idle_s, monotonic)
            self._kept = LaneShelf(context, IDLE_S, monotonic)

    async def exchange(self, rendered: Rendered, *, deadline_s: float, fresh: bool) -> Answer:
        """
        Send one request, once, and read its answer.

        Args:
            rendered: What to send.
            deadline_s: Seconds for everything, from the wait for a slot to the last byte.
            fresh: Whether a connection that has been idle is too great a risk.

        Returns:
            The answer. Once its status is there, trouble with the body is `Answer.flaw`.

        Raises:
            PoolWait: Nothing was sent.
            DeadlinePassed: It may have been sent.
            Exception: Whatever the transport raises; `verdicts.of_exception` reads it.

        Crash: before the first byte nothing has happened. After it the provider may have carried
            the request out; only a committed intent will know of it.
        """
        progress = _Progress()
        until = asyncio.get_running_loop().time() + deadline_s
        limit = asyncio.timeout_at(until)
        try:
            async with limit, self._slots:
                left_s = until - asyncio.get_running_loop().time()
                if left_s < deadline_s * LEAST_SHARE:
                    raise PoolWait
                request = _request(rendered, left_s)
                return await self._converse(self._fresh if fresh else self._kept, request, progress)
        except TimeoutError:
            if not limit.expired():
                raise
            if progress.answer is not None:
                progress.answer.flaw = DeadlinePassed()
                return progress.answer
            raise (DeadlinePassed if progress.begun else PoolWait) from None

    async def aclose(self) -> None:
        """Close the idle connections; calls in flight end by themselves."""
        await self._fresh.aclose()
        await self._kept.aclose()

    async def _converse(self, shelf: Shelf, request: httpx.Request, progress: _Progress) -> Answer:
        transport = shelf.take()
        sound = False
        try:
            progress.begun = True
            response = await transport.handle_async_request(request)
            progress.answer = answer = Answer(response.status_code, response.headers)
            await self._read(response, answer)
            sound = answer.flaw is None and not answer.too_large
            return answer
        finally:
            for each in shelf.give_back(transport, sound=sound):
                await closed(each)

    async def _read(self, response: httpx.Response, answer: Answer) -> None:
        body, whole = b"", False
        # Nobody was invited to compress; where nobody did, httpx's decoders have nothing to do.
        chunks = response.aiter_bytes() if "content-encoding" in response.headers else _raw(response)
        try:
            async for chunk in chunks:
                body += chunk
                if len(body) > self._body_limit:
                    answer.too_large = True
                    break
            else:
                whole = True
        except Exception as error:  # noqa: BLE001 - the status is known; what the body's loss means is the caller's
            answer.flaw = error
        finally:
            answer.body = body[: self._body_limit]
            await (released if whole else closed)(response)


def _raw(response: httpx.Response) -> AsyncIterator[bytes]:
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise TypeError("not an answer of an asynchronous transport")
    return response.stream.__aiter__()


_DEFAULT_HEADERS = (
    (b"accept", b"*/*"),
    # The limit on the body counts the bytes that arrive, so nobody is invited to compress.
    (b"accept-encoding", b"identity"),
    (b"user-agent", b"payment-orchestrator"),
)


@lru_cache(maxsize=4096)
def _url(text: str) -> httpx.URL:
    """Parse a URL; those of starts are few, and those of looks come again."""
    return httpx.URL(text)


class _Headers(httpx.Headers):
    """A request's headers, made once: `items` is what aiohttp asks of every request."""

    def __init__(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        super().__init__(pairs)
        self._told = dict(super().items()).items()

    def items(self) -> ItemsView[str, str]:
        """Give names and values."""
        return self._told


@lru_cache(maxsize=512)
def _headers(given: tuple[tuple[str, str], ...], host: bytes, length: int | None) -> _Headers:
    """Make a request's headers; with one token they are the same for every look, and for every start but its length."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given]
    names = {name.lower() for name, _ in headers}
    own = [(b"host", host), *_DEFAULT_HEADERS]
    if length is not None:
        own.append((b"content-length", b"%d" % length))
    return _Headers([*headers, *((name, value) for name, value in own if name not in names)])


def _request(rendered: Rendered, left_s: float) -> httpx.Request:
    connect = left_s * CONNECT_SHARE
    # What httpx-aiohttp calls "pool" bounds all of connecting, the look-up of the name included.
    timeout = {"connect": connect, "read": left_s, "write": left_s, "pool": connect * 2}
    url, body = _url(rendered.url), rendered.body
    # With a stream, httpx adds no header of its own and copies none.
    request = httpx.Request(rendered.method, url, stream=httpx.ByteStream(body), extensions={"timeout": timeout})
    sized = body or rendered.method in ("POST", "PUT", "PATCH")
    request.headers = _headers(rendered.headers, url.netloc, len(body) if sized else None)
    request.read()
    return request
