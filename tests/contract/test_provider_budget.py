"""Budget, Retry-After and breaker of a whole account, on real connections."""

import asyncio
from datetime import timedelta
from email.utils import format_datetime

import pytest

from orchestrator.domain.machine import Operation
from orchestrator.domain.verdict import Cause, VerdictKind
from tests.contract.raw_server import RawServer, answer, reset_after_body
from tests.support.provider import NOW, PAID, PHONE_SESSION, TOKEN, FakeClock, account, payment, pool, send

AUTH, PHONE, STATUS = "/auth", "/globalpci/v1/self", "/globalpci/v1/session/"
NOT_SENT, ANSWERED = VerdictKind.NOT_SENT, VerdictKind.ANSWERED
START, LOOK = Operation.START_SESSION, Operation.QUERY_STATUS

pytestmark = pytest.mark.parametrize("transport", ["aiohttp", "httpx"])


class StandingClock(FakeClock):
    """Moves only when it is moved, and by sleeps."""

    def monotonic(self) -> float:
        return self.ahead

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.ahead += seconds


@pytest.mark.parametrize(
    ("status", "value", "seconds"),
    [
        (429, "12", 12),
        (503, "12", 12),
        (429, format_datetime(NOW + timedelta(seconds=40), usegmt=True), 40),
        (503, "86400", 300),
    ],
)
@pytest.mark.parametrize("throttled", [START, LOOK])
async def test_retry_after_holds_for_every_call_of_the_account(transport, status, value, seconds, throttled):
    refused = answer(status, headers={"Retry-After": value})
    scripts = {AUTH: [answer(200, TOKEN)], PHONE: [answer(200, PHONE_SESSION)], STATUS: [answer(200, PAID)]}
    scripts[PHONE if throttled is START else STATUS].insert(0, refused)
    clock = StandingClock()
    async with RawServer(scripts) as server, pool(account(server.url, transport=transport), clock) as providers:
        assert (await send(providers, throttled)).exchange.status == status
        begun, asked = clock.ahead, (server.count(PHONE), server.count(STATUS))
        for operation in (START, LOOK):
            verdict = await send(providers, operation)
            assert (verdict.kind, verdict.reason, verdict.cause) == (NOT_SENT, "throttled", Cause.THROTTLED)
            assert verdict.retry_after_s == pytest.approx(seconds - (clock.ahead - begun))
        assert providers.barred("emea").reason == "throttled"
        assert providers.condition("emea").told_to_wait_s == pytest.approx(seconds)
        assert (server.count(PHONE), server.count(STATUS)) == asked
        clock.ahead = begun + seconds - 2  # a call has ten seconds, a start five: both can wait that long
        for operation in (START, LOOK):
            assert (await send(providers, operation)).kind is ANSWERED
        assert clock.ahead == pytest.approx(begun + seconds)
        assert providers.barred("emea") is None


async def test_a_call_without_a_turn_before_its_deadline_is_not_sent(transport):
    scripts = {AUTH: [answer(200, TOKEN)], STATUS: [answer(200, PAID)], PHONE: [answer(200, PHONE_SESSION)]}
    clock = StandingClock()
    async with RawServer(scripts) as server:
        asked = account(server.url, transport=transport, requests_per_second=0.05)
        async with pool(asked, clock) as providers:
            await providers.current("emea").authorize()
            verdict = await send(providers, LOOK)
            assert (verdict.kind, verdict.reason, verdict.exchange.sends) == (NOT_SENT, "budget", 0)
            clock.ahead += 20
            assert (await send(providers, START)).kind is ANSWERED
            providers.shared_by(2)
            assert providers.condition("emea").per_second == 0.025
    assert (server.count(STATUS), server.count(PHONE)) == (0, 1)


async def test_a_breaker_that_is_open_sends_nothing_and_one_probe_closes_it(transport):
    bad = 12
    scripts = {AUTH: [answer(200, TOKEN)], STATUS: [reset_after_body] * bad + [answer(200, PAID)]}
    clock = StandingClock()
    async with RawServer(scripts) as server, pool(account(server.url, transport=transport), clock) as providers:
        while not (open_for := providers.condition("emea").open_for):
            await send(providers, LOOK)
        assert open_for == "token"
        kept_back = await send(providers, LOOK)
        assert (kept_back.kind, kept_back.reason, kept_back.cause) == (NOT_SENT, "breaker_open", Cause.NONE)
        asked = server.count(STATUS)
        assert asked < bad
        assert (await providers.current("emea").authorize()).kind is ANSWERED, "the token is at hand"
        assert providers.barred("emea").reason == "breaker_open"
        while providers.condition("emea").open_for:
            clock.ahead += 1
            before = server.count(STATUS)
            verdicts = await asyncio.gather(*(send(providers, LOOK) for _ in range(5)))
            assert server.count(STATUS) - before <= 1 or not providers.condition("emea").open_for
        assert ANSWERED in {verdict.kind for verdict in verdicts}
        assert server.count(STATUS) >= bad + 1


async def test_a_second_401_opens_it_for_the_accounts_sake(transport):
    scripts = {AUTH: [answer(200, TOKEN)], PHONE: [answer(401)], STATUS: [answer(200, PAID)]}
    async with RawServer(scripts) as server, pool(account(server.url, transport=transport)) as providers:
        first = await send(providers, START)
        second = await send(providers, START)
        assert (await send(providers, LOOK)).kind is ANSWERED, "looks go on: only starts build on it"
    assert (first.cause, second.reason, second.cause) == (Cause.UNAUTHORIZED, "breaker_open", Cause.UNAUTHORIZED)
    assert server.count(PHONE) == 2


async def test_a_token_that_nobody_gets_keeps_all_back_as_the_accounts_trouble(transport):
    scripts = {AUTH: [answer(400, {"error": "invalid_client"})]}
    async with RawServer(scripts) as server, pool(account(server.url, transport=transport)) as providers:
        await providers.current("emea").authorize()
        again = await providers.current("emea").authorize()
        look = await send(providers, LOOK)
        assert providers.condition("emea").troubled
        provider = providers.of(payment())
        by = await provider.send(provider.prepare(LOOK, payment(), {}), by=NOW + timedelta(seconds=1))
    assert [(verdict.kind, verdict.cause) for verdict in (again, look)] == [(NOT_SENT, Cause.ACCOUNT)] * 2
    assert look.reason == "token_breaker_open"
    assert by.kind is NOT_SENT
    assert server.count(AUTH) == 1
