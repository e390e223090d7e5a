"""
The authorize call: how an account comes by its access token.

Owns what a refused token means, and that one token serves every payment whose
authorize definition is the same. Must not know payments. Next: `account`.

A refusal of the credentials, the scope or the address is the account's trouble,
whatever its status: nothing in a token call belongs to a payment.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from orchestrator.domain.errors import ConfigurationError
from orchestrator.domain.verdict import Cause, Verdict, VerdictKind
from orchestrator.interactions import Definition, render
from orchestrator.provider.answers import grant_of
from orchestrator.provider.breaker import Kind
from orchestrator.provider.line import Line
from orchestrator.provider.request import secrets_of, shown_url
from orchestrator.provider.tokens import Grant, Token, TokenCache
from orchestrator.provider.verdicts import instant_of


class Authorizer:
    """
    Gets tokens by one authorize definition.

    Args:
        line: The account's way to the provider.
        definition: The call.
        config: `#(Key)` to value.

    Raises:
        ConfigurationError: The definition uses payment data, or a setting is missing.
    """

    def __init__(self, line: Line, definition: Definition, config: Mapping[str, str]) -> None:
        optional = line.account.optional_fields
        if used := [name for name in definition.data_names if name not in optional]:
            key = f"{line.account.key}.definitions.{definition.name}"
            raise ConfigurationError(key, f"uses $({used[0]})", "a token serves every payment: use #(..) settings only")
        self._line = line
        self._definition = definition
        self._config = config
        self._rendered = render(definition, {}, config, optional=optional)
        self._url = shown_url(definition.url, {}, config, frozenset())
        self.tokens = TokenCache(self._fetch, monotonic=line.clock.monotonic)
        self._dated: tuple[str | None, datetime] | None = None

    @property
    def clock_ahead_s(self) -> float | None:
        """
        How many seconds our clock was ahead of the provider's when its newest token came.

        By the Date header (RFC 9110, section 6.6.1), which has whole seconds; `None` if
        there was no usable one.
        """
        if self._dated is None:
            return None
        told, at = self._dated
        when = instant_of(told)
        return None if when is None else (at - when).total_seconds()

    async def token(self, within_s: float) -> Token | Verdict:
        """
        Give a token, or the verdict of the call that should have brought one.

        Args:
            within_s: How long the caller can wait. The renewal goes on for the others.

        Crash: see `TokenCache.get`.
        """
        if self.tokens.fresh is not None:
            return self.tokens.fresh
        try:
            async with asyncio.timeout(within_s):
                return await self.tokens.get()
        except TimeoutError:
            return Verdict(VerdictKind.UNKNOWN, reason="deadline")

    async def _fetch(self) -> Grant | Verdict:
        """
        Fetch a token; a burst may repeat it, since fetching one has no effect.

        Crash: a token that nobody holds expires by itself.
        """
        line = self._line
        call = line.call(line.account.call_deadline_s, self._rendered.method, self._url, kind=Kind.TOKEN)

        async def attempt() -> Grant | Verdict:
            answer = await self._line.once(call, self._rendered, fresh=False, private=self._private)
            if isinstance(answer, Verdict):
                return answer
            self._dated = (answer.headers.get("date"), self._line.clock.now())
            result = grant_of(answer, self._definition, self._line.account.roles)
            return self._line.cleaned(result, self._private) if isinstance(result, Verdict) else result

        result = await self._line.burst(call, attempt, _repeatable)
        if isinstance(result, Verdict):
            result = _blamed(result)
        return replace(result, exchange=self._line.exchanged(call))

    def _private(self) -> Iterable[str]:
        return secrets_of(self._definition, self._config)


def without_token(verdict: Verdict) -> Verdict:
    """Give the verdict on a call that could not be sent for want of a token."""
    cause = verdict.cause if verdict.kind in (VerdictKind.REJECTED, VerdictKind.NOT_SENT) else Cause.NONE
    return replace(verdict, kind=VerdictKind.NOT_SENT, cause=cause, reason=f"token_{verdict.reason}")


def _repeatable(result: Grant | Verdict) -> bool:
    return (
        isinstance(result, Verdict)
        and result.kind in (VerdictKind.NOT_SENT, VerdictKind.UNKNOWN)
        and result.retry_after_s is None
    )


def _blamed(verdict: Verdict) -> Verdict:
    """Every refusal of a token but 429 is the account's trouble."""
    if verdict.kind is VerdictKind.REJECTED and verdict.cause is not Cause.THROTTLED:
        return replace(verdict, cause=Cause.ACCOUNT)
    return verdict
