"""Reading a session: its progress, its result, and the window in which the result is told."""

import pytest

INPUTS = {"cardholderName": "A. Payer", "merchantTxnRef": "", "amount": "12.40"}


async def ended(caller, reference, channel="phone"):
    session = await caller.started(reference, channel)
    caller.sandbox.advance(5)
    return session, (await caller.status(session)).json()


async def test_a_session_can_be_watched_from_created_to_finished(caller):
    session = await caller.started("PAID-1")
    states = []
    for step in (0, 0.1, 0.2, 0.3):
        caller.sandbox.advance(step)
        body = (await caller.status(session)).json()
        states.append((body["sessionState"], "decision" in body["paymentResultData"]))
    assert states == [("Created", False), ("Started", False), ("InProgress", False), ("Finished", True)]


async def test_a_paid_session_tells_what_the_documentation_shows(caller):
    session, body = await ended(caller, "PAID-1")
    result = body.pop("paymentResultData")
    assert len(body.pop("providerSessionGuid")) == 36
    assert body == {
        "createdOn": "2027-01-15T08:00:00.000000Z",
        "lastUpdatedOn": "2027-01-15T08:00:00.600000Z",
        "callGuid": "call-1",
        "sessionGuid": session,
        "sessionState": "Finished",
    }
    assert len(result.pop("requestID")) == 22
    assert result.pop("requestToken")
    assert result == INPUTS | {
        "merchantTxnRef": "PAID-1",
        "decision": "ACCEPT",
        "reasonCode": "100",
        "transactionType": "Capture",
        "createSubscription": "false",
        "clientApplicationUser": "pcipal",
        "Amount": "1240",
        "MerchantReferenceCode": "PAID-1",
    }


@pytest.mark.parametrize("channel", ["phone", "digital"])
@pytest.mark.parametrize(
    ("prefix", "state", "decision", "code", "amount"),
    [
        ("PAID", "Finished", "ACCEPT", "100", "1240"),
        ("UNLISTED", "Finished", "ACCEPT", "100", "1240"),
        ("REVIEW", "Finished", "REVIEW", "480", "1240"),
        ("PARTIAL", "Finished", "ACCEPT", "110", "620"),
        ("ATTEMPTS", "Finished", "REJECT", "204", "1240"),
        ("GATEWAYERROR", "Finished", "ERROR", "150", "1240"),
        ("WRONGAMOUNT", "Finished", "ACCEPT", "100", "1241"),
        ("SLOW", "Finished", "ACCEPT", "100", "1240"),
        ("UNKNOWNSTATE", "Finished", "ACCEPT", "100", "1240"),
        ("NORESULT", "Finished", None, None, None),
        ("HUNGUP", "Abandoned", None, None, None),
        ("CANCELLED", "Cancelled", None, None, None),
        ("EXPIRED", "Expired", None, None, None),
        ("TIMEOUT", "TimedOut", None, None, None),
        ("FAILED", "Failed", None, None, None),
        ("NEVER", "Started", None, None, None),
    ],
)
async def test_the_prefix_decides_how_a_session_ends(caller, channel, *, prefix, state, decision, code, amount):
    _, body = await ended(caller, f"{prefix}-1", channel)
    result = body["paymentResultData"]
    assert body["sessionState"] == state
    assert (result.get("decision"), result.get("reasonCode"), result.get("Amount")) == (decision, code, amount)
    assert result["cardholderName"] == "A. Payer", "inputs are echoed whatever the end"
    assert all(isinstance(text, str) for text in result.values()), "a flat map of texts"


async def test_declines_come_with_both_codes_and_the_same_one_for_a_reference(caller):
    codes = {}
    for number in range(12):
        _, body = await ended(caller, f"DECLINED-{number}")
        assert body["paymentResultData"]["decision"] == "REJECT"
        codes[number] = body["paymentResultData"]["reasonCode"]
    assert set(codes.values()) == {"203", "204"}
    _, again = await ended(caller, "DECLINED-0")
    assert again["paymentResultData"]["reasonCode"] == codes[0]


async def test_exhausted_attempts_are_told_apart_from_a_single_decline(caller):
    _, tried = await ended(caller, "ATTEMPTS-1")
    _, once = await ended(caller, "DECLINED-1")
    assert tried["paymentResultData"]["attempts"] == "3"
    assert "attempts" not in once["paymentResultData"]


