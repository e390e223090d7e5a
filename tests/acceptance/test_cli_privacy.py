"""Erasure, rotation and refused card data on the command line, as a shell would run them."""

import asyncio
import base64
import json
import shutil
import sqlite3
from contextlib import closing

import pytest

from orchestrator import Money, Orchestrator, load_settings
from orchestrator.sandbox import Sandbox, SandboxOptions
from tests.support.cli import PAYER, SECRET, SETTINGS, submission

WHO = ("--as", "Ada Lovelace", "--reason", "the payer asked")
CARD = "4111 1111 1111 1111"


def rows(home, statement):
    with closing(sqlite3.connect(home / "orchestrator.db")) as connection:
        return connection.execute(statement).fetchall()


def noted(home, kind):
    found = rows(home, "select body from audit_entry where chain_id like 'admin-%' order by at, seq")
    return [body for body in (json.loads(text) for (text,) in found) if body["kind"] == kind]


def submitted(command, reference="PAID-1"):
    result = command("submit", "--json", **submission(reference=reference, fields=PAYER | {"CallGuid": reference}))
    assert result.status == 0, result.err
    return result.json["id"]


def cancelled(command, reference="PAID-1"):
    """A payment that has ended, with payer data."""
    payment = submitted(command, reference)
    assert command("cancel", payment, reason="the caller hung up").status == 0
    return payment


def test_an_erasure_is_told_and_leaves_a_clean_trail(command, home):
    payment = cancelled(command)
    assert rows(home, "select count(*) from payer_data") == [(1,)]

    result = command("audit", "erase", payment, *WHO, "--json")

    assert (result.status, result.json["erased"], result.json["log_emptied"]) == (0, [payment], True)
    assert rows(home, "select count(*) from payer_data") == [(0,)]
    assert [(each["about"], each["actor"], each["reason"]) for each in noted(home, "subject.erased")] == [
        (payment, "Ada Lovelace", "the payer asked")
    ]
    told = [json.loads(line) for line in (home / "orchestrator.db.seal").read_bytes().splitlines()]
    assert [line["erased"] for line in told if "erased" in line] == [payment]
    again = command("audit", "erase", payment, *WHO)
    assert (again.status, again.out.splitlines()[0]) == (0, "erased: 0; nothing there (any more): 1")
    assert len(noted(home, "subject.erased")) == 1
    assert command("audit", "verify").status == 0
    assert not [each for each in home.iterdir() if each.is_file() and b"Canary" in each.read_bytes()]


def test_a_reference_is_erased_with_all_its_payments(command, home):
    payment = cancelled(command)
    result = command("audit", "erase", "--reference", "PAID-1", "--account", "emea", *WHO, "--json")
    assert (result.status, result.json["erased"]) == (0, [payment])
    assert command("audit", "erase", "--reference", "PAID-2", "--account", "emea", *WHO).status == 2


def test_what_is_refused_is_named_and_nothing_is_written(command, home):
    payment = submitted(command)
    before = rows(home, "select count(*) from audit_entry")
    refused = [
        ((payment, *WHO), "has not ended"),
        (("pay-" + "a" * 26, *WHO), "no payment"),
        (("INV-1", *WHO), "no payment has this id"),
        (WHO, "ids, --reference or --replay"),
        ((payment, "--reference", "PAID-1", "--account", "emea", *WHO), "ids, --reference or --replay"),
        (("--reference", "PAID-1", *WHO), "belong together"),
        ((payment, "--as", "Ada", "--reason", " "), "--reason: is empty"),
        (("--replay", "nowhere", *WHO), "can't be read"),
        (("--replay", "orchestrator.toml", *WHO), "holds no line of ours"),
    ]
    for arguments, words in refused:
        result = command("audit", "erase", *arguments)
        assert (result.status, result.out, len(result.err.splitlines())) == (2, "", 1), arguments
        assert words in result.err
    assert rows(home, "select count(*) from audit_entry") == before
    assert rows(home, "select count(*) from payer_data") == [(1,)]


@pytest.mark.parametrize("source", ["sink", "export"])
def test_what_was_erased_is_erased_again_after_an_old_backup_was_put_back(command, home, source):
    payment, other = cancelled(command), cancelled(command, "PAID-2")
    assert command("db", "backup", "monday.db").status == 0
    assert command("audit", "erase", payment, *WHO).status == 0
    assert command("audit", "export", output="trail.jsonl").status == 0
    for suffix in ("-wal", "-shm"):
        (home / f"orchestrator.db{suffix}").unlink(missing_ok=True)
    shutil.copy(home / "monday.db", home / "orchestrator.db")
    assert command("db", "restored", *WHO).status == 0
    assert rows(home, "select count(*) from payer_data") == [(2,)]
    file = "orchestrator.db.seal" if source == "sink" else "trail.jsonl"

    result = command("audit", "erase", "--replay", file, *WHO, "--json")

    assert (result.status, result.json["erased"]) == (0, [payment])
    assert rows(home, "select payment_id from payer_data") == [(other,)]
    assert command("audit", "verify").status == 0
    assert command("audit", "erase", "--replay", file, *WHO, "--json").json["nothing"] == [payment]


