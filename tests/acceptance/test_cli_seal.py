"""The seal at the command line: seal, prove, verify by files alone, and every bad input with one clear error."""

import sqlite3
from pathlib import Path

import pytest

from tests.support.cli import submission
from tests.support.independent import check_database, check_proof, read_checkpoint


@pytest.fixture
def payment(command, home) -> str:
    return command("submit", "--json", **submission()).json["id"]


@pytest.fixture
def note(command, payment) -> str:
    return command("audit", "seal", "--as", "ada").out


def refused(result, *words: str) -> None:
    assert result.status == 2, result.err
    for word in words:
        assert word in result.err
    assert "Traceback" not in result.err
    assert result.out == ""


def test_a_checkpoint_is_printed_and_anybody_can_check_it(command, home, note):
    (key,) = command("audit", "keys").out.splitlines()

    origin, size, _ = read_checkpoint(note, key)
    assert origin.startswith("payment-orchestrator/")
    found = check_database(home / "orchestrator.db", key)
    assert (found["leaves"], found["bad"]) == (size, [])
    assert command("audit", "seal", "--json").json["note"] == note, "nothing waits: it is the same one"
    assert command("audit", "verify").status == 0


def test_a_proof_is_checked_by_other_code(command, home, note, payment):
    (home / "old.note").write_text(note)
    command("cancel", payment)
    command("audit", "seal")
    (key,) = command("audit", "keys").out.splitlines()

    told = command("audit", "prove", payment, "--checkpoint", "old.note")

    assert [chain for chain, _ in check_proof(told.out, key)] == [payment] * 2
    assert len(told.json["consistency"]) == 1


def test_an_export_is_verified_by_its_files_alone(command, home, note, tmp_path_factory):
    command("audit", "export", "--output", "trail.jsonl", "--as", "ada")
    (key,) = command("audit", "keys").out.splitlines()
    away = tmp_path_factory.mktemp("auditor")
    for file in home.glob("trail.jsonl*"):
        (away / file.name).write_bytes(file.read_bytes())
    (home / "orchestrator.db").unlink()

    told = command("audit", "verify", "--export", str(away / "trail.jsonl"), "--key", key, "--json")

    assert (told.status, told.json["clean"]) == (0, True)
    assert told.json["counts"]["leaves"] == int(note.splitlines()[1])
    lines = (away / "trail.jsonl").read_text().splitlines(keepends=True)
    (away / "trail.jsonl").write_text("".join(lines[:-1]))
    assert command("audit", "verify", "--export", str(away / "trail.jsonl"), "--key", key).status == 1


def test_only_what_came_after_a_checkpoint_is_verified(command, home, note, payment):
    (home / "old.note").write_text(note)
    command("cancel", payment)

    told = command("audit", "verify", "--after", "old.note", "--json")

    assert told.status == 0
    assert told.json["counts"]["payments"] == 1


def test_failures_are_listed_and_closed_with_everything_that_is_asked_for(command, home, payment):
    (home / "orchestrator.db.seal").unlink()
    (home / "orchestrator.db.seal").mkdir()
    failed = command("audit", "seal")
    assert failed.status == 3
    assert "export: " in failed.err
    (failure,) = command("audit", "failures", "--json").json
    assert (failure["control"], failure["owner"]) == ("export", None)
    assert "control_failed" in command("health", "--json").out
    (home / "orchestrator.db.seal").rmdir()
    assert command("audit", "seal").status == 0
    said = ("--as", "ada", "--remediation", "r", "--issues", "i", "--further-action", "f")
    refused(command("audit", "close", "1", *said, "--prevention", " "), "--prevention", "empty")
    number = str(failure["id"])
    assert command("audit", "close", number, *said, "--prevention", "p").status == 0
    again = command("audit", "close", number, *said, "--prevention", "p")
    assert (again.status, "no open failure" in again.err) == (2, True)


