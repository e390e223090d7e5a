"""
How a look at a session is prepared, and its answer made fit to be kept.

Few status definitions use a payer's field, and few answers have a text to keep; only for
them is the seal opened. Owns no decision and sends nothing. Next: `execute`.
"""

from dataclasses import replace

from orchestrator.domain.discreet import PrivateValues
from orchestrator.domain.errors import ConfigurationError, IntegrityViolated, InvalidInput
from orchestrator.domain.machine import Operation
from orchestrator.domain.payment import Payment
from orchestrator.domain.verdict import Verdict
from orchestrator.ports import Prepared, Provider, Store, Vault


async def fields_of(store: Store, vault: Vault, payment: Payment) -> dict[str, str]:
    """
    Open a payment's sealed fields; empty when it has none or they were erased.

    Raises:
        IntegrityViolated: The seal does not open.
        Unavailable: The database does not answer.
    """
    sealed = await store.sealed(payment.id)
    return vault.unseal(sealed, payment_id=payment.id) if sealed else {}


async def nothing_new(_: Payment) -> None:
    """Know every definition already."""


async def prepared_look(provider: Provider, store: Store, vault: Vault, payment: Payment) -> Prepared:
    """
    Render the status call for the payment's session.

    Raises:
        InvalidInput: The account's definition needs a field that is not there.
        IntegrityViolated, Unavailable: As `fields_of`.
    """
    try:
        return provider.prepare(Operation.QUERY_STATUS, payment, {})
    except InvalidInput:
        return provider.prepare(Operation.QUERY_STATUS, payment, await fields_of(store, vault, payment))


async def discreet(store: Store, vault: Vault, payment: Payment, verdict: Verdict) -> Verdict:
    """
    Give what a look or a webhook told without what the payer gave: the provider may quote it.

    Where the seal does not open, the provider's own sentence is left out; its codes are the evidence.

    Raises:
        Unavailable: The database does not answer.
    """
    seen = verdict.observation
    kept = seen is not None and (seen.ended or not seen.known or bool(seen.codes))
    if verdict.message is None and not kept:
        return verdict
    try:
        fields = await fields_of(store, vault, payment)
    except (IntegrityViolated, ConfigurationError):
        return replace(verdict, message=None)
    # A number is often quoted without its plus; the call's id is no secret in its own payment's trail.
    given = {value.lstrip("+") for value in fields.values() if value != payment.call_guid}
    return PrivateValues(given).out_of_verdict(verdict)
