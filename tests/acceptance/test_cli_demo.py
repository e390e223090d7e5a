"""The demo: as a process from end to end, and its judgement on made-up endings."""

import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from rich.console import Console

from orchestrator.audit.verify import Finding, Report
from orchestrator.cli.children import Children, clean_environment
from orchestrator.cli.demo import write_settings
from orchestrator.cli.demo_check import Told, promises, taken_over
from orchestrator.cli.demo_handlers import register, transfer_call
from orchestrator.cli.demo_script import PARTS, Act, as_expected, cast
from orchestrator.cli.demo_view import View
from orchestrator.domain.entry import Context, extend
from orchestrator.domain.errors import Unavailable
from orchestrator.domain.machine import Operation
from orchestrator.domain.outcome import Outcome
from orchestrator.domain.payment import Channel, HoldReason, Payment, State
from orchestrator.domain.verdict import Exchange, Verdict, VerdictKind, crashed
from orchestrator.sandbox import SCRIPTS
from orchestrator.settings import load_settings
from tests.support.cli import environment, submission

PAYER = ("Demo Payer", "EC1A 1BB", "Demo Street", "+4477009", "sandbox-secret")
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def start_demo(tmp_path, *argv, module=("orchestrator", "demo"), **more):
    """Start a demo without a terminal, in an empty home."""
    empty = tmp_path / "home"
    empty.mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", *module, *argv],
        env=environment(**{"HOME": str(empty), "TMPDIR": str(tmp_path)} | more), cwd=empty,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def assert_nothing_is_left_running(out):
    for pid in re.findall(r"worker (\d+) started", out):
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)
    url = urlsplit(re.search(r"http://\S+", out)[0])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((url.hostname, url.port), timeout=5)


# --- as a process -------------------------------------------------------------------------------


def test_the_demo_keeps_every_promise_without_a_terminal_and_in_an_empty_home(tmp_path, command):
    out, err = start_demo(tmp_path, "--payments", "14", "--seed", "3").communicate()

    assert "BROKEN" not in out
    assert (out.count("kept  "), err) == (6, "")
    killed, second = re.findall(r"worker (\d+) started", out)
    assert f"worker {killed} killed with SIGKILL" in out
    assert "the trail is clean" in out
    assert "complete -> completed" in out
    assert_nothing_is_left_running(out)

    config = re.search(r"--config (\S+) list", out)[1]
    listed = command("--config", config, "list", "--json").json
    assert len(listed) == 14
    assert all(record["state"] in ("completed", "failed") or record["hold"] for record in listed)
    assert command("--config", config, "audit", "verify").status == 0

    log = (Path(config).parent / "worker-2.log").read_text()
    assert second != killed
    assert "claim.rescued" in log
    written = {path.name: path.read_bytes() for path in Path(config).parent.iterdir() if path.name != "client-secret"}
    for word in PAYER:
        assert word not in out
        assert [name for name, content in written.items() if word.encode() in content] == []


def test_the_demo_on_a_postgresql_of_its_own_keeps_every_promise_and_leaves_no_server(tmp_path):
    root = Path(__file__).parents[2]
    own = Path(tempfile.mkdtemp(prefix="demo-"))  # short and open: the server's socket is in it, its user is another
    own.chmod(0o755)
    demo = start_demo(
        tmp_path, "--payments", "10", module=("tests.support.postgresql_demo",), PYTHONPATH=str(root), TMPDIR=str(own)
    )
    out, err = demo.communicate()
    server = Path(re.search(r"host=(\S+)", out)[1])
    shutil.rmtree(own)

    assert (demo.returncode, err) == (0, "")
    assert "BROKEN" not in out
    assert out.count("kept  ") == 6
    assert re.search(r"database postgresql\S+@/postgres", out)
    assert not server.exists()
    assert_nothing_is_left_running(out)


def test_a_demo_that_is_stopped_takes_its_processes_with_it(tmp_path):
    demo = start_demo(tmp_path)
    out = ""
    while " started" not in out:
        line = demo.stdout.readline()
        assert line, demo.stderr.read()
        out += line

    demo.send_signal(signal.SIGTERM)
    rest, _ = demo.communicate()

    assert demo.returncode == 128 + signal.SIGTERM
    assert_nothing_is_left_running(out + rest)