def test_a_damaged_export_is_not_replayed(command, home):
    payment = cancelled(command)
    assert command("db", "backup", "monday.db").status == 0
    assert command("audit", "erase", payment, *WHO).status == 0
    assert command("audit", "export", output="trail.jsonl").status == 0
    text = (home / "trail.jsonl").read_text()
    (home / "trail.jsonl").write_text(text.replace("the payer asked", "somebody asked"))

    result = command("audit", "erase", "--replay", "trail.jsonl", *WHO)

    assert (result.status, result.out) == (2, "")
    assert "is damaged" in result.err


def test_keys_are_rotated_by_a_line_in_the_key_file(command, home):
    first, second = submitted(command), submitted(command, "PAID-2")
    key_file = home / "orchestrator.db.key"
    with key_file.open("a") as keys:
        keys.write(base64.b64encode(b"2" * 32).decode() + "\n")

    result = command("db", "rotate-keys", "--as", "Ada", "--reason", "yearly", "--json")

    assert result.status == 0
    assert (result.json["resealed"], result.json["current"], result.json["older"]) == (2, 2, 0)
    assert result.json["older_digests"] == 2
    (entry,) = noted(home, "key.rotated")
    assert (entry["actor"], entry["reason"], entry["resealed"]) == ("Ada", "yearly", 2)
    text = command("db", "rotate-keys", "--as", "Ada", "--reason", "yearly")
    assert "sealed anew: 0" in text.out
    assert "compared under an older key: keep it" in text.out
    same = command("submit", "--json", **submission(reference="PAID-1", fields=PAYER | {"CallGuid": "PAID-1"}))
    assert (same.status, same.json["id"]) == (0, first)
    assert second != first
    assert command("audit", "verify").status == 0


@pytest.mark.parametrize("key", ["missing", "other", "malformed", "open"])
def test_a_wrong_key_is_one_clear_error_and_nothing_is_written(command, home, key):
    submitted(command)
    before = rows(home, "select sealed from payer_data"), rows(home, "select count(*) from audit_entry")
    file = home / "orchestrator.db.key"
    match key:
        case "missing":
            file.unlink()
        case "other":
            file.write_text(base64.b64encode(b"3" * 32).decode())
        case "malformed":
            file.write_text("canary-of-a-key")
        case "open":
            file.chmod(0o644)

    result = command("db", "rotate-keys", "--as", "Ada", "--reason", "yearly")

    assert (result.status, result.out, len(result.err.splitlines())) == (2, "", 1)
    assert "sealing_key" in result.err
    assert "canary" not in result.err
    assert (rows(home, "select sealed from payer_data"), rows(home, "select count(*) from audit_entry")) == before


REFUSED = {
    "person": ("audit", "erase", "pay-" + "a" * 26, "--as", CARD, "--reason", "why"),
    "reason": ("audit", "erase", "pay-" + "a" * 26, "--as", "Ada", "--reason", f"card {CARD}"),
    "payment": ("audit", "erase", CARD, *WHO),
    "reference": ("audit", "erase", "--reference", CARD.replace(" ", ""), "--account", "emea", *WHO),
    "rotation": ("db", "rotate-keys", "--as", "Ada", "--reason", "cvv: 123"),
    "pause": ("accounts", "pause", "emea", "--reason", CARD),
    "cancel": ("cancel", "pay-" + "a" * 26, "--reason", CARD),
    "resolve": ("resolve", "pay-" + "a" * 26, "--reason", CARD, "--as", "Ada", "--retry"),
    "restored": ("db", "restored", "--as", "Ada", "--reason", CARD),
    "list": ("list", "--account", CARD),
    "closing": (
        *("audit", "close", "1", "--as", "Ada", "--remediation", CARD, "--issues", "none"),
        *("--further-action", "none", "--prevention", "none"),
    ),
}


@pytest.mark.parametrize("place", REFUSED)
def test_card_data_in_an_argument_is_refused_and_noted_without_it(command, home, place):
    result = command(*REFUSED[place])

    assert (result.status, result.out) == (2, "")
    assert len(noted(home, "card_data.refused")) == 1
    assert rows(home, "select count(*) from audit_entry where chain_id like 'pay-%'") == [(0,)]
    for text in (result.out, result.err, *(str(body) for body in noted(home, "card_data.refused"))):
        assert "4111" not in text


def test_a_worker_erases_what_its_time_is_over_for(command, home):
    async def work():
        async with Sandbox(SandboxOptions(speed=20, client_secret=SECRET)) as sandbox:
            (home / "orchestrator.toml").write_text(SETTINGS.format(url=sandbox.base_url))
            overrides = {"privacy": {"retain_days": 0.000001}}
            settings = load_settings(environ={"CANARY_SECRET": SECRET}, cwd=home, overrides=overrides)
            async with Orchestrator(settings) as orchestrator:
                payment = await orchestrator.submit(
                    account="emea", channel="digital", reference="PAID-1", amount=Money("12.40", "GBP"),
                    fields=PAYER | {"CustomerPhoneNumber": "+447700900877"},
                )  # fmt: skip
                async with asyncio.timeout(20):
                    async with orchestrator.worker():
                        await orchestrator.wait(payment.id)
                    await asyncio.sleep(0.3)  # longer than the days that it is kept
                    async with orchestrator.worker():  # one that begins when its time is over
                        while await orchestrator.store.sealed(payment.id) is not None:
                            await asyncio.sleep(0.05)

    asyncio.run(work())
    (entry,) = noted(home, "subject.erased")
    assert (entry["reason"], entry["actor"].partition("-")[0]) == ("retention", "worker")
    assert command("audit", "verify").status == 0
