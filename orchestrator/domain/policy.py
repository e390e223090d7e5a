"""
Every number that decides when: deadlines, lives, polls, limits, per channel.

Defaults are the design's table; an account may override any of them. The
back-off is injected, because its jitter is chance. `operation` and `decide`
read a policy, nobody writes one. Next: `decide`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from enum import StrEnum
from typing import Self

from orchestrator.domain.errors import ConfigurationError

Backoff = Callable[[int], float]
"""Failures so far -> seconds until the next try; jitter and cap are its own business."""


def plain_backoff(failures: int) -> float:
    """Give 0.5 s doubled for each failure, at most 60 s, without jitter."""
    return min(0.5 * 2.0 ** min(failures, 16), 60.0)


class OnUnknownStart(StrEnum):
    """What to do when nobody knows whether a session was opened."""

    HOLD = "hold"
    """A second session would be a second payable text: a person or a webhook must settle it."""
    SUPERSEDE = "supersede"
    """The caller is on the line: start again, with an entry that says so."""


class OnWebhookAlone(StrEnum):
    """What an authenticated webhook is worth that no status call can confirm any more."""

    HOLD = "hold"
    """Its body could be forged or old: a person must look."""
    TRUST = "trust"
    """Its body is the evidence; the entry says that nothing else is."""


@dataclass(frozen=True, slots=True)
class Policy:
    """
    The policy of one account and channel; all times are in seconds.

    Attributes:
        collecting_s: How long fields may be collected before the payment is abandoned.
        start_s: How long authorize and start may take from the moment the fields are complete.
        start_pause_s: How long the account's trouble may stop the start deadline's clock.
        hand_over_s: How long a hand-over is valid; it is never delivered after that.
        awaiting_s: When a waiting payment is called overdue; it is not failed.
        session_life_s: The longest that a session can be paid.
        absent_grace_s: How long after the start a 404 on the status is taken for lag.
        poll_first_s, poll_factor, poll_max_s: The rhythm of polls.
        poll_retry_s: How soon a failed look is repeated at the latest.
        evidence_s: How long the provider can still tell what became of a session that is over.
        on_unknown_start: See `OnUnknownStart`.
        webhook_alone: See `OnWebhookAlone`.
        max_sessions: How many sessions one payment may start in all.
        max_claims: After how many claims without progress a payment is held as poison.
        resolve_persons: How many people must agree on the resolution of a hold: 1 or 2.
        dial_prefixes: What a number to dial must begin with; empty allows none.
        backoff: Failures in a row to seconds until the next try.
    """

    collecting_s: float = 30 * 60
    start_s: float = 20
    start_pause_s: float = 0
    hand_over_s: float = 20
    awaiting_s: float = 15 * 60
    session_life_s: float = 60 * 60
    absent_grace_s: float = 60
    poll_first_s: float = 1
    poll_factor: float = 1.5
    poll_max_s: float = 5
    poll_retry_s: float = 30
    evidence_s: float = 15 * 60
    on_unknown_start: OnUnknownStart = OnUnknownStart.SUPERSEDE
    webhook_alone: OnWebhookAlone = OnWebhookAlone.HOLD
    max_sessions: int = 3
    max_claims: int = 20
    resolve_persons: int = 1
    dial_prefixes: tuple[str, ...] = ()
    backoff: Backoff = plain_backoff

    def poll_after(self, looks: int) -> timedelta:
        """Give the delay before the next look, after so many looks that learnt nothing."""
        grown = self.poll_first_s * self.poll_factor ** min(looks, 64)
        return timedelta(seconds=min(grown, self.poll_max_s))

    def with_overrides(self, overrides: Mapping[str, float | int | str], *, key: str) -> Self:
        """
        Give this policy with some numbers replaced.

        Args:
            overrides: Attribute name to value.
            key: The setting's name, for the error.

        Raises:
            ConfigurationError: For an unknown name or a value that makes no sense.
        """
        known = {f.name for f in fields(self)} - {"dial_prefixes", "backoff"}  # not numbers
        changes: dict[str, object] = {}
        for name, value in overrides.items():
            if name not in known:
                raise ConfigurationError(f"{key}.{name}", "is not a policy", f"one of {', '.join(sorted(known))}")
            changes[name] = _value(name, value, key=key)
        return replace(self, **changes)  # type: ignore[arg-type]  # each value was checked against its field


_A_YEAR_S = 366 * 86400
"""More is a mistaken unit; far more has no date."""


def _value(name: str, value: float | str, *, key: str) -> object:
    if name == "on_unknown_start":
        if value not in list(OnUnknownStart):
            raise ConfigurationError(f"{key}.{name}", "is not a choice", "use hold or supersede")
        return OnUnknownStart(str(value))
    if name == "webhook_alone":
        if value not in list(OnWebhookAlone):
            raise ConfigurationError(f"{key}.{name}", "is not a choice", "use hold or trust")
        return OnWebhookAlone(str(value))
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _A_YEAR_S:
        raise ConfigurationError(f"{key}.{name}", "is not a number from zero to a year", "give seconds or a count")
    if name in ("max_sessions", "max_claims"):
        if value < 1 or value != int(value):
            raise ConfigurationError(f"{key}.{name}", "is not a whole number of at least 1")
        return int(value)
    if name == "resolve_persons":
        if value not in (1, 2):
            raise ConfigurationError(f"{key}.{name}", "is neither 1 nor 2", "say how many people must agree")
        return int(value)
    if name == "poll_factor" and not 1 <= value <= 10:
        problem = "is below 1" if value < 1 else "is above 10"
        raise ConfigurationError(f"{key}.{name}", problem, "give 1 to 10: polls only slow down, by steps")
    if name in ("poll_first_s", "poll_max_s", "poll_retry_s") and value == 0:
        raise ConfigurationError(f"{key}.{name}", "is zero", "that would poll without pause")
    return float(value)


PHONE = Policy()
"""The caller is on the line: seconds count."""

DIGITAL = Policy(
    start_s=10 * 60,
    start_pause_s=24 * 3600,
    awaiting_s=72 * 3600,
    session_life_s=72 * 3600 + 15 * 60,
    poll_first_s=5,
    poll_max_s=5 * 60,
    on_unknown_start=OnUnknownStart.HOLD,
    max_sessions=1,
)
"""The link can be paid for 72 hours; evidence can be read for 15 minutes, so two looks fit at the slowest rhythm."""