def test_a_verification_is_written_down_when_that_is_asked_for(command, home, note):
    assert command("audit", "verify", "--record", "--as", "ada").status == 0
    with sqlite3.connect(home / "orchestrator.db") as connection:
        connection.execute("drop trigger tr_audit_entry_update")
    command("audit", "verify")

    with sqlite3.connect(home / "orchestrator.db") as connection:
        rows = connection.execute("select actor, result from audit_entry where kind = 'audit.verified'").fetchall()
    assert rows == [("ada", "success")]


BAD = {
    "a checkpoint of another log": (
        lambda note: ("verify", "--checkpoint", put("other.note", note.replace(note.split("/")[1][:32], "0" * 32))),
        "other.note", "another database",
    ),
    "a checkpoint that is cut off": (
        lambda note: ("verify", "--checkpoint", put("cut.note", note[:40])), "cut.note", "cut off",
    ),
    "a checkpoint that is not there": (lambda _: ("verify", "--checkpoint", "none.note"), "none.note", "can't be read"),
    "a checkpoint of bytes": (
        lambda _: ("verify", "--checkpoint", put("bytes.note", b"\xff\xfe")), "bytes.note", "no text",
    ),
    "a key that is none": (lambda _: ("verify", "--key", "abc"), "--key", "no Ed25519 verifier key"),
    "a sink that is not there": (lambda _: ("verify", "--sink", "none"), "--sink", "can't be read"),
    "an export that is not there": (lambda _: ("verify", "--export", "none.jsonl"), "none.jsonl", "can't be read"),
    "a manifest that is cut off": (
        lambda _: ("verify", "--export", str(Path(put("t.jsonl.manifest.json", "{")).with_name("t.jsonl"))),
        "manifest.json", "cut off",
    ),
    "a payment that is not there": (lambda _: ("prove", "pay-none"), "no chain", "pay-none"),
    "a name that no key has": (lambda _: ("new-key", "a b"), "NAME", "no blank"),
    "another form of export": (lambda _: ("export", "--output", "x", "--format", "xml"), "--format", "xml"),
}  # fmt: skip


def put(name: str, content: str | bytes) -> str:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_clear_error_and_nothing_is_written(command, home, note, what):
    made, *words = BAD[what]
    before = (home / "orchestrator.db").read_bytes()

    refused(command("audit", *made(note)), *words)

    assert (home / "orchestrator.db").read_bytes() == before
    assert not (home / "x").exists()


def test_a_signing_key_that_is_wrong_or_readable_by_others_is_named(command, home, payment):
    (home / "key").write_text("nonsense")
    (home / "key").chmod(0o600)
    settings = (home / "orchestrator.toml").read_text()
    (home / "orchestrator.toml").write_text(f'seal.signing_key = "file:key"\n{settings}')
    refused(command("audit", "seal"), "seal.signing_key", "no signing key")

    (home / "key").write_text(command("audit", "new-key", "log").out)
    assert command("audit", "seal").status == 0
    (home / "key").chmod(0o644)
    refused(command("audit", "seal"), "seal.signing_key")


def test_a_key_is_rotated_as_the_help_says(command, home, payment):
    key = home / "key"
    key.write_text(command("audit", "new-key", "log").out)
    key.chmod(0o600)
    settings = (home / "orchestrator.toml").read_text()
    (home / "orchestrator.toml").write_text(f'seal.signing_key = "file:key"\n{settings}')
    command("audit", "seal")
    old = command("audit", "keys").out.strip()
    key.write_text(key.read_text() + command("audit", "new-key", "log").out)
    command("cancel", payment)
    both = command("audit", "seal").out
    key.write_text(key.read_text().splitlines()[1] + "\n")

    assert both.count("\u2014 log ") == 2
    told = command("audit", "verify", "--json")
    assert {found["kind"] for found in told.json["findings"]} == {"signature"}, "the first is of the old key alone"
    new = command("audit", "keys").out.strip()
    assert command("audit", "verify", "--key", old, "--key", new).status == 0
    shown = command("settings", "show").out
    assert "signing_key" in shown
    assert key.read_text().split()[1] not in shown
