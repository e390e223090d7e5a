"""Tokens over a real socket: one renewal for everybody, one renewal after a 401, and what a refusal means."""

import asyncio

import pytest

from orchestrator.domain.machine import Operation
from orchestrator.domain.verdict import Cause, VerdictKind
from orchestrator.interactions import bundled, parse
from tests.contract import raw_server as raw
from tests.contract.raw_server import RawServer, answer
from tests.support.provider import DEFINITIONS, PAID, PHONE_SESSION, SECRET, TOKEN, FakeClock, account, pool, send

AUTH, PHONE, STATUS = "/auth", "/globalpci/v1/self", "/globalpci/v1/session/"
NOT_SENT, REJECTED, ANSWERED, UNKNOWN = VerdictKind
EXPIRED = answer(401, b"The access token is invalid or has expired", {"Content-Type": "text/plain"})

pytestmark = pytest.mark.parametrize("transport", ["aiohttp", "httpx"])


def token(number: int, **changes: object) -> raw.Step:
    return answer(200, TOKEN | {"access_token": f"token-{number}"} | changes)


async def test_a_hundred_callers_without_a_token_make_one_token_call(transport):
    scripts = {AUTH: [token(1)], PHONE: [answer(200, PHONE_SESSION)], STATUS: [answer(200, PAID)]}
    patient = {"start_deadline_s": 30.0, "call_deadline_s": 30.0}  # a hundred connections at once, on any machine
    async with RawServer(scripts) as server, pool(account(server.url, transport=transport, **patient)) as providers:
        operations = [Operation.START_SESSION, Operation.QUERY_STATUS] * 50
        verdicts = await asyncio.gather(*(send(providers, operation) for operation in operations))
    assert {verdict.kind for verdict in verdicts} == {ANSWERED}
    assert (server.count(AUTH), server.count(PHONE), server.count(STATUS)) == (1, 50, 50)


@pytest.mark.parametrize("path", [PHONE, STATUS])
async def test_a_401_renews_the_token_once_and_sends_once_more(transport, path):
    operation, body = {PHONE: (Operation.START_SESSION, PHONE_SESSION), STATUS: (Operation.QUERY_STATUS, PAID)}[path]
    scripts = {AUTH: [token(1), token(2)], path: [EXPIRED, answer(200, body)]}
    async with RawServer(scripts) as server, pool(account(server.url, transport=transport)) as providers:
        verdict = await send(providers, operation)
    assert (verdict.kind, verdict.exchange.sends, verdict.exchange.status) == (ANSWERED, 2, 200)
    used = [seen.headers["authorization"] for seen in server.seen if seen.path.startswith(path)]
    assert used == ["Bearer token-1", "Bearer token-2"]


@pytest.mark.parametrize("path", [PHONE, STATUS])
async def test_a_401_after_the_renewal_is_rejected_and_not_tried_a_third_time(transport, path):
    operation = Operation.START_SESSION if path == PHONE else Operation.QUERY_STATUS
    scripts = {AUTH: [token(1), token(2), token(3)], path: [EXPIRED]}
    async with RawServer(scripts) as server, pool(account(server.url, transport=transport)) as providers:
        verdict = await send(providers, operation)
    assert (verdict.kind, verdict.cause, verdict.reason) == (REJECTED, Cause.UNAUTHORIZED, "http_401")
    assert verdict.message == "The access token is invalid or has expired"
    assert (server.count(path), server.count(AUTH)) == (2, 2)


async def test_fifty_401s_on_one_token_renew_it_once(transport):
    async def by_token(exchange: raw.Exchange) -> None:
        stale = exchange.seen.headers["authorization"] == "Bearer token-1"
        await (EXPIRED if stale else answer(200, PAID))(exchange)

    scripts = {AUTH: [token(1), token(2)], STATUS: [by_token]}
    async with RawServer(scripts) as server, pool(account(server.url, transport=transport)) as providers:
        verdicts = await asyncio.gather(*(send(providers, Operation.QUERY_STATUS) for _ in range(50)))
    assert {verdict.kind for verdict in verdicts} == {ANSWERED}
    assert server.count(AUTH) == 2


