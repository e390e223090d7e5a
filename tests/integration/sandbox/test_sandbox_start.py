"""Starting sessions: what is granted, and what a real provider would refuse."""

import json
import re
import uuid

import pytest

PHONE, DIGITAL = "/globalpci/v1/selfservicesession/", "/globalpci/v1/digitalselfservicesession/"
DATA = {"merchantTxnRef": "PAID-1", "amount": "12.40"}
JSON = {"Content-Type": "application/json"}


async def test_a_phone_session_answers_number_link_and_id(caller):
    response = await caller.start("PAID-1")
    body = response.json()
    assert response.status_code == 200
    assert set(body) == {"dtmfFallbackNumber", "dtmfLinkId", "sessionId", "Message"}
    assert re.fullmatch(r"\+44[0-9]{10}", body["dtmfFallbackNumber"])
    assert re.fullmatch(r"[0-9]{4}", body["dtmfLinkId"])
    assert str(uuid.UUID(body["sessionId"])) == body["sessionId"]
    assert body["Message"] is None


async def test_a_digital_session_answers_no_number_and_no_link(caller):
    body = (await caller.start("PAID-1", "digital")).json()
    assert set(body) == {"sessionId", "Message"}
    assert (await caller.status(body["sessionId"])).json()["callGuid"] is None


@pytest.mark.parametrize("name", ["merchantTxnRef", "MerchantReferenceCode", "merchantReference"])
@pytest.mark.parametrize("amount", ["amount", "Amount"])
async def test_reference_and_amount_are_found_under_any_documented_name(caller, name, amount):
    response = await caller.start("", PaymentData={name: "DECLINED-9", amount: "7.05"})
    assert response.status_code == 200
    assert caller.sessions_of("DECLINED-9") == 1


@pytest.mark.parametrize(
    "body",
    [
        {"accountConfigurationId": "4242", "callGuid": "g", "paymentData": DATA},
        {"AccountConfigurationId": 4242, "CallGuid": "g", "PaymentData": DATA},
        {
            "AccountConfigurationId": "4242",
            "CallGuid": "g",
            "PaymentData": DATA | {"currency": "JPY", "amount": "1240"},
        },
        {"AccountConfigurationId": "4242", "CallGuid": "g", "PaymentData": DATA, "skipCallTransfer": False},
        {"AccountConfigurationId": "4242", "CallGuid": "g", "PaymentData": DATA | {"cardholder Address": ""}},
    ],
)
async def test_top_level_names_in_any_case_and_further_members_are_taken(caller, body):
    assert (await caller.http.post(PHONE, json=body)).status_code == 200


def _without(*names):
    return {"PaymentData": {name: text for name, text in DATA.items() if name not in names}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"AccountConfigurationId": None}, "AccountConfigurationId is missing"),
        ({"AccountConfigurationId": ""}, "AccountConfigurationId is missing"),
        ({"AccountConfigurationId": True}, "AccountConfigurationId is missing"),
        ({"AccountConfigurationId": ["4242"]}, "AccountConfigurationId is missing"),
        (
            {"AccountConfigurationId": "1"},
            "Account configuration does not exists for account: sandbox, configuration Id: 1",
        ),
        ({"CallGuid": None}, "CallGuid is missing"),
        ({"CallGuid": " "}, "CallGuid is missing"),
        ({"CallGuid": 7}, "CallGuid is missing"),
        ({"PaymentData": None}, "PaymentData is missing"),
        ({"PaymentData": {}}, "PaymentData is missing"),
        ({"PaymentData": [DATA]}, "PaymentData is missing"),
        (_without("merchantTxnRef"), "PaymentData.merchantTxnRef is missing"),
        (_without("amount"), "PaymentData.amount is missing"),
        ({"PaymentData": DATA | {"merchantTxnRef": " "}}, "PaymentData.merchantTxnRef is missing"),
        ({"PaymentData": DATA | {"amount": 12.4}}, "PaymentData.amount is not a string"),
        ({"PaymentData": DATA | {"cardholderName": None}}, "PaymentData.cardholderName is not a string"),
        ({"PaymentData": DATA | {"amount": "12,40"}}, "PaymentData.amount is not a plain decimal number"),
        ({"PaymentData": DATA | {"amount": "-1.00"}}, "PaymentData.amount is not a plain decimal number"),
        ({"PaymentData": DATA | {"amount": "0.00"}}, "PaymentData.amount is not more than zero"),
        ({"PaymentData": DATA | {"amount": "1.005"}}, "PaymentData.amount has more than the 2 decimals of GBP"),
        ({"PaymentData": DATA | {"currency": "pounds"}}, "PaymentData.currency is not three capital letters"),
        ({"PaymentData": DATA | {"Currency": "JPY"}}, "PaymentData.amount has more than the 0 decimals of JPY"),
    ],
)
async def test_a_phone_request_that_lacks_something_is_refused_by_name(caller, change, message):
    response = await caller.start("PAID-1", **change)
    assert (response.status_code, response.json()) == (400, {"Message": message})
    assert caller.sandbox.stats()["sessions_per_reference"] == {}


