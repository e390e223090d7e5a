"""Commands that look: database, definitions, trail, settings; and what an error looks like."""

import json
import sqlite3
from contextlib import closing

import pytest

from orchestrator.cli import queries
from orchestrator.domain.errors import Fenced, IntegrityViolated, Unavailable
from orchestrator.interactions import BUNDLED, bundled
from orchestrator.sandbox import SCRIPTS
from tests.support.cli import SECRET, submission


def change(home, statement, *, unguarded=()):
    """Change the database behind our back."""
    with closing(sqlite3.connect(home / "orchestrator.db")) as connection:
        for trigger in unguarded:
            connection.execute(f"drop trigger {trigger}")
        connection.execute(statement)
        connection.commit()


def triggers(home, table):
    with closing(sqlite3.connect(home / "orchestrator.db")) as connection:
        found = connection.execute("select name from sqlite_master where type = 'trigger' and tbl_name = ?", (table,))
        return [name for (name,) in found]


def own_definition(home, text):
    (home / "status.xml").write_text(text, encoding="utf-8")
    settings = home / "orchestrator.toml"
    own = '[accounts.emea.definitions]\nsession_status = "status.xml"\n'
    settings.write_text(settings.read_text() + own)


# --- the database -------------------------------------------------------------------------------


def test_an_upgraded_database_is_current_and_upgrading_it_again_changes_nothing(command, home):
    (home / "orchestrator.db").unlink()
    assert command("db", "check", "--json").json["standing"] == "empty"
    assert not (home / "orchestrator.db").exists()

    upgraded = command("db", "upgrade", "--json")
    checked = command("db", "check")

    assert (upgraded.status, upgraded.json["standing"], upgraded.json["fine"]) == (0, "current", True)
    assert command("db", "upgrade", "--json").json == upgraded.json
    assert checked.status == 0
    assert "current" in checked.out


STANDINGS = {
    "ahead": ("update orchestrator_schema_version set version_num = '9999'", "upgraded by a later version"),
    "foreign": ("delete from orchestrator_schema_version", "not ours"),
}


@pytest.mark.parametrize("standing", STANDINGS)
def test_a_database_of_another_version_is_a_finding_and_no_command_writes_to_it(command, home, standing):
    statement, words = STANDINGS[standing]
    change(home, statement)

    assert command("db", "check").status == 1
    assert command("db", "check", "--json").json["standing"] == standing
    refused = {name: command(*argv) for name, argv in {"list": ["list"], "upgrade": ["db", "upgrade"]}.items()}
    refused["submit"] = command("submit", **submission())

    for result in refused.values():
        assert (result.status, result.out) == (2, "")
        assert "database_url" in result.err
        assert words in result.err


def test_an_empty_database_is_behind_and_the_fix_is_named(command, home):
    (home / "orchestrator.db").write_bytes(b"")
    change(home, "create table somebody_elses (id integer)")

    result = command("submit", **submission())

    assert (result.status, result.out) == (2, "")
    assert "orchestrator db upgrade" in result.err


def test_a_missing_trigger_is_a_finding_that_names_it(command, home):
    name = triggers(home, "audit_entry")[0]
    change(home, f"drop trigger {name}")

    result = command("db", "check")

    assert result.status == 1
    assert name in result.out


def test_no_output_holds_the_password_of_a_database(command, monkeypatch):
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", f"postgresql://me:{SECRET}@127.0.0.1:9/none?password={SECRET}")

    shown = command("settings", "show")
    checked = command("db", "check")

    assert "me:***@" in shown.json["database_url"]
    assert checked.status == 3
    assert checked.err.startswith("error: ")


# --- the trail ----------------------------------------------------------------------------------


def test_a_clean_trail_is_told_with_counts(command):
    command("submit", **submission())

    result = command("audit", "verify", "--json")

    assert result.status == 0
    assert (result.json["clean"], result.json["findings"]) == (True, [])
    # Beside the payment's own entry there is one for each definition that came into use.
    assert (result.json["counts"]["entries"], result.json["counts"]["payments"]) == (5, 1)
    assert "the trail is clean: 2 chains, 0 checkpoints, 5 entries" in command("audit", "verify").out


