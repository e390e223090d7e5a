"""
Gateway profiles as settings: which word of an answer means what.

Owns the words as an operator gives them; the reading of an answer by them is the provider's. The full list
of session states is not public and gateways differ, so all of it is data. The
bundled profile `vcc` speaks the shapes of the provider's published examples, a
CyberSource gateway behind PCI Pal; the state words besides `Finished` are
plausible spellings, and a word that is in no list is never an end.
Next: `accounts`.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from orchestrator.setting_types import Frozen, Names, wrong

StateMeaning = Literal[
    "running",
    "ended",
    "failed",
    "cancelled",
    "expired",
    "hung_up",
    "input_timeout",
    "attempts_exhausted",
    "link_undeliverable",
    "not_attempted",
]
"""`ended` sends the reader to the gateway's result; the others but `running` are ends by themselves."""

_STATES: dict[StateMeaning, str] = {
    "running": "created new initialised initialized pending ready started active inprogress processing linked "
    "transferred",
    "ended": "finished completed complete closed ended",
    "failed": "failed error rejected",
    "cancelled": "cancelled canceled aborted",
    "expired": "expired linkexpired",
    "hung_up": "abandoned hungup callerhungup",
    "input_timeout": "timedout timeout inputtimeout",
    "attempts_exhausted": "attemptsexhausted toomanyfailedattempts",
    "link_undeliverable": "linkundeliverable undelivered messagefailed",
    "not_attempted": "notattempted noattempt",
}


def gateway_table(value: object) -> object:
    """Read a profile's name as a table that changes nothing in the profile."""
    return {"profile": value} if isinstance(value, str) else value


def _states(value: Any) -> Any:
    """Lay the account's own words over the bundled ones."""
    if not isinstance(value, dict):
        return value
    own = {_normal(word): meaning for word, meaning in value.items()}
    if len(own) < len(value):
        raise wrong("names one state twice", "case, spaces, _ and - don't tell states apart")
    return _bundled_states() | own


def _normal(word: str) -> str:
    """Give a session state without case, spaces, `_` and `-`: spellings differ by page."""
    return re.sub(r"[\s_-]+", "", word).casefold()


def _bundled_states() -> dict[str, StateMeaning]:
    return {word: meaning for meaning, spelled in _STATES.items() for word in spelled.split()}


class GatewaySettings(Frozen):
    """
    How an account's results read.

    Attributes:
        profile: The bundled profile that the other words stand over.
        result_field: Where in the status body the gateway's own answer is; empty if that is the body itself.
        state_field: Where in the status body the session's state is.
        session_field: Where in the status body the session's id is.
        decision_field: The member of the result that decides.
        code_fields: Members of the result that say why.
        paid: Values of the decision that mean the money was taken.
        declined: Values that mean it was refused.
        review: Values that mean a person decides later.
        error: Values that mean the gateway failed.
        partial_codes: Codes that, beside a positive decision, mean a part was taken.
        attempts_exhausted_codes: Codes that, beside a negative decision, mean there will be no further try.
        doubtful_codes: Codes that, beside an error, leave open whether the transaction ran.
        amount_field: The member of the result that holds the amount.
        amount_unit: The unit of that amount.
        currency_field: The member of the result that holds the currency.
        reference_field: The member of the result that holds the merchant reference.
        states: Meaning of each session state; own words are added to the bundled ones.
        finished_means_paid: Whether an ended session without a decision counts as paid.
            Only for an account whose provider guarantees it.
        account_trouble_texts: Parts of error texts that blame credentials or configuration,
            not the payment (the provider's published list).
        keep_fields: Members of the result that may be stored. It echoes payer data and
            tokens: what is not listed is dropped.
    """

    profile: Literal["vcc"] = "vcc"
    result_field: str = "paymentResultData"
    state_field: str = "sessionState"
    session_field: str = "sessionGuid"
    decision_field: str = "decision"
    code_fields: Names = ("reasonCode",)
    paid: Names = ("ACCEPT",)
    declined: Names = ("REJECT", "DECLINE")
    review: Names = ("REVIEW",)
    error: Names = ("ERROR",)
    partial_codes: Names = ("110",)
    attempts_exhausted_codes: Names = ()
    doubtful_codes: Names = ("150", "151", "152")
    amount_field: str = "Amount"
    amount_unit: Literal["major", "minor"] = "minor"
    currency_field: str = "Currency"
    reference_field: str = "MerchantReferenceCode"
    states: Annotated[dict[str, StateMeaning], BeforeValidator(_states)] = Field(default_factory=_bundled_states)
    finished_means_paid: bool = False
    account_trouble_texts: Names = (
        "invalid_client",
        "invalid_scope",
        "unauthorized_client",
        "Account configuration does not exist",
    )
    keep_fields: Names = ("decision", "reasonCode", "requestID")
