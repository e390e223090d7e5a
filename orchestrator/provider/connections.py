"""
Connections, for either library under httpx.

Owns how they are kept, shared and thrown away, and that they verify TLS, read no
environment and keep no cookie. Must not know what is sent over them.
Next: `transport`.

A call that is cancelled poisons the shared pool of httpx's own transport
(encode/httpcore 830, 1093: its connection counts as active for ever, until every
call ends in `PoolTimeout`). So there each call has a pool of one connection to
itself, from a shelf of idle ones, and it is thrown away unless the call ended
well. No two calls ever share a pool; there is nothing to poison or to rebuild.
aiohttp's pool survives cancelling and is shared.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

CLOSE_S = 1.0


class Shelf(Protocol):
    """Where a call gets its transport from, and gives it back."""

    def take(self) -> httpx.AsyncBaseTransport:
        """Give a transport for one call."""
        ...

    def give_back(self, transport: httpx.AsyncBaseTransport, *, sound: bool) -> Sequence[httpx.AsyncBaseTransport]:
        """Take it back; gives the transports that are to be closed now."""
        ...

    async def aclose(self) -> None:
        """Close everything that is idle."""
        ...


class SharedShelf:
    """
    One aiohttp session for every call.

    Args:
        context: Verifies the server.
        idle_s: For how long a connection may stay idle; 0 closes it after each call.
    """

    def __init__(self, context: ssl.SSLContext, idle_s: float) -> None:
        self._context = context
        self._idle_s = idle_s
        self._transport = AiohttpTransport(verify=context, trust_env=False, client=self._session)

    def take(self) -> httpx.AsyncBaseTransport:
        """Give the shared transport."""
        return self._transport

    def give_back(
        self,
        transport: httpx.AsyncBaseTransport,  # noqa: ARG002 - there is only one
        *,
        sound: bool,  # noqa: ARG002 - aiohttp knows
    ) -> Sequence[httpx.AsyncBaseTransport]:
        """Do nothing: aiohttp itself closes a connection whose call was cut off."""
        return ()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()

    def _session(self) -> aiohttp.ClientSession:
        # Built on first use, because it belongs to the running loop. The limit on
        # connections is `Wire`'s, for both transports.
        if self._idle_s > 0:
            connector = aiohttp.TCPConnector(ssl=self._context, limit=0, keepalive_timeout=self._idle_s)
        else:
            connector = aiohttp.TCPConnector(ssl=self._context, limit=0, force_close=True)
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            middlewares=(_once,),
            skip_auto_headers=("Content-Type",),
        )


class Cut(aiohttp.ClientError):
    """The connection was lost after it had been made."""


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending again by itself: it repeats GET, PUT and DELETE when a connection is lost."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise Cut(type(error).__name__) from error


class LaneShelf:
    """
    One of httpx's own transports, with one connection, for each call in flight.

    Args:
        context: Verifies the server.
        idle_s: For how long a lane may lie idle; 0 gives each call a new one.
        monotonic: A clock that never goes back, in seconds.
    """

    def __init__(self, context: ssl.SSLContext, idle_s: float, monotonic: Callable[[], float]) -> None:
        self._context = context
        self._idle_s = idle_s
        self._monotonic = monotonic
        self._limits = httpx.Limits(
            max_connections=1, max_keepalive_connections=1 if idle_s > 0 else 0, keepalive_expiry=idle_s
        )
        self._idle: list[tuple[float, httpx.AsyncBaseTransport]] = []

    def take(self) -> httpx.AsyncBaseTransport:
        """Give the lane that was used last, so that surplus ones grow old, or a new one."""
        if self._idle:
            return self._idle.pop()[1]
        return httpx.AsyncHTTPTransport(verify=self._context, trust_env=False, limits=self._limits, retries=0)

    def give_back(self, transport: httpx.AsyncBaseTransport, *, sound: bool) -> Sequence[httpx.AsyncBaseTransport]:
        """Keep a lane whose call ended well; any other is to be closed, and so are those that have grown old."""
        if not sound or self._idle_s <= 0:
            return (transport,)
        now = self._monotonic()
        fresh_from = next((at for at, (since, _) in enumerate(self._idle) if now - since <= self._idle_s), None)
        old = self._idle[:fresh_from]
        self._idle = [*self._idle[len(old) :], (now, transport)]
        return [lane for _, lane in old]

    async def aclose(self) -> None:
        """Close every idle lane."""
        while self._idle:
            await self._idle.pop()[1].aclose()


async def released(response: httpx.Response) -> None:
    """Give the connection of an answer that was read whole back to its pool."""
    with suppress(Exception):
        # Not `response.aclose`: its stream alone knows the connection.
        if isinstance(response.stream, httpx.AsyncByteStream):
            await response.stream.aclose()


async def closed(closing: httpx.Response | httpx.AsyncBaseTransport) -> None:
    """Close, within bounds: the answer is known, and whatever is wrong with the connection dies with it."""
    with suppress(Exception):
        async with asyncio.timeout(CLOSE_S):
            await closing.aclose()
