"""Workers that are away for minutes or hours of virtual time: the answer is found while it is there, or it is held."""

import asyncio
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from orchestrator import HoldReason, Orchestrator, Payment, State
from orchestrator.clock import SystemClock
from orchestrator.sandbox import Sandbox, SandboxOptions, Script
from orchestrator.sandbox.script import Gateway, Step
from tests.integration.store.conftest import sqlite_template
from tests.support.flow import DIGITAL_POLICY, PHONE_POLICY, assert_clean, settings_for, submit
from tests.support.quality import row

__all__ = ["sqlite_template"]

MINUTE, HOUR = 60, 3600
AWAY_S = {"14 min": 14 * MINUTE, "16 min": 16 * MINUTE, "11 h 50": 12 * HOUR - 10 * MINUTE, "13 h": 13 * HOUR}
_STEPS = (Step(0, "Created"), Step(30, "Finished"))
SCRIPTS = (
    Script("MINUTEPAID", "paid after half a minute", "paid", _STEPS, gateway=Gateway("ACCEPT", ("100",))),
    Script("MINUTEDECLINED", "declined after half a minute", "declined", _STEPS, gateway=Gateway("REJECT", ("203",))),
    Script("HOURSPAID", "paid after 30 h", "paid", (Step(0, "Created"), Step(30 * HOUR, "Finished")),
           gateway=Gateway("ACCEPT", ("100",))),
)  # fmt: skip
EVIDENCE_S = 30 + 15 * MINUTE
"""The session's end, and how long its result can be read after that."""
WEBHOOK_S = 12 * HOUR
"""How long the provider sends a webhook again that nobody takes."""
POLICIES = {"phone": PHONE_POLICY, "digital": DIGITAL_POLICY}


class Leap:
    """A clock that runs as clocks do, and leaps when it is told to."""

    def __init__(self) -> None:
        self.real = SystemClock()
        self.ahead = timedelta()

    def now(self) -> datetime:
        return self.real.now() + self.ahead

    def monotonic(self) -> float:
        return self.real.monotonic() + self.ahead.total_seconds()

    async def sleep(self, seconds: float) -> None:
        await self.real.sleep(seconds)


async def away(orchestrator: Orchestrator, sandbox: Sandbox, clock: Leap, seconds: float) -> None:
    """Let so much time go by while nobody works."""
    clock.ahead += timedelta(seconds=seconds)
    sandbox.advance(seconds)


async def handed_over(orchestrator: Orchestrator, kinds: list[tuple[str, str]]) -> list[Payment]:
    """Work until every payment's session is there, and its host has it."""
    payments = [await submit(orchestrator, f"{kind}-{channel}", channel, n) for n, (kind, channel) in enumerate(kinds)]
    async with orchestrator.worker():
        for payment in payments:
            while True:
                now = await orchestrator.get(payment.id)
                if now.state is State.AWAITING_PAYMENT and (now.channel == "digital" or now.acknowledged_at):
                    break
                await asyncio.sleep(0.01)
    return payments


@pytest.mark.parametrize("webhook", [False, True], ids=["polling alone", "with webhook"])
@pytest.mark.parametrize("outage", AWAY_S)
async def test_an_answer_is_recovered_while_it_can_be_had_and_held_afterwards_never_failed(
    outage: str, webhook: bool, sqlite_template: Path, tmp_path: Path
) -> None:
    shutil.copy(sqlite_template, tmp_path / "orchestrator.db")
    clock, away_s = Leap(), AWAY_S[outage]
    kinds = [(kind, channel) for kind in ("MINUTEPAID", "MINUTEDECLINED") for channel in ("phone", "digital")]
    kinds.append(("HOURSPAID", "digital"))
    sent = webhook and away_s - 30 < WEBHOOK_S
    readable = away_s < EVIDENCE_S or sent
    policy = {channel: terms | {"webhook_alone": "trust"} for channel, terms in POLICIES.items()}
    async with (
        Sandbox(SandboxOptions(faults=SCRIPTS, token_life_s=100 * HOUR)) as sandbox,
        Orchestrator(settings_for(sandbox.base_url, tmp_path, policy=policy), clock=clock) as orchestrator,
    ):
        orchestrator.on("handed_over", lambda _: None)
        payments = await handed_over(orchestrator, kinds)
        await away(orchestrator, sandbox, clock, away_s)
        for payment in payments[:-1] if sent else ():
            (body,) = sandbox.webhooks(payment.reference)
            heard = await orchestrator.webhook("test", body)
            assert (heard.result, heard.payment and heard.payment.id) == ("recorded", payment.id)
        async with orchestrator.worker():
            found = [await orchestrator.wait(p.id, until="settled", timeout=30) for p in payments[:-1]]
            alive = await orchestrator.get(payments[-1].id)
        # Nothing was lost for the session that was still alive: it is paid later, and found to be.
        await away(orchestrator, sandbox, clock, 30 * HOUR - away_s)
        async with orchestrator.worker():
            later = await orchestrator.wait(payments[-1].id, timeout=30)
        await assert_clean(orchestrator)

    ends = {payment.reference: str(payment.hold or payment.outcome) for payment in found}
    lost = {f"{kind}-{channel}": HoldReason.INDETERMINATE.value for kind, channel in kinds[:-1]}
    had = {f"{kind}-{channel}": "paid" if kind == "MINUTEPAID" else "declined" for kind, channel in kinds[:-1]}
    row(
        f"worker away for {outage}, {'webhook trusted' if webhook else 'no webhook'}",
        "recovered while it can be had, otherwise held, never failed",
        f"{sum(end == HoldReason.INDETERMINATE for end in ends.values())} of {len(ends)} held, the others recovered;"
        " the session that was still alive went on",
    )  # fmt: skip
    assert ends == (had if readable else lost)
    assert not any(payment.ended for payment in found if payment.hold)
    assert not alive.ended
    assert (later.outcome, later.hold) == ("paid", None)