def test_a_database_with_somebody_elses_live_payments_is_refused_and_left_alone(tmp_path, command, home, monkeypatch):
    command("submit", **submission())
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", f"sqlite:///{home / 'orchestrator.db'}")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    refused = command("demo")

    assert refused.status == 2
    assert "database_url" in refused.err
    assert "of its own" in refused.err
    assert len(command("list", "--json").json) == 1
    assert_nothing_is_left_running(refused.out)


@pytest.mark.parametrize("payments", ["9", "201", "many"])
def test_a_number_of_payments_that_makes_no_demo_is_refused(command, payments):
    result = command("demo", payments=payments)

    assert (result.status, result.out) == (2, "")
    assert "--payments" in result.err


# --- the cast -----------------------------------------------------------------------------------


def test_the_cast_covers_both_channels_and_every_kind_of_end_that_the_sandbox_has():
    prefixes = {script.prefix for script in SCRIPTS}

    assert {part.prefix for part in PARTS} <= prefixes
    assert {part.channel for part in PARTS[:10]} == set(Channel)
    assert {part.outcome for part in PARTS} >= {
        Outcome.PAID, Outcome.PARTIALLY_PAID, Outcome.DECLINED, Outcome.REVIEW, Outcome.INPUT_TIMEOUT, Outcome.EXPIRED,
        Outcome.CANCELLED_BY_PAYER, Outcome.CANCELLED_BY_HOST, Outcome.HUNG_UP, Outcome.ABANDONED,
        Outcome.PROVIDER_ERROR, Outcome.INVALID_REQUEST, Outcome.INDETERMINATE,
    }  # fmt: skip
    assert {part.hold for part in PARTS} >= {HoldReason.SESSION_UNKNOWN, HoldReason.ANSWER_MISMATCH, HoldReason.REVIEW}
    assert {part.act for part in PARTS} == set(Act)


def test_references_and_call_ids_of_one_run_are_all_different_and_amounts_come_from_the_seed():
    members = list(cast(60, run="AB12", seed=1))

    assert len({member.reference for member in members}) == 60
    assert len({member.fields.get("CallGuid") for member in members} - {None}) == sum(
        member.part.channel is Channel.PHONE for member in members
    )
    assert [member.amount for member in members] == [member.amount for member in cast(60, run="CD34", seed=1)]
    assert [member.amount for member in members] != [member.amount for member in cast(60, run="AB12", seed=2)]


def a_payment(member, **facts):
    part = member.part
    ended = {"state": part.state, "outcome": part.outcome, "hold": part.hold}
    return Payment(
        id=f"pay-{member.reference.lower()}", account="demo", channel=part.channel, reference=member.reference,
        round=1, amount=member.amount, created_at=NOW, machine_version=1, content_digest="", **(ended | facts),
    )  # fmt: skip


DOUBTS = [
    # channel, what the part expects, how it is instead, whether right only with a doubted start in the trail
    (Channel.DIGITAL, (State.COMPLETED, Outcome.PAID), {"hold": HoldReason.SESSION_UNKNOWN}, True),
    (Channel.DIGITAL, (State.FAILED, Outcome.EXPIRED), {"hold": HoldReason.SESSION_UNKNOWN}, True),
    (Channel.PHONE, (State.FAILED, Outcome.INPUT_TIMEOUT), {"hold": HoldReason.UNSEEN_SESSION}, True),
    (Channel.PHONE, (State.COMPLETED, Outcome.PAID), {"hold": HoldReason.SESSION_UNKNOWN}, False),
    (Channel.DIGITAL, (State.COMPLETED, Outcome.PAID), {"state": State.FAILED, "outcome": Outcome.DECLINED}, False),
    (Channel.DIGITAL, (State.COMPLETED, Outcome.PAID), {"hold": HoldReason.INDETERMINATE}, False),
    (Channel.PHONE, (State.FAILED, Outcome.DECLINED), {"state": State.COMPLETED, "outcome": Outcome.PAID}, False),
    (Channel.PHONE, (State.FAILED, Outcome.DECLINED), {"hold": HoldReason.UNSEEN_SESSION}, False),
]


