"""
What the transport knows about one attempt, and what came back with it.

A verdict speaks of the request, never of the money: whether anything left this
host, and whether the provider took it, refused it or left us in doubt. Knows
nothing of HTTP libraries (`provider` derives verdicts from causes) and nothing
of payments (`decide` draws the consequences). Next: `outcome`.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.domain.outcome import Observation


class VerdictKind(StrEnum):
    """The four things a transport can know."""

    NOT_SENT = "not_sent"
    """Nothing left this host: no effect is possible."""
    REJECTED = "rejected"
    """The provider refused: no effect, and `Verdict.cause` says why."""
    ANSWERED = "answered"
    """A usable answer with what was asked for."""
    UNKNOWN = "unknown"
    """Everything else: the effect may or may not exist."""


class Cause(StrEnum):
    """Why a request was rejected or not sent, as far as consequences differ."""

    NONE = "none"
    THROTTLED = "throttled"
    """429: refused before any effect; come back after `Verdict.retry_after_s`."""
    UNAUTHORIZED = "unauthorized"
    """401, after the token was renewed once."""
    ACCOUNT = "account"
    """403, 3xx or a listed text: the account's trouble, not this payment's."""
    ABSENT = "absent"
    """404 or 410."""
    INVALID = "invalid"
    """Any other refusal of this request's content."""


@dataclass(frozen=True, slots=True)
class Session:
    """
    A payment session that the provider opened.

    Attributes:
        id: The provider's session id.
        number: The number that the host dials to hand the call over; phone only.
        link_id: The digits that tie the call to the session; phone only.
    """

    id: str
    number: str | None = None
    link_id: str | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """
    What the trail keeps of the wire, free of secrets and payer data.

    Attributes:
        method: HTTP method, or empty when nothing was sent.
        url: The URL without query values and secrets.
        status: HTTP status, or `None` without an answer.
        duration_ms: From the first byte's intent to the verdict, in milliseconds.
        sends: How many requests were put on the wire in this attempt.
    """

    method: str = ""
    url: str = ""
    status: int | None = None
    duration_ms: int = 0
    sends: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    One attempt's verdict.

    Attributes:
        kind: What the transport knows.
        reason: A short machine-readable word, such as `http_503` or `connect_refused`.
        cause: For `REJECTED` and `NOT_SENT`: what it means.
        retry_after_s: The provider's own delay in seconds, already capped.
        message: The provider's own text, redacted and cut; never payer data.
        session: For an answered start.
        observation: For an answered status call.
        exchange: What the trail keeps of the wire.
    """

    kind: VerdictKind
    reason: str = ""
    cause: Cause = Cause.NONE
    retry_after_s: float | None = None
    message: str | None = None
    session: Session | None = None
    observation: Observation | None = None
    exchange: Exchange = field(default=Exchange())

    def __post_init__(self) -> None:
        if self.kind is VerdictKind.ANSWERED and self.cause is not Cause.NONE:
            raise ValueError("an answered verdict has no cause")


def crashed() -> Verdict:
    """Give the verdict on an attempt whose worker is gone: nobody knows."""
    return Verdict(VerdictKind.UNKNOWN, reason="worker_lost")
