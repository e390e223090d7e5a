"""A worker in virtual time, its database in memory, its provider a few lines: for what only numbers show."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from orchestrator.claim import Claims, Rhythm
from orchestrator.domain.account import Account, ChannelTerms
from orchestrator.domain.condition import Condition
from orchestrator.domain.machine import Operation
from orchestrator.domain.outcome import Observation
from orchestrator.domain.payment import Channel, Payment
from orchestrator.domain.policy import DIGITAL, PHONE
from orchestrator.domain.verdict import Verdict, VerdictKind
from orchestrator.execute import Bench
from orchestrator.provider.budget import Budget, urgency_of_look
from orchestrator.rounds import Limits
from orchestrator.worker import Worker
from tests.simulation.memory import Memory
from tests.support.virtual import VirtualClock
from tests.unit.domain import story

WAITING = {channel: story.waiting(channel) for channel in Channel}
RUNNING = Verdict(VerdictKind.ANSWERED, observation=Observation(session_state="Started"))
POLICIES = {Channel.PHONE: PHONE, Channel.DIGITAL: DIGITAL}


def terms(channel: Channel) -> ChannelTerms:
    return ChannelTerms(POLICIES[channel], (), frozenset(), MappingProxyType({}))


ACCOUNT = Account("emea", {channel: terms(channel) for channel in Channel})


@dataclass
class World:
    """What there is besides workers; `looks` and `begun` tell what the provider saw."""

    per_second: float | None = 50.0
    answer_s: float = 0.05
    clock: VirtualClock = field(default_factory=VirtualClock)
    looks: list[tuple[float, str, datetime]] = field(default_factory=list)
    begun: dict[str, float] = field(default_factory=dict)
    kept_back: Verdict | None = None
    answer: Verdict = RUNNING
    delivered: list[str] = field(default_factory=list)
    events: Sequence[str] = ("handed_over",)

    def __post_init__(self) -> None:
        self.store = Memory(self.clock.true_now)
        self.budget = Budget(self.per_second, clock=self.clock)

    # the provider

    def of(self, payment: Payment) -> "World":
        return self

    def prepare(self, operation: Operation, payment: Payment, fields: Mapping[str, str]) -> Payment:
        assert operation is Operation.QUERY_STATUS
        return payment

    async def send(self, prepared: Any, *, by: datetime | None = None) -> Verdict:
        assert by is not None
        if not await self.budget.turn(urgency_of_look(by.timestamp()), self.clock.monotonic() + 7.5):
            return Verdict(VerdictKind.NOT_SENT, reason="budget")
        self.looks.append((self.clock.monotonic(), prepared.id, by))
        await self.clock.sleep(self.answer_s)
        return self.answer

    async def authorize(self) -> Verdict:
        raise NotImplementedError

    # the traffic

    def barred(self, account: str) -> Verdict | None:
        return self.kept_back

    def condition(self, account: str) -> Condition:
        return Condition(account, per_second=self.budget.per_second)

    def shared_by(self, workers: int) -> None:
        self.budget.shared_by(workers)

    # the host

    async def deliver(self, event: str, payment: Payment) -> None:
        self.delivered.append(event)

    def worker(
        self, name: str = "w", *, rhythm: Rhythm | None = None, limits: Limits | None = None, **more: Any
    ) -> Worker:
        names = iter(f"{name}-{number}" for number in range(1, 1000))
        claims = Claims(
            self.store, more.get("clock", self.clock), rhythm or Rhythm(),  # type: ignore[arg-type]
            accounts=("emea",), new_id=lambda: next(names), origin=f"{name}:1", version="1",
        )  # fmt: skip
        bench = Bench(
            self.store,
            self,
            None,
            {"emea": ACCOUNT},
            more.get("clock", self.clock),
            claims,
            traffic=self,  # type: ignore[arg-type]
        )
        return Worker(bench, self, limits or Limits())

    def wait_for_look(self, payment_id: str, channel: Channel = Channel.DIGITAL, *, age_s: float = 0.0) -> None:
        """Put a payment there that waits; its session began so long ago."""
        began = self.clock.true_now() - timedelta(seconds=age_s)
        self.store.payments[payment_id] = replace(
            WAITING[channel], id=payment_id, session_id=f"s-{payment_id}", call_guid=payment_id,
            reference=payment_id, session_at=began, due_at=self.clock.true_now(),
            deadline_at=began + timedelta(hours=72),
        )  # fmt: skip

    def born(self, payment_id: str, channel: Channel = Channel.DIGITAL) -> None:
        """Put a payment there whose start is due."""
        now = self.clock.true_now()
        self.store.payments[payment_id] = replace(
            story.born(channel), id=payment_id, call_guid=payment_id, reference=payment_id, created_at=now,
            due_at=now, deadline_at=now + timedelta(seconds=POLICIES[channel].start_s),
        )  # fmt: skip


async def until(condition: Any, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