async def test_half_a_character_in_an_escape_is_refused(caller):
    body = {"AccountConfigurationId": "4242", "CallGuid": "g", "PaymentData": DATA | {"city": "\ud800"}}
    response = await caller.http.post(PHONE, content=json.dumps(body), headers=JSON)
    assert (response.status_code, response.json()) == (400, {"Message": "PaymentData.city is not valid text"})


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (None, "PaymentData.CustomerPhoneNumber is missing"),
        ("", "PaymentData.CustomerPhoneNumber is missing"),
        ("withheld", "PaymentData.CustomerPhoneNumber is not a phone number"),
        ("07700 900123", "PaymentData.CustomerPhoneNumber is not a phone number"),
        ("+44770090012345678", "PaymentData.CustomerPhoneNumber is not a phone number"),
    ],
)
async def test_a_digital_request_needs_a_number_to_text_to(caller, number, message):
    data = DATA if number is None else DATA | {"CustomerPhoneNumber": number}
    response = await caller.start("PAID-1", "digital", PaymentData=data)
    assert (response.status_code, response.json()) == (400, {"Message": message})


@pytest.mark.parametrize("number", ["+447700900123", "447700900123"])
async def test_a_number_with_or_without_its_plus_is_texted_to(caller, number):
    response = await caller.start("PAID-1", "digital", PaymentData=DATA | {"CustomerPhoneNumber": number})
    assert response.status_code == 200


@pytest.mark.parametrize("path", [PHONE, DIGITAL])
@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{}", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b"{}", {"Content-Type": ""}, 415),
        (b"", JSON, 400),
        (b'{"AccountConfigurationId":"4242"', JSON, 400),
        (b"[]", JSON, 400),
        (b"null", JSON, 400),
        (b'{"a":NaN}', JSON, 400),
        (b'{"a":1,"a":2}', JSON, 400),
        (b'{"a":"\xff"}', JSON, 400),
        (b"[" * 30_000, JSON, 400),
        (b'{"a":"line\nbreak"}', JSON, 400),
        (b'"' + b"x" * 70_000 + b'"', JSON, 413),
    ],
)
async def test_a_body_that_is_no_json_object_is_refused_with_json(caller, path, content, headers, status):
    response = await caller.http.post(path, content=content, headers=headers)
    assert response.status_code == status
    assert response.json()["Message"]


async def test_json_with_a_charset_is_json(caller):
    body = {"AccountConfigurationId": "4242", "CallGuid": "g", "PaymentData": DATA}
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert (await caller.http.post(PHONE, content=json.dumps(body), headers=headers)).status_code == 200


@pytest.mark.parametrize("path", [PHONE, DIGITAL])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_path_without_its_slash_is_moved_and_starts_nothing(caller, path, method):
    response = await caller.http.request(method, path.rstrip("/"), json={"any": "thing"})
    assert (response.status_code, response.headers["Location"]) == (301, path)
    assert caller.sandbox.stats()["sessions_per_reference"] == {}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", PHONE, 405),
        ("GET", "/auth/connect/token", 405),
        ("DELETE", "/globalpci/v1/session/x", 405),
        ("HEAD", "/globalpci/v1/session/x", 405),
        ("GET", "/globalpci/v1/session/", 404),
        ("GET", "/nowhere", 404),
    ],
)
async def test_what_is_not_served_is_refused_with_json(caller, method, path, status):
    response = await caller.http.request(method, path)
    assert response.status_code == status
    assert response.headers["Content-Type"].startswith("application/json")
    assert ("Allow" in response.headers) is (status == 405)


async def test_a_second_request_for_the_same_reference_is_a_second_session(caller):
    one, two = await caller.started("PAID-1"), await caller.started("PAID-1")
    assert one != two
    assert caller.sessions_of("PAID-1") == 2
    await caller.started("PAID-1", "digital")
    assert caller.sessions_of("PAID-1") == 3
    assert caller.sandbox.stats()["digital_sessions_per_reference"] == {"PAID-1": 1}


async def test_the_same_seed_gives_the_same_ids_in_any_order(run):
    ids = []
    for order in (["A-1", "B-1", "A-1"], ["B-1", "A-1", "A-1"]):
        caller = await run(seed=7)
        await caller.authorize()
        ids.append(sorted([await caller.started(reference) for reference in order]))
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 3


@pytest.mark.parametrize("seeds", [(7, 8), (0, 0)])
async def test_another_seed_or_none_gives_other_ids_and_tokens(run, seeds):
    seen = []
    for seed in seeds:
        caller = await run(seed=seed)
        token = (await caller.authorize()).json()["access_token"]
        seen.append((token.rpartition(".")[2], await caller.started("A-1")))
    assert not set(seen[0]) & set(seen[1])
