"""Calls that go wrong on cue: what the client sees, and whether a session was made all the same."""

import asyncio
from email.utils import parsedate_to_datetime

import httpx
import pytest

WALL = 1_800_000_000.0
BOTH = pytest.mark.parametrize("channel", ["phone", "digital"])


@BOTH
@pytest.mark.parametrize(
    ("prefix", "status", "made", "then"),
    [
        ("ERRORBEFORE", 500, 0, 200),
        ("ERRORAFTER", 500, 1, 200),
        ("FLAKY", 503, 0, 200),
        ("THROTTLED", 429, 0, 200),
        ("INVALID", 400, 0, 400),
        ("FORBIDDEN", 403, 0, 403),
        ("CONFIG", 400, 0, 400),
        ("HTML", 200, 0, 200),
        ("NOID", 200, 0, 200),
    ],
)
async def test_a_start_answered_badly_has_the_documented_effect(caller, channel, *, prefix, status, made, then):
    reference = f"{prefix}-1"
    response = await caller.start(reference, channel)
    assert response.status_code == status
    assert caller.sessions_of(reference) == made
    assert (await caller.start(reference, channel)).status_code == then
    assert (await caller.start(f"{prefix}-2", channel)).status_code == status, "each reference on its own"


@BOTH
@pytest.mark.parametrize(
    ("prefix", "error", "made"),
    [
        ("LOSTANSWER", httpx.RemoteProtocolError, 1),
        ("RESETBEFORE", httpx.ReadError, 0),
        ("CUTBODY", httpx.RemoteProtocolError, 1),
    ],
)
async def test_a_broken_line_has_the_documented_effect_and_the_next_call_is_fine(caller, channel, prefix, error, made):
    with pytest.raises(error):
        await caller.start(f"{prefix}-1", channel)
    assert caller.sessions_of(f"{prefix}-1") == made
    session = await caller.started(f"{prefix}-1", channel)
    caller.sandbox.advance(1)
    assert (await caller.status(session)).json()["paymentResultData"]["decision"] == "ACCEPT"
    answers = caller.sandbox.stats()["answers"][f"start_{channel}"]
    assert answers == {"cut": 1, "200": 1}


