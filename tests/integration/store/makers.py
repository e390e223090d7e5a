"""Payments for the store's tests, made the way the flow makes them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.domain.decision import Decision, Walk
from orchestrator.domain.entry import NO_HASH, Context, Entry, extend, sealed_entry
from orchestrator.domain.fields import payment_id
from orchestrator.domain.machine import START
from orchestrator.domain.money import Money
from orchestrator.domain.outcome import MoneyFact, Outcome
from orchestrator.domain.payment import Channel, Payment
from orchestrator.records import Birth, Record

T0 = datetime(2026, 11, 24, 15, 46, 40, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def context(seconds: float = 0, actor: str = "worker-1") -> Context:
    return Context(now=at(seconds), actor=actor, origin="host-1:42", trace="t-1", version="0.1.0")


def birth(reference: str = "INV-1", *, key: str = "", sealed: bytes | None = b"sealed", **changes: Any) -> Birth:
    facts: dict[str, Any] = {
        "account": "emea", "channel": Channel.DIGITAL, "round": 1, "amount": Money("12.40", "GBP"), "created_at": T0,
        "machine_version": 1, "content_digest": "d" * 64, "definitions": {"authorize": "a" * 64}, "due_at": T0,
    } | changes  # fmt: skip
    account, number = facts["account"], facts["round"]
    new = Payment(id=payment_id(account, key or f"{reference}#{number}"), reference=reference, **facts)
    entry = extend(None, new, "submit", context(actor="host"))
    return Birth(Decision(new, replace(new, version=1, head=entry.hash), (entry,)), sealed)


def births(count: int, **changes: Any) -> list[Birth]:
    return [birth(f"INV-{number}", **changes) for number in range(count)]


def walk(payment: Payment, *steps: str, seconds: float = 1, actor: str = "worker-1") -> Walk:
    """Take the named steps with what each of them needs."""
    walked = Walk(payment, context(seconds, actor))
    for step in steps:
        walked.step(step, **_NEEDS.get(step, {}))
    return walked


_NEEDS: dict[str, dict[str, Any]] = {
    "start_session": {"session_id": "5e55", "session_at": T0, "sessions": 1},
    "complete": {"outcome": Outcome.PAID, "money": MoneyFact.TAKEN},
    "fail": {"outcome": Outcome.DECLINED, "reason": "declined"},
}
PAID = ("authorize", "start_session", "hand_over", "complete")


def outside(payment: Payment, *steps: str, seconds: float = 1, due: datetime | None = None) -> Record:
    return Record(walk(payment, *steps, seconds=seconds, actor="host").due(due), held_claim=False)


def held(payment: Payment, *steps: str, seconds: float = 1, due: datetime | None = None, keep: bool = True) -> Record:
    return Record(walk(payment, *steps, seconds=seconds).due(due), held_claim=True, keep_claim=keep)


def forged(payment: Payment, trigger: str, source: str, target: str, **columns: Any) -> Entry:
    """An entry that is right in form, whatever it says: for lies about content."""
    made = {
        "chain_id": payment.id, "seq": payment.version + 1, "prev_hash": payment.head, "trigger": trigger,
        "from_state": source, "to_state": target, "kind": f"payment.{trigger}", "result": "success",
        "about": payment.id, "context": context(5), "details": {},
    } | columns  # fmt: skip
    return sealed_entry(**made)


def notes(chain: str, count: int) -> Sequence[Entry]:
    made: list[Entry] = []
    for number in range(1, count + 1):
        made.append(
            sealed_entry(
                chain_id=chain, seq=number, prev_hash=made[-1].hash if made else NO_HASH, trigger="note",
                from_state="open" if made else START, to_state="open", kind="admin.note", result="success",
                about=chain, context=context(number), details={},
            )
        )  # fmt: skip
    return made
