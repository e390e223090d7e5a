"""
Gateway profiles as settings: which word of an answer means what.

Owns the words as an operator gives them, checked one by one. What they are when
nobody gives them, and how an answer is read by them, is the provider's: its
bundled profile is the default of every word here. Next: `accounts`.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from orchestrator.provider.profile import VCC, Meaning, normalised
from orchestrator.settings.types import Frozen, Names, wrong

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


def gateway_table(value: object) -> object:
    """Read a profile's name as a table that changes nothing in the profile."""
    return {"profile": value} if isinstance(value, str) else value


def _states(value: Any) -> Any:
    """Lay the account's own words over the bundled ones."""
    if not isinstance(value, dict):
        return value
    own = {normalised(word): meaning for word, meaning in value.items()}
    if len(own) < len(value):
        raise wrong("names one state twice", "case, spaces, _ and - don't tell states apart")
    return _bundled_states() | own


def _bundled_states() -> dict[str, StateMeaning]:
    return {word: Meaning(meaning).value for word, meaning in VCC.states.items()}


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
    result_field: str = VCC.result_field
    state_field: str = VCC.state_field
    session_field: str = VCC.session_field
    decision_field: str = VCC.decision_field
    code_fields: Names = VCC.code_fields
    paid: Names = VCC.paid
    declined: Names = VCC.declined
    review: Names = VCC.review
    error: Names = VCC.error
    partial_codes: Names = VCC.partial_codes
    attempts_exhausted_codes: Names = VCC.attempts_exhausted_codes
    doubtful_codes: Names = VCC.doubtful_codes
    amount_field: str = VCC.amount_field
    amount_unit: Literal["major", "minor"] = VCC.amount_unit
    currency_field: str = VCC.currency_field
    reference_field: str = VCC.reference_field
    states: Annotated[dict[str, StateMeaning], BeforeValidator(_states)] = Field(default_factory=_bundled_states)
    finished_means_paid: bool = VCC.finished_means_paid
    account_trouble_texts: Names = VCC.account_trouble_texts
    keep_fields: Names = VCC.keep_fields
