"""Compliance's commands: is the population complete, a sample of it, reviews of it, and the provider's report."""

import asyncio
import hashlib
import json
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from orchestrator.clock import SystemClock
from orchestrator.store import SqlStore
from tests.acceptance.test_cli_queries import refused
from tests.integration.store.makers import PAID, birth, outside
from tests.support.cli import submission

HEADER = "reference,amount,currency,status,time"
ROW = "INV-1,12.40,GBP,paid,2026-11-24T15:46:40Z"
CARD = "4111111111111111"


def submitted(command, count=3):
    return [
        command("submit", "--json", **submission(channel="digital", reference=f"S-{number}")).json["id"]
        for number in range(count)
    ]


def paid(home, *references):
    """Payments of 2026-11-24 with all their entries."""

    async def work():
        async with SqlStore(f"sqlite:///{home / 'orchestrator.db'}") as store:
            for reference in references:
                await store.record(outside(await store.submit(birth(reference)), *PAID))

    asyncio.run(work())


def notes(home, kind):
    with closing(sqlite3.connect(home / "orchestrator.db")) as connection:
        found = connection.execute("select actor, body from audit_entry where kind = ? order by at", (kind,)).fetchall()
        return [(actor, json.loads(body)) for actor, body in found]


def entries(home):
    with closing(sqlite3.connect(home / "orchestrator.db")) as connection:
        # That card data was refused is an entry of its own.
        counted = "select count(*) from audit_entry where kind <> 'card_data.refused'"
        return connection.execute(counted).fetchone()[0]


def cut(home, *statements):
    with closing(sqlite3.connect(home / "orchestrator.db")) as connection:
        for (name,) in connection.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            connection.execute(f"drop trigger {name}")
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def day(offset=0):
    return f"{SystemClock().now() + timedelta(days=offset):%Y-%m-%d}"


# --- completeness -------------------------------------------------------------------------------


def test_a_sealed_trail_is_complete(command, home):
    submitted(command)
    assert command("audit", "seal").status == 0
    before = entries(home)

    told = command("audit", "completeness", "--json")

    assert told.status == 0
    assert told.json["complete"] is True
    assert told.json["totals"]["payments_created"] == told.json["totals"]["payments_begun"] == 3
    assert told.json["days"] == {day(): told.json["totals"]}
    assert told.json["checkpoint"]["size"] == told.json["trail"]["leaves"]
    assert told.json["checkpoint"]["signed_by"] == ["payment-orchestrator"]
    shown = command("audit", "completeness", "--from", day(-1), "--to", day(1))
    assert (shown.status, "nothing is missing" in shown.out, day() in shown.out) == (0, True, True)
    assert entries(home) == before, "it reads only"


def test_what_is_missing_is_told_and_is_a_finding(command, home):
    first, *_ = submitted(command)
    command("audit", "seal")
    cut(home, f"delete from audit_entry where chain_id = '{first}'")

    told = command("audit", "completeness", "--json")

    assert (told.status, told.json["complete"], told.json["missing"]) == (1, False, 2)
    assert {(gap["kind"], gap["about"]) for gap in told.json["gaps"]} == {("payment", first), ("count", "log")}
    shown = command("audit", "completeness")
    assert (shown.status, first in shown.out, "2 gaps" in shown.out) == (1, True, True)


def test_an_unsealed_trail_is_not_complete(command):
    submitted(command, 1)
    told = command("audit", "completeness", "--json")
    assert (told.status, told.json["checkpoint"], [gap["kind"] for gap in told.json["gaps"]]) == (
        1,
        None,
        ["checkpoint"],
    )


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--from", "soon"), ("--from", "not an instant")),
        (("--from", "2026-11-24", "--to", "2026-11-24"), ("--to", "not after --from")),
        (("--key", "nonsense"), ("--key",)),
    ],
)
def test_completeness_refuses_what_it_can_not_use(command, argv, words):
    refused(command("audit", "completeness", *argv), *words)


# --- sample -------------------------------------------------------------------------------------


