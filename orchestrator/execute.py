"""
Execute: one claimed payment through one step: plan, send, decide, record.

The intent of a start is committed before a byte is sent; no transaction is open
during a call; the verdict's record is fenced. What a fenced worker learnt is
handed in as knowledge. Next: `rescue`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from orchestrator.claim import DATABASE_TROUBLE, Claims
from orchestrator.domain.account import Account, policy_of
from orchestrator.domain.decide import decide, lapsed
from orchestrator.domain.decision import Decision
from orchestrator.domain.entry import Context, Looks
from orchestrator.domain.errors import Fenced, InvalidInput
from orchestrator.domain.machine import Operation
from orchestrator.domain.operation import Next, Plan, plan
from orchestrator.domain.payment import Payment, State
from orchestrator.domain.policy import Policy
from orchestrator.domain.starting import PAUSED, intend, refuse_request, wait_for_account
from orchestrator.domain.verdict import Cause, Verdict, VerdictKind
from orchestrator.look import discreet, fields_of, nothing_new, prepared_look
from orchestrator.ports import Clock, Prepared, Providers, Store, Traffic, Vault
from orchestrator.records import Record
from orchestrator.rescue import settle_open_attempt
from orchestrator.resolve import hand_in
from orchestrator.telemetry import emit
from orchestrator.traffic import Free
from orchestrator.waiting import evidence_until

Told = TypeVar("Told")


class ClaimLostError(Exception):
    """The claim is gone or can't be trusted: drop the payment, send nothing."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """
    What somebody else in this process has learnt about a held payment.

    Attributes:
        operation: What was tried.
        verdict: What came of it.
        recorded: Done when it is in the trail, or is no news.
    """

    operation: Operation
    verdict: Verdict
    recorded: asyncio.Future[None]

    @contextmanager
    def settling(self) -> Iterator[None]:
        """Tell who waits for the record how it went; a lost claim is no loss, for what was learnt was handed in."""
        try:
            yield
        except Exception as error:
            if not (self.recorded.done() or isinstance(error, ClaimLostError)):
                self.recorded.set_exception(error)
            raise
        except asyncio.CancelledError:
            self.recorded.cancel()
            raise
        finally:
            if not self.recorded.done():
                self.recorded.set_result(None)


@dataclass(slots=True)
class Held:
    """
    A claimed payment in this worker's memory.

    Attributes:
        payment: As recorded last, or as a quiet decision left it.
        looks: The polls since its newest entry.
        inbox: What was learnt about it elsewhere in this process, to be decided here.
        answered_at: The last look that was answered, in this worker's memory.
        absent: Whether the provider did not know the session since then.
    """

    payment: Payment
    looks: Looks = field(default=Looks())
    inbox: list[Learnt] = field(default_factory=list)
    answered_at: datetime | None = None
    absent: bool = False


@dataclass(frozen=True, slots=True)
class Bench:
    """What a step is done with."""

    store: Store
    providers: Providers
    vault: Vault
    accounts: Mapping[str, Account]
    clock: Clock
    claims: Claims
    told: Callable[[], None] = lambda: None
    """Called when the host has something to be told."""
    paused: Callable[[], Collection[str]] = frozenset
    """The accounts whose effects wait, as this worker knows them."""
    traffic: Traffic = field(default=Free())
    """What the provider may be sent."""
    acquaint: Callable[[Payment], Awaitable[None]] = nothing_new
    """Awaited before a step: takes up definitions that were published since this process began."""

    def policy(self, payment: Payment) -> Policy:
        """Give the policy of the payment's account and channel."""
        return policy_of(self.accounts, payment)

    def context(self, held: Held) -> Callable[[], Context]:
        """Give who decides, with the looks to sum up."""
        return partial(self.claims.context, held.looks)