@pytest.mark.parametrize(("channel", "expected", "found", "excused"), DOUBTS)
def test_another_end_is_right_only_where_the_trail_shows_that_a_start_was_in_doubt(channel, expected, found, excused):
    member = next(cast(1, run="X", seed=1))
    part = replace(member.part, channel=channel, state=expected[0], outcome=expected[1])
    payment = replace(a_payment(replace(member, part=part)), **found)

    assert as_expected(part, payment, doubted=True) is excused
    assert not as_expected(part, payment, doubted=False)
    assert as_expected(part, a_payment(replace(member, part=part)), doubted=False)


# --- the judgement ------------------------------------------------------------------------------


def a_told():
    """A perfect ending of ten payments, all begun by worker 11 and ended by worker 22."""
    members = list(cast(10, run="X", seed=1))
    payments = {member.reference: a_payment(member) for member in members}
    begun = {name: replace(payment, state=State.AWAITING_PAYMENT) for name, payment in payments.items()}
    timelines = {name: [an_entry(begun[name], 11), an_entry(payments[name], 22)] for name in payments}
    made = {member.reference: 1 for member in members}
    digital = {member.reference: 1 for member in members if member.part.channel is Channel.DIGITAL}
    stats = {"sessions_per_reference": made, "digital_sessions_per_reference": digital}
    return Told(members, payments, timelines, stats, Report((), {"entries": 20}), (11, -9), (22, 0))


def an_entry(payment, pid, trigger="observe", **details):
    return extend(None, payment, trigger, Context(NOW, f"worker-{pid}", f"host:{pid}"), **details)


def broken(told):
    return [(promise.text.split()[-1], *promise.broken) for promise in promises(told) if not promise.kept]


def test_a_perfect_ending_keeps_every_promise():
    told = a_told()

    assert broken(told) == []
    assert len(taken_over(told)) == sum(payment.ended for payment in told.payments.values())


def _lost(told):
    return replace(told, payments={name: kept for name, kept in told.payments.items() if not name.startswith("SLOW")})


def _changed(told, reference, **facts):
    return replace(told, payments=told.payments | {reference: replace(told.payments[reference], **facts)})


def _twice(told, reference):
    key = "digital_sessions_per_reference" if reference in told.stats["digital_sessions_per_reference"] else ""
    stats = {name: counts | ({reference: 2} if name in (key, "sessions_per_reference") else {})
             for name, counts in told.stats.items()}  # fmt: skip
    return replace(told, stats=stats)


BROKEN = {
    "a payment is gone": (_lost, "is not there"),
    "a payment ended otherwise": (
        lambda told: _changed(told, "PAID-X-003", state=State.FAILED, outcome=Outcome.DECLINED),
        "PAID-X-003: is failed/declined, must be completed/paid",
    ),
    "a payment has not ended": (
        lambda told: _changed(told, "PAID-X-004", state=State.AWAITING_PAYMENT, outcome=None),
        "is awaiting_payment, must be completed/paid",
    ),
    "nobody was killed": (lambda told: replace(told, killed=None), "no worker was killed"),
    "it died by itself": (lambda told: replace(told, killed=(11, 1)), "it ended with 1"),
    "nobody took over": (lambda told: replace(told, second=(33, 0)), "none was"),
    "the second did not stop": (lambda told: replace(told, second=(22, None)), "it ended with None"),
    "the second was never there": (lambda told: replace(told, second=None), "there was none"),
    "two digital sessions": (lambda told: _twice(told, "PAID-X-004"), "PAID-X-004: 2 digital sessions"),
    "two phone sessions": (lambda told: _twice(told, "PAID-X-003"), "2 phone sessions, 0 of them superseded"),
    "a finding": (
        lambda told: replace(told, report=Report((Finding("hash", "pay-1", 3, "not the body's"),), {"entries": 20})),
        "pay-1 3: not the body's",
    ),
}


@pytest.mark.parametrize("row", BROKEN)
def test_a_broken_promise_is_found_and_says_what_was_found_instead(row):
    spoil, words = BROKEN[row]

    found = broken(spoil(a_told()))

    assert found
    assert any(words in line for promise in found for line in promise)


