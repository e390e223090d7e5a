"""
Inbound webhooks: find the payment, ask the provider whether it is so, hand it in.

A webhook is a hint, never a fact. While the provider can say what became of the session,
it is asked, and its answer is what is recorded, through the one door. Nothing is kept
here: until the answer is in the trail the sender is told to come again, and it does, for
twelve hours. Owns the way of one notice; what it means is `domain.hearing`'s.
Next: `execute`.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from orchestrator.domain.account import Account, policy_of
from orchestrator.domain.entry import Context
from orchestrator.domain.errors import CardDataRefused, ConfigurationError, InvalidInput, Unavailable
from orchestrator.domain.hearing import (
    CONFIRMED,
    Unmatched,
    after_webhook,
    is_looked_at,
    is_news,
    is_young,
    match,
    unconfirmed,
)
from orchestrator.domain.outcome import Observation
from orchestrator.domain.payment import Payment
from orchestrator.domain.policy import Policy
from orchestrator.domain.verdict import Cause, Verdict, VerdictKind
from orchestrator.look import discreet, nothing_new, prepared_look
from orchestrator.ports import Providers, Store, Vault
from orchestrator.records import Record
from orchestrator.refusals import CARD_DATA, note_card_data
from orchestrator.resolve import outside
from orchestrator.telemetry import emit

UNMATCHED, REFUSED = "webhook.unmatched", "webhook.refused"
"""Kinds of entries of the administrative chain."""

QUIET_S = 60.0

GONE = (Cause.ABSENT, Cause.INVALID)
"""Refusals of a look after which nobody can confirm anything: the evidence is gone."""


class Result(StrEnum):
    """What became of a webhook."""

    RECORDED = "recorded"
    """It is in the payment's trail."""
    NOTHING_NEW = "nothing_new"
    """The trail has it already, or it tells of no end."""
    UNMATCHED = "unmatched"
    """It belongs to no payment, or to several; it is in the administrative chain."""


@dataclass(frozen=True, slots=True)
class Heard:
    """
    A webhook that was taken.

    Attributes:
        result: What became of it.
        payment: The payment as it is now; `None` if unmatched.
    """

    result: Result
    payment: Payment | None = None


@dataclass(frozen=True, slots=True)
class Ear:
    """What a webhook is taken with."""

    store: Store
    providers: Providers
    vault: Vault
    accounts: Mapping[str, Account]
    context: Callable[[], Context]
    acquaint: Callable[[Payment], Awaitable[None]] = nothing_new
    """Awaited before a look: takes up definitions that were published since this process began."""
    noted: dict[tuple[str, str], datetime] = field(default_factory=dict)

    def policy(self, payment: Payment) -> Policy:
        """Give the policy of the payment's account and channel."""
        return policy_of(self.accounts, payment)

    async def refuse(self, account: str, why: str, sender: str = "") -> None:
        """
        Write down that something security relevant was refused, once a minute at most: a flood of it must not be ours.

        Args:
            account: The account that it was sent for.
            why: A word, such as `unauthorized`.
            sender: The address that it came from, as far as known.

        Raises:
            ConfigurationError: No such account.
            Unavailable: The database does not answer.
        """
        known(self.accounts, account)
        context = self.context()
        if self._is_due(account, why, context.now):
            details = {"account": account, "reason": why} | ({"sender": sender} if sender else {})
            await self.store.note(REFUSED, about=account, context=context, details=details, result="failure")

    async def refuse_card_data(self, account: str, error: CardDataRefused) -> None:
        """Write down that card data was refused, as `refuse` does: once a minute at most."""
        context = self.context()
        if self._is_due(account, CARD_DATA, context.now):
            await note_card_data(self.store, error, context, about=account)

    def _is_due(self, account: str, why: str, now: datetime) -> bool:
        last = self.noted.get((account, why))
        due = last is None or now - last >= timedelta(seconds=QUIET_S)
        if due:
            self.noted[account, why] = now
        return due


def known(accounts: Mapping[str, Account], account: str) -> None:
    """
    Insist on a configured account.

    Raises:
        ConfigurationError: It isn't.
    """
    if account not in accounts:
        raise ConfigurationError("account", "is not configured", "give the name of one that is")