async def raw_start(caller, prefix):
    """Send the request by hand and give every byte that came back, and how the connection ended."""
    address = httpx.URL(caller.sandbox.base_url)
    body = '{"AccountConfigurationId":"4242","CallGuid":"g","PaymentData":{"merchantTxnRef":"%s-1","amount":"1.00"}}'
    content = (body % prefix).encode()
    head = (
        "POST /globalpci/v1/selfservicesession/ HTTP/1.1\r\nHost: sandbox\r\nContent-Type: application/json\r\n"
        f"Authorization: {caller.http.headers['Authorization']}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(head.encode() + content)
        return await reader.read(), "ended"
    except ConnectionResetError:
        return b"", "reset"
    finally:
        writer.close()


async def test_a_lost_answer_is_not_one_byte(caller):
    assert await raw_start(caller, "LOSTANSWER") == (b"", "ended")


async def test_a_reset_is_a_reset(caller):
    assert await raw_start(caller, "RESETBEFORE") == (b"", "reset")


async def test_a_cut_body_is_exactly_half_of_what_was_announced(caller):
    received, end = await raw_start(caller, "CUTBODY")
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    assert end == "ended"
    assert head.startswith(b"HTTP/1.1 200")
    assert len(body) == int(length.split(b":")[1]) // 2
    assert body.startswith(b'{"sessionId": "')


async def test_a_broken_line_leaves_others_alone(caller):
    session = await caller.started("PAID-1")
    results = await asyncio.gather(
        *(caller.start(f"LOSTANSWER-{number}") for number in range(10)),
        *(caller.status(session) for _ in range(10)),
        return_exceptions=True,
    )
    assert all(isinstance(result, httpx.RemoteProtocolError) for result in results[:10])
    assert [result.status_code for result in results[10:]] == [200] * 10


async def test_html_comes_as_html_with_status_200(caller):
    response = await caller.start("HTML-1")
    assert response.headers["Content-Type"].startswith("text/html")
    assert response.text.startswith("<!DOCTYPE html>")


async def test_a_configuration_error_comes_as_plain_text(caller):
    response = await caller.start("CONFIG-1")
    assert response.headers["Content-Type"].startswith("text/plain")
    assert "invalid_client_key" in response.text


@pytest.mark.parametrize("prefix", ["INVALID", "FORBIDDEN", "ERRORBEFORE", "FLAKY", "THROTTLED"])
async def test_other_refusals_come_as_json_with_a_message(caller, prefix):
    response = await caller.start(f"{prefix}-1")
    assert response.headers["Content-Type"].startswith("application/json")
    assert response.json()["Message"]


async def test_an_answer_without_an_id_says_so_every_time(caller):
    for _ in range(3):
        body = (await caller.start("NOID-1")).json()
        assert body["sessionId"] is None
        assert body["Message"]
    assert caller.sessions_of("NOID-1") == 0


async def test_a_slow_answer_makes_the_session_first_and_answers_when_time_has_come(caller):
    call = asyncio.create_task(caller.start("SLOWANSWER-1"))
    await caller.until_made("SLOWANSWER-1")
    caller.sandbox.advance(0.9)
    assert (await caller.start("PAID-1")).status_code == 200
    assert not call.done()
    caller.sandbox.advance(0.1)
    assert (await call).json()["sessionId"]


async def test_a_slow_answer_comes_by_itself_under_a_real_clock(run):
    from time import monotonic

    caller = await run(clock=monotonic, speed=20.0)
    await caller.authorize()
    assert (await caller.start("SLOWANSWER-1")).json()["sessionId"]


async def test_a_client_that_gives_up_on_a_slow_answer_leaves_a_session_behind(caller):
    call = asyncio.create_task(caller.start("SLOWANSWER-1"))
    await caller.until_made("SLOWANSWER-1")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    caller.sandbox.advance(1)
    assert (await caller.start("PAID-1")).status_code == 200
    assert caller.sessions_of("SLOWANSWER-1") == 1


async def test_an_expired_token_is_refused_until_another_is_used(caller):
    other = await caller.started("NEVER-1")
    statuses = [(await caller.start("TOKENEXPIRES-1")).status_code for _ in range(2)]
    assert statuses == [401, 401], "sending again with the same token is no cure"
    assert (await caller.status(other)).status_code == 200, "other payments keep the token"
    await caller.authorize()
    assert (await caller.start("TOKENEXPIRES-1")).status_code == 200
    assert caller.sessions_of("TOKENEXPIRES-1") == 1


async def test_throttling_says_when_to_come_back_in_seconds_and_as_a_date(caller):
    assert (await caller.start("THROTTLED-1")).headers["Retry-After"] == "1"
    session = await caller.started("THROTTLED-1")
    responses = [await caller.status(session) for _ in range(7)]
    assert [response.status_code for response in responses] == [429, 200, 200, 429, 200, 200, 429]
    date = parsedate_to_datetime(responses[0].headers["Retry-After"])
    assert 1 <= date.timestamp() - WALL <= 2
    assert "Retry-After" not in responses[1].headers


async def test_a_date_to_come_back_at_follows_the_clients_clock_not_the_sandboxs(caller):
    session_call = await caller.start("THROTTLED-1")
    assert session_call.status_code == 429
    session = await caller.started("THROTTLED-1")
    caller.sandbox.advance(600)
    date = parsedate_to_datetime((await caller.status(session)).headers["Retry-After"])
    assert date.timestamp() - WALL <= 2


@BOTH
@pytest.mark.parametrize(
    ("prefix", "statuses"),
    [
        ("STATUS404", [404, 404, 200, 200]),
        ("STATUS5XX", [503, 503, 200, 200]),
        ("PAID", [200, 200, 200, 200]),
        ("LOSTANSWER", [200, 200, 200, 200]),
    ],
)
async def test_looking_goes_wrong_as_often_as_documented(caller, channel, prefix, statuses):
    if prefix == "LOSTANSWER":
        with pytest.raises(httpx.RemoteProtocolError):
            await caller.start("LOSTANSWER-1", channel)
    session = await caller.started(f"{prefix}-1", channel)
    assert [(await caller.status(session)).status_code for _ in statuses] == statuses


async def test_flaky_fails_the_first_call_of_each_endpoint(caller):
    assert [(await caller.start("FLAKY-1")).status_code for _ in range(2)] == [503, 200]
    assert (await caller.start("FLAKY-1", "digital")).status_code == 503
    session = await caller.started("FLAKY-1", "digital")
    assert [(await caller.status(session)).status_code for _ in range(2)] == [503, 200]


async def test_a_refused_request_is_refused_before_any_fault_is_used_up(caller):
    assert (await caller.start("ERRORBEFORE-1", AccountConfigurationId="1")).status_code == 400
    assert (await caller.start("ERRORBEFORE-1", CallGuid="")).status_code == 400
    assert (await caller.start("ERRORBEFORE-1")).status_code == 500
