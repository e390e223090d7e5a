"""
How a payment can end, and what an answer about it can say.

The normal form over every gateway: a gateway profile (`provider.gateway`) turns
a raw status body into an `Observation`; `decide` turns observations into ends.
The provider's list of session states is not public and `Finished` does not mean
paid, so an observation keeps the raw words beside the meaning. Next: `policy`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """The normal form of how a payment ended."""

    PAID = "paid"
    PARTIALLY_PAID = "partially_paid"
    DECLINED = "declined"
    REVIEW = "review"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    INPUT_TIMEOUT = "input_timeout"
    CANCELLED_BY_PAYER = "cancelled_by_payer"
    CANCELLED_BY_HOST = "cancelled_by_host"
    HUNG_UP = "hung_up"
    EXPIRED = "expired"
    NOT_ATTEMPTED = "not_attempted"
    ABANDONED = "abandoned"
    LINK_UNDELIVERABLE = "link_undeliverable"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    PROVIDER_ERROR = "provider_error"
    CONFIG_ERROR = "config_error"
    INVALID_REQUEST = "invalid_request"
    INDETERMINATE = "indeterminate"


HOLDING = frozenset({Outcome.PARTIALLY_PAID, Outcome.REVIEW, Outcome.INDETERMINATE})
"""Outcomes that wait for a person instead of ending the payment."""

WITHOUT_PAYER = frozenset({Outcome.NOT_ATTEMPTED, Outcome.EXPIRED, Outcome.INPUT_TIMEOUT})
"""Ends that a payer who used another, unseen session would produce in this one."""


class MoneyFact(StrEnum):
    """What is known of the money, beside the state."""

    NONE = "none"
    TAKEN = "taken"
    PARTIAL = "partial"
    UNKNOWN = "unknown"


MONEY_OF = {
    Outcome.PAID: MoneyFact.TAKEN,
    Outcome.PARTIALLY_PAID: MoneyFact.PARTIAL,
    Outcome.REVIEW: MoneyFact.UNKNOWN,
    Outcome.INDETERMINATE: MoneyFact.UNKNOWN,
}
"""The money that an outcome implies; every other outcome implies `MoneyFact.NONE`."""


@dataclass(frozen=True, slots=True)
class Observation:
    """
    What one look at a session said, from a status call or a webhook.

    Attributes:
        session_state: The provider's own word, verbatim; `None` when absent.
        known: Whether the profile knows that word.
        outcome: How the session ended; `None` while it has not.
        codes: The gateway's codes that may be stored, verbatim, allow-listed.
        amount_minor: The amount in the answer, in minor units; `None` when the answer has none.
        currency: ISO 4217 code in the answer, if any.
        reference: The merchant reference in the answer, if any.
        session_id: The session that the answer speaks of, if it says so.
    """

    session_state: str | None
    known: bool = True
    outcome: Outcome | None = None
    codes: Mapping[str, str] = field(default_factory=dict)
    amount_minor: int | None = None
    currency: str | None = None
    reference: str | None = None
    session_id: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the session is over."""
        return self.outcome is not None