async def hear(ear: Ear, account: str, body: bytes) -> Heard:
    """
    Take one webhook.

    Args:
        ear: The adapters.
        account: The account that it was sent for, by the address it came to.
        body: As it came; whoever calls has made sure who sent it.

    Raises:
        ConfigurationError: No such account.
        InvalidInput: The body is not one; names the field, never a value. `CardDataRefused`
            leaves an entry in the administrative chain.
        Unavailable: Database or provider do not answer now: let the sender send it again.

    Crash:
        Before the record nothing has happened, and the sender, unanswered, sends it again;
        after it the same webhook is nothing new.
    """
    known(ear.accounts, account)
    try:
        read = ear.providers.notice(account, body)
    except InvalidInput as error:
        emit("webhook.refused", account=account, reason=f"{error.field} {error.problem}")
        if isinstance(error, CardDataRefused):
            await ear.refuse_card_data(account, error)
        raise
    seen = read("")
    assert seen.session_id is not None  # noqa: S101 - a notice names its session
    found = match(
        await ear.store.of_session(account, seen.session_id),
        await ear.store.of_reference(account, seen.reference) if seen.reference else (),
        lambda payment: read(payment.amount.currency),
    )
    if isinstance(found, Unmatched):
        await _keep(ear, account, seen, found)
        return _heard(account, Heard(Result.UNMATCHED), found.value)
    seen = read(found.amount.currency)
    if not is_news(found, seen):
        return _heard(account, Heard(Result.NOTHING_NEW, found), "no_news")
    return await _record(ear, found, await _confirmed(ear, found, seen))


async def _keep(ear: Ear, account: str, seen: Observation, why: Unmatched) -> None:
    """Keep what belongs to no payment where a person finds it."""
    details = {
        "account": account, "reason": why.value, "session": seen.session_id, "reference": seen.reference,
        "state": seen.session_state, "outcome": seen.outcome.value if seen.outcome else None,
        "amount_minor": seen.amount_minor, "codes": dict(seen.codes),
    }  # fmt: skip
    told = {name: value for name, value in details.items() if value is not None}
    await ear.store.note(UNMATCHED, about=account, context=ear.context(), details=told, result="unknown")


async def _confirmed(ear: Ear, payment: Payment, seen: Observation) -> Verdict:
    """
    Ask the provider; where it can't say any more, take the account's policy.

    Raises:
        Unavailable: It does not answer now, its answer is no answer, or the session that is told
            to be over runs on, and nobody else would look at it again.
    """
    try:
        await ear.acquaint(payment)
        provider = ear.providers.of(payment)
    except ConfigurationError as error:  # trouble of ours: a person mends it while the sender comes again
        emit("webhook.postponed", payment_id=payment.id, account=payment.account, reason="settings", error=error)
        raise Unavailable("the settings don't fit the payment; send it again") from None
    policy, session = ear.policy(payment), seen.session_id or ""
    asked = replace(payment, session_id=session)
    try:
        prepared = await prepared_look(provider, ear.store, ear.vault, asked)
    except InvalidInput:  # the payer's fields were erased: nobody can be asked
        return unconfirmed(seen, policy)
    verdict = await provider.send(prepared)
    answer = verdict.observation
    if verdict.kind is VerdictKind.ANSWERED and answer is not None:
        named = replace(answer, session_id=answer.session_id or session)
        verdict = replace(verdict, reason=CONFIRMED, observation=named)
        if named.ended or is_looked_at(payment, session):
            return verdict
        verdict = replace(verdict, reason="still_running")
    lag = verdict.cause is Cause.ABSENT and is_young(payment, session, ear.context().now, policy)
    if verdict.kind is VerdictKind.REJECTED and verdict.cause in GONE and not lag:
        return replace(unconfirmed(seen, policy), exchange=verdict.exchange)
    emit("webhook.postponed", payment_id=payment.id, account=payment.account, reason=verdict.reason)
    raise Unavailable("the provider can't confirm it now; send it again")


async def _record(ear: Ear, payment: Payment, verdict: Verdict) -> Heard:
    written = False
    verdict = await discreet(ear.store, ear.vault, payment, verdict)

    async def wish(now: Payment) -> Record:
        nonlocal written
        decision = after_webhook(now, verdict, ear.context(), ear.policy(now))
        written = not decision.quiet
        return Record(decision, held_claim=False)

    recorded = await outside(ear.store, payment.id, wish)
    result = Result.RECORDED if written else Result.NOTHING_NEW
    return _heard(payment.account, Heard(result, recorded), verdict.reason)


def _heard(account: str, heard: Heard, why: str) -> Heard:
    payment = heard.payment
    emit(
        "webhook.heard", account=account, result=heard.result.value, reason=why,
        payment_id=payment and payment.id, state=payment and payment.state,
    )  # fmt: skip
    return heard
