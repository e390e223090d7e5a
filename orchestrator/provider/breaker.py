"""
One account's circuit breaker: whom not to call for a while, and who tries first.

Owns when calls are kept back and which one probes. It opens at once on the account's
trouble (credentials, scope, configuration) and after so many calls in a row that
brought no answer. Must not know requests, budgets or payments. Next: `tokens`.

Calls build upon each other: no look without a token, no start worth making without
a look. A breaker that opened for starts therefore lets looks pass, so that no
evidence is lost over a scope that only starts need; one that opened for tokens
keeps all back. It closes when a call answers that builds on what failed.
"""

from dataclasses import replace
from datetime import datetime
from enum import IntEnum
from random import Random

from orchestrator.domain.verdict import Cause, Verdict, VerdictKind
from orchestrator.ports import Clock
from orchestrator.telemetry import emit

THRESHOLD = 10
"""Calls in a row without an answer; one slow server behind a balancer is not the account."""
FIRST_S, MAX_S = 0.5, 30.0
"""The pause before the first probe, and the longest between two."""
NEAR_LOSS_S = 120.0
"""A look whose evidence is lost sooner probes without waiting for the pause."""
NEAR_GAP_S = 1.0
"""Between two such probes."""
REASON = "breaker_open"

_OWN = frozenset({"pool_wait", "deadline"})
"""Of `not_sent`: congestion on our side says nothing of the provider."""


class Kind(IntEnum):
    """What a call is for; each builds upon the smaller ones."""

    TOKEN = 0
    LOOK = 1
    START = 2


class Breaker:
    """
    Keeps calls back.

    Args:
        account: Its name, for the log.
        clock: Time.
        random: Jitter.
    """

    def __init__(self, account: str, *, clock: Clock, random: Random) -> None:
        self._account = account
        self._clock = clock
        self._random = random
        self._opened_at: float | None = None
        self._kind = Kind.TOKEN
        self._tries = 0
        self._probe_at = 0.0
        self._probing = False
        self._probed_at = float("-inf")
        self._unanswered = 0
        self.trouble: Verdict | None = None
        """The newest trouble."""

    @property
    def open_for(self) -> str:
        """What is kept back, with all that builds upon it; empty while closed."""
        return "" if self._opened_at is None else self._kind.name.lower()

    @property
    def since_s(self) -> float:
        """For how many seconds it has been open."""
        return 0.0 if self._opened_at is None else self._clock.monotonic() - self._opened_at

    @property
    def troubled(self) -> bool:
        """Whether the newest trouble is the account's own."""
        return self.trouble is not None and self.trouble.cause in (Cause.ACCOUNT, Cause.UNAUTHORIZED)

    def barred(self, kind: Kind, by: datetime | None = None) -> Verdict | None:
        """Give the verdict on a call that need not be prepared, because it would be kept back."""
        if self._opened_at is None or kind < self._kind:
            return None
        return None if self._may_probe(by if kind is Kind.LOOK else None) else self._refusal()

    def admit(self, kind: Kind, by: datetime | None = None) -> Verdict | bool:
        """
        Let a call pass or keep it back.

        Args:
            kind: What it is for.
            by: For a look: when its evidence is lost.

        Returns:
            The verdict on a call that is kept back; else whether it is the probe. Every call that
            passed must be told of with `learnt`.
        """
        if self._opened_at is None or kind < self._kind:
            return False
        kept_back = self.barred(kind, by)
        if kept_back is not None:
            return kept_back
        self._probing, self._probed_at = True, self._clock.monotonic()
        return True

    def learnt(self, kind: Kind, verdict: Verdict | None, *, probe: bool) -> None:
        """
        Learn what became of a call.

        Args:
            kind: What it was for.
            verdict: Its verdict; `None` for an answer.
            probe: What `admit` gave.
        """
        if probe:
            self._probing = False
        if verdict is None or _answers(kind, verdict):
            self._unanswered = 0
            if self._opened_at is not None and kind >= self._kind:
                self._close()
        elif verdict.kind in (VerdictKind.NOT_SENT, VerdictKind.UNKNOWN):
            if verdict.reason not in _OWN or verdict.kind is VerdictKind.UNKNOWN:
                self._unanswered += 1
                if probe or self._unanswered >= THRESHOLD:
                    self._trip(Kind.TOKEN if self._unanswered >= THRESHOLD else self._kind, verdict)
        elif _is_trouble(kind, verdict):
            self.blame(kind, verdict)
        elif probe:  # throttled, or a token that has to be renewed first: no word yet
            self._probe_at = max(self._probe_at, self._clock.monotonic() + (verdict.retry_after_s or 0.0))

    def blame(self, kind: Kind, verdict: Verdict) -> None:
        """Open for the account's trouble, whatever went before; a 401 is one when a new token has met it, too."""
        self._unanswered = 0
        # Whatever a refused token call is called, the start deadline's clock stands still for it.
        cause = Cause.UNAUTHORIZED if verdict.cause is Cause.UNAUTHORIZED else Cause.ACCOUNT
        self._trip(kind, replace(verdict, cause=cause))

    def cancelled(self, *, probe: bool) -> None:
        """Learn that a call was cut off: another one may probe."""
        if probe:
            self._probing = False

    def _may_probe(self, by: datetime | None) -> bool:
        now = self._clock.monotonic()
        if self._probing:
            return False
        if now >= self._probe_at:
            return True
        near = by is not None and (by - self._clock.now()).total_seconds() < NEAR_LOSS_S
        return near and now - self._probed_at >= NEAR_GAP_S

    def _refusal(self) -> Verdict:
        left = max(self._probe_at - self._clock.monotonic(), FIRST_S)
        cause = self.trouble.cause if self.trouble is not None and self.troubled else Cause.NONE
        # Spread, so that those who were kept back don't come together.
        again = left + self._random.uniform(0, left)
        return Verdict(VerdictKind.NOT_SENT, reason=REASON, cause=cause, retry_after_s=again)

    def _trip(self, kind: Kind, verdict: Verdict) -> None:
        now = self._clock.monotonic()
        self.trouble = verdict
        opens = self._opened_at is None
        if opens:
            self._opened_at, self._kind, self._tries = now, kind, 0
            emit("breaker.opened", account=self._account, operation=self.open_for, reason=verdict.reason)
        self._kind = min(self._kind, kind)
        if opens or now >= self._probe_at:  # calls that were under way when it opened don't put the probe off
            self._tries += not opens
            pause = min(FIRST_S * 2.0 ** min(self._tries, 16), MAX_S)
            self._probe_at = now + self._random.uniform(pause / 2, pause)

    def _close(self) -> None:
        emit("breaker.closed", account=self._account, operation=self.open_for, since_s=round(self.since_s, 3))
        self._opened_at, self._tries, self.trouble = None, 0, None


def _answers(kind: Kind, verdict: Verdict) -> bool:
    """Tell whether a verdict shows that the account works: a refusal of one request does."""
    if verdict.kind is VerdictKind.ANSWERED:
        return True
    throttled = verdict.cause in (Cause.THROTTLED, Cause.UNAUTHORIZED)
    return verdict.kind is VerdictKind.REJECTED and not throttled and not _is_trouble(kind, verdict)


def _is_trouble(kind: Kind, verdict: Verdict) -> bool:
    """Tell the account's trouble; nothing in a token call belongs to a payment, so every refusal of it is."""
    if kind is Kind.TOKEN:
        return verdict.kind is VerdictKind.REJECTED and verdict.cause is not Cause.THROTTLED
    return verdict.cause is Cause.ACCOUNT
