"""
The server: one socket, one loop, an end in good order.

Owns uvicorn. TLS is the business of what stands in front of it. This is the last module
of the package.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator

import uvicorn
from fastapi import FastAPI

from orchestrator.domain.errors import ConfigurationError

DRAIN_S = 20
"""How long a stop waits for requests in flight."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals to whoever runs us."""
        yield


async def serve(
    app: FastAPI, *, host: str, port: int, stop: asyncio.Event, ready: Callable[[str, int], None]
) -> None:  # fmt: skip
    """
    Serve until told to stop; requests in flight are answered first.

    Args:
        app: From `create_app`.
        host: The address to listen on.
        port: The port; 0 takes a free one.
        stop: Set to stop.
        ready: Called with host and port when requests are taken.

    Raises:
        ConfigurationError: The address can't be had.

    Crash: what was not answered is sent again by the provider.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        listener = socket.create_server(found[0][4][:2], family=found[0][0], backlog=512)
    except (OSError, OverflowError) as error:
        raise ConfigurationError("service.host", f"can't be used ({type(error).__name__})", "take another") from None
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, proxy_headers=False, lifespan="off",
        timeout_graceful_shutdown=DRAIN_S, h11_max_incomplete_event_size=16 * 1024,
    )  # fmt: skip
    server = _Server(config)
    with listener:
        running = asyncio.create_task(server.serve([listener]))
        stopped = asyncio.create_task(stop.wait())
        ready(*listener.getsockname()[:2])
        await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        stopped.cancel()
        await running
