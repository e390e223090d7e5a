"""`db roles`: a script for a database administrator, or installed with an entry; a file has none."""

import asyncio
import json
import sqlite3
import uuid

import pytest

from orchestrator.cli.exits import USAGE
from orchestrator.store import SqlStore, migrate
from tests.integration.store.conftest import direct_only, new_schema, outside_loop, postgresql_host, postgresql_url

__all__ = ["postgresql_host"]


def test_a_file_has_no_roles_and_is_told_what_to_do_instead(command, home):
    for argv in ((), ("--apply", "--as", "ada", "--reason", "why")):
        result = command("db", "roles", *argv)
        assert (result.status, result.out) == (USAGE, "")
        assert "a SQLite file has no roles" in result.err
        assert "use PostgreSQL" in result.err


@pytest.fixture
def server(command, monkeypatch):
    """Settings that name a server which nobody may ask."""
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    return command


def test_the_script_is_printed_without_a_database(server):
    result = server("db", "roles", "--prefix", "pay")
    assert result.status == 0
    assert result.out.startswith("-- pay_owner: ")
    assert "grant select, insert on table audit_entry to pay_writer;" in result.out
    assert "payer_data to pay_examiner" not in result.out
    assert result.out.count("create role") == 5


WRONG = {
    "a prefix that is no name": (("--prefix", "a b"), "--prefix"),
    "nobody": (("--apply", "--reason", "why"), "--as"),
    "no reason": (("--apply", "--as", "ada"), "--reason"),
    "an empty reason": (("--apply", "--as", "ada", "--reason", " "), "--reason"),
    "a person without anything to apply": (("--as", "ada"), "--apply"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_missing_or_wrong_is_named(server, what):
    argv, named = WRONG[what]
    result = server("db", "roles", *argv)
    assert (result.status, result.out) == (USAGE, "")
    assert named in result.err


@direct_only
def test_applied_roles_leave_an_entry_and_db_check_is_content(command, monkeypatch, postgresql_host):
    url = postgresql_url(postgresql_host, outside_loop(new_schema(postgresql_host)))
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", url)
    prefix = f"c{uuid.uuid4().hex[:12]}"
    for reason in ("a new system", "again"):
        result = command("db", "roles", "--apply", "--prefix", prefix, "--as", "ada", "--reason", reason)
        assert (result.status, result.err) == (0, "")
        assert f"{prefix}_writer" in result.out
    assert command("db", "check").status == 0

    async def bodies():
        store = SqlStore(url)
        await store.open(to_write=False)
        found = [json.loads(entry.body) async for entry in store.all_entries()]
        await store.close()
        return found

    told = [(body["kind"], body["actor"], body["reason"]) for body in asyncio.run(bodies())]
    assert told == [("roles.granted", "ada", "a new system"), ("roles.granted", "ada", "again")]


def test_an_upgrade_is_an_entry_once(command, home, monkeypatch):
    file = home / "new.db"
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", f"sqlite:///{file}")
    for _ in range(2):
        assert command("db", "upgrade", "--as", "ada").status == 0
    with sqlite3.connect(file) as connection:
        rows = connection.execute("select kind, actor, body from audit_entry").fetchall()
    connection.close()
    [(kind, person, body)] = rows
    assert (kind, person) == ("schema.upgraded", "ada")
    assert (json.loads(body)["revision_before"], json.loads(body)["revision"]) == (None, migrate.head())
