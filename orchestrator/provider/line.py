"""
One account's way to the provider: calls with a total deadline, bursts and no exceptions.

Owns what is common to every call of an account, whatever it is for: the clock, the
wire, the budget, the breaker, the wait policy, and the rule that trouble is a
verdict. Must not know tokens or payments. Next: `authorize`.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from random import Random
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_result

from orchestrator.domain.condition import Condition
from orchestrator.domain.verdict import Cause, Exchange, Verdict, VerdictKind
from orchestrator.interactions import Rendered
from orchestrator.ports import Clock
from orchestrator.provider.answers import INCOMPLETE
from orchestrator.provider.backoff import FullJitter
from orchestrator.provider.breaker import REASON as BREAKER_OPEN
from orchestrator.provider.breaker import Breaker, Kind
from orchestrator.provider.budget import STARTS, Budget, urgency_of_look
from orchestrator.provider.config import AccountConfig
from orchestrator.provider.message import Cleaner
from orchestrator.provider.transport import Answer, Wire
from orchestrator.provider.verdicts import of_exception, of_status
from orchestrator.telemetry import emit

T = TypeVar("T")

BURST = 3
"""The most sends of a burst; longer waits are durable due times."""
TURN_SHARE = 0.75
"""The share of a call's time that it may wait for its turn; the rest is for the wire."""
NOTICED_S = 0.001
"""A shorter wait for a turn is none."""
NO_TURN = frozenset({"budget", "throttled", BREAKER_OPEN})
"""Words of calls that were kept back here: trying again at once would only wait again."""


@dataclass(slots=True)
class Call:
    """
    One call under way, retries included.

    Attributes:
        begun: When, on the monotonic clock.
        until: When its total deadline is over.
        method, url: What the trail shows.
        kind: What it is for.
        by: For a look: when its evidence is lost.
        sends: How many requests may have left.
        status: The newest answer's status.
    """

    begun: float
    until: float
    method: str
    url: str
    kind: Kind = Kind.LOOK
    by: datetime | None = None
    sends: int = 0
    status: int | None = None


