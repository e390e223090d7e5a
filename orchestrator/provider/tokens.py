"""
The access token of one account: fetched once for any number of waiting callers.

Owns when a token is renewed, nothing else: it must not know HTTP, definitions
or payments; `client` gives it a function that fetches. Time is a parameter.
Next: `answers`.

A bearer token of the Payment API lives for one or two hours, depending on the
page; `expires_in` of the answer wins (VCC Authentication API, "Access token").
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from orchestrator.domain.verdict import Exchange, Verdict, VerdictKind

DEFAULT_LIFE_S = 3600.0
MAX_LIFE_S = 24 * 3600.0
EARLY = 0.8
"""The share of its life after which a token is renewed while it is still good."""
EARLY_PAUSE_S = 5.0
"""How long an early renewal that failed is let rest: the old token still works."""


@dataclass(frozen=True, slots=True)
class Grant:
    """
    A token as the provider gave it.

    Attributes:
        value: The bearer token.
        life_s: For how many seconds it is good.
        exchange: The call that brought it.
    """

    value: str = field(repr=False)
    life_s: float
    exchange: Exchange = field(default=Exchange())


@dataclass(frozen=True, slots=True, eq=False)
class Token:
    """A grant with its times on the monotonic clock; compared by identity."""

    grant: Grant
    renew_at: float
    expires_at: float


def life_of(expires_in: object) -> float:
    """
    Read `expires_in`; anything that is not a positive number of seconds gives the default.

    A wrong guess heals itself: a token that died early is answered with 401 and renewed.
    """
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float | str):
        return DEFAULT_LIFE_S
    try:
        seconds = float(expires_in)
    except (ValueError, OverflowError):
        return DEFAULT_LIFE_S
    return min(seconds, MAX_LIFE_S) if seconds > 0 else DEFAULT_LIFE_S


class TokenCache:
    """
    One token and at most one renewal under way.

    Args:
        fetch: Gets a new token, or the verdict on why there is none.
        monotonic: A clock that never goes back, in seconds.
    """

    def __init__(self, fetch: Callable[[], Awaitable[Grant | Verdict]], *, monotonic: Callable[[], float]) -> None:
        self._fetch = fetch
        self._monotonic = monotonic
        self._token: Token | None = None
        self._renewal: asyncio.Task[Token | Verdict] | None = None
        self._early_again_at = float("-inf")

    @property
    def current(self) -> Token | None:
        """The token that would be given without waiting, if any."""
        token = self._token
        return token if token is not None and self._monotonic() < token.expires_at else None

    @property
    def fresh(self) -> Token | None:
        """The token, if it is not even time to renew it early."""
        token = self._token
        return token if token is not None and self._monotonic() < min(token.renew_at, token.expires_at) else None

    async def get(self) -> Token | Verdict:
        """
        Give an unexpired token, fetching one if there is none.

        Every caller that finds no token waits for the same renewal; one that is
        cancelled leaves it to the others. A failed renewal is every present
        waiter's answer and nobody else's. After 80 % of its life a token is
        still given out at once while a new one is fetched behind it.

        Returns:
            The token, or the verdict of the call that should have brought it.

        Crash: the token is lost with the process; the next one fetches its own.
        """
        token = self.current
        if token is not None:
            if self._renewal is None and self._monotonic() >= max(token.renew_at, self._early_again_at):
                self._begin()
            return token
        renewal = self._renewal or self._begin()
        # wait() leaves the renewal alone when this caller is cancelled, and does not
        # raise when the renewal is.
        await asyncio.wait({renewal})
        return Verdict(VerdictKind.NOT_SENT, reason="closed") if renewal.cancelled() else renewal.result()

    def invalidate(self, token: Token) -> None:
        """Forget this very token; one that has replaced it meanwhile stays."""
        if self._token is token:
            self._token = None

    async def aclose(self) -> None:
        """Stop a renewal under way."""
        self._token = None
        if (renewal := self._renewal) is not None:
            renewal.cancel()
            await asyncio.wait({renewal})

    def _begin(self) -> asyncio.Task[Token | Verdict]:
        self._renewal = asyncio.get_running_loop().create_task(self._renew(), name="token renewal")
        self._renewal.add_done_callback(self._ended)
        return self._renewal

    def _ended(self, _: asyncio.Task[Token | Verdict]) -> None:
        self._renewal = None

    async def _renew(self) -> Token | Verdict:
        begun = self._monotonic()  # before the call: its answer may have been long on the way
        try:
            result = await self._fetch()
        except Exception as error:  # noqa: BLE001 - a defect is a verdict too, so that every waiter gets an answer
            result = Verdict(VerdictKind.UNKNOWN, reason=f"unexpected_{type(error).__name__}")
        if isinstance(result, Verdict):
            self._early_again_at = self._monotonic() + EARLY_PAUSE_S
            return result
        self._token = Token(result, begun + EARLY * result.life_s, begun + result.life_s)
        return self._token
