"""Commands that look: list by everything, explain, watch."""

import asyncio
import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from rich.console import Console

from orchestrator.cli.queries import when
from orchestrator.cli.watch import MOST, Lines, idle, open_table
from orchestrator.domain.payment import Channel, HoldReason
from tests.support.cli import assert_discreet, environment, submission
from tests.unit.domain.story import born, completed, held, waiting


def submitted(command, **changes):
    result = command("submit", "--json", **submission(**changes))
    assert result.status == 0, result.err
    return result.json


def refused(result, *words):
    assert (result.status, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert line.startswith("error: ")
    assert all(word in line for word in words), line


def change(home, statement):
    """Change a payment's timing behind our back."""
    with closing(sqlite3.connect(home / "orchestrator.db")) as connection:
        connection.execute(statement)
        connection.commit()


# --- list ---------------------------------------------------------------------------------------


def test_a_list_can_be_of_a_call_and_of_a_time(command):
    first = submitted(command)
    second = submitted(command, channel="digital", reference="B-1")

    def ids(*argv):
        return [record["id"] for record in command("list", "--json", *argv).json]

    assert ids("--call-guid", "call-1") == [first["id"]]
    assert ids("--call-guid", "call-2") == []
    assert ids("--from", second["created_at"]) == [second["id"]]
    assert ids("--to", second["created_at"]) == [first["id"]]
    assert ids("--from", first["created_at"], "--to", "9999-12-31") == [first["id"], second["id"]]
    assert ids("--from", "2999-01-01") == []


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-24", datetime(2026, 11, 24, tzinfo=UTC)),
        ("2026-11-24T15:46:40", datetime(2026, 11, 24, 15, 46, 40, tzinfo=UTC)),
        ("2026-11-24T15:46:40.123456Z", datetime(2026, 11, 24, 15, 46, 40, 123456, tzinfo=UTC)),
        ("2026-11-24T15:46:40+01:00", datetime(2026, 11, 24, 14, 46, 40, tzinfo=UTC)),
        ("20261124T154640Z", datetime(2026, 11, 24, 15, 46, 40, tzinfo=UTC)),
        (None, None),
    ],
)
def test_an_instant_is_iso_8601_and_utc_unless_it_says_otherwise(text, at):
    assert when("--from", text) == at


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("list", "--from", "yesterday"), ("--from", "ISO 8601")),
        (("list", "--to", "2026-13-01"), ("--to", "ISO 8601")),
        (("list", "--from", "0001-01-01T00:00+14:00"), ("--from", "ISO 8601")),
        (("list", "--from", "2026-01-02", "--to", "2026-01-02"), ("--to", "after --from")),
        (("list", "--call-guid", "a b"), ("CallGuid", "GUID")),
        (("list", "--reference", "a b"), ("reference", "characters")),
        (("list", "--account", "\udcff"), ("--account", "surrogate")),
        (("list", "--after", "a\x00"), ("--after", "control")),
        (("show", "\udcff"), ("ID", "surrogate")),
        (("explain", "\udcff"), ("ID", "surrogate")),
        (("explain", "pay-none"), ("no payment",)),
        (("watch", "--interval", "0"), ("--interval", "0.05 to 3600")),
        (("watch", "--interval", "nan"), ("--interval", "0.05 to 3600")),
        (("watch", "--interval", "often"), ("--interval",)),
        (("watch", "--account", "a\x07"), ("--account", "control")),
    ],
    ids=lambda value: ascii(value) if isinstance(value, tuple) else None,
)
def test_a_question_that_makes_no_sense_is_one_line(command, argv, words):
    refused(command(*argv), *words)


# --- explain ------------------------------------------------------------------------------------


def test_a_payment_is_explained_in_sentences_and_as_json(command):
    record = submitted(command, channel="digital")

    shown = command("explain", record["id"])
    told = command("explain", record["id"], "--json").json

    assert shown.status == 0
    for words in ("authorize: a worker carries it out, at 20", "access token", "It fails, since no session"):
        assert words in shown.out
    assert (told["id"], told["state"], told["next"], told["operation"]) == (
        record["id"], "collecting", "send", "authorize",
    )  # fmt: skip
    assert (told["hold"], told["advice"], told["driven_by"]) == (None, None, None)
    assert told["due_at"] > record["created_at"]
    assert told["deadline_at"] == record["deadline_at"]


def test_missing_fields_are_what_it_waits_for_until_it_is_abandoned(command):
    record = submitted(command, fields={})

    told = command("explain", record["id"], "--json").json

    assert (told["next"], told["why"]) == ("lapse", "abandoned")
    assert told["due_at"] == told["deadline_at"] == record["deadline_at"]


def test_a_paused_account_is_the_reason_and_person_and_reason_are_told(command):
    record = submitted(command, channel="digital")
    command("accounts", "pause", "emea", "--reason", "incident 7", "--as", "Jo")

    shown = command("explain", record["id"]).out
    told = command("explain", record["id"], "--json").json

    assert "Jo has paused emea since" in shown
    assert "incident 7" in shown
    assert told["waits_for_account"] is True
    assert told["effects"] == "Nothing is sent while the account is paused."