@pytest.mark.parametrize("name", ["merchantTxnRef", "MerchantReferenceCode", "merchantReference"])
async def test_a_wrong_reference_stands_in_every_place_a_client_might_look(caller, name):
    data = {name: "WRONGREF-1", "amount": "1.00"}
    session = (await caller.start("", PaymentData=data)).json()["sessionId"]
    assert (await caller.status(session)).json()["paymentResultData"][name] == "WRONGREF-1", "right until the end"
    caller.sandbox.advance(1)
    result = (await caller.status(session)).json()["paymentResultData"]
    assert "WRONGREF-1" not in result.values()
    assert result[name] == result["MerchantReferenceCode"]


async def test_a_wrong_session_is_another_guid_than_the_one_asked_for(caller):
    session, body = await ended(caller, "WRONGSESSION-1")
    assert body["sessionGuid"] != session


@pytest.mark.parametrize(
    ("options", "data", "minor"),
    [
        ({}, {"amount": "12.40"}, "1240"),
        ({}, {"Amount": "12.4"}, "1240"),
        ({}, {"amount": "1240", "currency": "JPY"}, "1240"),
        ({}, {"amount": "1.234", "Currency": "KWD"}, "1234"),
        ({"currency": "JPY"}, {"amount": "500"}, "500"),
    ],
)
async def test_the_result_names_the_amount_in_minor_units(run, options, data, minor):
    caller = await run(**options)
    await caller.authorize()
    session = (await caller.start("", PaymentData={"merchantTxnRef": "PAID-1"} | data)).json()["sessionId"]
    caller.sandbox.advance(1)
    assert (await caller.status(session)).json()["paymentResultData"]["Amount"] == minor


@pytest.mark.parametrize("prefix", ["PAID", "HUNGUP", "NORESULT"])
async def test_a_result_is_told_for_fifteen_minutes_and_never_again(caller, prefix):
    session = await caller.started(f"{prefix}-1")
    caller.sandbox.advance(0.6 + 899)
    assert (await caller.status(session)).status_code == 200
    caller.sandbox.advance(1)
    response = await caller.status(session)
    assert (response.status_code, response.json()) == (404, {"Message": "Session not found"})
    caller.sandbox.advance(1)
    assert (await caller.status(session)).status_code == 404


async def test_a_link_lives_for_72_hours_and_its_expiry_is_told_for_fifteen_minutes(run):
    caller = await run(token_life_s=10_000_000)
    await caller.authorize()
    link, call = await caller.started("NEVER-1", "digital"), await caller.started("NEVER-2")
    seen = []
    for step in (72 * 3600 - 1, 1, 899, 1):
        caller.sandbox.advance(step)
        response = await caller.status(link)
        seen.append(response.json().get("sessionState", response.status_code))
    assert seen == ["Started", "Expired", "Expired", 404]
    assert (await caller.status(call)).json()["sessionState"] == "Started", "a call that never ends has no link"


async def test_an_unknown_session_is_not_found_and_case_does_not_matter(caller):
    session = await caller.started("PAID-1")
    assert (await caller.status(session.upper())).status_code == 200
    for unknown in ("0" * 36, "x", "..%2f", "%00", "%ff"):
        assert (await caller.status(unknown)).status_code == 404


async def test_speed_shortens_sessions_and_their_window(run):
    real = [100.0]
    caller = await run(clock=lambda: real[0], speed=10.0)
    await caller.authorize()
    session = await caller.started("PAID-1")
    seen = []
    for moment in (100.0, 100.0599, 100.0601, 190.0, 190.07):
        real[0] = moment
        response = await caller.status(session)
        seen.append(response.json().get("sessionState", response.status_code))
    assert seen == ["Created", "InProgress", "Finished", "Finished", 404]


async def test_many_old_sessions_are_dropped_and_open_ones_kept(caller, monkeypatch):
    monkeypatch.setattr("orchestrator.sandbox.sessions._SWEEP_EVERY", 5)
    kept = await caller.started("NEVER-1")
    lost = await caller.started("PAID-1")
    caller.sandbox.advance(1000)
    for number in range(3):
        await caller.started(f"PAID-{number}")
    memory = caller.sandbox._twin._sessions
    assert lost not in memory
    assert (await caller.status(kept)).json()["sessionState"] == "Started"


async def test_time_passes_by_itself_under_a_real_clock(run):
    from time import monotonic

    caller = await run(clock=monotonic, speed=50.0)
    await caller.authorize()
    session = await caller.started("SLOW-1")
    while (body := (await caller.status(session)).json())["sessionState"] != "Finished":
        assert body["sessionState"] in {"Created", "Started", "InProgress"}
    assert body["paymentResultData"]["decision"] == "ACCEPT"