def test_an_auditor_draws_the_sample_again_from_an_export_alone(command, home):
    submitted(command, 8)
    command("audit", "seal")

    told = command(
        "audit", "sample", "-n", "3", "--seed-from-checkpoint", "--nonce", "dice 4 1 6", "--as", "ann", "--json"
    )

    assert told.status == 0
    sample = told.json
    leaves = {}
    for line in (home / "orchestrator.db.seal").read_text().splitlines():
        fact = json.loads(line)
        if "leaf" in fact and fact["seq"] == 1 and fact["chain"].startswith("pay-"):
            leaves[fact["leaf"]] = fact["chain"]
    root = bytes.fromhex(sample["checkpoint"]["root"])
    by_hand = sorted(leaves, key=lambda leaf: hashlib.sha256(root + b"dice 4 1 6" + leaf.to_bytes(8, "big")).digest())
    assert [(item["leaf"], item["chain_id"]) for item in sample["items"]] == [(at, leaves[at]) for at in by_hand[:3]]
    assert sample["population"] == 8
    ((actor, body),) = notes(home, "audit.sampled")
    assert (actor, body["nonce"], body["root"], body["drawn"]) == ("ann", "dice 4 1 6", root.hex(), 3)


def test_an_older_checkpoint_gives_the_same_sample_later(command, home):
    submitted(command, 6)
    (home / "old.note").write_text(command("audit", "seal").out)
    first = command("audit", "sample", "-n", "4", "--json").json
    command("submit", **submission(channel="digital", reference="LATER"))
    command("audit", "seal")

    again = command("audit", "sample", "-n", "4", "--checkpoint", "old.note", "--json").json

    assert (again["items"], again["population"]) == (first["items"], 6)
    assert command("audit", "sample", "-n", "4", "--json").json["items"] != first["items"]
    shown = command("audit", "sample", "-n", "2", "--entries")
    assert (shown.status, "rule: " in shown.out, "nonce: (none)" in shown.out) == (0, True, True)


def test_a_sample_refuses_what_it_can_not_use(command, home):
    submitted(command, 1)
    refused(command("audit", "sample", "-n", "3"), "--seed-from-checkpoint", "audit seal")
    note = command("audit", "seal").out
    before = entries(home)
    (home / "good.note").write_text(note)
    (home / "other.note").write_text(note.replace("payment-orchestrator/", "another/", 1))
    size, root = note.splitlines()[1:3]
    (home / "size.note").write_text(note.replace(f"\n{size}\n", "\n9999\n", 1))
    (home / "cut.note").write_text(note[:40])
    (home / "signature.note").write_text(note.replace(note[-12:-6], "AAAAAA"))
    (home / "root.note").write_text(note.replace(root, f"{'A' * 43}=", 1))
    stranger = "stranger+00000000+AQ"

    for argv, words in [
        (("--checkpoint", "other.note"), ("--checkpoint", "another log")),
        (("--checkpoint", "size.note"), ("--checkpoint", "not in this database")),
        (("--checkpoint", "root.note"), ("--checkpoint", "not in this database")),
        (("--checkpoint", "cut.note"), ("--checkpoint", "cut off")),
        (("--checkpoint", "signature.note"), ("--checkpoint", "signature that does not fit")),
        (("--checkpoint", "nowhere.note"), ("--checkpoint", "can't be read")),
        (("--key", stranger), ("--key",)),
        (("--nonce", CARD), ("--nonce", "card number")),
        (("--nonce", "x" * 300), ("--nonce", "too long")),
        (("--from", "2026-11-25", "--to", "2026-11-24"), ("--to",)),
        (("--as", " "), ("--as",)),
    ]:
        refused(command("audit", "sample", "-n", "3", *argv), *words)
    assert command("audit", "sample", "-n", "0").status == 2
    assert entries(home) == before, "nothing was written"


# --- review -------------------------------------------------------------------------------------


