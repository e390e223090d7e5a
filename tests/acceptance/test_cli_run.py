"""The commands that stay, as real processes: sandbox and worker, their signals and their output."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from orchestrator import telemetry
from orchestrator.cli import run
from orchestrator.cli.run import register
from orchestrator.composition import build_store
from orchestrator.domain.errors import ConfigurationError
from orchestrator.domain.payment import State
from orchestrator.orchestrator import Orchestrator
from orchestrator.sandbox import Sandbox, SandboxOptions
from orchestrator.settings import load_settings
from tests.support.cli import SECRET, SETTINGS, Command, assert_discreet, environment, submission

HANDLERS = """
from pathlib import Path

async def register(orchestrator):
    orchestrator.on("handed_over", transfer)

def transfer(payment):
    with Path("calls.txt").open("a") as calls:
        calls.write(f"{payment.call_guid} {payment.number} {payment.link_id}\\n")
"""


@asynccontextmanager
async def started(*argv: str, **options: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command as a process; it is killed if the test leaves it running."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orchestrator", *argv, env=environment(),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, **options,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def line_with(process: asyncio.subprocess.Process, word: str) -> str:
    """Wait for a log line."""
    while line := (await process.stderr.readline()).decode():
        if word in line:
            return line
    raise AssertionError(f"the process ended without {word}")


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str]:
    out, err = await process.communicate()
    assert_discreet(out.decode(), err.decode())
    return process.returncode, err.decode()


def twin(**options: Any) -> Sandbox:
    return Sandbox(SandboxOptions(client_secret=SECRET, **options))


def point_to(home, url, more=""):
    (home / "orchestrator.toml").write_text(SETTINGS.format(url=url).replace("[worker]\n", f"[worker]\n{more}", 1))


async def submit(command, **changes):
    """Submit in a thread: a command brings its own event loop."""
    result = await asyncio.to_thread(command, "submit", "--json", **submission(**changes))
    assert result.status == 0, result.err
    return result.json["id"]


async def until(home, payment_id, holds):
    """Wait until the payment, read from the database, is as it should be."""
    store = build_store(load_settings(home / "orchestrator.toml"))
    await store.open()
    try:
        while not holds(payment := await store.get(payment_id)):
            await asyncio.sleep(0.02)
        return payment
    finally:
        await store.close()


async def test_a_worker_drives_everything_with_the_hosts_handlers_stops_when_idle_and_leaks_nothing(command, home):
    (home / "our_handlers.py").write_text(HANDLERS)
    async with twin() as sandbox:  # at the pace of life: paid before the hand-over, nothing would be transferred
        point_to(home, sandbox.base_url, 'handlers = "our_handlers:register"\n')
        phone = await submit(command)
        digital = await submit(command, channel="digital", reference="DECLINED-2")
        held = await submit(command, channel="digital", reference="LOSTANSWER-3")
        async with started("worker", "--until-idle", "--concurrency", "5", cwd=home) as worker:
            status, log = await ended(worker)

    records = {record["id"]: record for record in (await asyncio.to_thread(command, "list", "--json")).json}
    shown = await asyncio.to_thread(command, "show", phone, "--json")
    verified = await asyncio.to_thread(command, "audit", "verify")

    assert status == 0
    assert (records[phone]["state"], records[phone]["money"]) == ("completed", "taken")
    assert records[phone]["acknowledged_at"] is not None
    assert (records[digital]["state"], records[digital]["outcome"]) == ("failed", "declined")
    assert records[held]["hold"] == "session_unknown"
    assert (home / "calls.txt").read_text().split() == ["call-1", "+442079460101", records[phone]["link_id"]]
    assert [json.loads(line)["event"] for line in log.splitlines()][-1] == "worker.stopped"
    assert {entry["body"]["trigger"] for entry in shown.json["timeline"]} >= {"request", "hand_over", "complete"}
    assert verified.status == 0


async def test_a_host_without_handlers_acknowledges_by_command_and_sigterm_drains_the_worker(command, home):
    def waits(payment):
        return payment.state is State.AWAITING_PAYMENT and payment.claimed_by is not None

    async with twin() as sandbox:
        point_to(home, sandbox.base_url)
        digital = await submit(command, channel="digital", reference="NEVER-1")
        phone = await submit(command, reference="NEVER-2")
        async with started("worker", cwd=home) as worker:
            await until(home, digital, waits)
            offered = await until(home, phone, waits)
            told = await asyncio.to_thread(command, "acknowledge", phone, "--json", "--as", "agent 7")
            worker.send_signal(signal.SIGTERM)
            status, log = await ended(worker)
        given_back = [await until(home, payment_id, lambda _: True) for payment_id in (digital, phone)]

    entries = (await asyncio.to_thread(command, "show", phone, "--json")).json["timeline"]
    assert status == 0
    assert "worker.draining" in log
    assert [payment.claimed_by for payment in given_back] == [None, None]
    assert all(payment.due_at for payment in given_back)
    assert (told.json["number"], told.json["link_id"]) == (offered.number, offered.link_id)
    assert told.json["acknowledged_at"] is not None
    assert [entry["body"]["actor"] for entry in entries if entry["body"]["trigger"] == "acknowledge"] == ["agent 7"]


async def test_a_second_signal_ends_a_draining_worker_at_once(command, home):
    async with twin(speed=0.1) as sandbox:  # a late answer keeps the first drain busy for seconds
        point_to(home, sandbox.base_url)
        patient = {"claim_trust_s = 2.0": "claim_trust_s = 30", "claim_life_s = 3.0": "claim_life_s = 60"}
        for short, long in (patient | {"start_deadline_s = 1.8": "start_deadline_s = 20"}).items():
            text = (home / "orchestrator.toml").read_text()
            (home / "orchestrator.toml").write_text(text.replace(short, long))
        await submit(command, reference="SLOWANSWER-1")
        async with started("worker", cwd=home) as worker:
            while not sandbox.stats()["session_calls"]:
                await asyncio.sleep(0.01)
            worker.send_signal(signal.SIGTERM)
            await line_with(worker, "worker.draining")
            worker.send_signal(signal.SIGTERM)
            status, log = await ended(worker)

    assert status == 128 + signal.SIGTERM
    assert "worker.stopped" not in log


async def test_a_sandbox_says_where_it_listens_and_ends_with_sigterm(home):
    async with started("sandbox", "--port", "0", "--seed", "7", cwd=home) as sandbox:
        url = (await sandbox.stdout.readline()).decode()
        host, port = url.strip().removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /_sandbox/stats HTTP/1.0\r\n\r\n")
        answer = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        sandbox.send_signal(signal.SIGTERM)
        status, log = await ended(sandbox)

    assert answer.startswith("HTTP/1.0 200")
    assert status == 0
    assert json.loads(log.splitlines()[0])["seed"] == 7


def test_output_that_nobody_reads_to_the_end_is_no_finding(home):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator", "sandbox", "--scripts"],
            env=environment(), stdout=writer, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    finally:
        os.close(writer)

    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("concurrency", "word"), [("0", "worker.concurrency"), ("many", "--concurrency"), ("10001", "worker.concurrency")]
)
def test_a_concurrency_that_makes_no_sense_is_refused(command, concurrency, word):
    result = command("worker", concurrency=concurrency)

    assert (result.status, result.out) == (2, "")
    assert word in result.err


def test_a_worker_without_an_account_is_refused(command, home):
    (home / "orchestrator.toml").write_text("")

    result = command("worker", "--until-idle")

    assert result.status == 2
    assert "accounts" in result.err


@pytest.mark.parametrize(
    ("handlers", "word"),
    [("nowhere.at:all", "ModuleNotFoundError"), ("json:register", "AttributeError"), ("json:loads", "TypeError")],
)
async def test_handlers_that_cannot_be_registered_stop_the_start(home, handlers, word):
    orchestrator = Orchestrator(load_settings(home / "orchestrator.toml"))
    try:
        with pytest.raises(ConfigurationError, match=word) as refused:
            await register(handlers, orchestrator)
    finally:
        await orchestrator.store.close()

    assert refused.value.key == "worker.handlers"


def test_a_worker_serves_its_metrics_on_loopback_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    ports: list[int] = []
    monkeypatch.setattr(run, "emit", lambda name, **fields: ports.append(fields["port"]))

    with run.served(None, "127.0.0.1"):
        assert ports == []
    with run.served(0, "127.0.0.1"):
        telemetry.emit("evidence.lost", account="emea", payment_id="pay-1")
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[0]}/metrics", timeout=5) as answer:
            text = answer.read().decode()

    assert 'orchestrator_evidence_lost_total{account="emea"} 1.0' in text


def test_several_processes_do_not_share_one_metrics_port(command: Command) -> None:
    result = command("worker", "--processes", "2", "--metrics-port", "9100")

    assert result.status == 2
    assert "metrics-port" in result.err
