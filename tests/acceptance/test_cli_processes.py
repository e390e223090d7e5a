"""The supervisor of several worker processes: on made-up processes that fail in every way, and on real ones."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import processes
from orchestrator.cli.processes import Supervisor
from orchestrator.sandbox import Sandbox, SandboxOptions
from tests.support.cli import SECRET, SETTINGS, environment, submission

FAKE = """
import os, signal, socket, sys
home, line = sys.argv[1], socket.socket(fileno=int(sys.argv[2]))
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
mode = open(home + "/mode").read()
def tell(word):
    open(f"{home}/{word}-{os.getpid()}", "x").close()
if mode == "refuse":
    tell("refused")
    sys.exit(2)
if mode == "silent":
    tell("silent")
    signal.pause()
tell("works")
line.send(b"r")
if mode == "idle":
    sys.exit(0)
if mode == "crash":
    sys.exit(1)
signal.sigwait({signal.SIGTERM})
tell("drains")
if mode == "deaf":
    while True:
        signal.pause()
if mode == "slow":
    signal.sigwait({signal.SIGTERM})
    sys.exit(143)
"""


class Stage:
    """Made-up workers in a directory: `mode` says how the next ones behave, their marks say what they did."""

    def __init__(self, home: Path, events: list[dict[str, Any]]) -> None:
        self.home = home
        self.events = events
        self.ending = False

    def mode(self, mode: str) -> None:
        (self.home / "mode").write_text(mode)

    def supervisor(self, count: int, **options: Any) -> Supervisor:
        command = [sys.executable, "-I", "-S", "-c", FAKE, str(self.home)]
        return Supervisor(command, count, **{"drain_s": 30, "retry_first_s": 0.001} | options)

    def signal(self, number: int) -> None:
        """Send a signal to the supervisor, which is this process."""
        self.ending |= number != signal.SIGHUP
        os.kill(os.getpid(), number)

    def marks(self, word: str) -> set[int]:
        return {int(path.name.rpartition("-")[2]) for path in self.home.glob(f"{word}-*")}

    def when(self, word: str, pid: int) -> int:
        return (self.home / f"{word}-{pid}").stat().st_mtime_ns

    def told(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["name"] == name]

    def alive(self) -> set[int]:
        return {pid for pid in self.marks("works") if _alive(pid)}

    async def until(self, condition: Callable[[], Any]) -> Any:
        async with asyncio.timeout(60):
            while not (found := condition()):
                await asyncio.sleep(0.002)
        return found

    @asynccontextmanager
    async def running(self, count: int, **options: Any) -> AsyncIterator[asyncio.Task[int]]:
        """Run a supervisor until the block ends, then drain it."""
        task = asyncio.create_task(self.supervisor(count, **options).run())
        try:
            await self.until(lambda: task.done() or len(self.told("process.started")) >= count)
            yield task
        finally:
            if not task.done() and not self.ending:
                self.signal(signal.SIGTERM)
            await task


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage(tmp_path, [])
    monkeypatch.setattr(processes, "emit", lambda name, **fields: made.events.append({"name": name} | fields))
    made.mode("work")
    return made


# --- the end ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_drains_every_process(stage: Stage, number: int) -> None:
    async with stage.running(3) as task:
        stage.signal(number)

    assert await task == 0
    assert len(stage.marks("works")) == 3
    assert stage.marks("drains") == stage.marks("works")
    assert stage.alive() == set()


async def test_a_second_signal_ends_them_at_once(stage: Stage) -> None:
    stage.mode("slow")
    async with stage.running(2) as task:
        stage.signal(signal.SIGTERM)
        await stage.until(lambda: len(stage.marks("drains")) == 2)
        stage.signal(signal.SIGINT)

    assert await task == 128 + signal.SIGINT
    assert stage.alive() == set()


async def test_a_process_that_does_not_drain_in_its_time_is_killed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GRACE_S", 0.1)
    stage.mode("deaf")
    async with stage.running(2, drain_s=0) as task:
        stage.signal(signal.SIGTERM)

    assert await task == 128 + signal.SIGKILL
    assert {event["pid"] for event in stage.told("process.killed")} == stage.marks("works")
    assert stage.alive() == set()


async def test_processes_that_have_nothing_left_to_do_are_not_started_again(stage: Stage) -> None:
    stage.mode("idle")
    async with stage.running(3, until_idle=True) as task:
        status = await task

    assert status == 0
    assert len(stage.marks("works")) == 3
    assert stage.told("process.ended") == []


# --- failures -----------------------------------------------------------------------------------


async def test_a_process_that_dies_is_started_again(stage: Stage) -> None:
    async with stage.running(2, until_idle=True) as task:
        first = stage.alive()
        os.kill(min(first), signal.SIGKILL)
        await stage.until(lambda: len(stage.told("process.started")) == 3)
        second = stage.alive()

    assert await task == 0
    assert first & second == {max(first)}
    assert len(second) == 2
    assert [(event["pid"], event["status"]) for event in stage.told("process.ended")] == [(min(first), 137)]


async def test_one_that_was_ended_by_hand_is_started_again_too(stage: Stage) -> None:
    async with stage.running(1) as task:
        (first,) = stage.alive()
        os.kill(first, signal.SIGTERM)
        await stage.until(lambda: len(stage.told("process.started")) == 2)

    assert await task == 0
    assert [event["status"] for event in stage.told("process.ended")] == [0]


async def test_the_pause_before_the_next_try_doubles_up_to_a_limit(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "RETRY_MAX_S", 0.004)
    stage.mode("crash")
    async with stage.running(1):
        await stage.until(lambda: len(stage.told("process.ended")) >= 5)

    assert [event["retry_in_s"] for event in stage.told("process.ended")][:5] == [0.001, 0.002, 0.004, 0.004, 0.004]


async def test_after_a_steady_life_the_pauses_begin_anew(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STEADY_S", 0.0)
    stage.mode("crash")
    async with stage.running(1):
        await stage.until(lambda: len(stage.told("process.ended")) >= 3)

    assert {event["retry_in_s"] for event in stage.told("process.ended")} == {0.001}


async def test_what_is_wrong_from_the_beginning_is_told_once_and_ends_everything(stage: Stage) -> None:
    stage.mode("refuse")
    async with stage.running(3) as task:
        status = await task

    assert status == 2
    assert len(stage.marks("refused")) == 1


async def test_a_process_that_never_begins_to_work_is_killed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "READY_S", 0.5)
    stage.mode("silent")
    async with stage.running(2) as task:
        status = await task

    assert status == 128 + signal.SIGKILL


async def test_a_program_that_cannot_be_started_is_unavailable(stage: Stage) -> None:
    status = await Supervisor(["/nowhere/at/all"], 2, drain_s=1).run()

    assert status == 3
    assert len(stage.told("process.failed")) == 1


async def test_settings_that_went_wrong_later_end_it_only_when_nobody_works_any_more(stage: Stage) -> None:
    async with stage.running(2) as task:
        one, other = stage.alive()
        stage.mode("refuse")
        os.kill(one, signal.SIGKILL)
        await stage.until(lambda: len(stage.marks("refused")) >= 2)
        assert (stage.alive(), task.done()) == ({other}, False)
        os.kill(other, signal.SIGKILL)
        status = await task

    assert status == 2


# --- a rolling restart --------------------------------------------------------------------------


async def test_a_rolling_restart_has_each_new_process_at_work_before_an_old_one_drains(stage: Stage) -> None:
    async with stage.running(3) as task:
        first = stage.alive()
        stage.signal(signal.SIGHUP)
        await stage.until(lambda: len(stage.told("process.replaced")) == 3 and not first & stage.alive())
        second = stage.alive()
        assert stage.marks("drains") == first

    assert await task == 0
    assert len(second) == 3
    replaced = [(event["pid"], event["former_pid"]) for event in stage.told("process.replaced")]
    assert {new for new, _ in replaced} == second
    for new, old in replaced:
        assert stage.when("works", new) <= stage.when("drains", old)
    for (_, old), (new, _) in pairwise(replaced):
        assert stage.when("drains", old) <= stage.when("works", new)  # one after another
    assert stage.told("process.ended") == []


async def test_a_rolling_restart_into_broken_settings_leaves_the_old_processes_at_work(stage: Stage) -> None:
    async with stage.running(2) as task:
        first = stage.alive()
        stage.mode("refuse")
        stage.signal(signal.SIGHUP)
        await stage.until(lambda: stage.told("process.refused"))
        stage.mode("work")

        assert stage.alive() == first
        assert stage.marks("drains") == set()
        stage.signal(signal.SIGHUP)  # mended, it goes through
        await stage.until(lambda: len(stage.told("process.replaced")) == 2)

    assert await task == 0
    assert [event["status"] for event in stage.told("process.refused")] == [2]


async def test_a_signal_in_the_middle_of_a_rolling_restart_drains_old_and_new(stage: Stage) -> None:
    stage.mode("slow")
    async with stage.running(2) as task:
        old = stage.alive()
        stage.mode("work")
        stage.signal(signal.SIGHUP)
        (draining,) = await stage.until(lambda: stage.marks("drains"))
        stage.signal(signal.SIGTERM)
        await stage.until(lambda: len(stage.marks("drains")) == 3)
        assert not task.done()  # the first one was asked once, and still drains
        for pid in old:
            os.kill(pid, signal.SIGTERM)

    assert await task == 143
    assert draining in old
    assert stage.alive() == set()


# --- real ones ----------------------------------------------------------------------------------


async def ran(home: Path, *argv: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orchestrator", *argv,
        env=environment(), cwd=home, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, err.decode()


async def test_two_real_processes_on_one_file_drive_everything_and_stop_when_idle(command: Any, home: Path) -> None:
    async with Sandbox(SandboxOptions(client_secret=SECRET, speed=20)) as sandbox:
        text = SETTINGS.format(url=sandbox.base_url)
        (home / "own.toml").write_text(
            text.replace("[worker]\n", '[worker]\nhandlers = "orchestrator.cli.demo_handlers:register"\n')
        )
        for number in range(6):
            kind = "phone" if number % 2 else "digital"
            fields = {"CallGuid": f"call-{number}"} if kind == "phone" else {"CustomerPhoneNumber": "+447700900877"}
            fields |= {"cardholderName": "Ada", "cardholderPostCode": "ZZ9", "cardholderAddress": "1 Wharf"}
            given = submission(kind, fields, reference=f"PAID-{number}")
            assert (await asyncio.to_thread(command, "submit", **given)).status == 0
        worker = ("worker", "--until-idle", "--processes", "2", "--concurrency", "2")
        status, log = await ran(home, "--config", "own.toml", *worker)

    listed = (await asyncio.to_thread(command, "list", "--json")).json
    assert status == 0
    assert "processes.crowded" in log
    assert log.count("process.started") == 2
    assert "process.ended" not in log
    assert {record["state"] for record in listed} == {"completed"}


async def test_a_setting_that_is_wrong_is_told_once_by_many_processes(home: Path) -> None:
    text = SETTINGS.format(url="http://127.0.0.1:9")
    (home / "orchestrator.toml").write_text(text.replace("[worker]\n", '[worker]\nhandlers = "nowhere.at:all"\n'))

    status, log = await ran(home, "worker", "--processes", "3")

    assert status == 2
    assert log.count("worker.handlers") == 1


@pytest.mark.parametrize("count", ["0", "257", "many"])
def test_a_number_of_processes_that_makes_no_sense_is_refused(command: Any, count: str) -> None:
    result = command("worker", processes=count)

    assert (result.status, result.out) == (2, "")
    assert "--processes" in result.err