REFUSALS = {
    "invalid_client": (answer(400, {"error": "invalid_client"}), Cause.ACCOUNT, "http_400"),
    "invalid_scope": (answer(400, {"error": "invalid_scope"}), Cause.ACCOUNT, "http_400"),
    "401": (answer(401), Cause.ACCOUNT, "http_401"),
    "403": (answer(403), Cause.ACCOUNT, "http_403"),
    "404": (answer(404), Cause.ACCOUNT, "http_404"),
    "422": (answer(422), Cause.ACCOUNT, "http_422"),
    "moved": (answer(302, headers={"Location": "/elsewhere"}), Cause.ACCOUNT, "http_302"),
    "429": (answer(429, headers={"Retry-After": "3"}), Cause.THROTTLED, "http_429"),
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_refused_token_is_the_accounts_trouble_and_nothing_is_sent_without_it(transport, refusal):
    step, cause, reason = REFUSALS[refusal]
    scripts, clock = {AUTH: [step], PHONE: [answer(200, PHONE_SESSION)]}, FakeClock()
    async with RawServer(scripts) as server, pool(account(server.url, transport=transport), clock) as providers:
        authorized = await providers.current("emea").authorize()
        clock.ahead = 60  # the breaker lets a probe pass, and Retry-After is over
        started = await send(providers, Operation.START_SESSION)
    assert (authorized.kind, authorized.cause, authorized.reason) == (REJECTED, cause, reason)
    assert (started.kind, started.cause, started.reason) == (NOT_SENT, cause, f"token_{reason}")
    assert authorized.retry_after_s == started.retry_after_s == (3.0 if refusal == "429" else None)
    assert started.exchange.sends == 0
    assert authorized.exchange.sends == 1
    assert (server.count(PHONE), server.count(AUTH)) == (0, 2)


DOUBTS = {
    "503": answer(503),
    "408": answer(408),
    "HTML": answer(200, b"<html>"),
    "no token": answer(200, {"token_type": "Bearer"}),
    "a token no header can carry": answer(200, {"access_token": "a\r\nb"}),
    "half a body": raw.half_body,
    "reset": raw.reset_after_body,
}


@pytest.mark.parametrize("doubt", DOUBTS)
async def test_a_token_call_in_doubt_is_repeated_shortly_and_then_left_to_the_due_time(transport, doubt):
    scripts = {AUTH: [DOUBTS[doubt]], PHONE: [answer(200, PHONE_SESSION)]}
    async with RawServer(scripts) as server, pool(account(server.url, transport=transport)) as providers:
        authorized = await providers.current("emea").authorize()
        started = await send(providers, Operation.START_SESSION)
    assert (authorized.kind, authorized.cause, authorized.exchange.sends) == (UNKNOWN, Cause.NONE, 3)
    assert (started.kind, started.cause, server.count(PHONE)) == (NOT_SENT, Cause.NONE, 0)
    assert started.reason == f"token_{authorized.reason}"
    assert server.count(AUTH) == 6


async def test_a_doubt_that_passes_within_the_burst_goes_unnoticed(transport):
    scripts = {AUTH: [answer(503), raw.half_body, token(1)], PHONE: [answer(200, PHONE_SESSION)]}
    clock = FakeClock()
    async with RawServer(scripts) as server, pool(account(server.url, transport=transport), clock) as providers:
        authorized = await providers.current("emea").authorize()
        again = await providers.current("emea").authorize()
    assert (authorized.kind, authorized.reason, authorized.exchange.sends) == (ANSWERED, "token_fetched", 3)
    assert authorized.exchange.url == f"{server.url}/auth/connect/token"
    assert (again.kind, again.reason, again.exchange.sends) == (ANSWERED, "token_cached", 0)
    assert len(clock.slept) == 2


async def test_a_token_that_is_slow_to_come_costs_a_start_its_deadline_and_sends_nothing(transport):
    scripts = {AUTH: [raw.stall], PHONE: [answer(200, PHONE_SESSION)]}
    config = {"transport": transport, "start_deadline_s": 0.3, "call_deadline_s": 0.6}
    async with RawServer(scripts) as server, pool(account(server.url, **config)) as providers:
        verdict = await send(providers, Operation.START_SESSION)
    assert (verdict.kind, verdict.reason, server.count(PHONE)) == (NOT_SENT, "token_deadline", 0)


async def test_a_renewal_that_fails_after_a_401_is_not_sent(transport):
    scripts = {AUTH: [token(1), answer(400, {"error": "invalid_client"})], PHONE: [EXPIRED]}
    async with RawServer(scripts) as server, pool(account(server.url, transport=transport)) as providers:
        verdict = await send(providers, Operation.START_SESSION)
    assert (verdict.kind, verdict.cause, verdict.message) == (NOT_SENT, Cause.ACCOUNT, "invalid_client")
    assert (server.count(PHONE), verdict.exchange.sends) == (1, 1)


async def test_the_life_that_the_answer_gives_is_obeyed(transport):
    scripts = {AUTH: [token(1, expires_in=60), token(2, expires_in="soon")], STATUS: [answer(200, PAID)]}
    clock = FakeClock()
    async with RawServer(scripts) as server, pool(account(server.url, transport=transport), clock) as providers:
        await send(providers, Operation.QUERY_STATUS)
        clock.ahead = 61
        await send(providers, Operation.QUERY_STATUS)
        clock.ahead = 61 + 2800  # a life that can't be read is an hour
        await send(providers, Operation.QUERY_STATUS)
    used = [seen.headers["authorization"] for seen in server.seen if seen.path.startswith(STATUS)]
    assert used == ["Bearer token-1", "Bearer token-2", "Bearer token-2"]


async def test_a_refusal_that_quotes_the_credentials_is_cleaned(transport):
    said = {"error": "invalid_client", "error_description": f"client-77 with {SECRET} unknown"}
    async with RawServer({AUTH: [answer(400, said)]}) as server, pool(account(server.url, transport=transport)) as each:
        verdict = await each.current("emea").authorize()
    assert verdict.message == "[removed] with [removed] unknown"


async def test_a_definition_with_credentials_of_its_own_asks_for_no_token_and_its_401_is_final(transport):
    text = bundled("session_status").replace("Bearer $(AccessToken)", "Basic YWRhOnNlY3JldA==")
    definitions = DEFINITIONS | {"session_status": parse(text, name="basic.xml")}
    async with (
        RawServer({STATUS: [answer(200, PAID), EXPIRED]}) as server,
        pool(account(server.url, transport=transport, definitions=definitions)) as providers,
    ):
        fine = await send(providers, Operation.QUERY_STATUS)
        refused = await send(providers, Operation.QUERY_STATUS)
    assert fine.kind is ANSWERED
    assert (refused.kind, refused.cause, server.count(STATUS)) == (REJECTED, Cause.UNAUTHORIZED, 2)
    assert server.seen[0].headers["authorization"] == "Basic YWRhOnNlY3JldA=="


async def test_closing_ends_a_renewal_that_is_under_way(transport):
    async with RawServer({AUTH: [raw.stall]}) as server:
        providers = pool(account(server.url, transport=transport))
        waiting = asyncio.create_task(providers.current("emea").authorize())
        while server.count(AUTH) == 0:
            await asyncio.sleep(0)
        await providers.close()
        verdict = await waiting
    assert (verdict.kind, verdict.reason) == (NOT_SENT, "closed")