def test_a_day_is_reviewed_signed_and_closed(command, home):
    command("accounts", "pause", "emea", "--as", "ada", "--reason", "maintenance")
    found = command("audit", "review", "--day", day(), "--json")
    assert (found.status, found.json["counts"]) == (1, {"account.paused": 1, "schema.changed": 1})
    assert found.json["findings"][0]["rule"] in found.json["rules"]
    shown = command("audit", "review", "--from", day(), "--to", day(1))
    assert (shown.status, "account.paused" in shown.out, "ada" in shown.out) == (1, True, True)
    quiet = command("audit", "review", "--day", day(-1))
    assert (quiet.status, "nothing to look at" in quiet.out) == (0, True)

    yesterday = ("--from", day(-1), "--to", day())
    signed = command("audit", "review", "sign", *yesterday, "--as", "vera", "--exceptions", "none", "--json")

    assert signed.status == 0
    (row,) = command("audit", "review", "list", "--json").json
    ((actor, body),) = notes(home, "review.signed")
    assert (row["id"], row["reviewer"], row["disposition"]) == (signed.json["number"], "vera", None)
    assert (actor, body["sha256"]) == ("vera", hashlib.sha256(row["findings"].encode()).hexdigest())
    assert json.loads(row["findings"])["exceptions"] == "none"
    closing_it = ("audit", "review", "close", str(row["id"]), "--as", "max", "--disposition", "fine", "--ticket", "T-1")
    assert command(*closing_it).status == 0
    refused(command(*closing_it), "no open review")
    assert [body["ticket"] for _, body in notes(home, "review.closed")] == ["T-1"]
    assert "T-1" in command("audit", "review", "list").out
    assert command("audit", "verify").status == 0


def test_whoever_acted_does_not_sign(command, home):
    command("accounts", "pause", "emea", "--as", "ada", "--reason", "maintenance")
    soon = (SystemClock().now() + timedelta(milliseconds=1)).isoformat()
    before = entries(home)

    refused(command("audit", "review", "sign", "--from", day(), "--to", soon, "--as", "Ada"), "--as", "acted in this")

    assert (entries(home), command("audit", "review", "list", "--json").json) == (before, [])
    assert command("audit", "review", "sign", "--from", day(), "--to", soon, "--as", "vera").status == 0


def test_reviews_refuse_what_they_can_not_use(command, home):
    before = entries(home)
    yesterday = ("--from", day(-1), "--to", day())
    for argv, words in [
        ((), ("--day", "missing")),
        (("--from", day(-1)), ("--day", "missing")),
        (("--day", "2026-02-30"), ("--day", "not an instant")),
        (("--day", "2026-11-24T10:00"), ("--day", "not a day")),
        (("--day", "9999-12-31"), ("--day", "not a day")),
        (("--day", day(), "--from", day(-1)), ("--day", "--from")),
        (("--from", day(), "--to", day(-1)), ("--to", "not after")),
        (("--day", day(), "list"), ("options before its command",)),
        (("sign", "--from", day(), "--to", day(1), "--as", "vera"), ("--to", "not over yet")),
        (("sign", *yesterday, "--as", ""), ("--as",)),
        (("sign", *yesterday), ("--as",)),
        (("sign", "--from", day(-1), "--as", "vera"), ("missing",)),
        (("sign", *yesterday, "--as", "vera", "--exceptions", CARD), ("--exceptions", "card number")),
        (("sign", *yesterday, "--as", "vera", "--exceptions", "x" * 3000), ("--exceptions", "too long")),
        (("close", "7", "--as", "max", "--disposition", "fine", "--ticket", "T-1"), ("no open review",)),
        (("close", "7", "--as", "max", "--disposition", " ", "--ticket", "T-1"), ("--disposition", "empty")),
        (("close", "7", "--as", "max", "--disposition", "fine", "--ticket", ""), ("--ticket", "empty")),
        (("close", "7", "--as", "max", "--disposition", "fine"), ("--ticket",)),
        (("close", "0", "--as", "max", "--disposition", "fine", "--ticket", "T"), ("NUMBER",)),
    ]:
        refused(command("audit", "review", *argv), *words)
    assert entries(home) == before, "nothing was written"


# --- reconcile ----------------------------------------------------------------------------------


def test_a_report_that_agrees_is_fine_and_leaves_an_entry(command, home):
    paid(home, "INV-1", "INV-2")
    report = f"\ufeff{HEADER}\r\n{ROW}\r\n{ROW.replace('INV-1', 'INV-2')}\r\n".replace(",", ";").encode()
    (home / "report.csv").write_bytes(report)

    told = command("audit", "reconcile", "report.csv", "--as", "vera", "--json")

    assert (told.status, told.json["findings"], told.json["counts"]["matched"]) == (0, [], 2)
    ((actor, body),) = notes(home, "audit.reconciled")
    assert (actor, body["sha256"], body["lines"]) == ("vera", hashlib.sha256(report).hexdigest(), 2)
    assert body["counts"] == told.json["counts"]


