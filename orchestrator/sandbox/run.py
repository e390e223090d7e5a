"""
A sandbox that runs: inside a test or a demo (`Sandbox`), or as a process (`serve`).

Owns the listening socket and the signals, and is the one place where real
clocks and fresh randomness enter. Prints nothing; `serve` tells its address to
a callback. Last of the package.
"""

import asyncio
import json
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from orchestrator.domain.errors import ConfigurationError
from orchestrator.sandbox.app import build_app
from orchestrator.sandbox.clock import SandboxClock
from orchestrator.sandbox.options import SandboxOptions
from orchestrator.sandbox.sessions import Twin
from orchestrator.sandbox.webhooks import Webhooks

_WALL: Callable[[], float] = time.time  # noqa: TID251 - the default; callers with another time give theirs


class Sandbox:
    """
    The provider's twin, as an async context manager.

    Args:
        options: Settings; the defaults listen on a free loopback port.
        clock: Real seconds from any beginning; give a constant to have sessions
            move by `advance` only.
        wall: Seconds since 1970-01-01 UTC, for dates in answers.

    Attributes:
        base_url: Where it listens, such as `http://127.0.0.1:49152`; set while it runs.

    Raises:
        ConfigurationError: On entering, when the address can't be listened on.

    Crash:
        Everything is in memory: a new start knows no token and no session.
    """

    def __init__(
        self,
        options: SandboxOptions = SandboxOptions(),  # noqa: B008 - frozen
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = _WALL,
    ) -> None:
        self.base_url = ""
        self._options = options
        self._clock = SandboxClock(clock, wall, options.speed)
        self._twin = Twin(options, self._clock, options.seed or secrets.randbits(64))
        self._sent = Webhooks(options, self._clock, self._twin.status_of)
        app = build_app(options, self._twin, self._clock, self._sent)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._options.host, self._options.port).start()
        except OSError as error:
            await self._runner.cleanup()
            fix = "use another host or port; port 0 takes a free one"
            raise ConfigurationError("sandbox.port", "can't be listened on", fix) from error
        host, port = self._runner.addresses[0][:2]
        self.base_url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._sent.aclose()
        await self._runner.cleanup()
        self.base_url = ""

    def stats(self) -> dict[str, Any]:
        """Give the counts since the start or the last reset, as `/_sandbox/stats` does (`Twin.stats`)."""
        return self._twin.stats()

    def webhooks(self, reference: str) -> list[bytes]:
        """Give the bodies of the webhooks for a reference's sessions, as `/_sandbox/webhooks/REFERENCE` does."""
        return [json.dumps(body).encode() for body in self._twin.told(reference)]

    def webhook_answers(self) -> dict[str, int]:
        """Give how often which answer came to the webhooks that were sent: an HTTP status, or `cut` for none."""
        return dict(self._sent.answers)

    def reset(self) -> None:
        """Forget tokens, sessions and counts, as `/_sandbox/reset` does."""
        self._twin.reset()

    def advance(self, seconds: float) -> None:
        """Move the sandbox's time forwards, as `/_sandbox/advance` does."""
        self._clock.advance(seconds)


async def serve(options: SandboxOptions, on_ready: Callable[[str], None]) -> None:
    """
    Run a sandbox until SIGTERM, SIGINT or cancellation.

    Args:
        options: Settings.
        on_ready: Called once with the base URL when it listens.

    Raises:
        ConfigurationError: When the address can't be listened on.

    Crash:
        Before `on_ready` nobody can have called it; after it, sessions are lost.
    """
    stopped = asyncio.Event()
    async with Sandbox(options) as sandbox:
        with _signals(stopped.set):
            on_ready(sandbox.base_url)
            await stopped.wait()


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    caught = []
    for number in (signal.SIGTERM, signal.SIGINT):
        # Windows and threads other than the main one have no handlers: there, cancelling is the way
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, stop)
            caught.append(number)
    try:
        yield
    finally:
        for number in caught:
            loop.remove_signal_handler(number)
