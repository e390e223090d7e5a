"""
How one account's answers are to be read: the gateway profile, as data.

The provider publishes neither its list of session states nor one result shape:
gateways differ. So both are settings, over a bundled profile. Owns the words
only; `gateway` reads by them. Next: `gateway`.

Sources: VCC Payment API, "Get payment session status" (the body, with a CyberSource
result); CyberSource Simple Order API, "Reason codes" (branch on `decision`; 110 is
partial; 150 to 152 leave open whether the transaction ran). The spellings of
states other than `Finished` are guesses; an unlisted one never ends a session.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

_NOISE = re.compile(r"[\s_-]+")


class Meaning(StrEnum):
    """What a session state means."""

    RUNNING = "running"
    ENDED = "ended"
    """Over; only the gateway's result says how."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    HUNG_UP = "hung_up"
    INPUT_TIMEOUT = "input_timeout"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    LINK_UNDELIVERABLE = "link_undeliverable"
    NOT_ATTEMPTED = "not_attempted"


_SPELLINGS = {
    Meaning.RUNNING: "created new initialised initialized pending ready started active inprogress processing linked "
    "transferred",
    Meaning.ENDED: "finished completed complete closed ended",
    Meaning.FAILED: "failed error rejected",
    Meaning.CANCELLED: "cancelled canceled aborted",
    Meaning.EXPIRED: "expired linkexpired",
    Meaning.HUNG_UP: "abandoned hungup callerhungup",
    Meaning.INPUT_TIMEOUT: "timedout timeout inputtimeout",
    Meaning.ATTEMPTS_EXHAUSTED: "attemptsexhausted toomanyfailedattempts",
    Meaning.LINK_UNDELIVERABLE: "linkundeliverable undelivered messagefailed",
    Meaning.NOT_ATTEMPTED: "notattempted noattempt",
}


def normalised(state: str) -> str:
    """Give a state as it is compared: case, white space, `_` and `-` do not matter."""
    return _NOISE.sub("", state).casefold()


STATES: Mapping[str, Meaning] = MappingProxyType(
    {spelling: meaning for meaning, spellings in _SPELLINGS.items() for spelling in spellings.split()}
)
"""Normalised state to meaning, of the bundled profile."""


@dataclass(frozen=True, slots=True)
class GatewayProfile:
    """
    How one account's answers are read; the defaults are the bundled profile for VCC with CyberSource.

    Attributes:
        state_field, session_field: Where the body has its state and the session's id.
        result_field: Where the body has the gateway's flat map; empty if that is the body itself.
        decision_field: The gateway's decision, compared ignoring case.
        paid, declined, review, error: The decisions of each kind; any other is nobody's.
        code_fields: The fields that the three code lists below are compared with.
        partial_codes: With a positive decision: less than the whole amount.
        attempts_exhausted_codes: With a negative decision: there will be no further try.
        doubtful_codes: With an error: whether the transaction ran is open.
        amount_field, amount_unit, currency_field, reference_field: What the result confirms.
        states: State to meaning; any other state is not an end.
        finished_means_paid: Whether `ended` without any decision is paid. Only for a gateway
            that is known to finish no other way.
        account_trouble_texts: Texts in a refusal that blame the account, compared ignoring case.
        keep_fields: The fields of the result that may be stored; never payer data.
    """

    state_field: str = "sessionState"
    session_field: str = "sessionGuid"
    result_field: str = "paymentResultData"
    decision_field: str = "decision"
    paid: tuple[str, ...] = ("ACCEPT",)
    declined: tuple[str, ...] = ("REJECT", "DECLINE")
    review: tuple[str, ...] = ("REVIEW",)
    error: tuple[str, ...] = ("ERROR",)
    code_fields: tuple[str, ...] = ("reasonCode",)
    partial_codes: tuple[str, ...] = ("110",)
    attempts_exhausted_codes: tuple[str, ...] = ()
    doubtful_codes: tuple[str, ...] = ("150", "151", "152")
    amount_field: str = "Amount"
    amount_unit: Literal["major", "minor"] = "minor"
    currency_field: str = "Currency"
    reference_field: str = "MerchantReferenceCode"
    states: Mapping[str, Meaning | str] = field(default_factory=lambda: STATES)
    finished_means_paid: bool = False
    account_trouble_texts: tuple[str, ...] = (
        "invalid_client",
        "invalid_scope",
        "unauthorized_client",
        "Account configuration does not exist",
    )
    keep_fields: tuple[str, ...] = ("decision", "reasonCode", "requestID")

    def __post_init__(self) -> None:
        # Settings speak plain words, in any spelling; an unknown meaning is a ValueError here and now.
        states = {normalised(state): Meaning(meaning) for state, meaning in self.states.items()}
        object.__setattr__(self, "states", MappingProxyType(states))

    def meaning(self, state: str | None) -> Meaning | None:
        """Give what a state means, or `None` for one that nobody listed."""
        found = None if state is None else self.states.get(normalised(state))
        return None if found is None else Meaning(found)


VCC = GatewayProfile()
"""The bundled profile."""
