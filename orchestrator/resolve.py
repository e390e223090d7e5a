"""
Records from outside: what the host or a person asks of a payment, whoever holds its claim.

Any process may record; the version decides who wins, and whoever loses reads
again and decides again with the wish still in hand. A record from outside
clears the claim; its former holder learns it by the fence. Next: `claim`.
"""

from collections.abc import Awaitable, Callable

from orchestrator.domain import asking
from orchestrator.domain.decide import decide
from orchestrator.domain.entry import Context
from orchestrator.domain.errors import Fenced, NotFound
from orchestrator.domain.machine import Operation
from orchestrator.domain.payment import Payment
from orchestrator.domain.policy import Policy
from orchestrator.domain.verdict import Verdict
from orchestrator.ports import Store
from orchestrator.records import Record

MAX_RACES = 20
"""Lost races before giving up; each means that somebody else made progress."""


async def outside(store: Store, payment_id: str, wish: Callable[[Payment], Awaitable[Record]]) -> Payment:
    """
    Read, decide and record until the version agrees.

    Args:
        store: The database.
        payment_id: The payment.
        wish: From the payment as it is now to what is to be recorded.

    Raises:
        NotFound: No such payment.
        Fenced: Lost too many races; nothing was written.

    Crash:
        One commit: the wish is recorded or it is not.
    """
    for _ in range(MAX_RACES):
        payment = await store.get(payment_id)
        if payment is None:
            raise NotFound(f"no payment {payment_id[:40]!r}")
        record = await wish(payment)
        if record.decision.quiet:
            return payment
        try:
            return await store.record(record)
        except Fenced:
            continue
    raise Fenced(f"payment {payment_id} changed {MAX_RACES} times meanwhile; try again")


async def cancel(store: Store, payment_id: str, context: Callable[[], Context], *, reason: str) -> Payment:
    """
    Ask to end a payment: at once without a session, after one last look with one.

    Raises:
        NotFound: No such payment.
    """

    async def wish(payment: Payment) -> Record:
        return Record(asking.cancel(payment, context(), reason=reason), held_claim=False)

    return await outside(store, payment_id, wish)


async def acknowledge(store: Store, payment_id: str, context: Callable[[], Context]) -> Payment:
    """
    Take the host's word that it has the hand-over.

    Raises:
        NotFound: No such payment.
        InvalidInput: Nothing was handed over.
    """

    async def wish(payment: Payment) -> Record:
        return Record(asking.acknowledge(payment, context()), held_claim=False)

    return await outside(store, payment_id, wish)


async def hand_in(
    store: Store,
    payment_id: str,
    learnt: tuple[Operation, int | None, Verdict],
    context: Callable[[], Context],
    policy: Callable[[Payment], Policy],
) -> Payment:
    """
    Hand in what was learnt by somebody who doesn't hold the claim (any more).

    The fence guards decisions, not knowledge: every answer gets into the trail.
    """
    operation, attempt, verdict = learnt

    async def wish(payment: Payment) -> Record:
        decision = decide(payment, operation, verdict, context(), policy(payment), attempt=attempt)
        return Record(decision, held_claim=False)

    return await outside(store, payment_id, wish)
