"""
How a look at a session is prepared.

Few status definitions use a payer's field; only for them is the seal opened. Owns no
decision and sends nothing. Next: `execute`.
"""

from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.machine import Operation
from orchestrator.domain.payment import Payment
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
