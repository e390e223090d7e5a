"""The way of one notice: whom it asks, when it is sent back, and how often a refusal is written down."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.domain.entry import Context
from orchestrator.domain.errors import ConfigurationError, InvalidInput, Unavailable
from orchestrator.domain.outcome import MoneyFact, Observation, Outcome
from orchestrator.domain.payment import Channel, HoldReason, Payment, State
from orchestrator.domain.policy import OnWebhookAlone
from orchestrator.domain.verdict import Verdict
from orchestrator.records import Record
from orchestrator.webhook import QUIET_S, REFUSED, Ear, Result, hear
from tests.unit.domain.story import (
    ABSENT,
    EMPTY,
    FORBIDDEN,
    INVALID,
    NOT_SENT,
    POLICIES,
    SESSION,
    T0,
    THROTTLED,
    UNAUTHORIZED,
    UNKNOWN,
    paid,
    requested,
    running,
    says,
    waiting,
)


@dataclass
class World:
    """One payment, a provider that answers as it is told to, and what was written."""

    payment: Payment
    verdict: Verdict = field(default=UNKNOWN)
    seen: Observation = field(default_factory=paid)
    seconds: float = 600
    unusable: bool = False
    notes: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)

    def ear(self, **policy: Any) -> Ear:
        terms = {each: SimpleNamespace(policy=replace(POLICIES[each], **policy)) for each in Channel}
        world: Any = self
        accounts: Any = {"emea": SimpleNamespace(terms=terms)}
        return Ear(world, world, world, accounts, lambda: Context(self.now(), "webhook", "host-1:1"))

    def now(self) -> datetime:
        return T0 + timedelta(seconds=self.seconds)

    # the store

    async def of_session(self, _account: str, session_id: str) -> list[Payment]:
        ours = (self.payment.session_id or "").lower() == session_id.lower()
        return [self.payment] if ours else []

    async def of_reference(self, _account: str, reference: str) -> list[Payment]:
        return [self.payment] if reference == self.payment.reference else []

    async def get(self, _payment_id: str) -> Payment:
        return self.payment

    async def sealed(self, _payment_id: str) -> None:
        return None

    async def record(self, record: Record) -> Payment:
        self.records.append(record)
        self.payment = record.decision.payment
        return self.payment

    async def note(self, kind: str, *, details: Mapping[str, Any], **_: Any) -> None:
        self.notes.append((kind, details))

    # the provider

    def notice(self, _account: str, _body: bytes) -> Callable[[str], Observation]:
        return lambda _currency: self.seen

    def of(self, _payment: Payment) -> "World":
        return self

    def prepare(self, _operation: object, payment: Payment, _fields: object) -> str:
        if self.unusable:
            raise InvalidInput("cardholderName", "is missing")
        self.asked.append(payment.session_id)
        return "request"

    async def send(self, _prepared: str) -> Verdict:
        return self.verdict


@pytest.mark.parametrize("verdict", [NOT_SENT, THROTTLED, UNAUTHORIZED, FORBIDDEN, UNKNOWN, EMPTY])
@pytest.mark.parametrize("policy", OnWebhookAlone)
async def test_while_the_provider_can_not_be_asked_the_sender_comes_again(
    verdict: Verdict, policy: OnWebhookAlone
) -> None:
    world = World(waiting(), verdict)

    with pytest.raises(Unavailable):
        await hear(world.ear(webhook_alone=policy), "emea", b"{}")

    assert (world.records, world.notes) == ([], [])


@pytest.mark.parametrize("verdict", [ABSENT, INVALID])
async def test_when_nobody_can_tell_any_more_the_policy_decides(verdict: Verdict) -> None:
    doubt, proof = World(waiting(), verdict), World(waiting(), verdict)

    held = await hear(doubt.ear(), "emea", b"{}")
    ended = await hear(proof.ear(webhook_alone=OnWebhookAlone.TRUST), "emea", b"{}")

    assert held.payment is not None
    assert (held.payment.hold, held.payment.reason) == (HoldReason.INDETERMINATE, "webhook_alone")
    assert (held.payment.money, dict(held.payment.codes)) == (MoneyFact.UNKNOWN, {"result": "0"})
    assert ended.payment is not None
    assert (ended.payment.state, ended.payment.outcome) == (State.COMPLETED, Outcome.PAID)
    assert proof.records[0].decision.entries[-1].body.count('"why":"webhook_alone"') == 1


async def test_fields_that_were_erased_leave_nobody_to_ask() -> None:
    world = World(waiting(), unusable=True)

    heard = await hear(world.ear(), "emea", b"{}")

    assert heard.payment is not None
    assert (heard.payment.hold, world.asked) == (HoldReason.INDETERMINATE, [])


@pytest.mark.parametrize(
    ("payment", "seconds", "lag"),
    [(waiting(), 59, True), (waiting(), 61, False), (requested(), 5, True), (requested(Channel.DIGITAL), 5, True)],
)
async def test_a_session_that_the_provider_does_not_know_yet_is_asked_for_again(
    payment: Payment, seconds: float, lag: bool
) -> None:
    world = World(payment, ABSENT, seconds=seconds)
    if lag:
        with pytest.raises(Unavailable):
            await hear(world.ear(), "emea", b"{}")
        assert world.records == []
    else:
        assert (await hear(world.ear(), "emea", b"{}")).result is Result.RECORDED


async def test_the_session_that_the_body_names_is_asked_for() -> None:
    world = World(requested(Channel.DIGITAL), says(paid(session_id=None)))

    heard = await hear(world.ear(), "emea", b"{}")

    assert world.asked == [SESSION.id.lower()]
    assert heard.payment is not None
    assert (heard.payment.state, heard.payment.session_id) == (State.COMPLETED, SESSION.id.lower())
    assert [entry.trigger for entry in world.records[0].decision.entries] == ["start_session", "hand_over", "complete"]


async def test_the_providers_word_outweighs_the_bodys() -> None:
    world = World(waiting(), says(running()))

    heard = await hear(world.ear(), "emea", b"{}")

    assert (heard.result, world.records) == (Result.NOTHING_NEW, [])


async def test_what_belongs_to_no_payment_is_noted_without_values_that_were_not_told() -> None:
    world = World(waiting(), seen=paid(session_id="other", reference="INV-9", currency=None))

    heard = await hear(world.ear(), "emea", b"{}")

    assert (heard.result, heard.payment) == (Result.UNMATCHED, None)
    ((kind, details),) = world.notes
    assert kind == "webhook.unmatched"
    assert details == {
        "account": "emea", "reason": "unknown", "session": "other", "reference": "INV-9", "state": "Finished",
        "outcome": "paid", "amount_minor": 1240, "codes": {"result": "0"},
    }  # fmt: skip


async def test_refusals_are_noted_once_a_minute_for_each_account_and_reason() -> None:
    world = World(waiting())
    ear = world.ear()
    for world.seconds in (0, 1, QUIET_S - 1, QUIET_S, QUIET_S + 1):
        await ear.refuse("emea", "unauthorized", "10.0.0.7")
    await ear.refuse("emea", "card_data")

    unauthorized = REFUSED, {"account": "emea", "reason": "unauthorized", "sender": "10.0.0.7"}
    assert world.notes == [unauthorized, unauthorized, (REFUSED, {"account": "emea", "reason": "card_data"})]
    with pytest.raises(ConfigurationError):
        await ear.refuse("apac", "unauthorized")