class Line:
    """
    Carries one account's calls.

    Args:
        account: Its configuration.
        clock: Time.
        random: Chance.
        redact: Removes card data from a text.
    """

    def __init__(self, account: AccountConfig, *, clock: Clock, random: Random, redact: Callable[[str], str]) -> None:
        self.account = account
        self.clock = clock
        self.redact = redact
        self.budget = Budget(account.requests_per_second, clock=clock)
        self.breaker = Breaker(account.name, clock=clock, random=random)
        self._wait = FullJitter(random)
        self._wire = Wire(
            account.transport,
            account.verify,
            body_limit=account.body_limit_bytes,
            connections=account.connections,
            start_idle_s=account.start_idle_s,
            monotonic=clock.monotonic,
        )

    def call(
        self, deadline_s: float, method: str, url: str, *, kind: Kind = Kind.LOOK, by: datetime | None = None
    ) -> Call:
        """Begin a call that has so many seconds in all."""
        begun = self.clock.monotonic()
        return Call(begun, begun + deadline_s, method, url, kind, by)

    def left(self, call: Call) -> float:
        """Give the seconds that a call has left; never negative."""
        return max(0.0, call.until - self.clock.monotonic())

    async def once(
        self, call: Call, rendered: Rendered, *, fresh: bool, private: Callable[[], Iterable[str]]
    ) -> Answer | Verdict:
        """
        Send one request, when it is its turn.

        Args:
            call: The call that it belongs to.
            rendered: The request.
            fresh: Whether it needs a fresh connection.
            private: The values that are removed from the provider's message.

        Returns:
            A 2xx answer with its whole body; or the verdict of anything else. `not_sent` with a
            word of `NO_TURN` if it was kept back.

        Crash: see `Wire.exchange`.
        """
        if self.left(call) <= 0:
            return Verdict(VerdictKind.NOT_SENT, reason="deadline")
        call.status = None
        probe = await self._admitted(call)
        if isinstance(probe, Verdict):
            return probe
        result: Answer | Verdict | None = None
        try:
            result = await self._exchanged(call, rendered, fresh=fresh, private=private)
        finally:
            if result is None:
                self.breaker.cancelled(probe=probe)
        verdict = result if isinstance(result, Verdict) else None
        self.breaker.learnt(call.kind, verdict, probe=probe)
        if verdict is not None and verdict.retry_after_s:
            self.budget.close_for(verdict.retry_after_s)
        told = VerdictKind.ANSWERED if verdict is None else verdict.kind
        emit("call.answered", account=self.account.name, operation=call.kind.name.lower(), verdict=told)
        return result

    def condition(self) -> Condition:
        """Say how the account fares."""
        trouble = self.breaker.trouble
        return Condition(
            self.account.name, self.breaker.open_for, trouble.reason if trouble else "", self.breaker.troubled,
            self.breaker.since_s, self.budget.closed_s, self.budget.waiting, self.budget.per_second,
        )  # fmt: skip

    def barred(self) -> Verdict | None:
        """Give the verdict on a start that would be kept back, so that no intent is written for it."""
        return self.breaker.barred(Kind.START) or self._throttled(self.account.start_deadline_s)

    async def _admitted(self, call: Call) -> Verdict | bool:
        """Wait for the call's turn; tell whether it is the breaker's probe."""
        kept_back = self.breaker.barred(call.kind, call.by)
        if kept_back is not None:
            return kept_back
        begun = self.clock.monotonic()
        urgency = urgency_of_look(call.by.timestamp() if call.by else None) if call.kind is Kind.LOOK else STARTS
        turn = await self.budget.turn(urgency, begun + self.left(call) * TURN_SHARE)
        waited = self.clock.monotonic() - begun
        if waited >= NOTICED_S:
            emit("call.waited", account=self.account.name, operation=call.kind.name.lower(), duration_s=waited)
        if not turn:
            return self._throttled(0.0) or Verdict(VerdictKind.NOT_SENT, reason="budget")
        probe = self.breaker.admit(call.kind, call.by)
        if isinstance(probe, Verdict):
            self.budget.give_back()
        return probe

    def _throttled(self, patience_s: float) -> Verdict | None:
        """Give the verdict while the provider's own Retry-After runs for longer than a call could wait."""
        left = self.budget.closed_s
        if left <= patience_s * TURN_SHARE:
            return None
        return Verdict(VerdictKind.NOT_SENT, reason="throttled", cause=Cause.THROTTLED, retry_after_s=left)

    async def _exchanged(
        self, call: Call, rendered: Rendered, *, fresh: bool, private: Callable[[], Iterable[str]]
    ) -> Answer | Verdict:
        try:
            answer = await self._wire.exchange(rendered, deadline_s=self.left(call), fresh=fresh)
        except Exception as error:  # noqa: BLE001 - an exception nobody listed is a verdict as well: unknown
            verdict = of_exception(error, self.account.transport)
            call.sends += verdict.kind is not VerdictKind.NOT_SENT
            return verdict
        call.sends += 1
        call.status = answer.status
        texts = self.account.gateway.account_trouble_texts
        refused = of_status(answer, account_texts=texts, now=self.clock.now())
        if refused is not None:
            return self.cleaned(refused, private)
        if answer.too_large:
            return Verdict(VerdictKind.UNKNOWN, reason="body_too_large")
        if answer.flaw is not None:
            # Never "not sent": there was an answer.
            return replace(of_exception(answer.flaw, self.account.transport), kind=VerdictKind.UNKNOWN)
        return answer

    async def burst(self, call: Call, attempt: Callable[[], Awaitable[T]], again: Callable[[T], bool]) -> T:
        """
        Try, and again at short intervals while that can do no harm and there is time.

        Args:
            call: Its deadline bounds the whole burst.
            attempt: One try; it gives verdicts and raises nothing but defects.
            again: Whether a result may be tried again.

        Returns:
            The first result that is final, else the last.

        Crash: the waits are in memory; the attempt's intent and due time are what survives.
        """

        def more(result: T) -> bool:
            return not (isinstance(result, Verdict) and _kept_back(result)) and again(result)

        first = await attempt()
        if not more(first):  # nearly always: the machinery below costs more than the rest of a call
            return first
        known = [first]

        async def one() -> T:
            return known.pop() if known else await attempt()

        def enough(state: RetryCallState) -> bool:
            return state.attempt_number >= BURST or state.upcoming_sleep >= self.left(call)

        # One object for each call: a shared one mixes the attempts of its callers.
        retrying = AsyncRetrying(
            stop=enough,
            wait=self._wait,
            retry=retry_if_result(more),
            sleep=self.clock.sleep,
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )
        result: T = await retrying(one)
        return result

    def cleaned(self, verdict: Verdict, private: Callable[[], Iterable[str]]) -> Verdict:
        """Give the verdict with texts that may be kept."""
        seen, session = verdict.observation, verdict.session
        told = seen is not None and (seen.ended or not seen.known or bool(seen.codes))
        if verdict.message is None and not told and session is None:
            return verdict  # nothing in it but words of the profile's own
        cleaner = Cleaner(private(), self.redact)
        if session is not None and any(map(cleaner.private.hold, (session.id, session.number, session.link_id))):
            verdict = replace(verdict, kind=VerdictKind.UNKNOWN, reason=INCOMPLETE, session=None)
        return replace(cleaner.private.out_of_verdict(verdict), message=cleaner(verdict.message))

    def exchanged(self, call: Call) -> Exchange:
        """Give what the trail keeps of a call."""
        duration_ms = round((self.clock.monotonic() - call.begun) * 1000)
        return Exchange(call.method if call.sends else "", call.url, call.status, duration_ms, call.sends)

    async def aclose(self) -> None:
        """Send away who waits for a turn, and close the connections."""
        await self.budget.aclose()
        await self._wire.aclose()


def _kept_back(verdict: Verdict) -> bool:
    return verdict.kind is VerdictKind.NOT_SENT and verdict.reason.removeprefix("token_") in NO_TURN