def test_who_drives_a_payment_is_told_because_looks_are_timed_in_its_memory(command, home):
    record = submitted(command, channel="digital")
    change(home, "update payment set claimed_by = 'worker-1', claim_no = 1")

    assert "worker-1 drives it" in command("explain", record["id"]).out
    assert command("explain", record["id"], "--json").json["driven_by"] == "worker-1"


def test_a_hold_is_explained_with_what_a_person_can_do(command, monkeypatch):
    async def there(_store, _id):
        return held(waiting(), HoldReason.REVIEW)

    monkeypatch.setattr("orchestrator.cli.queries.found", there)

    shown = command("explain", "pay-a").out
    told = command("explain", "pay-a", "--json").json

    assert "The gateway decides later." in shown
    assert "Decide it in the gateway's console." in shown
    assert told["advice"] == {"why": "The gateway decides later.", "person": "Decide it in the gateway's console."}
    assert told["fits"] == {"outcome": "what was decided", "retry": "look at its session again now"}
    assert "resolve --outcome" in shown
    assert "resolve --session" not in shown


def test_a_payment_of_an_account_that_is_not_configured_here_is_not_guessed_at(command, home):
    record = submitted(command)
    settings = home / "orchestrator.toml"
    settings.write_text(settings.read_text().replace("accounts.emea", "accounts.uk"))

    refused(command("explain", record["id"]), "the payment's account", "uk")


# --- watch --------------------------------------------------------------------------------------


def test_a_watch_until_idle_prints_what_waits_for_somebody_and_ends(command):
    waits = submitted(command, fields={})
    command("cancel", submitted(command, reference="GONE-1")["id"])

    shown = command("watch", "--until-idle", "--account", "emea")
    told = command("watch", "--until-idle", "--json")
    other = command("watch", "--until-idle", "--account", "apac")

    (line,) = shown.out.splitlines()
    assert line.split()[1:] == [waits["id"], "emea", "phone", "PAID-1", "collecting"]
    assert [json.loads(each)["id"] for each in told.out.splitlines()] == [waits["id"]]
    assert (shown.status, told.status, other.status, other.out) == (0, 0, 0, "")


async def test_each_change_is_one_line_until_ctrl_c_which_is_no_failure(command, home):
    record = await asyncio.to_thread(submitted, command, channel="digital")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-X", "faulthandler", "-m", "orchestrator", "watch", "--interval", "0.05", "--json",
        env=environment(), cwd=home, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            first = json.loads(await process.stdout.readline())
            await asyncio.to_thread(command, "cancel", record["id"])
            second = json.loads(await process.stdout.readline())
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
    except TimeoutError:
        process.send_signal(signal.SIGABRT)  # says where it stands
        pytest.fail(str(await process.communicate()))
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()

    assert first == record
    assert (second["id"], second["state"], second["outcome"]) == (record["id"], "failed", "cancelled_by_host")
    assert (process.returncode, out, err) == (0, b"", b"")


def test_on_a_terminal_it_is_a_table_that_is_painted_over(command, home):
    submitted(command, fields={})
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator", "watch", "--until-idle"],
            env=environment(TERM="xterm", COLUMNS="120", LINES="30"), cwd=home, stdin=theirs, stdout=theirs,
            stderr=subprocess.PIPE, check=False, timeout=60,
        )  # fmt: skip
        painted = os.read(ours, 65536).decode()
    finally:
        os.close(theirs)
        os.close(ours)

    assert (done.returncode, done.stderr) == (0, b"")
    assert_discreet(painted)
    for word in ("reference", "PAID-1", "collecting", "1 of 1", "\x1b["):
        assert word in painted


def test_only_what_changed_is_printed_again(capsys):
    lines = Lines(Console(file=sys.stdout, width=200), as_json=False)
    waits, overdue = waiting(), replace(waiting(), overdue=True)

    lines.show([waits])
    lines.show([replace(waits, claim_no=7, due_at=None)])
    lines.show([overdue])
    lines.show([held(overdue, HoldReason.REVIEW)])
    lines.show([])
    lines.show([waits])

    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[5:] for line in printed] == [
        ["awaiting_payment"], ["awaiting_payment", "overdue"], ["awaiting_payment", "held:review", "overdue"],
        ["awaiting_payment"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("payments", "quiet"),
    [
        ([], True),
        ([born()], False),
        ([waiting()], False),
        ([born(missing=["x"]), completed(), held(waiting(), HoldReason.REVIEW)], True),
        ([held(waiting(), HoldReason.REVIEW)] * MOST, False),
    ],
    ids=["nothing", "born", "waiting", "waits for people", "more than is seen"],
)
def test_idle_is_when_only_people_can_move_anything(payments, quiet):
    assert idle(payments) is quiet


def test_the_table_shows_what_there_is_room_for_and_says_how_many_there_are(capsys):
    out = Console(file=sys.stdout, width=160)
    shown = [waiting(), held(waiting(Channel.DIGITAL), HoldReason.REVIEW), replace(waiting(), overdue=True)]

    out.print(open_table(shown, rows=2))
    out.print(open_table(shown * MOST, rows=1))
    out.print(open_table([], rows=0))

    text = capsys.readouterr().out
    assert "held: review" in text
    assert "2 of 3" in text
    assert f"1 of {MOST} and more" in text
    assert "nothing is open" in text
    assert "overdue" not in text
