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
from orchestrator.domain.errors import Conflict, Fenced
from orchestrator.domain.fields import unknown_payment
from orchestrator.domain.machine import Operation
from orchestrator.domain.payment import Payment
from orchestrator.domain.policy import Policy
from orchestrator.domain.settling import Resolution, repeats, settle, standing_proposal
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
            raise unknown_payment(payment_id)
        record = await wish(payment)
        if record.decision.quiet:
            return payment
        try:
            return await store.record(record)
        except Fenced:
            continue
    raise Fenced(f"payment {payment_id} changed {MAX_RACES} times meanwhile; try again")


async def cancel(
    store: Store, payment_id: str, context: Callable[[], Context], *, reason: str, hung_up: bool = False
) -> Payment:
    """
    Ask to end a payment: at once without a session, after one last look with one.

    Raises:
        NotFound: No such payment.
        InvalidInput: A hang-up of a digital payment.
    """

    async def wish(payment: Payment) -> Record:
        decision = asking.cancel(payment, context(), reason=reason, hung_up=hung_up)
        return Record(decision, held_claim=False)

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


async def resolve(
    store: Store,
    payment_id: str,
    resolution: Resolution,
    context: Callable[[], Context],
    policy: Callable[[Payment], Policy],
) -> Payment:
    """
    Take a person's word on a held payment; with two persons, the first word is a proposal.

    Args:
        store: The database.
        payment_id: The payment.
        resolution: The word, its texts checked.
        context: When and from where; its actor is the person.
        policy: Of the payment's account and channel.

    Raises:
        NotFound: No such payment.
        InvalidInput: The word does not fit the hold. Nothing was changed.
        Conflict: Not held, ended, or the session is another payment's; or the same person
            a second time, which leaves a note in the administrative chain.

    Crash:
        One commit: the word is recorded or it is not; the same call again is safe. A
        note on a refusal is a commit of its own.
    """

    async def wish(payment: Payment) -> Record:
        terms = policy(payment)
        entries = await store.entries(payment.id) if terms.resolve_persons > 1 and payment.hold is not None else ()
        proposal = standing_proposal(entries)
        try:
            decision = settle(payment, resolution, context(), terms, proposal)
        except Conflict:
            if repeats(payment, resolution, terms, proposal):
                await _note_refusal(store, payment, resolution, context())
            raise
        if resolution.session is not None and not payment.ended:
            others = await store.of_session(payment.account, resolution.session)
            if any(other.id != payment.id for other in others):
                raise Conflict("session", "is another payment's", "look it up again at the provider")
        return Record(decision, held_claim=False)

    return await outside(store, payment_id, wish)


async def _note_refusal(store: Store, payment: Payment, resolution: Resolution, context: Context) -> None:
    """Write down that one person tried to be two."""
    details = {"resolution": resolution.choice, "why": resolution.reason, "refused": "same_person_twice"}
    await store.note("resolution.refused", about=payment.id, context=context, details=details, result="failure")


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
