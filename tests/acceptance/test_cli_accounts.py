"""Commands on accounts and the backup, run as a shell would run them; the provider is a sandbox."""

import asyncio
import json
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest
from aiohttp import web

from orchestrator.cli import account_check
from orchestrator.cli.account_check import Standing
from orchestrator.interactions import bundled
from orchestrator.sandbox import Sandbox, SandboxOptions
from tests.support.cli import SECRET, SETTINGS, submission


def point_to(home, url, **changed):
    text = SETTINGS.format(url=url)
    for old, new in changed.values():
        assert old in text
        text = text.replace(old, new)
    (home / "orchestrator.toml").write_text(text)


def own_definition(home, name, text):
    (home / "own.xml").write_text(text)
    with (home / "orchestrator.toml").open("a") as settings:
        settings.write(f'[accounts.emea.definitions]\n{name} = "own.xml"\n')


async def check(command, *argv):
    """Run the check in a thread: a command brings its own event loop."""
    result = await asyncio.to_thread(command, "accounts", "check", "--json", *argv)
    return result, {(each["check"], each["standing"]): each for each in json.loads(result.out or "[]")}


def entries(home):
    with closing(sqlite3.connect(home / "orchestrator.db")) as connection:
        rows = connection.execute("select body from audit_entry where chain_id like 'admin-%' order by at, seq")
        return [json.loads(body) for (body,) in rows]


