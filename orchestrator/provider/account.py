"""
The provider under one account and one set of definitions: prepare, send, authorize.

Owns the order of things in one attempt: token, request, one renewal after a 401,
short bursts where nothing can have had an effect. A start whose request may have
left is never sent again here: that is `decide`'s to weigh. Must not know the
database or what a verdict leads to. Next: `client`.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from orchestrator.domain.errors import ConfigurationError
from orchestrator.domain.machine import Operation
from orchestrator.domain.payment import Payment
from orchestrator.domain.verdict import Cause, Verdict, VerdictKind
from orchestrator.interactions import Definition
from orchestrator.ports import Prepared
from orchestrator.provider.answers import observation_of, session_of
from orchestrator.provider.authorize import Authorizer, without_token
from orchestrator.provider.breaker import Kind
from orchestrator.provider.config import SESSION_STATUS, START
from orchestrator.provider.line import Call, Line
from orchestrator.provider.request import Request, prepared
from orchestrator.provider.tokens import Token
from orchestrator.provider.transport import Answer


class AccountProvider:
    """
    The calls of one account; `ports.Provider`.

    Args:
        line: The account's way to the provider.
        authorizer: Where its tokens come from.
        definitions: Operation name to definition.
        config: Operation name to the values of `#(Key)` in it.
    """

    def __init__(
        self,
        line: Line,
        authorizer: Authorizer,
        definitions: Mapping[str, Definition],
        config: Mapping[str, Mapping[str, str]],
    ) -> None:
        self._line = line
        self._authorizer = authorizer
        self._definitions = definitions
        self._config = config

    def prepare(self, operation: Operation, payment: Payment, fields: Mapping[str, str]) -> Request:
        """
        Render an operation's request; nothing is sent.

        Args:
            operation: `START_SESSION` or `QUERY_STATUS`; the others are no requests of a payment.
            payment: Whose request it is.
            fields: What the host has collected.

        Raises:
            InvalidInput: A field is missing, or can't be encoded for its place.
            ConfigurationError: The account has no definition or no setting for it.
            ValueError: The operation is not one of the two.
        """
        if operation not in (Operation.START_SESSION, Operation.QUERY_STATUS):
            raise ValueError(f"{operation} is not prepared: it is no request of a payment")
        name = START[payment.channel] if operation is Operation.START_SESSION else SESSION_STATUS
        definition = self._definitions.get(name)
        if definition is None:
            raise ConfigurationError(f"{self._line.account.key}.definitions.{name}", "is missing")
        account = self._line.account
        return prepared(operation, payment, fields, account=account, definition=definition, config=self._config[name])

    async def send(self, prepared: Prepared, *, by: datetime | None = None) -> Verdict:
        """
        Send a request that this provider has prepared.

        Bursts of at most three sends: for a start only while nothing has left, for a status
        call also when its answer was lost. After a 401, which means that nothing was
        carried out, the token is renewed and the request sent once more.

        Args:
            prepared: From `prepare`.
            by: For a look: when its evidence is lost; without it, it goes before other looks.

        Returns:
            The verdict. Remote trouble and defects alike are verdicts; only cancellation is raised.

        Raises:
            TypeError: `prepared` is not from `prepare`.

        Crash: before the request leaves, nothing has happened. Afterwards a session may exist;
            the committed intent is what remembers it, and its verdict will be `unknown`.
        """
        if not isinstance(prepared, Request):
            raise TypeError("send what prepare gave")
        account = self._line.account
        starts = prepared.operation is Operation.START_SESSION
        deadline_s = account.start_deadline_s if starts else account.call_deadline_s
        kind = Kind.START if starts else Kind.LOOK
        call = self._line.call(deadline_s, prepared.definition.method, prepared.url, kind=kind, by=by)
        try:
            verdict = await self._line.burst(
                call, lambda: self._attempt(call, prepared), _repeatable_start if starts else _repeatable_look
            )
        except Exception as error:  # noqa: BLE001 - a defect after the first byte must not look like "nothing happened"
            verdict = Verdict(VerdictKind.UNKNOWN, reason=f"unexpected_{type(error).__name__}")
        return replace(verdict, exchange=self._line.exchanged(call))

    async def authorize(self) -> Verdict:
        """
        Make sure that an unexpired token is at hand.

        Returns:
            `answered`, with the exchange if this call waited for one; or the token call's verdict.

        Crash: see `TokenCache.get`.
        """
        at_hand = self._authorizer.tokens.current is not None
        token = await self._authorizer.token(self._line.account.call_deadline_s)
        if isinstance(token, Verdict):
            return token
        verdict = Verdict(VerdictKind.ANSWERED, reason="token_cached" if at_hand else "token_fetched")
        return verdict if at_hand else replace(verdict, exchange=token.grant.exchange)

    @property
    def clock_ahead_s(self) -> float | None:
        """How many seconds our clock is ahead of the provider's; `None` while that is not known."""
        return self._authorizer.clock_ahead_s

    async def _attempt(self, call: Call, request: Request) -> Verdict:
        """One try of a burst: a send, and a second one after a 401 with a renewed token."""
        if not request.needs_token:
            return await self._once(call, request, None)
        token = await self._authorizer.token(self._line.left(call))
        if isinstance(token, Verdict):
            return without_token(token)
        verdict = await self._once(call, request, token)
        if verdict.cause is not Cause.UNAUTHORIZED:
            return verdict
        self._authorizer.tokens.invalidate(token)
        renewed = await self._authorizer.token(self._line.left(call))
        if isinstance(renewed, Verdict):
            return without_token(renewed)
        verdict = await self._once(call, request, renewed)
        if verdict.cause is Cause.UNAUTHORIZED:
            self._line.breaker.blame(call.kind, verdict)
        return verdict

    async def _once(self, call: Call, request: Request, token: Token | None) -> Verdict:
        bearer = None if token is None else token.grant.value
        starts = request.operation is Operation.START_SESSION
        answer = await self._line.once(
            call, request.rendered(bearer), fresh=starts, private=lambda: request.private(bearer)
        )
        if not isinstance(answer, Answer):
            return answer
        roles, definition = self._line.account.roles, request.definition
        if starts:
            verdict = session_of(answer, definition, roles, request.channel, redact=self._line.redact)
        else:
            verdict = observation_of(
                answer, definition, roles, self._line.account.gateway,
                currency=request.currency, redact=self._line.redact,
            )  # fmt: skip
        return self._line.cleaned(verdict, lambda: request.private(bearer))


def _repeatable_start(verdict: Verdict) -> bool:
    """
    Whether a start may be tried again at once: only if nothing has left.

    A token that could not be had is not tried for again: its own burst has just ended.
    """
    return verdict.kind is VerdictKind.NOT_SENT and not verdict.reason.startswith("token_")


def _repeatable_look(verdict: Verdict) -> bool:
    lost = verdict.kind is VerdictKind.UNKNOWN and verdict.retry_after_s is None
    return lost or _repeatable_start(verdict)