async def execute_step(bench: Bench, held: Held) -> Plan:
    """
    Take one claimed payment through one step.

    Args:
        bench: The adapters.
        held: The payment; changed in place to what was recorded.

    Returns:
        The plan that was carried out; `WAIT` when there was nothing to do yet.

    Raises:
        ClaimLostError: Somebody else decides about this payment now.
        Unavailable: The database does not answer. Nothing was decided.

    Crash:
        Before the intent's commit nothing has happened. From then until the
        verdict's commit the attempt is open, and whoever claims the payment next
        decides it as `unknown`. After that there is nothing to repair.
    """
    await bench.acquaint(held.payment)
    await _take_inbox(bench, held)
    policy = bench.policy(held.payment)
    planned = plan(held.payment, bench.clock.now(), policy)
    match planned.next:
        case Next.RESCUE:
            await _record(bench, held, settle_open_attempt(held.payment, bench.context(held)(), policy))
        case Next.LAPSE:
            await _record(bench, held, lapsed(held.payment, planned.why, bench.context(held)()))
        case Next.SEND if planned.operation is not None:
            await _send(bench, held, planned.operation)
    return planned


async def _send(bench: Bench, held: Held, operation: Operation) -> None:
    begins = operation in (Operation.AUTHORIZE, Operation.START_SESSION)
    account = held.payment.account
    kept_back = (PAUSED if account in bench.paused() else bench.traffic.barred(account)) if begins else None
    if kept_back is not None:
        await _wait_for_account(bench, held, kept_back)
        return
    match operation:
        case Operation.AUTHORIZE:
            await _authorize(bench, held)
        case Operation.START_SESSION:
            await _start(bench, held)
        case Operation.HAND_OVER:
            await _settle(bench, held, operation, None, Verdict(VerdictKind.ANSWERED, reason="published"))
        case Operation.QUERY_STATUS:
            verdict = await _look(bench, held)
            # What came meanwhile was earlier: the trail tells it first.
            await _take_inbox(bench, held)
            await _settle(bench, held, operation, None, verdict)


async def _wait_for_account(bench: Bench, held: Held, verdict: Verdict) -> None:
    """Begin nothing while the account is paused or kept back; only the first time is written down."""
    decision = wait_for_account(held.payment, bench.context(held)(), bench.policy(held.payment), verdict)
    if decision.quiet:
        held.payment = decision.payment
        return
    await _record(bench, held, decision)


async def _take_inbox(bench: Bench, held: Held) -> None:
    while held.inbox:
        learnt = held.inbox.pop(0)
        with learnt.settling():
            await _settle(bench, held, learnt.operation, None, learnt.verdict)


async def _authorize(bench: Bench, held: Held) -> None:
    """Get the token; with one at hand, authorization and the start's intent are one commit."""
    verdict = await bench.providers.of(held.payment).authorize()
    policy, context = bench.policy(held.payment), bench.context(held)()
    decision = decide(held.payment, Operation.AUTHORIZE, verdict, context, policy)
    if decision.payment.state is State.AUTHORIZED:
        await _start(bench, held, decision)
    else:
        await _settle(bench, held, Operation.AUTHORIZE, None, verdict)


async def _look(bench: Bench, held: Held) -> Verdict:
    payment = held.payment
    provider = bench.providers.of(payment)
    try:
        prepared = await prepared_look(provider, bench.store, bench.vault, payment)
    except InvalidInput as error:
        return Verdict(VerdictKind.NOT_SENT, reason=f"unusable_field:{error.field}")
    by = evidence_until(payment, held.answered_at, bench.policy(payment))
    answered = await provider.send(prepared, by=by)
    verdict = await _insisted(bench, payment, "look", partial(discreet, bench.store, bench.vault, payment, answered))
    now = bench.clock.now()
    if verdict.kind is VerdictKind.ANSWERED:
        held.answered_at, held.absent = now, False
    elif verdict.kind is VerdictKind.REJECTED and verdict.cause is Cause.ABSENT and not held.absent:
        held.absent = True
        if now > by:  # within the window the provider had it and lost it; beyond it, we came too late
            late_s = round((now - by).total_seconds())
            emit("evidence.lost", payment_id=payment.id, account=payment.account, since_s=late_s)
    return verdict