def refused(result, *words):
    assert (result.status, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert all(word in line for word in words), line


# --- check --------------------------------------------------------------------------------------


async def test_a_sound_account_is_checked_without_any_session_and_without_a_database(command, home):
    for file in home.glob("*.db*"):
        file.unlink()
    async with Sandbox(SandboxOptions(client_secret=SECRET)) as sandbox:
        point_to(home, sandbox.base_url)
        result, found = await check(command, "emea")
        stats = sandbox.stats()

    assert result.status == 0
    assert {standing for _, standing in found} == {"ok"}
    assert {name for name, _ in found} == {"secrets", "definitions", "dial prefixes", "token", "clock"}
    assert found["secrets", "ok"]["what"] == "resolved: env:CANARY_SECRET"
    assert (stats["token_calls"], stats["session_calls"], stats["status_calls"]) == (1, 0, 0)
    assert not list(home.glob("*.db*"))


async def test_a_refused_token_is_a_finding_with_the_providers_word_and_the_settings_to_mend(command, home):
    async with Sandbox(SandboxOptions(client_secret="another")) as sandbox:
        point_to(home, sandbox.base_url)
        result, found = await check(command)
        shown = await asyncio.to_thread(command, "accounts", "check")

    assert (result.status, shown.status) == (1, 1)
    assert "accounts.emea.client_id" in found["token", "finding"]["fix"]
    assert ("clock", "skipped") in found
    assert "emea  token           finding      refused, http_4" in shown.out


def test_a_provider_that_is_not_reached_is_no_finding_but_unavailable(command):
    result = command("accounts", "check")

    assert (result.status, result.err) == (3, "")
    assert "connect_refused" in result.out
    assert "accounts.emea.base_url" in result.out


async def test_findings_outweigh_an_unreachable_provider_because_they_need_mending(command, home):
    point_to(home, "http://127.0.0.1:9", prefixes=('dial_prefixes = ["+44"]\n', ""))

    result, found = await check(command)
    digital, alone = await check(command, "--channel", "digital")

    assert (result.status, digital.status) == (1, 3)
    assert "accounts.emea.dial_prefixes" in found["dial prefixes", "finding"]["fix"]
    assert not [name for name, _ in alone if name == "dial prefixes"]


BAD_DEFINITIONS = {
    "not XML": ("session_status", "<ApiInteraction", ("definitions", "finding")),
    "payment data in the token call": (
        "authorize",
        bundled("authorize").replace("grant_type=", "name=$(Name)&grant_type=", 1),
        ("settings", "finding"),
    ),
}


@pytest.mark.parametrize("case", BAD_DEFINITIONS)
async def test_a_definition_that_can_not_run_is_a_finding_and_no_token_is_asked_for(command, home, case):
    name, document, finding = BAD_DEFINITIONS[case]
    async with Sandbox(SandboxOptions(client_secret=SECRET)) as sandbox:
        point_to(home, sandbox.base_url)
        own_definition(home, name, document)
        result, found = await check(command)
        asked = sandbox.stats()["token_calls"]

    assert (result.status, asked) == (1, 0)
    assert finding in found
    assert ("token", "skipped") in found


async def test_a_definition_that_is_no_text_is_a_finding(command, home):
    own_definition(home, "session_status", "")
    (home / "own.xml").write_bytes(b"\xff\xfe")

    result, found = await check(command)

    assert result.status == 1
    assert "session_status can't be read" in found["definitions", "finding"]["what"]


async def test_warnings_are_counted_and_are_no_findings(command, home):
    point_to(home, "http://127.0.0.1:9")
    own_definition(home, "session_status", bundled("session_status").replace("#(BaseUrl)", "http://vcc.example", 1))

    result, found = await check(command)

    assert result.status == 3
    assert "session_status (own.xml), 1 warnings" in found["definitions", "ok"]["what"]


async def test_a_policy_that_makes_no_sense_is_a_finding_that_names_it(command, home):
    with (home / "orchestrator.toml").open("a") as settings:
        settings.write("poll_factor = 0\n")

    result, found = await check(command)

    assert result.status == 1
    assert "accounts.emea.policy.digital.poll_factor" in found["settings", "finding"]["what"]


@pytest.mark.parametrize(
    ("ahead_s", "standing", "words"),
    [(0, "ok", "agrees"), (-8, "ok", "behind"), (90, "finding", "ahead of"), (-90, "finding", "behind")],
)
async def test_a_clock_that_is_off_is_told_by_the_providers_date(
    command, home, monkeypatch, *, ahead_s, standing, words
):
    class OffClock(account_check.SystemClock):
        def now(self):
            return super().now() + timedelta(seconds=ahead_s)

    monkeypatch.setattr(account_check, "SystemClock", OffClock)
    async with Sandbox(SandboxOptions(client_secret=SECRET)) as sandbox:
        point_to(home, sandbox.base_url)
        result, found = await check(command)

    assert result.status == (standing == "finding")
    assert words in found["clock", standing]["what"]


@pytest.mark.parametrize("date", [None, "soon", "Tue, 99 Foo 2026 25:00:00 GMT"])
async def test_a_provider_that_tells_no_time_is_no_finding(command, home, date):
    async def token(_request):
        answer = web.json_response({"access_token": "t", "expires_in": 60})
        answer.headers["Date"] = date or ""
        return answer

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", token)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        point_to(home, f"http://127.0.0.1:{runner.addresses[0][1]}")
        result, found = await check(command)
    finally:
        await runner.cleanup()

    assert result.status == 0
    assert found["clock", "skipped"]["what"] == "the provider told no time"


@pytest.mark.parametrize("status", [429, 503])
async def test_a_provider_that_is_busy_is_unavailable(command, home, status):
    async def busy(_request):
        return web.Response(status=status, headers={"Retry-After": "60"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", busy)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        point_to(home, f"http://127.0.0.1:{runner.addresses[0][1]}")
        result, found = await check(command)
    finally:
        await runner.cleanup()

    assert result.status == 3
    assert ("token", Standing.UNREACHABLE) in found


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("check", "nowhere"), ("NAME", "emea")),
        (("check", "--channel", "fax"), ("--channel", "phone, digital")),
        (("pause", "nowhere", "--reason", "x"), ("NAME", "emea")),
        (("resume", "nowhere", "--reason", "x"), ("NAME", "emea")),
        (("pause", "emea"), ("--reason",)),
        (("pause", "emea", "--reason", " "), ("--reason", "1 to 500")),
        (("pause", "emea", "--reason", "x" * 501), ("--reason", "1 to 500")),
        (("pause", "emea", "--reason", "card 4111111111111111"), ("--reason", "card")),
        (("pause", "emea", "--reason", "a\nb"), ("--reason", "control")),
        (("pause", "emea", "--reason", "x", "--as", ""), ("--as", "1 to 100")),
        (("resume", "emea", "--reason", "\udcff"), ("--reason", "surrogate")),
    ],
    ids=lambda value: " ".join(value)[:40].encode("ascii", "replace").decode() if isinstance(value, tuple) else None,
)
def test_a_wrong_word_is_one_line_and_nothing_is_written(command, home, argv, words):
    refused(command("accounts", *argv), *words)

    assert [entry for entry in entries(home) if entry["kind"] != "card_data.refused"] == []


def test_without_an_account_there_is_nothing_to_check(command, home):
    (home / "orchestrator.toml").write_text("")

    refused(command("accounts", "check"), "accounts", "at least one")
    assert command("accounts", "list").out.strip() == "no account is configured"


