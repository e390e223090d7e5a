"""Commands on payments, run as a shell would run them; the provider is not needed."""

import json
import sqlite3
from contextlib import closing

import pytest

from tests.support.cli import PAYER, submission

PHONE = PAYER | {"CallGuid": "call-1"}
DIGITAL = PAYER | {"CustomerPhoneNumber": "+447700900877"}


def rows(home, table="payment"):
    """Count what was written, through a plain driver connection."""
    with closing(sqlite3.connect(home / "orchestrator.db")) as connection:
        return connection.execute(f"select count(*) from {table}").fetchone()[0]


def submitted(command, **changes):
    result = command("submit", "--json", **submission(**changes))
    assert result.status == 0, result.err
    return result.json


def assert_refused(result, *words):
    """One readable line on standard error, nothing on standard output, status 2."""
    assert (result.status, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line


BAD_SUBMITS = {
    "an unknown account": (submission(account="nowhere"), "account", "not configured", "emea"),
    "an unknown account without a currency": (submission(account="nowhere", currency=None), "account", "emea"),
    "an unknown channel": (submission(channel="fax"), "channel", "phone or digital"),
    "an unknown field": (submission(fields=PHONE | {"Shoe": "44"}), "fields.Shoe", "not a field", "CallGuid"),
    "the other channel's field": (submission(fields=DIGITAL), "fields.CustomerPhoneNumber", "not a field"),
    "an amount with a comma": (submission(amount="12,40"), "amount", "12.40"),
    "an amount that is no number": (submission(amount="NaN"), "amount", "plain decimal"),
    "an amount with a sign": (submission(amount="-1"), "amount", "plain decimal"),
    "an amount of nothing": (submission(amount="0.00"), "amount", "more than zero"),
    "too many decimals": (submission(amount="12.405"), "amount", "decimals of GBP"),
    "decimals in a currency without": (submission(amount="12.40", currency="JPY"), "amount", "decimals of JPY"),
    "an amount out of range": (submission(amount="99999999999.00"), "amount", "out of range"),
    "a currency of two letters": (submission(currency="GB"), "currency", "ISO 4217"),
    "a currency in small letters": (submission(currency="gbp"), "currency", "capital"),
    "an unknown currency": (submission(currency="ZZZ"), "currency", "ISO 4217"),
    "a national telephone number": (
        submission("digital", fields=DIGITAL | {"CustomerPhoneNumber": "07700900123"}), "CustomerPhoneNumber", "E.164",
    ),
    "a telephone number too short": (
        submission("digital", fields=DIGITAL | {"CustomerPhoneNumber": "+4412"}), "CustomerPhoneNumber", "E.164",
    ),
    "words for a telephone number": (
        submission("digital", fields=DIGITAL | {"CustomerPhoneNumber": "ask Ada"}), "CustomerPhoneNumber", "E.164",
    ),
    "a call id with a space": (submission(fields=PHONE | {"CallGuid": "call 1"}), "CallGuid", "GUID"),
    "a call id too long": (submission(fields=PHONE | {"CallGuid": "c" * 65}), "CallGuid", "length"),
    "an empty reference": (submission(reference=""), "reference", "missing"),
    "a reference too long": (submission(reference="R" * 51), "reference", "1 to 50"),
    "a reference with a space": (submission(reference="INV 1"), "reference", "characters"),
    "a reference beyond ASCII": (submission(reference="INV-é"), "reference", "ASCII"),
    "an idempotency key with a space": (submission(key="a b"), "idempotency_key", "visible ASCII"),
    "a text over 4 KiB": (submission(fields=PHONE | {"cardholderName": "é" * 2049}), "cardholderName", "4096 bytes"),
    "a control character": (submission(fields=PHONE | {"cardholderName": "A\x1b[2J"}), "cardholderName", "control"),
    "a line end": (submission(fields=PHONE | {"cardholderName": "A\nB"}), "cardholderName", "control"),
    "NUL": (submission(fields=PHONE | {"cardholderName": "A\0"}), "cardholderName", "control"),
    "a lone surrogate": (submission(fields=PHONE | {"cardholderName": "A\ud800"}), "cardholderName", "surrogate"),
    "an empty field": (submission(fields=PHONE | {"cardholderName": " "}), "cardholderName", "empty"),
    "a card number": (submission(fields=PHONE | {"cardholderName": "4111 1111 1111 1111"}), "cardholderName", "card"),
    "a number for a text": (submission(fields={"CallGuid": 5}), "--fields-file", "object of texts"),
    "a list for fields": ({**submission(), "stdin": '["Ada"]'}, "--fields-file", "object of texts"),
    "fields that are no JSON": ({**submission(), "stdin": "name=Ada"}, "--fields-file", "not JSON"),
    "a field twice in the file": ({**submission(), "stdin": '{"a": "1", "a": "2"}'}, "--fields-file", "twice"),
    "a fields file too long": ({**submission(), "stdin": " " * 300_000}, "--fields-file", "longer than"),
    "a fields file that is not there": ({**submission(), "fields_file": "nowhere.json"}, "--fields-file", "NotFound"),
    "a field in the file and beside it": (submission() | {"field": "CallGuid=call-2"}, "fields.CallGuid", "twice"),
    "a field without a name": (submission() | {"field": "=x"}, "--field", "NAME=VALUE"),
    "a field without a value": (submission() | {"field": "CallGuid"}, "--field", "NAME=VALUE"),
    "no amount": (submission(amount=None), "--amount", "--help"),
    "no reference": (submission(reference=None), "--reference", "--help"),
    "an option that is none": (submission() | {"colour": "red"}, "--colour", "--help"),
    "an unnamed person": (submission() | {"as": " "}, "--as", "1 to 100"),
    "a person with a control character": (submission() | {"as": "Ada\x07"}, "--as", "control"),
}  # fmt: skip


@pytest.mark.parametrize("row", BAD_SUBMITS)
def test_bad_input_is_one_line_that_names_field_and_fix_and_nothing_is_written(command, home, row):
    arguments, *words = BAD_SUBMITS[row]

    assert_refused(command("submit", **arguments), *words)

    assert rows(home) == 0


def test_what_is_left_over_on_the_command_line_is_not_repeated_because_it_may_be_a_name(command, home):
    result = command("submit", "--field", "cardholderName=Ada", "Canary", **submission())

    assert_refused(result, "belongs to no option", "quote")
    assert rows(home) == 0


def test_bytes_that_are_no_utf_8_on_the_command_line_are_refused(command, home):
    assert_refused(command("submit", **submission(), key="\udcff"), "idempotency_key")
    assert_refused(command("submit", "--as", "\udcff", **submission()), "--as", "surrogate")
    assert rows(home) == 0


def test_a_submit_is_printed_shown_and_listed_without_anything_of_the_payer(command):
    record = submitted(command, reference="INV-7", amount="1240", currency="JPY", key="order-7")

    shown = command("show", record["id"])
    told = command("show", record["id"], "--json").json
    listed = command("list").out

    assert (record["state"], record["amount"], record["currency"], record["missing"]) == (
        "collecting",
        "1240",
        "JPY",
        [],
    )
    assert (record["reference"], record["call_guid"], record["money"]) == ("INV-7", "call-1", "none")
    assert told["payment"] == record
    assert [entry["body"]["trigger"] for entry in told["timeline"]] == ["submit"]
    assert told["timeline"][0]["hash"] == record["head"]
    assert record["head"][:8] in shown.out
    assert record["head"] not in shown.out
    for text in (shown.out, listed):
        assert record["id"] in text
        assert "1240 JPY" in text


def test_the_first_submit_makes_a_database_and_a_key_that_only_its_owner_can_read(command, home):
    for file in home.glob("*.db*"):
        file.unlink()

    result = command("submit", **submission())

    assert (result.status, rows(home)) == (0, 1)
    assert "sealing_key.created" in result.err
    assert (home / "orchestrator.db.key").stat().st_mode & 0o777 == 0o600


def test_the_account_gives_the_currency_that_a_submit_leaves_out(command):
    assert submitted(command, currency=None)["currency"] == "GBP"


def test_without_any_currency_the_option_and_the_setting_are_named(command, home):
    settings = home / "orchestrator.toml"
    settings.write_text(settings.read_text().replace('currency = "GBP"\n', ""))

    assert_refused(command("submit", **submission(currency=None)), "currency", "accounts.emea.currency")


def test_the_same_submit_gives_the_same_payment_and_another_content_is_refused_by_the_names_that_differ(command, home):
    first = submitted(command)

    assert submitted(command) == first
    other = submission(amount="12.50", fields=PHONE | {"cardholderPostCode": "AA1 1AA"})
    assert_refused(command("submit", **other), "amount", "cardholderPostCode", "differ", first["id"])
    assert rows(home) == 1
    assert command("show", first["id"], "--json").json["payment"] == first


def test_a_reference_can_be_taken_again_only_after_its_payment_failed(command):
    first = submitted(command)
    assert_refused(command("submit", "--again", **submission()), "reference", "still open")

    assert command("cancel", first["id"]).status == 0

    second = command("submit", "--again", "--json", **submission()).json
    assert (second["round"], first["round"]) == (2, 1)
    assert second["id"] != first["id"]


def test_fields_can_come_later_from_options_a_file_and_standard_input(command, home):
    record = submitted(command, fields={})
    assert sorted(record["missing"]) == sorted(PHONE)
    (home / "one.json").write_text(json.dumps({"cardholderName": PAYER["cardholderName"]}))

    one = command("collect", record["id"], "--json", fields_file="one.json").json
    two = command("collect", record["id"], "--json", field="CallGuid=call-9").json
    rest = {name: PAYER[name] for name in ("cardholderPostCode", "cardholderAddress")}
    three = command("collect", record["id"], "--json", fields_file="-", stdin=json.dumps(rest)).json

    assert sorted(one["missing"]) == ["CallGuid", "cardholderAddress", "cardholderPostCode"]
    assert (two["call_guid"], three["missing"]) == ("call-9", [])
    assert three["due_at"] is not None


def test_fields_that_no_payment_waits_for_are_refused(command):
    record = submitted(command)

    assert_refused(command("collect", record["id"], field="CallGuid=call-2"), "fields", "can't be collected")
    assert_refused(command("collect", record["id"]), "--field", "missing")


@pytest.mark.parametrize(
    "argv",
    [
        ("collect", "pay-none", "--field", "CallGuid=c"),
        ("cancel", "pay-none"),
        ("acknowledge", "pay-none"),
        ("show", "pay-none"),
    ],
    ids=lambda argv: argv[0],
)
def test_an_id_that_no_payment_has_is_told(command, argv):
    assert_refused(command(*argv), "no payment")


@pytest.mark.parametrize("argv", [("list",), ("show", "pay-x"), ("cancel", "pay-x"), ("audit", "verify")], ids=" ".join)
def test_no_command_but_submit_worker_and_upgrade_makes_a_database(command, home, argv):
    for file in home.glob("*.db*"):
        file.unlink()

    assert_refused(command(*argv), "database_url", "orchestrator db upgrade")

    assert not list(home.glob("*.db*"))


def test_a_cancelled_payment_fails_with_person_and_reason_in_its_timeline(command):
    record = submitted(command)

    ended = command("cancel", record["id"], "--json", "--as", "Operator Jo", reason="caller hung up").json
    again = command("cancel", record["id"], "--json").json
    entries = command("show", record["id"], "--json").json["timeline"]

    assert (ended["state"], ended["outcome"]) == ("failed", "cancelled_by_host")
    assert again == ended
    assert [(body["trigger"], body["actor"]) for body in (entry["body"] for entry in entries)][1:] == [
        ("fail", "Operator Jo")
    ]
    assert entries[1]["body"]["why"] == "caller hung up"
    assert "Operator Jo" in command("show", record["id"]).out


def test_a_reason_with_card_data_is_refused_and_nothing_is_cancelled(command, home):
    record = submitted(command)
    before = rows(home, "audit_entry")

    assert_refused(command("cancel", record["id"], reason="card 4111111111111111"), "reason", "card")
    assert rows(home, "audit_entry") == before + 1, "one that says what was refused"


def test_without_as_the_trail_names_the_user_of_the_operating_system(command, monkeypatch):
    monkeypatch.setenv("LOGNAME", "jo")
    record = submitted(command)

    (entry,) = command("show", record["id"], "--json").json["timeline"]

    assert entry["body"]["actor"] == "cli:jo"


def test_a_user_without_a_name_is_named_by_number(command, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: {}["no such user"])
    record = submitted(command)

    (entry,) = command("show", record["id"], "--json").json["timeline"]

    assert entry["body"]["actor"].startswith("cli:uid-")


def test_nothing_was_handed_over_so_nothing_can_be_acknowledged(command):
    assert_refused(command("acknowledge", submitted(command)["id"]), "no hand-over")


def test_a_list_is_filtered_and_paged(command):
    first = submitted(command, reference="A-1")["id"]
    second = submitted(command, channel="digital", reference="B-1")["id"]
    third = submitted(command, reference="C-1", fields={})["id"]
    command("cancel", first)

    def ids(*argv):
        return [record["id"] for record in command("list", "--json", *argv).json]

    assert ids() == [first, second, third]
    assert ids("--limit", "2") == [first, second]
    assert ids("--limit", "2", "--after", second) == [third]
    assert ids("--state", "failed") == [first]
    assert ids("--channel", "digital") == [second]
    assert ids("--reference", "C-1", "--account", "emea") == [third]
    assert ids("--account", "apac") == []
    assert ids("--held") == []
    assert ids("--not-held", "--state", "collecting") == [second, third]
    assert command("list", "--held").out.strip() == "no payment matches"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--state", "gone"), ("--state", "awaiting_payment")),
        (("--channel", "fax"), ("--channel", "phone, digital")),
        (("--limit", "0"), ("limit", "1 to 1000")),
        (("--limit", "1001"), ("limit", "1 to 1000")),
        (("--limit", "many"), ("--limit", "integer")),
        (("--after", "pay-x"), ("after", "last id")),
    ],
    ids=" ".join,
)
def test_a_list_that_makes_no_sense_is_refused(command, argv, words):
    submitted(command)

    assert_refused(command("list", *argv), *words)