def test_an_entry_that_was_tampered_with_is_a_finding_with_chain_and_number(command, home):
    record = command("submit", "--json", **submission()).json
    statement = "update audit_entry set actor = 'nobody'"
    with closing(sqlite3.connect(home / "orchestrator.db")) as connection:
        connection.execute("pragma ignore_check_constraints = on")
        for name in triggers(home, "audit_entry"):
            connection.execute(f"drop trigger {name}")
        connection.execute(statement)
        connection.commit()

    plain, told = command("audit", "verify"), command("audit", "verify", "--json").json

    assert plain.status == 1
    assert "findings" in plain.out
    found = [(finding["kind"], finding["chain_id"], finding["seq"]) for finding in told["findings"]]
    # The triggers that had to go first are findings of their own.
    assert ("column", record["id"], 1) in found
    assert {kind for kind, _, _ in found} == {"column", "schema"}


# --- definitions --------------------------------------------------------------------------------


def test_the_bundled_definitions_have_no_findings(command, home):
    files = []
    for name in BUNDLED:
        (home / f"{name}.xml").write_text(bundled(name))
        files.append(f"{name}.xml")

    result = command("definitions", "check", *files)

    assert result.status == 0
    assert "4 checked: 0 errors, 0 warnings" in result.out


DOCUMENTS = {
    "not XML": ("<ApiInteraction>\n<Request>", 1, "1 errors", "bad.xml:2"),
    "a document type": ("<!DOCTYPE x><ApiInteraction/>", 1, "1 errors", "bad.xml:1"),
    "left over": (bundled("authorize").replace("#(ClientId)", "~~~REPLACE~~~"), 1, "errors", "bad.xml:7"),
    "a secret": (
        bundled("authorize").replace("#(ClientSecret)", SECRET), 0, "0 errors, 1 warnings", "literal secret",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", DOCUMENTS)
def test_what_is_wrong_with_a_document_is_told_with_file_and_line(command, home, row):
    text, status, *words = DOCUMENTS[row]
    (home / "bad.xml").write_text(text)

    result = command("definitions", "check", "bad.xml")
    told = command("definitions", "check", "bad.xml", "--json")

    assert (result.status, told.status) == (status, status)
    for word in words:
        assert word in result.out
    assert {finding["severity"] for finding in told.json} == {"error" if status else "warning"}


def test_names_that_nobody_supplies_are_errors_once_it_is_said_who_supplies_what(command, home):
    (home / "status.xml").write_text(bundled("session_status"))

    partly = command("definitions", "check", "status.xml", "--supplied", "AccessToken")
    wholly = command(
        "definitions", "check", "status.xml", "--supplied", "AccessToken", "--supplied", "GlobalPCI|SessionId"
    )

    assert (partly.status, wholly.status) == (1, 0)
    assert "nobody supplies GlobalPCI|SessionId" in partly.out


def test_a_document_that_cannot_be_read_is_usage_not_a_finding(command, home):
    (home / "latin.xml").write_bytes("<ApiInteraction>é".encode("latin-1"))
    (home / "large.xml").write_bytes(b" " * (1024 * 1024 + 1))

    for name, words in {"nowhere.xml": "NotFound", "latin.xml": "UnicodeDecode", "large.xml": "longer than"}.items():
        result = command("definitions", "check", name)
        assert result.status == 2
        assert name in result.err
        assert words in result.err


def test_a_definition_that_does_not_parse_stops_a_submit_with_file_line_and_element(command, home):
    own_definition(home, bundled("session_status").replace("<Method>GET</Method>", "<Method>FETCH</Method>"))

    result = command("submit", **submission())

    assert (result.status, result.out) == (2, "")
    assert "status.xml:4" in result.err
    assert "Method" in result.err
    assert command("list", "--json").json == []


def test_the_definition_of_an_account_is_shown_masked(command, home):
    own_definition(home, bundled("session_status").replace("Bearer $(AccessToken)", f"Bearer {SECRET}"))

    own = command("definitions", "show", "session_status", "--account", "emea")
    ours = command("definitions", "show", "session_status")

    assert own.status == 0
    assert "<ApiInteraction>" in own.out
    assert "Bearer $(AccessToken)" in ours.out
    assert "Bearer $(AccessToken)" not in own.out


@pytest.mark.parametrize(
    ("argv", "words"),
    [(["refund"], "authorize, start_phone_session"), (["authorize", "--account", "apac"], "emea")],
)
def test_a_definition_that_nobody_has_is_refused(command, argv, words):
    result = command("definitions", "show", *argv)

    assert result.status == 2
    assert words in result.err


# --- settings, sandbox, help --------------------------------------------------------------------


def test_settings_are_shown_with_references_instead_of_secrets(command):
    account = command("settings", "show").json["accounts"]["emea"]

    assert account["client_secret"] == "*** (env:CANARY_SECRET)"
    assert account["base_url"] == "http://127.0.0.1:9"


BAD_SETTINGS = {
    "a misspelt key": ("worker.heartbeat", "\n[worker]\nheartbeat = 1\n", "did you mean heartbeat_s?"),
    "a secret in clear": (
        "accounts.a.client_secret", f'[accounts.a]\nbase_url = "https://x"\nclient_secret = "{SECRET}"', "env:NAME",
    ),
    "no TOML": ("orchestrator.toml", "= 1", "not TOML"),
}  # fmt: skip


@pytest.mark.parametrize("row", BAD_SETTINGS)
def test_a_wrong_setting_is_one_error_with_its_full_name(command, home, row):
    key, text, words = BAD_SETTINGS[row]
    (home / "orchestrator.toml").write_text(text)

    result = command("list")

    assert (result.status, result.out) == (2, "")
    assert key in result.err
    assert words in result.err


def test_config_names_the_settings_file(command, home):
    (home / "other.toml").write_text('database_url = "sqlite:///other.db"\n')

    assert command("--config", "other.toml", "settings", "show").json["database_url"].endswith("///other.db")
    missing = command("--config", "nowhere.toml", "settings", "show")
    assert missing.status == 2
    assert "nowhere.toml" in missing.err


def test_the_table_of_reference_prefixes_is_printed(command):
    plain, told = command("sandbox", "--scripts"), command("sandbox", "--scripts", "--json").json

    assert [script["prefix"] for script in told] == [script.prefix for script in SCRIPTS]
    for script in SCRIPTS:
        assert script.prefix in plain.out


BAD_SANDBOXES = {
    "a port that is none": (["--port", "65536"], "sandbox.port"),
    "a port in words": (["--port", "http"], "--port"),
    "a speed of nothing": (["--speed", "0"], "sandbox.speed"),
    "faults that are not there": (["--faults", "nowhere.toml"], "sandbox.faults"),
    "a host that is not ours": (["--host", "192.0.2.1", "--port", "0"], "sandbox.port"),
}


@pytest.mark.parametrize("row", BAD_SANDBOXES)
def test_a_sandbox_that_cannot_run_says_why(command, row):
    argv, word = BAD_SANDBOXES[row]

    result = command("sandbox", *argv)

    assert (result.status, result.out) == (2, "")
    assert word in result.err


@pytest.mark.parametrize(
    "argv",
    ["", "demo", "sandbox", "worker", "submit", "collect", "cancel", "acknowledge", "show", "list", "watch",
     "explain", "diagram", "definitions check", "definitions show", "accounts list", "accounts check",
     "accounts pause", "accounts resume", "db upgrade", "db check", "db backup", "audit verify", "settings show"],
)  # fmt: skip
def test_every_command_explains_itself(command, argv):
    result = command(*argv.split(), "--help")

    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("Usage: orchestrator")


@pytest.mark.parametrize(("argv", "word"), [((), "Commands:"), (("db",), "upgrade"), (("dbx",), "dbx")])
def test_no_command_or_an_unknown_one_is_usage(command, argv, word):
    result = command(*argv)

    assert (result.status, result.out) == (2, "")
    assert word in result.err


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (Unavailable("the database does not answer"), 3, "does not answer"),
        (Fenced("changed meanwhile"), 3, "changed meanwhile"),
        (IntegrityViolated("the rows contradict"), 1, "contradict"),
        (ExceptionGroup("several", [ValueError("x"), ExceptionGroup("in", [Unavailable("away")])]), 3, "away"),
        (KeyError("Ada Canary"), 70, "KeyError"),
        (KeyboardInterrupt(), 130, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_every_error_has_its_exit_status_and_a_text_without_values(command, monkeypatch, error, status, told):
    def fails(*_):
        raise error

    monkeypatch.setattr(queries, "settings_of", fails)

    result = command("list")

    assert (result.status, result.out) == (status, "")
    assert told in result.err


def test_control_characters_from_outside_are_written_out_on_the_screen():
    from orchestrator.cli.show import cell

    assert cell("a\x1b[2Jb\n[red]").plain == "a\\x1b[2Jb\\n[red]"


def test_records_are_json_that_other_programs_read(command):
    command("submit", **submission())

    (record,) = json.loads(command("list", "--json").out)

    assert record["created_at"].endswith("Z")
    assert {"state", "money", "hold", "outcome", "reason", "session_id", "due_at"} <= record.keys()
