"""
Submit and collect: what the host says becomes a payment, once.

Checks every value at the door (nothing is written for bad input), derives the
id, compares content with an earlier submit of the same id, seals the payer's
fields, records the birth. Knows Protocols, not adapters. Next: `claim`.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from orchestrator.domain import asking
from orchestrator.domain.account import Account, ChannelTerms
from orchestrator.domain.entry import Context, canonical
from orchestrator.domain.errors import Conflict, InvalidInput
from orchestrator.domain.fields import (
    checked_call_guid,
    checked_idempotency_key,
    checked_name,
    checked_reference,
    payment_id,
    unknown_payment,
)
from orchestrator.domain.machine import VERSION
from orchestrator.domain.money import Money
from orchestrator.domain.outcome import MoneyFact
from orchestrator.domain.payment import Channel, Payment, State
from orchestrator.ports import Store, Vault
from orchestrator.records import Birth, Record
from orchestrator.refusals import noting, noting_later
from orchestrator.resolve import outside


class Intake(Protocol):
    """What guards the door: texts and phone numbers."""

    def text(self, field: str, value: object) -> str:
        """Give the text back, normalised; raises `InvalidInput` for card data, control characters, length."""
        ...

    def phone_number(self, field: str, value: str) -> str:
        """Give the number in E.164; raises `InvalidInput`."""
        ...


@dataclass(frozen=True, slots=True)
class Submission:
    """What a host submits; see `Orchestrator.submit` for the meaning of each."""

    account: str
    channel: str
    reference: str
    amount: Money
    fields: Mapping[str, str] = field(repr=False)
    idempotency_key: str | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class Door:
    """What submit and collect work with."""

    store: Store
    vault: Vault
    intake: Intake
    accounts: Mapping[str, Account]
    context: Callable[[], Context]
    later: set[asyncio.Task[None]] = field(default_factory=set)
    """Notes that wait for a host's transaction to end; await them before the store is closed."""


async def submit(door: Door, submission: Submission, *, connection: Any = None) -> Payment:
    """
    Record a new payment, or give the one that the same submit made before.

    Args:
        door: Store, vault, checks, accounts.
        submission: What is to be taken.
        connection: The host's own connection to the same database; its transaction
            then decides whether the payment exists, and sees what it has submitted itself.

    Raises:
        InvalidInput: A value is refused; nothing was written.
        Conflict: The id exists with other content, or the reference may not be paid again.
        Unavailable: The database does not answer. The same call again is safe.

    Crash:
        Before the commit nothing exists; after it the payment does, and the same
        call again gives it back.
    """
    about = str(submission.account) if submission.account in door.accounts else "submit"
    note = noting if connection is None else partial(noting_later, tasks=door.later)
    async with note(door.store, door.context, about):
        account, channel, fields = _checked(door, submission)
    terms = account.terms[channel]
    context = door.context()  # one instant: the payment is created when its first entry says so
    store = door.store if connection is None else await door.store.within(connection)
    earlier = await store.of_reference(submission.account, submission.reference)
    key, round_no = _identity(earlier, submission)
    content = _content(submission, channel, fields)
    missing = tuple(name for name in terms.required if name not in fields)
    payment = Payment(
        id=payment_id(account.name, key),
        account=account.name,
        channel=channel,
        reference=submission.reference,
        round=round_no,
        amount=submission.amount,
        created_at=context.now,
        machine_version=VERSION,
        content_digest=door.vault.digest(content),
        definitions=terms.definitions,
        call_guid=fields.get(account.call_guid_field),
        missing=missing,
    )
    existing = next((one for one in earlier if one.id == payment.id), None)
    if existing is None:
        decision = asking.submit(payment, context, terms.policy)
        sealed = door.vault.seal(fields, payment_id=payment.id) if fields else None
        existing = await store.submit(Birth(decision, sealed))
        if existing.head == decision.payment.head:
            return existing
    if not door.vault.same_content(content, existing.content_digest):
        sealed = await store.sealed(existing.id)
        known = door.vault.unseal(sealed, payment_id=existing.id) if sealed else {}
        raise _conflict(existing, submission, channel, fields, known)
    return existing


async def collect(door: Door, payment_id: str, fields: Mapping[str, str]) -> Payment:
    """
    Supply more fields; when all are known the payment is due.

    Raises:
        NotFound: No such payment.
        InvalidInput: A value is refused, a name is not collected, or collecting is over.

    Crash:
        The fields and the entry are one commit: either both are there or neither.
    """
    payment = await door.store.get(payment_id)
    if payment is None:
        raise unknown_payment(payment_id)
    account = door.accounts.get(payment.account)
    if account is None:
        raise InvalidInput("account", "is not configured any more", "add it to the settings")
    terms = account.terms[payment.channel]
    async with noting(door.store, door.context, payment.id):
        given = _checked_fields(door, account, payment.channel, fields)

    async def decision(current: Payment) -> Record:
        sealed = await door.store.sealed(current.id)
        known = door.vault.unseal(sealed, payment_id=current.id) if sealed else {}
        merged = known | given
        guid = merged.get(account.call_guid_field)
        decided = asking.collect(current, merged.keys(), guid, door.context(), terms.policy)
        return Record(decided, held_claim=False, sealed=door.vault.seal(merged, payment_id=current.id))

    return await outside(door.store, payment_id, decision)