# --- list, pause, resume ------------------------------------------------------------------------


def test_accounts_are_listed_before_there_is_a_database(command, home):
    (home / "orchestrator.db").unlink()

    (record,) = command("accounts", "list", "--json").json

    assert (record["name"], record["currency"], record["dial_prefixes"]) == ("emea", "GBP", ["+44"])
    assert (record["own_definitions"], record["paused"]) == ([], None)
    assert not (home / "orchestrator.db").exists()


def test_a_pause_and_its_end_are_an_entry_each_with_person_and_reason(command, home):
    first = command("accounts", "pause", "emea", "--reason", "incident 7", "--as", "Jo")
    again = command("accounts", "pause", "emea", "--reason", "other", "--json").json
    listed = command("accounts", "list", "--json").json[0]["paused"]
    shown = command("accounts", "list").out
    ended = command("accounts", "resume", "emea", "--reason", "over", "--as", "Al", "--json").json
    twice = command("accounts", "resume", "emea", "--reason", "over")

    assert (first.status, first.out.strip()) == (0, "emea is paused")
    assert (again["changed"], again["paused"]["by"], again["paused"]["reason"]) == (False, "Jo", "incident 7")
    assert listed == again["paused"]
    assert "by Jo since" in shown
    assert "incident 7" in shown
    assert (ended["changed"], twice.status, twice.out.strip()) == (True, 0, "emea was not paused")
    assert command("accounts", "list", "--json").json[0]["paused"] is None
    assert [(body["kind"], body["actor"], body["about"], body["reason"]) for body in entries(home)] == [
        ("account.paused", "Jo", "emea", "incident 7"),
        ("account.resumed", "Al", "emea", "over"),
    ]
    assert command("audit", "verify").status == 0


def test_an_account_that_left_the_settings_can_still_be_resumed(command, home):
    command("accounts", "pause", "emea", "--reason", "moving")
    (home / "orchestrator.toml").write_text(
        SETTINGS.format(url="http://127.0.0.1:9").replace("accounts.emea", "accounts.uk")
    )

    names = {record["name"]: record for record in command("accounts", "list", "--json").json}

    assert (names["emea"]["base_url"], names["uk"]["paused"]) == (None, None)
    assert "not configured" in command("accounts", "list").out
    assert command("accounts", "resume", "emea", "--reason", "moved").status == 0
    refused(command("accounts", "pause", "emea", "--reason", "again"), "NAME", "uk")


# --- db backup ----------------------------------------------------------------------------------


def test_a_backup_is_a_database_that_verifies_and_the_key_is_named(command, home, monkeypatch):
    command("submit", **submission())

    shown = command("db", "backup", "copy.db")
    told = command("db", "backup", "other.db", "--json").json

    assert shown.status == 0
    assert "orchestrator.db.key" in shown.out
    assert (told["standing"], told["drift"], told["bytes"]) == ("current", [], (home / "other.db").stat().st_size)
    assert (home / "copy.db").stat().st_mode & 0o777 == 0o600
    refused(command("db", "backup", "copy.db"), "FILE", "exists already")
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", "sqlite:///copy.db")
    assert command("audit", "verify", "--json").json["counts"]["payments"] == 1


def test_a_backup_of_a_database_that_was_tampered_with_is_made_and_is_a_finding(command, home):
    with closing(sqlite3.connect(home / "orchestrator.db")) as connection:
        connection.execute("create index ix_own on payment (reference)")
        connection.commit()

    result = command("db", "backup", "copy.db")

    assert result.status == 1
    assert "ix_own" in result.out
    assert (home / "copy.db").exists()


def test_a_database_server_is_backed_up_with_its_own_tools(command, home, monkeypatch):
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", f"postgresql://me:{SECRET}@127.0.0.1:9/none")

    refused(command("db", "backup", "copy.db"), "pg_dump", "never data-only", "--disable-triggers")
    assert not (home / "copy.db").exists()


@pytest.mark.parametrize(("file", "word"), [("nowhere/copy.db", "FileNotFoundError"), ("orchestrator.db", "exists")])
def test_a_backup_that_can_not_be_written_is_told(command, file, word):
    refused(command("db", "backup", file), "FILE", word)


def test_a_backup_of_no_database_makes_none(command, home):
    (home / "orchestrator.db").unlink()

    refused(command("db", "backup", "copy.db"), "database_url", "orchestrator db upgrade")
    assert not list(home.glob("*.db"))
