"""`audit export` and `check-upgrade`: what one release has written, asked of another."""

import json
from pathlib import Path

import pytest

from tests.support.cli import PAYER, Command, submission

KEPT = Path(__file__).parents[1] / "fixtures/trails/0.1.0.jsonl"


def exported(command: Command, home: Path) -> Path:
    assert command("submit", **submission()).status == 0
    file = home / "trail.jsonl"
    result = command("audit", "export", "--output", str(file), "--json", "--as", "j.doe")
    assert result.status == 0
    assert result.json["entries"] == len(file.read_text().splitlines())
    return file


def test_what_this_version_has_written_it_goes_on_with(command: Command, home: Path) -> None:
    file = exported(command, home)

    result = command("check-upgrade", str(file))

    assert result.status == 0
    assert "this version goes on with all of it: 1 payments, 1 of them in flight" in result.out
    assert command("check-upgrade", str(file), "--json").json["clean"] is True
    assert not [word for word in PAYER.values() if word in file.read_text()]


def test_an_export_is_an_entry_with_its_person(command: Command, home: Path) -> None:
    exported(command, home)
    assert command("audit", "export", "--output", str(home / "second.jsonl")).status == 0

    bodies = [json.loads(json.loads(line)["body"]) for line in (home / "second.jsonl").read_text().splitlines()]

    (note,) = [body for body in bodies if body["kind"] == "audit.exported"]
    assert (note["actor"], note["about"], note["result"], note["entries"]) == ("j.doe", "trail", "success", 5)


def test_what_other_settings_would_do_otherwise_is_listed(command: Command, home: Path) -> None:
    file = exported(command, home)
    settings = home / "orchestrator.toml"
    table = "[accounts.emea.policy.phone]\n"
    settings.write_text(settings.read_text().replace(table, f"{table}start_s = 7\n"))

    result = command("check-upgrade", str(file), "--json")

    assert result.status == 1
    assert [(each["kind"], each["in_flight"]) for each in result.json["changes"]] == [("deadline", 1)]
    assert "start_s is 7 s now" in result.json["changes"][0]["what"]
    assert "deadline" in command("check-upgrade", str(file)).out


def test_what_a_release_has_written_is_held_against_the_settings(command: Command, home: Path) -> None:
    assert command("check-upgrade", str(KEPT), "--json").json["counts"]["in_flight"] > 10
    settings = home / "orchestrator.toml"
    settings.write_text(settings.read_text().replace("accounts.emea", "accounts.apac"))

    result = command("check-upgrade", str(KEPT), "--json")

    assert result.status == 1
    assert {each["what"] for each in result.json["changes"]} == {"emea is not configured"}


@pytest.mark.parametrize(
    ("content", "word"),
    [(None, "can't be read"), (b"", "no entry at all"), (b'{"hash": "Ada Canary"}\n', "line 1"), (b"\xff\n", "line 1")],
)
def test_a_file_that_is_no_export_is_one_clear_error(
    content: bytes | None, word: str, command: Command, home: Path
) -> None:
    if content is not None:
        (home / "trail.jsonl").write_bytes(content)

    result = command("check-upgrade", "trail.jsonl")

    assert result.status == 2
    assert word in result.err


def test_an_export_does_not_overwrite_and_has_a_period_with_an_end_after_its_beginning(
    command: Command, home: Path
) -> None:
    file = exported(command, home)
    assert command("audit", "export", "--output", str(file)).status == 2

    turned = command("audit", "export", "--output", "x", "--from", "2026-11-02", "--to", "2026-11-01")

    assert (turned.status, "--to" in turned.err) == (2, True)
    assert not (home / "x").exists()
