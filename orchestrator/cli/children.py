"""
The demo's own processes: one sandbox, two workers.

Owns their start, their environment and their end: whatever happens to the demo,
none is left behind, and none but its own is ever signalled. Next: `demo`.
"""

import asyncio
import contextlib
import http.client
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from orchestrator.domain.errors import Unavailable

READY_S = 30.0
END_S = 5.0

_KEPT = ("ORCHESTRATOR_DATABASE_URL", "ORCHESTRATOR_SEALING_KEY")


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Leave out the settings that would make the demo another one; the database and its key stay."""
    referenced = {environ[name].removeprefix("env:") for name in _KEPT if environ.get(name, "").startswith("env:")}
    kept = {*_KEPT, *referenced}
    return {name: value for name, value in environ.items() if name in kept or not name.startswith("ORCHESTRATOR_")}


class Children:
    """
    Starts `orchestrator` commands as processes of their own; ends them on leaving.

    Args:
        directory: Where their output goes, a file each.
        environ: Their environment.

    Crash:
        If this process is killed with SIGKILL, a worker drains nothing and goes
        on, and the sandbox stays; both end with SIGTERM.
    """

    def __init__(self, directory: Path, environ: Mapping[str, str]) -> None:
        self._directory = directory
        self._environ = environ
        self._processes: list[Process] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        running = [process for process in self._processes if process.returncode is None]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        # Shielded: a second Ctrl-C must not leave one behind.
        await asyncio.shield(asyncio.gather(*(_ended(process) for process in running)))

    async def sandbox(self, seed: int) -> str:
        """
        Start the provider's twin.

        Returns:
            Its base URL.

        Raises:
            Unavailable: It does not start.
        """
        process = await self._start("sandbox", "sandbox", "--port", "0", "--seed", str(seed), stdout=PIPE)
        assert process.stdout is not None  # noqa: S101 - asked for above
        with contextlib.suppress(TimeoutError):
            line = await asyncio.wait_for(process.stdout.readline(), READY_S)
            if line.startswith(b"http://"):
                return line.decode().strip()
        raise Unavailable(f"the sandbox did not start; see {self._directory / 'sandbox.log'}")

    async def worker(self, name: str, config: Path, *arguments: str) -> Process:
        """Start a worker; its log goes to `NAME.log`."""
        return await self._start(name, "--config", str(config), "worker", *arguments, stdout=DEVNULL)

    async def _start(self, name: str, *arguments: str, stdout: int) -> Process:
        with (self._directory / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "orchestrator", *arguments,
                stdin=DEVNULL, stdout=stdout, stderr=log, env=self._environ,
            )  # fmt: skip
        self._processes.append(process)
        return process


async def sandbox_stats(url: str) -> Mapping[str, Any]:
    """
    Ask the sandbox what it was asked.

    Raises:
        Unavailable: It does not answer.
    """
    try:
        return await asyncio.to_thread(_stats, url)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unavailable(f"the sandbox does not answer ({type(error).__name__})") from error


def environment() -> dict[str, str]:
    """Give this process's environment without settings that would change the demo."""
    return clean_environment(os.environ)


def _stats(url: str) -> Mapping[str, Any]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        connection.request("GET", "/_sandbox/stats")
        found: Mapping[str, Any] = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return found


async def _ended(process: Process) -> None:
    try:
        await asyncio.wait_for(process.wait(), END_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