def test_a_payment_that_they_never_took_is_a_finding(command, home):
    paid(home, "INV-1", "INV-FORGED")
    assert command("audit", "seal").status == 0
    assert command("audit", "completeness").status == 0
    (home / "report.csv").write_text(f"{HEADER}\n{ROW}\nELSE,1.00,GBP,declined,2026-11-24T15:46:40Z\n")

    told = command("audit", "reconcile", "report.csv", "--json")

    assert told.status == 1
    assert {(each["result"], (each["ours"] or each["theirs"])["reference"]) for each in told.json["findings"]} == {
        ("ours_only", "INV-FORGED"), ("theirs_only", "ELSE"),
    }  # fmt: skip
    shown = command(
        "audit", "reconcile", "report.csv", "--account", "emea", "--from", "2026-11-24", "--to", "2026-11-25"
    )
    assert (shown.status, "INV-FORGED" in shown.out, "1 matched" in shown.out) == (1, True, True)


def test_columns_and_words_are_named_on_the_command_line(command, home):
    paid(home, "INV-1")
    (home / "report.csv").write_text(
        "Merchant Ref,Value,currency,How,time\nINV-1,12.40,GBP,Bezahlt,2026-11-24T15:46:40Z\n"
    )

    told = command(
        "audit", "reconcile", "report.csv", "--columns", "reference=Merchant Ref, amount=Value,status=How",
        "--statuses", "bezahlt=paid",
    )  # fmt: skip

    assert told.status == 0, told.err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ("line 1", "reference")),
        (b"id;sum\n1;2\n", ("line 1", "no column for reference")),
        (f"{HEADER}\n{ROW}\n{ROW.replace('12.40', '12.4.0')}\n", ("line 3", "amount")),
        (f"{HEADER}\n{ROW},more\n", ("line 2", "columns")),
        (f"{HEADER}\n{ROW}\n".encode("utf-16"), ("line 1", "UTF-8")),
        (f"{HEADER},note\n{ROW},{CARD}\n", ("line 2", "column 6", "card number")),
        (f"{HEADER},note\n{ROW},=HYPERLINK(1)\n", ("line 2", "column 6", "formula")),
        (f'{HEADER}\n{ROW}\n"{ROW}', ("line 3", "quote")),
    ],
    ids=["empty", "other columns", "amount", "surplus", "utf-16", "card", "formula", "cut off"],
)
def test_a_report_that_does_not_fit_is_refused_whole(command, home, content, words):
    paid(home, "INV-1")
    before = entries(home)
    (home / "report.csv").write_bytes(content if isinstance(content, bytes) else content.encode())

    told = command("audit", "reconcile", "report.csv", "--json")

    refused(told, "report.csv", *words)
    assert CARD not in told.err
    assert entries(home) == before


def test_reconcile_refuses_what_it_can_not_use(command, home):
    (home / "report.csv").write_text(f"{HEADER}\n{ROW}\n")
    before = entries(home)
    for argv, words in [
        (("nowhere.csv",), ("FILE.csv", "can't be read")),
        ((".",), ("FILE.csv", "can't be read")),
        (("report.csv", "--account", "nobody"), ("--account", "not configured")),
        (("report.csv", "--columns", "reference"), ("--columns", "pairs")),
        (("report.csv", "--columns", "colour=Red"), ("--columns", "something else")),
        (("report.csv", "--columns", "reference=Nowhere"), ("line 1", "no column for reference")),
        (("report.csv", "--columns", "reference=amount"), ("line 1", "two things")),
        (("report.csv", "--statuses", "paid=maybe"), ("--statuses", "meaning")),
        (("report.csv", "--from", "2026-12-24"), ("--to", "not after")),
        (("report.csv", "--from", "2026-11-24", "--to", "2026-11-23"), ("--to", "not after")),
    ]:
        refused(command("audit", "reconcile", *argv), *words)
    assert entries(home) == before


def test_a_database_that_does_not_answer_is_told_as_that(command, home, monkeypatch):
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    (home / "report.csv").write_text(f"{HEADER}\n{ROW}\n")
    for argv in (("completeness",), ("review", "--day", day()), ("review", "list")):
        told = command("audit", *argv)
        assert (told.status, told.out) == (3, ""), told.err
