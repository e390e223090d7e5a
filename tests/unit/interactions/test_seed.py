"""The vendor's own texts run as they stand, and the bundled ones say the same."""

import json
from urllib.parse import parse_qs

import pytest

from orchestrator.domain.errors import DefinitionError, InvalidInput
from orchestrator.interactions import BUNDLED, bundled, fields_to_collect, lint, parse, render
from tests.fixtures.definitions import AS_BUNDLED, PEOPLE, seed

HOST = "http://127.0.0.1:8080"
SECRET = "s3cr3t-Of+The/Client"
PAYER = {
    "AccessToken": "tok.en-1",
    "CallGuid": "c0ffee",
    "cardholderName": 'Ann "Annie" O\\Neil',
    "cardholderPostCode": "SW1A 1AA",
    "cardholderAddress": "1 High Street\nLondon",
    "merchantTxnRef": "INV-1001",
    "amount": "12.40",
    "CustomerPhoneNumber": "+447700900123",
    "GlobalPCI|SessionId": "11111111-2222-3333-4444-555555555555",
}


@pytest.mark.parametrize("name", BUNDLED)
def test_the_bundled_document_is_the_vendors_with_settings_and_fields_filled_in(name):
    assert parse(seed(name, *AS_BUNDLED[name]), name=name).digest == parse(bundled(name), name=name).digest


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_document_has_no_finding(name):
    supplied = ["AccessToken", "CallGuid", "CustomerPhoneNumber", "GlobalPCI|SessionId", *PEOPLE]

    assert lint(bundled(name), name=name, supplied=supplied) == []


def test_only_bundled_names_are_served():
    with pytest.raises(InvalidInput, match="one of authorize"):
        bundled("../../../settings")


def test_the_vendors_token_call_runs_unchanged_and_keeps_its_secret_out_of_everything_shown():
    definition = parse(seed("authorize", HOST, "the client", SECRET), name="authorize")
    rendered = render(definition, {}, {})

    assert (rendered.method, rendered.url) == ("POST", f"{HOST}/auth/connect/token")
    assert rendered.headers == (("Content-Type", "application/x-www-form-urlencoded"),)
    assert rendered.body.startswith(
        b"grant_type=client_credentials&scope=globalpci&client_id=the client&client_secret="
    )
    assert parse_qs(rendered.body.decode())["client_secret"] == [SECRET.replace("+", " ")]
    assert definition.destinations == ("AuthorizeResponseCode", "AccessToken", "TokenType")
    for shown in (definition.text, repr(definition), str(definition), repr(rendered), str(definition.lifted)):
        assert SECRET not in shown
        assert "s3cr3t" not in shown


@pytest.mark.parametrize(
    ("name", "path", "first"),
    [
        ("start_phone_session", "selfservicesession", {"CallGuid": PAYER["CallGuid"]}),
        ("start_digital_session", "digitalselfservicesession", {}),
    ],
)
def test_the_vendors_session_calls_run_unchanged(name, path, first):
    digital = ("CustomerPhoneNumber",) if name == "start_digital_session" else ()
    rendered = render(parse(seed(name, HOST, "1234", *digital, *PEOPLE), name=name), PAYER, {})

    assert (rendered.method, rendered.url) == ("POST", f"{HOST}/globalpci/v1/{path}/")
    assert rendered.headers == (("Authorization", "Bearer tok.en-1"), ("Content-Type", "application/json"))
    assert json.loads(rendered.body) == {
        "AccountConfigurationId": "1234",
        **first,
        "PaymentData": {key: PAYER[key] for key in digital}
        | {
            "cardholderName": PAYER["cardholderName"],
            "cardholderPostCode": PAYER["cardholderPostCode"],
            "cardholder Address": PAYER["cardholderAddress"],
            "merchantTxnRef": "INV-1001",
            "amount": "12.40",
        },
    }


def test_the_vendors_status_call_runs_unchanged():
    definition = parse(seed("session_status", HOST), name="session_status")
    rendered = render(definition, PAYER, {})

    assert rendered.method == "GET"
    assert rendered.url == f"{HOST}/globalpci/v1/session/{PAYER['GlobalPCI|SessionId']}"
    assert rendered.headers == (("Authorization", "Bearer tok.en-1"),)
    assert rendered.body == b""
    assert definition.destinations == ("GlobalPCI|ResponseCode", "GlobalPCI|SessionState")


@pytest.mark.parametrize("name", BUNDLED)
def test_an_unfilled_vendor_text_is_refused_by_line_and_element(name):
    with pytest.raises(DefinitionError, match=f"{name}.xml:1 <Request/Url>: still has ~~~REPLACE~~~"):
        parse(seed(name), name=f"{name}.xml")


def test_the_fields_to_collect_are_what_no_earlier_step_and_nobody_else_supplies():
    def steps(start):
        return [parse(bundled(name), name=name) for name in ("authorize", start, "session_status")]

    supplied = ("amount", "merchantTxnRef")

    assert fields_to_collect(steps("start_phone_session"), supplied=supplied) == ("CallGuid", *PEOPLE[:3])
    assert fields_to_collect(steps("start_digital_session"), supplied=supplied) == ("CustomerPhoneNumber", *PEOPLE[:3])
    assert "AccessToken" in fields_to_collect(steps("start_phone_session")[1:], supplied=supplied)