def _checked(door: Door, submission: Submission) -> tuple[Account, Channel, dict[str, str]]:
    account = door.accounts.get(door.intake.text("account", submission.account))
    if account is None:
        known = ", ".join(sorted(door.accounts)) or "none is configured"
        raise InvalidInput("account", "is not configured", f"use one of: {known}")
    if door.intake.text("channel", submission.channel) not in set(Channel):
        raise InvalidInput("channel", "is unknown", "use phone or digital")
    checked_reference(door.intake.text("reference", submission.reference))
    amount: object = submission.amount
    if not isinstance(amount, Money):
        raise InvalidInput("amount", "is not Money", 'use Money("12.40", "GBP")')
    if submission.idempotency_key is not None:
        # The payment's id is a digest of it, and a card number's digest can be guessed.
        checked_idempotency_key(door.intake.text("idempotency_key", submission.idempotency_key))
    channel = Channel(submission.channel)
    return account, channel, _checked_fields(door, account, channel, submission.fields)


def _checked_fields(door: Door, account: Account, channel: Channel, fields: Mapping[str, str]) -> dict[str, str]:
    terms = account.terms[channel]
    checked: dict[str, str] = {}
    for name, value in fields.items():
        checked_name(door.intake.text("fields", name))  # an error repeats the name
        if name not in terms.required and name not in terms.optional:
            raise InvalidInput(f"fields.{name}", "is not a field of this channel", f"use: {_names(terms)}")
        text = door.intake.text(f"fields.{name}", value)
        if not text.strip():
            raise InvalidInput(f"fields.{name}", "is empty", "leave it out until it is known")
        if name in account.phone_fields:
            text = door.intake.phone_number(f"fields.{name}", text)
        if name == account.call_guid_field:
            text = checked_call_guid(text)
        checked[name] = text
    return checked


def _names(terms: ChannelTerms) -> str:
    return ", ".join((*terms.required, *sorted(terms.optional))) or "no field at all"


def _identity(earlier: Sequence[Payment], submission: Submission) -> tuple[str, int]:
    """Give idempotency key and round; refuse a reference that may not be paid again."""
    key = submission.idempotency_key
    if key is not None or not submission.again:
        mine = payment_id(submission.account, key or submission.reference)
        for payment in earlier:
            if payment.id == mine:
                return key or submission.reference, payment.round
    if not earlier:
        return key or submission.reference, 1
    if not submission.again:
        raise Conflict("reference", "was submitted before under another key", "submit with again=True to take it anew")
    for payment in earlier:
        word = _why_not_again(payment)
        if word:
            problem = f"can't be taken again: payment {payment.id} {word}"
            raise Conflict("reference", problem, "wait until it has failed")
    round_no = earlier[-1].round + 1
    return key or f"{submission.reference}#{round_no}", round_no


def _why_not_again(payment: Payment) -> str:
    """Say why the reference of this earlier payment can't be taken again; empty if it can."""
    if payment.state is State.COMPLETED or payment.money is not MoneyFact.NONE:
        return "was paid" if payment.money is not MoneyFact.UNKNOWN else "may have been paid"
    if payment.hold is not None:
        return "is held"
    if not payment.ended:
        return "is still open"
    return "is still watched" if payment.watch_until is not None else ""


def _content(submission: Submission, channel: Channel, fields: Mapping[str, str]) -> bytes:
    return canonical({
        "account": submission.account, "channel": channel.value, "reference": submission.reference,
        "amount_minor": submission.amount.minor, "currency": submission.amount.currency,
        "fields": [[name, fields[name]] for name in sorted(fields)],
    }).encode()  # fmt: skip


def _conflict(
    existing: Payment, submission: Submission, channel: Channel, fields: Mapping[str, str], known: Mapping[str, str]
) -> Conflict:
    """Name what differs; never a value."""
    differs = [
        name
        for name, same in (
            ("reference", existing.reference == submission.reference),
            ("channel", existing.channel is channel),
            ("amount", existing.amount.minor == submission.amount.minor),
            ("currency", existing.amount.currency == submission.amount.currency),
        )
        if not same
    ]
    if known:  # nothing is known of fields that were erased
        differs += [f"fields.{name}" for name in sorted(fields) if known.get(name) != fields[name]]
    # What was left out this time is named last: it may have been collected later.
    differs = differs or [f"fields.{name}" for name in sorted(known.keys() - fields.keys())]
    verb = "differs" if len(differs) == 1 else "differ"
    return Conflict(
        ", ".join(differs) or "fields", f"{verb} from payment {existing.id}, which was submitted before",
        "submit the same content, or another payment under another reference or idempotency key",
    )  # fmt: skip