async def _start(bench: Bench, held: Held, authorized: Decision | None = None) -> None:
    """Record the intent, send, settle; `authorized` is a decision that is not recorded yet."""
    payment = authorized.payment if authorized else held.payment
    context = bench.context(held)()
    prepared: Prepared | None = None
    try:
        fields = await fields_of(bench.store, bench.vault, payment)
        prepared = bench.providers.of(payment).prepare(Operation.START_SESSION, payment, fields)
        decision = intend(payment, context, request_digest=prepared.digest)
    except InvalidInput as error:
        # Nothing was sent, and nothing ever could be.
        decision = refuse_request(payment, context, field=error.field)
    await _record(bench, held, authorized.then(decision) if authorized else decision)
    attempt = held.payment.open_attempt
    if prepared is None or attempt is None:
        return
    if bench.claims.holds(held.payment):
        verdict = await bench.providers.of(held.payment).send(prepared)
    else:
        # Somebody else may have the payment by now: the intent is closed, and nothing was sent.
        verdict = Verdict(VerdictKind.NOT_SENT, reason="claim_not_trusted")
    emit(
        "operation.answered", payment_id=held.payment.id, operation="start_session", verdict=verdict.kind,
        reason=verdict.reason, status=verdict.exchange.status, duration_s=verdict.exchange.duration_ms / 1000,
    )  # fmt: skip
    await _settle(bench, held, Operation.START_SESSION, attempt, verdict)


async def _settle(
    bench: Bench, held: Held, operation: Operation, attempt: int | None, verdict: Verdict
) -> None:  # fmt: skip
    """Decide and record; a fence or a lost database must not lose what was learnt."""
    policy = bench.policy(held.payment)
    decision = decide(held.payment, operation, verdict, bench.context(held)(), policy, attempt=attempt)
    if decision.quiet:
        seen = verdict.observation
        if operation in (Operation.QUERY_STATUS, Operation.AUTHORIZE):
            held.looks = held.looks.plus(
                at=bench.clock.now(),
                failed=verdict.kind is not VerdictKind.ANSWERED,
                state=seen.session_state if seen else None,
            )
        held.payment = decision.payment
        return
    try:
        await _record(bench, held, decision)
    except (ClaimLostError, *DATABASE_TROUBLE):
        await _knowledge(bench, held, (operation, attempt, verdict))
        raise ClaimLostError from None


async def _record(bench: Bench, held: Held, decision: Decision) -> None:
    keep = decision.payment.due_at is not None and not (
        decision.payment.state is State.COLLECTING and decision.payment.missing
    )
    try:
        held.payment = await bench.store.record(Record(decision, held_claim=True, keep_claim=keep))
    except Fenced:
        emit("claim.fenced", payment_id=decision.before.id, worker_id=bench.claims.worker_id)
        raise ClaimLostError from None
    held.looks = Looks()
    if decision.notices:
        bench.told()
    _tell(decision)


async def _knowledge(bench: Bench, held: Held, learnt: tuple[Operation, int | None, Verdict]) -> None:
    """Hand in what was learnt without a claim, until the database takes it."""
    work = partial(hand_in, bench.store, held.payment.id, learnt, bench.claims.context, bench.policy)
    await _insisted(bench, held.payment, "hand_in", work)


async def _insisted(bench: Bench, payment: Payment, operation: str, work: Callable[[], Awaitable[Told]]) -> Told:
    """Do what an answer needs that was given once, and may not be given again, until the database answers."""
    failures = 0
    while True:
        try:
            return await work()
        except DATABASE_TROUBLE as error:
            failures += 1
            emit("database.unavailable", error=error, operation=operation, payment_id=payment.id)
            await bench.clock.sleep(min(0.25 * failures, 2.0))
        except Fenced:
            continue


def _tell(decision: Decision) -> None:
    payment = decision.payment
    for entry in decision.entries:
        emit(
            "payment.recorded", payment_id=payment.id, version=entry.seq, trigger=entry.trigger,
            from_state=entry.from_state, to_state=entry.to_state, reason=payment.reason, entry_hash=entry.hash.hex(),
        )  # fmt: skip
    told: dict[str, Any] = {
        "payment_id": payment.id, "channel": payment.channel, "state": payment.state,
        "outcome": payment.outcome, "reason": payment.reason, "money": payment.money,
    }  # fmt: skip
    if payment.reason == "unknown_state":
        emit("state.unknown", payment_id=payment.id, session_state=payment.session_state)
    if payment.hold is not None and decision.before.hold is None:
        emit("payment.held", hold=payment.hold, **told)
    if payment.ended and not decision.before.ended:
        emit("payment.ended", **told)
