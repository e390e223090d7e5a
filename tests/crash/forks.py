"""
Processes by the dozen: one has imported everything, and forks another for each job.

A worker that begins as `python -m orchestrator` takes a second of a core before it
does anything; a fork takes a few milliseconds, and is as much a process: it is
killed, stopped and replaced like any other. The parent runs no thread and no event
loop, so its forks inherit nothing half done. All of them are one process group,
which dies with whoever asked for it.
"""

import asyncio
import gc
import importlib
import json
import os
import signal
import sys
import traceback
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
HEAVY = ("tests.crash.cells", "orchestrator.cli.run", "orchestrator.sandbox", "asyncpg", "aiohttp")
"""Imported before the first fork."""
FAILED = 70
"""The exit status of a child that ended by an exception."""


class Child:
    """A forked process."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.began: asyncio.Future[int] = loop.create_future()
        self.over: asyncio.Future[int] = loop.create_future()
        self.stopped = asyncio.Event()
        """Set when it has been stopped, for the first time."""
        self.pid = 0

    @property
    def living(self) -> bool:
        return not self.over.done()

    def tell(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.living:
            os.kill(self.pid, number)

    async def ended(self) -> int:
        """Wait for its end; give its exit status, negative for a signal."""
        return await asyncio.shield(self.over)

    async def killed(self) -> None:
        """Kill it, and wait until it is gone."""
        self.tell(signal.SIGKILL)
        assert await self.ended() == -signal.SIGKILL


class Forks:
    """The process that forks; use it as `async with`. When the block ends, so does every child."""

    def __init__(self) -> None:
        self._children: dict[int, Child] = {}
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("ORCHESTRATOR_", "COV_"))}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.crash.forks", stdin=PIPE, stdout=PIPE, cwd=ROOT, env=environ,
            start_new_session=True,
        )  # fmt: skip
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()  # it kills its whole group then
        await self._process.wait()
        await self._reading

    async def fork(self, function: str, log: Path, **arguments: Any) -> Child:
        """
        Run `module:function(**arguments)`, a coroutine function, in a process of its own.

        Its log and its errors are appended to the file `log`.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        child = Child()
        number = len(self._children)
        self._children[number] = child
        job = {"number": number, "function": function, "log": str(log), "arguments": arguments}
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        await self._process.stdin.drain()
        child.pid = await asyncio.shield(child.began)
        return child

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            told = json.loads(line)
            child = self._children[told["number"]]
            if "pid" in told:
                child.began.set_result(told["pid"])
            elif "stopped" in told:
                child.stopped.set()
            else:
                child.over.set_result(told["status"])
        for child in self._children.values():
            for future in (child.began, child.over):
                if not future.done():
                    future.cancel()


def main() -> None:
    """Fork for each line of standard input; at its end kill everybody."""
    for name in HEAVY:
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the watchers
    for line in sys.stdin:
        if os.fork() == 0:
            _watch(json.loads(line))
    os.killpg(0, signal.SIGKILL)


def _watch(job: dict[str, Any]) -> None:
    """Fork the job itself; say when it is stopped, and how it ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os._exit(_played(job))
    _say(number=job["number"], pid=pid)
    _, status = os.waitpid(pid, os.WUNTRACED)
    while os.WIFSTOPPED(status):
        _say(number=job["number"], stopped=True)
        _, status = os.waitpid(pid, os.WUNTRACED)
    _say(number=job["number"], status=os.waitstatus_to_exitcode(status))
    os._exit(0)


def _say(**told: Any) -> None:
    os.write(1, json.dumps(told).encode() + b"\n")  # so short a line arrives in one piece


def _played(job: dict[str, Any]) -> int:
    from orchestrator import telemetry

    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    # A line that was logged is written, whatever becomes of us.
    telemetry.configure(level="info", fmt="json", stream=os.fdopen(2, "w", buffering=1, closefd=False))
    module, _, name = job["function"].partition(":")
    function: Callable[..., Awaitable[None]] = getattr(importlib.import_module(module), name)
    try:
        asyncio.run(_to_the_end(function, job["arguments"]))
    except BaseException:  # noqa: BLE001 - the process ends here, and its log says why
        traceback.print_exc()
        return FAILED
    return 0


async def _to_the_end(function: Callable[..., Awaitable[None]], arguments: dict[str, Any]) -> None:
    await function(**arguments)


async def work(config: str, until_idle: bool = False) -> None:
    """Run a worker, as `orchestrator worker` does."""
    from orchestrator import load_settings
    from orchestrator.cli.run import work as run

    path = Path(config)
    os.chdir(path.parent)
    await run(load_settings(path, environ={}), until_idle=until_idle)


if __name__ == "__main__":
    main()
