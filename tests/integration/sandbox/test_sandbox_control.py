"""The sandbox's own endpoints: statistics, reset, advance, scripts."""

import asyncio
from pathlib import Path

import httpx
import pytest

from orchestrator.sandbox import SCRIPTS, load_faults


async def stats(caller):
    response = await caller.http.get("/_sandbox/stats")
    assert response.status_code == 200
    assert response.json() == caller.sandbox.stats()
    return response.json()


async def test_statistics_start_at_nothing(stranger):
    assert await stats(stranger) == {
        "token_calls": 0,
        "session_calls": 0,
        "status_calls": 0,
        "sessions_per_reference": {},
        "digital_sessions_per_reference": {},
        "answers": {"token": {}, "start_phone": {}, "start_digital": {}, "status": {}},
    }


async def test_statistics_count_every_call_with_its_answer(stranger):
    await stranger.authorize(client_secret="wrong")
    await stranger.start("PAID-1")
    await stranger.authorize()
    session = await stranger.started("PAID-1")
    await stranger.started("PAID-2", "digital")
    await stranger.start("INVALID-1", "digital")
    with pytest.raises(httpx.RemoteProtocolError):
        await stranger.start("LOSTANSWER-1")
    await stranger.http.post("/globalpci/v1/selfservicesession")
    await stranger.http.post("/globalpci/v1/selfservicesession/", content=b"x" * 70_000)
    await stranger.status(session)
    await stranger.status("unknown")
    assert await stats(stranger) == {
        "token_calls": 2,
        "session_calls": 7,
        "status_calls": 2,
        "sessions_per_reference": {"PAID-1": 1, "PAID-2": 1, "LOSTANSWER-1": 1},
        "digital_sessions_per_reference": {"PAID-2": 1},
        "answers": {
            "token": {"400": 1, "200": 1},
            "start_phone": {"401": 1, "200": 1, "cut": 1, "301": 1, "413": 1},
            "start_digital": {"200": 1, "400": 1},
            "status": {"200": 1, "404": 1},
        },
    }


async def test_reset_forgets_tokens_sessions_faults_and_counts_but_repeats_no_id(caller):
    before = await caller.started("PAID-1")
    assert (await caller.start("ERRORBEFORE-1")).status_code == 500
    token = caller.http.headers["Authorization"]
    assert (await caller.http.post("/_sandbox/reset")).status_code == 200
    assert (await stats(caller))["sessions_per_reference"] == {}
    assert (await caller.status(before)).status_code == 401
    await caller.authorize()
    assert caller.http.headers["Authorization"] != token
    assert (await caller.status(before)).status_code == 404
    assert (await caller.start("ERRORBEFORE-1")).status_code == 500
    assert await caller.started("PAID-1") != before


async def test_time_is_advanced_over_http(caller):
    session = await caller.started("PAID-1")
    response = await caller.http.post("/_sandbox/advance", json={"seconds": 0.6})
    assert (response.status_code, response.json()) == (200, {"now": 0.6})
    assert (await caller.status(session)).json()["sessionState"] == "Finished"
    assert (await caller.http.post("/_sandbox/advance", json={"seconds": 0})).json() == {"now": 0.6}


async def test_reset_and_statistics_are_at_hand_in_the_process_too(caller):
    await caller.started("PAID-1")
    caller.sandbox.reset()
    assert (await stats(caller))["session_calls"] == 0


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"seconds":-1}', '{"seconds":"1"}', '{"seconds":true}', '{"seconds":1e300}']
)
async def test_time_never_goes_back_nor_anywhere_odd(caller, content):
    headers = {"Content-Type": "application/json"}
    response = await caller.http.post("/_sandbox/advance", content=content, headers=headers)
    assert response.status_code == 400
    assert response.json()["Message"]


async def test_the_table_is_served_as_documented(stranger):
    listed = (await stranger.http.get("/_sandbox/scripts")).json()["scripts"]
    assert listed == [{"prefix": s.prefix, "what": s.what, "ends": s.ends} for s in SCRIPTS]


async def test_further_prefixes_are_listed_and_played_before_the_documented_ones(run, tmp_path: Path):
    path = tmp_path / "faults.toml"
    path.write_text('[prefixes]\nACME = "HUNGUP"\nPAID = "DECLINED"\n', encoding="utf-8")
    caller = await run(faults=load_faults(path))
    await caller.authorize()
    listed = (await caller.http.get("/_sandbox/scripts")).json()["scripts"]
    assert [script["prefix"] for script in listed[-2:]] == ["ACME", "PAID"]
    sessions = [await caller.started(reference) for reference in ("ACME-1", "PAID-1")]
    caller.sandbox.advance(1)
    ends = [(await caller.status(session)).json() for session in sessions]
    assert ends[0]["sessionState"] == "Abandoned"
    assert ends[1]["paymentResultData"]["decision"] == "REJECT"


async def test_a_hundred_payments_at_once_are_served_and_counted(caller):
    async def pay(number: int) -> str:
        session = await caller.started(f"PAID-{number}", "digital" if number % 2 else "phone")
        return (await caller.status(session)).json()["sessionGuid"]

    guids = await asyncio.gather(*(pay(number) for number in range(100)))
    counts = await stats(caller)
    assert len(set(guids)) == 100
    assert counts["session_calls"] == counts["status_calls"] == 100
    assert set(counts["sessions_per_reference"].values()) == {1}
