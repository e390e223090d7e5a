"""
Several worker processes as one command: kept alive, replaced one by one, drained together.

Owns the processes of `orchestrator worker --processes N` and the signals that
their supervisor gets. Opens no database and knows no payment: whatever becomes of
a process, its claims lapse and others go on. Next: `children`.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from orchestrator.cli.exits import UNAVAILABLE, USAGE
from orchestrator.telemetry import emit

READY_S = 60.0
"""A process that has not begun to work after so long is given up."""
GRACE_S = 10.0
"""What a drain may take beyond `worker.drain_s`: the database's last words."""
STEADY_S = 60.0
"""A process that has worked so long has shaken off its predecessors' failures."""
RETRY_FIRST_S, RETRY_MAX_S = 0.5, 30.0

_BY_SIGNAL = 128
_READY = b"r"


class Member:
    """
    One worker process, and the line that ties it to its supervisor.

    The process says on the line that it works; its end of the line closes when
    the supervisor is gone, however that came about, and then it drains.
    """

    def __init__(self, process: Process, line: socket.socket) -> None:
        self.process = process
        self.line = line
        self.worked = False
        self._asked = False

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self.process.returncode is not None

    async def ready(self) -> bool:
        """Wait until it works; `False` if it ended before, or took too long and was killed."""
        with contextlib.suppress(OSError):  # a time-out is one, too
            async with asyncio.timeout(READY_S):
                self.worked = await asyncio.get_running_loop().sock_recv(self.line, 1) == _READY
                if not self.worked:
                    await self.process.wait()  # the line closes a moment before the end
        if not self.worked:
            self.tell(signal.SIGKILL)
        return self.worked

    async def ended(self) -> int:
        """Wait for its end; give the exit status as a shell does, 128 and more for a signal."""
        status = await self.process.wait()
        return status if status >= 0 else _BY_SIGNAL - status

    def tell(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if not self.gone:
            # Not `send_signal`: that may take the exit status away from asyncio, which then says 255.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    async def drained(self, seconds: float) -> int:
        """Let it drain, or kill it after so long, whereupon its claims lapse; give its exit status."""
        if not self._asked:  # asked twice, it would exit at once
            self._asked = True
            self.tell(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self.ended(), seconds)
        except TimeoutError:
            emit("process.killed", pid=self.process.pid)
            self.tell(signal.SIGKILL)
            return await self.ended()


class Supervisor:
    """
    Keeps so many worker processes at work; `run` it once.

    Args:
        command: How to start one; the descriptor of its line is added as the last argument.
        count: How many.
        drain_s: How long one may take to drain before it is killed.
        until_idle: Whether a process that ends with 0 has done its work for good.
        retry_first_s: The first pause after a failure; each next one is twice as long, up to 30 s.
    """

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        *,
        drain_s: float,
        until_idle: bool = False,
        retry_first_s: float = RETRY_FIRST_S,
    ) -> None:
        self._command = command
        self._drain_s = drain_s
        self._until_idle = until_idle
        self._retry_first_s = retry_first_s
        self._places: list[Member | None] = [None] * count
        self._locks = [asyncio.Lock() for _ in range(count)]
        self._members: list[Member] = []
        self._proven = asyncio.Event()
        self._stopping = asyncio.Event()
        self._roll_asked = asyncio.Event()
        self._status = 0

    async def run(self) -> int:
        """
        Work until a signal, or until every process has nothing left to do.

        SIGTERM or SIGINT drains all, a second one ends them at once. SIGHUP
        replaces one process after another: the new one works before the old one
        drains, and if it can't, the old ones stay.

        Returns:
            The exit status: 0 if all ended well; that of a process which could not
            even begin; 128 and the signal's number after a second signal.

        Crash:
            The processes notice it by their lines and drain.
        """
        try:
            with self._signals():
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._roll_when_asked())
                    group.create_task(self._drain_when_stopped())
                    await self._keep_all()
                    self._stop()
        finally:
            for member in self._members:
                member.line.close()
        return self._status

    async def _keep_all(self) -> None:
        """Start one and, when it works, the rest: what is wrong with the settings is told once."""
        async with asyncio.TaskGroup() as keepers:
            keepers.create_task(self._keep(0))
            await self._proven.wait()
            for place in range(1, len(self._places)):
                keepers.create_task(self._keep(place))

    async def _keep(self, place: int) -> None:
        """Keep one place filled until the stop, or until its work is done."""
        failures = 0
        while not self._stopping.is_set():
            began = asyncio.get_running_loop().time()
            async with self._locks[place]:
                member = self._places[place]
                if member is None or member.gone:
                    member = self._places[place] = await self._begin()
            status = UNAVAILABLE if member is None else await member.ended()
            if self._stopping.is_set() or self._places[place] is not member:
                continue
            if status == 0 and self._until_idle:
                return
            if self._hopeless(member, status):
                self._stop(status)
                return
            failures = 0 if asyncio.get_running_loop().time() - began >= STEADY_S else failures
            pause = min(self._retry_first_s * 2.0 ** min(failures, 16), RETRY_MAX_S)
            failures += 1
            emit("process.ended", pid=_pid(member), status=status, retry_in_s=pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    def _hopeless(self, member: Member | None, status: int) -> bool:
        """Tell whether another one would only fail again, with nobody at work meanwhile."""
        if member is not None and member.worked:
            return False
        working = any(other.worked and not other.gone for other in self._members)
        return not self._proven.is_set() or (status == USAGE and not working)

    async def _begin(self) -> Member | None:
        """Start a process and wait until it works or has ended; `None` if none can be started."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *self._command, str(theirs.fileno()), pass_fds=(theirs.fileno(),), stdin=DEVNULL,
                    # Ctrl-C is for the supervisor: a process that got it twice would not drain.
                    start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            ours.close()
            emit("process.failed", error=error)
            return None
        member = Member(process, ours)
        self._forget_the_gone()
        self._members.append(member)
        if self._stopping.is_set():
            await member.drained(self._drain_s + GRACE_S)
        elif await member.ready():
            emit("process.started", pid=process.pid)
            self._proven.set()
        return member

    def _forget_the_gone(self) -> None:
        for member in [member for member in self._members if member.gone]:
            member.line.close()
            self._members.remove(member)

    async def _roll_when_asked(self) -> None:
        while not self._stopping.is_set():
            await self._roll_asked.wait()
            self._roll_asked.clear()
            for place in range(len(self._places)):
                async with self._locks[place]:
                    if self._stopping.is_set() or not await self._replaced(place):
                        break

    async def _replaced(self, place: int) -> bool:
        """Put a new process into a place, then drain the old one; `False` if the new one can't work."""
        old = self._places[place]
        if old is None or old.gone:
            return True  # whoever keeps the place starts a new one anyway
        new = await self._begin()
        if new is None or not new.worked:
            emit("process.refused", pid=_pid(new), status=None if new is None else await new.ended())
            return False
        self._places[place] = new
        emit("process.replaced", pid=new.process.pid, former_pid=old.process.pid)
        await old.drained(self._drain_s + GRACE_S)
        return True

    async def _drain_when_stopped(self) -> None:
        await self._stopping.wait()
        members = [member for member in self._members if not member.gone]
        drains = (member.drained(self._drain_s + GRACE_S) for member in members)
        for member, status in zip(members, await asyncio.gather(*drains), strict=True):
            if member.worked:
                self._status = self._status or status

    def _stop(self, status: int = 0) -> None:
        self._status = self._status or status
        for event in (self._stopping, self._proven, self._roll_asked):
            event.set()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()

        def end(number: int) -> None:
            if self._stopping.is_set():
                self._status = _BY_SIGNAL + number
                for member in self._members:
                    member.tell(signal.SIGTERM)
            self._stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end, number)
        loop.add_signal_handler(signal.SIGHUP, self._roll_asked.set)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)


def _pid(member: Member | None) -> int | None:
    return None if member is None else member.process.pid


def command_of(*arguments: str) -> list[str]:
    """Give how to start this program anew with these arguments, whatever it was started as."""
    return [sys.executable, "-m", "orchestrator", *arguments]


@contextlib.asynccontextmanager
async def tied_to(descriptor: int | None, stop: Callable[[], None]) -> AsyncIterator[Callable[[], None]]:
    """
    Tie a worker process to its supervisor, if it has one.

    Args:
        descriptor: The line, inherited; `None` without a supervisor.
        stop: Called when the supervisor is gone.

    Yields:
        What to call when the worker works.
    """
    if descriptor is None:
        yield lambda: None
        return
    with socket.socket(fileno=descriptor) as line:
        line.setblocking(False)
        os.set_inheritable(descriptor, False)

        async def listen() -> None:
            with contextlib.suppress(OSError):
                await asyncio.get_running_loop().sock_recv(line, 1)
            stop()

        def ready() -> None:
            with contextlib.suppress(OSError):  # the supervisor is gone: `listen` learns it
                line.send(_READY)

        listening = asyncio.create_task(listen())
        try:
            yield ready
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
