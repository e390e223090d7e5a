"""When a token is renewed, on a clock that only the test moves."""

import asyncio

import pytest

from orchestrator.domain.verdict import Cause, Verdict, VerdictKind
from orchestrator.provider.tokens import DEFAULT_LIFE_S, MAX_LIFE_S, Grant, Token, TokenCache, life_of

REFUSED = Verdict(VerdictKind.REJECTED, reason="http_400", cause=Cause.ACCOUNT)


class Source:
    """Fetches on command."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.fetches = 0
        self.life_s = 100.0
        self.result: Verdict | Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.cache = TokenCache(self.fetch, monotonic=lambda: self.now)

    async def fetch(self) -> Grant | Verdict:
        self.fetches += 1
        number = self.fetches
        await self.gate.wait()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result or Grant(f"token-{number}", self.life_s)

    async def value(self) -> str:
        token = await self.cache.get()
        return token.grant.value if isinstance(token, Token) else token.reason

    async def settled(self) -> None:
        while self.cache._renewal is not None:
            await asyncio.sleep(0)


async def test_a_hundred_waiting_callers_share_one_renewal():
    source = Source()
    assert set(await asyncio.gather(*(source.value() for _ in range(100)))) == {"token-1"}
    assert source.fetches == 1


async def test_a_cancelled_caller_leaves_the_renewal_to_the_others():
    source = Source()
    source.gate.clear()
    callers = [asyncio.create_task(source.value()) for _ in range(3)]
    while source.fetches == 0:
        await asyncio.sleep(0)
    callers[0].cancel()  # the very one that began it
    with pytest.raises(asyncio.CancelledError):
        await callers[0]
    source.gate.set()
    assert await asyncio.gather(*callers[1:]) == ["token-1", "token-1"]
    assert source.fetches == 1


async def test_a_renewal_whose_callers_are_all_cancelled_still_serves_the_next_one():
    source = Source()
    source.gate.clear()
    caller = asyncio.create_task(source.value())
    while source.fetches == 0:
        await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    source.gate.set()
    await source.settled()
    assert (await source.value(), source.fetches) == ("token-1", 1)


async def test_after_four_fifths_of_its_life_a_token_is_given_at_once_and_renewed_behind():
    source = Source()
    await source.value()
    source.now += 79.9
    assert (await source.value(), source.fetches) == ("token-1", 1)
    source.gate.clear()
    source.now += 0.1
    assert await asyncio.gather(*(source.value() for _ in range(10))) == ["token-1"] * 10  # nobody waits
    await asyncio.sleep(0)
    assert source.fetches == 2
    source.gate.set()
    await source.settled()
    assert (await source.value(), source.fetches) == ("token-2", 2)


async def test_an_early_renewal_that_fails_rests_and_the_old_token_serves_until_it_expires():
    source = Source()
    await source.value()
    source.result = REFUSED
    source.now += 80
    for _ in range(5):
        assert await source.value() == "token-1"
        await source.settled()
    assert source.fetches == 2
    source.now += 5
    assert await source.value() == "token-1"
    await source.settled()
    assert source.fetches == 3
    source.now += 15
    assert await source.value() == "http_400"


async def test_a_failure_is_the_answer_of_those_who_waited_and_of_nobody_else():
    source = Source()
    source.result = REFUSED
    assert await asyncio.gather(*(source.value() for _ in range(5))) == ["http_400"] * 5
    assert source.fetches == 1
    source.result = None
    assert (await source.value(), source.fetches) == ("token-2", 2)


async def test_only_the_very_token_that_was_refused_is_forgotten():
    source = Source()
    stale = await source.cache.get()
    assert isinstance(stale, Token)
    source.cache.invalidate(stale)
    assert source.cache.current is None
    assert await source.value() == "token-2"
    source.cache.invalidate(stale)  # a late 401 on the old one
    assert (await source.value(), source.fetches) == ("token-2", 2)


async def test_a_token_lives_from_the_moment_it_was_asked_for():
    source = Source()
    source.gate.clear()
    caller = asyncio.create_task(source.value())
    while source.fetches == 0:
        await asyncio.sleep(0)
    source.now += 60  # the answer was long on the way
    source.gate.set()
    await caller
    source.now += 40
    assert source.cache.current is None


async def test_a_defect_of_the_fetch_is_a_verdict_for_every_waiter():
    source = Source()
    source.result = ZeroDivisionError("secret")
    assert await asyncio.gather(*(source.value() for _ in range(3))) == ["unexpected_ZeroDivisionError"] * 3


async def test_closing_ends_a_renewal_and_tells_its_waiters():
    source = Source()
    source.gate.clear()
    caller = asyncio.create_task(source.cache.get())
    while source.fetches == 0:
        await asyncio.sleep(0)
    await source.cache.aclose()
    assert await caller == Verdict(VerdictKind.NOT_SENT, reason="closed")


@pytest.mark.parametrize(
    ("expires_in", "life_s"),
    [
        (7200, 7200.0), ("3600", 3600.0), ("59.5", 59.5), (1, 1.0), (10**9, MAX_LIFE_S), (float("inf"), MAX_LIFE_S),
        ("1e400", MAX_LIFE_S), (10**400, DEFAULT_LIFE_S),
        *((garbage, DEFAULT_LIFE_S) for garbage in (None, "", "soon", 0, -5, "-1", True, [3600], {}, "nan")),
    ],
)  # fmt: skip
def test_garbage_for_a_life_is_an_hour(expires_in, life_s):
    assert life_of(expires_in) == life_s


async def test_a_token_never_shows_itself():
    source = Source()
    token = await source.cache.get()
    assert "token-1" not in f"{token!r} {token}"