def test_a_second_phone_session_is_right_where_an_entry_says_that_the_first_was_superseded():
    told = _twice(a_told(), "PAID-X-003")
    verdict = {"operation": Operation.START_SESSION, "attempt": 1, "verdict": crashed()}
    superseded = an_entry(told.payments["PAID-X-003"], 22, "supersede", **verdict)

    entries = [*told.timelines["PAID-X-003"], superseded]

    assert broken(replace(told, timelines=told.timelines | {"PAID-X-003": entries})) == []


def test_a_doubted_start_in_the_trail_excuses_a_held_digital_payment():
    told = _changed(a_told(), "PAID-X-004", state=State.AUTHORIZED, outcome=None, hold=HoldReason.SESSION_UNKNOWN)
    assert broken(told)
    verdict = Verdict(VerdictKind.UNKNOWN, reason="worker_lost", exchange=Exchange())
    doubt = an_entry(told.payments["PAID-X-004"], 22, "hold", operation=Operation.START_SESSION, verdict=verdict)

    excused = replace(told, timelines=told.timelines | {"PAID-X-004": [doubt]})

    assert broken(excused) == []
    assert "1 held because a start was in doubt" in promises(excused)[0].text


# --- its surroundings ---------------------------------------------------------------------------


def test_settings_of_the_machine_do_not_make_the_demo_another_one(tmp_path):
    environ = {
        "PATH": "/bin", "ORCHESTRATOR_ACCOUNTS__DEMO__DIAL_PREFIXES": "+1", "ORCHESTRATOR_CONFIG": "/etc/other.toml",
        "ORCHESTRATOR_DATABASE_URL": "env:ORCHESTRATOR_DSN", "ORCHESTRATOR_DSN": f"sqlite:///{tmp_path / 'own.db'}",
    }  # fmt: skip

    kept = clean_environment(environ)
    settings = load_settings(write_settings(tmp_path, "http://127.0.0.1:9"), kept)

    assert sorted(kept) == ["ORCHESTRATOR_DATABASE_URL", "ORCHESTRATOR_DSN", "PATH"]
    assert settings.database_url.endswith("own.db")
    assert settings.accounts["demo"].dial_prefixes == ("+44",)
    assert (tmp_path / "client-secret").stat().st_mode & 0o077 == 0
    assert (tmp_path / "sealing-key").stat().st_mode & 0o077 == 0


async def test_a_sandbox_that_does_not_start_is_told_with_the_place_of_its_log(tmp_path):
    (tmp_path / "orchestrator").mkdir()
    async with Children(tmp_path, environment(PYTHONPATH="/nowhere", PYTHONHOME="/nowhere")) as children:
        with pytest.raises(Unavailable, match=r"sandbox\.log"):
            await children.sandbox(0)

    assert (tmp_path / "sandbox.log").read_text()


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_the_screen_is_a_table_that_fits_a_terminal_and_lines_elsewhere(terminal):
    told, stream = a_told(), io.StringIO()
    out = Console(file=stream, force_terminal=terminal, width=80, height=14, color_system=None, legacy_windows=False)
    payments = list(told.payments.values())

    with View(out, lambda: 1.25) as view:
        view.show(payments)
        view.show(payments)
        view.say("a line that stays")
        view.promises(promises(replace(told, killed=None)))

    text = stream.getvalue()
    assert "a line that stays" in text
    assert "BROKEN  a worker was killed" in text
    assert ("2 more" in text) is terminal
    assert ("1.2 s" in text) or ("1.3 s" in text)
    if not terminal:
        assert text.count("SLOW-X-001") == 1  # unchanged, so not told again


async def test_the_demos_handler_takes_a_hand_over_and_refuses_one_with_nothing_to_dial():
    member = next(cast(1, run="X", seed=1))
    registered = {}

    class Host:
        def on(self, event, handler):
            registered[event] = handler

    register(Host())

    assert registered == {"handed_over": transfer_call}
    assert await transfer_call(a_payment(member, number="+442079460101", link_id="1234")) is None
    with pytest.raises(RuntimeError, match="nothing to dial"):
        await transfer_call(a_payment(member))
