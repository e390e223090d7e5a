"""`db restored`: refused starts name it, and one command is all it takes to go on."""

import contextlib
import shutil
import sqlite3

import pytest

from tests.support.cli import submission

FIX = "orchestrator db restored --as PERSON --reason TEXT"


@pytest.fixture
def past(command, home):
    """The database as it was before a second payment was submitted; the copy is put back."""
    file, copy = home / "orchestrator.db", home / "copy.db"
    first = command("submit", "--json", **submission(reference="FIRST-1")).json
    with contextlib.closing(sqlite3.connect(file)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    second = command("submit", "--json", **submission(reference="SECOND-1", fields=None, channel="digital")).json
    for suffix in ("-wal", "-shm"):
        (home / f"orchestrator.db{suffix}").unlink(missing_ok=True)
    shutil.move(copy, file)
    return first, second


def restored(command, *argv, **options):
    given = {"as": "ada", "reason": "the disk broke"} | options
    return command("db", "restored", *argv, **{name: value for name, value in given.items() if value is not None})


def assert_refused(result):
    assert (result.status, result.out) == (3, "")
    last = result.err.splitlines()[-1]
    assert last.startswith("error: the database went back in time: ")
    assert FIX in last


def test_nothing_starts_on_a_copy_that_was_put_back_and_every_refusal_names_the_way_on(command, past):
    assert_refused(command("worker", "--until-idle"))
    assert_refused(command("submit", **submission(reference="THIRD-1")))
    assert_refused(command("cancel", past[0]["id"]))


def test_one_command_is_all_it_takes_and_then_persons_settle_what_is_held(command, past):
    first, second = past
    done = restored(command)

    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("a new life begins: ")
    assert lines[1] == "payments held: 1; see `orchestrator list --held`"
    assert lines[2].startswith("what was submitted after ")

    held = command("list", "--held", "--json").json
    assert [(payment["id"], payment["hold"]) for payment in held] == [(first["id"], "session_unknown")]
    assert command("show", second["id"]).status == 2
    assert held[0]["reason"] == "database_restored"
    assert "resolve --retry" in command("explain", first["id"]).out
    assert (
        command(
            "resolve", first["id"], **{"as": "ada", "reason": "not at the gateway"}, outcome="cancelled_by_host"
        ).status
        == 0
    )
    assert command("worker", "--until-idle").status == 0
    assert command("submit", "--json", **submission(reference="SECOND-1", channel="digital")).json["id"] == second["id"]
    verified = command("audit", "verify")
    assert verified.status == 0, verified.out


def test_its_record_can_be_read_by_programs(command, past):
    told = restored(command, "--json").json

    assert sorted(told) == ["held", "incarnation", "newest", "previous"]
    assert (told["held"], len(told["incarnation"]), len(told["previous"])) == (1, 32, 32)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reason": None}, "--reason"),
        ({"as": None}, "--as"),
        ({"reason": " "}, "is empty or too long"),
        ({"reason": "x" * 201}, "is empty or too long"),
        ({"reason": "payer of 4111111111111111"}, "card"),
        ({"as": ""}, "--as"),
    ],
)
def test_a_word_without_a_person_or_a_reason_changes_nothing(command, past, options, words):
    refused = restored(command, **options)

    assert (refused.status, refused.out) == (2, "")
    assert words in refused.err
    assert_refused(command("worker", "--until-idle"))


def test_a_mark_without_a_meaning_stops_the_start_and_names_the_way_on(command, home):
    (home / "orchestrator.db.mark").write_text("?")

    refused = command("worker", "--until-idle")
    assert refused.status == 2
    assert "mark_file: holds no mark" in refused.err
    assert "orchestrator db restored" in refused.err

    assert restored(command).status == 0
    assert command("worker", "--until-idle").status == 0


def test_a_mark_elsewhere_outlives_the_whole_directory(command, home, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "the.mark"
    settings = home / "orchestrator.toml"
    settings.write_text(f'mark_file = "{elsewhere}"\n' + settings.read_text())
    kept = tmp_path_factory.mktemp("kept")
    shutil.copytree(home, kept, dirs_exist_ok=True)
    command("submit", **submission())
    for path in home.glob("orchestrator.db*"):
        path.unlink()
    shutil.copytree(kept, home, dirs_exist_ok=True)

    assert elsewhere.exists()
    assert not (home / "orchestrator.db.mark").exists()
    assert_refused(command("worker", "--until-idle"))


def test_a_database_that_is_not_there_is_told(command, home):
    (home / "orchestrator.db").unlink()

    refused = restored(command)
    assert (refused.status, refused.out) == (2, "")
    assert not (home / "orchestrator.db").exists()
