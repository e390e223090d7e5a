"""
One account's way to the provider: calls with a total deadline, bursts and no exceptions.

Owns what is common to every call of an account, whatever it is for: the clock, the
wire, the wait policy, and the rule that trouble is a verdict. Must not know
tokens or payments. Next: `authorize`.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from random import Random
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_result

from orchestrator.domain.verdict import Exchange, Verdict, VerdictKind
from orchestrator.interactions import Rendered
from orchestrator.ports import Clock
from orchestrator.provider.backoff import FullJitter
from orchestrator.provider.config import AccountConfig
from orchestrator.provider.message import Cleaner
from orchestrator.provider.transport import Answer, Wire
from orchestrator.provider.verdicts import of_exception, of_status

T = TypeVar("T")

BURST = 3
"""The most sends of a burst; longer waits are durable due times."""


@dataclass(slots=True)
class Call:
    """
    One call under way, retries included.

    Attributes:
        begun: When, on the monotonic clock.
        until: When its total deadline is over.
        method, url: What the trail shows.
        sends: How many requests may have left.
        status: The newest answer's status.
    """

    begun: float
    until: float
    method: str
    url: str
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
        self._wait = FullJitter(random)
        self._wire = Wire(
            account.transport,
            account.verify,
            body_limit=account.body_limit_bytes,
            connections=account.connections,
            start_idle_s=account.start_idle_s,
            monotonic=clock.monotonic,
        )

    def call(self, deadline_s: float, method: str, url: str) -> Call:
        """Begin a call that has so many seconds in all."""
        begun = self.clock.monotonic()
        return Call(begun, begun + deadline_s, method, url)

    def left(self, call: Call) -> float:
        """Give the seconds that a call has left; never negative."""
        return max(0.0, call.until - self.clock.monotonic())

    async def once(
        self, call: Call, rendered: Rendered, *, fresh: bool, private: Callable[[], Iterable[str]]
    ) -> Answer | Verdict:
        """
        Send one request.

        Args:
            call: The call that it belongs to.
            rendered: The request.
            fresh: Whether it needs a fresh connection.
            private: The values that are removed from the provider's message.

        Returns:
            A 2xx answer with its whole body; or the verdict of anything else.

        Crash: see `Wire.exchange`.
        """
        left = self.left(call)
        if left <= 0:
            return Verdict(VerdictKind.NOT_SENT, reason="deadline")
        call.status = None
        try:
            answer = await self._wire.exchange(rendered, deadline_s=left, fresh=fresh)
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
        first = await attempt()
        if not again(first):  # nearly always: the machinery below costs more than the rest of a call
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
            retry=retry_if_result(again),
            sleep=self.clock.sleep,
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )
        result: T = await retrying(one)
        return result

    def cleaned(self, verdict: Verdict, private: Callable[[], Iterable[str]]) -> Verdict:
        """Give the verdict with a message that may be kept."""
        if verdict.message is None:
            return verdict
        return replace(verdict, message=Cleaner(private(), self.redact)(verdict.message))

    def exchanged(self, call: Call) -> Exchange:
        """Give what the trail keeps of a call."""
        duration_ms = round((self.clock.monotonic() - call.begun) * 1000)
        return Exchange(call.method if call.sends else "", call.url, call.status, duration_ms, call.sends)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._wire.aclose()
