"""A paused account: nothing begins, what is under way goes on, and one entry tells of it."""

import asyncio

import pytest

from orchestrator import Orchestrator, Outcome, State, execute
from orchestrator.domain import starting
from orchestrator.domain.entry import Context
from orchestrator.sandbox import Sandbox
from tests.support.flow import assert_clean, settings_for, submit, triggers


def person(orchestrator: Orchestrator) -> Context:
    return Context(orchestrator._clock.now(), "Jo", "desk:1")


async def pause(orchestrator: Orchestrator) -> None:
    assert await orchestrator.store.pause_account("test", reason="incident", context=person(orchestrator))


async def resume(orchestrator: Orchestrator) -> None:
    assert await orchestrator.store.resume_account("test", reason="over", context=person(orchestrator))


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the payments that waited, each time; they look again soon."""
    seen: list[str] = []

    def counted(payment, context, policy, verdict):
        seen.append(payment.id)
        return starting.wait_for_account(payment, context, policy, verdict)

    monkeypatch.setattr(starting, "PAUSE_LOOK_S", 0.03)
    monkeypatch.setattr(execute, "wait_for_account", counted)
    return seen


async def test_nothing_begins_while_an_account_is_paused_and_everything_goes_on_after_it(
    orchestrator: Orchestrator, sandbox: Sandbox, waits: list[str]
) -> None:
    await pause(orchestrator)
    payments = [await submit(orchestrator, f"PAID-{channel}", channel) for channel in ("phone", "digital")]
    async with orchestrator.worker():
        while min(waits.count(payment.id) for payment in payments) < 4:
            await asyncio.sleep(0.01)
        told = [await triggers(orchestrator, payment) for payment in payments]
        asked = sandbox.stats()
        await resume(orchestrator)
        ended = [await orchestrator.wait(payment.id, timeout=30) for payment in payments]

    assert told == [["submit", "retry"]] * 2, "a pause is one entry, however long it lasts"
    assert (asked["token_calls"], asked["session_calls"]) == (0, 0)
    assert [payment.state for payment in ended] == [State.COMPLETED] * 2
    assert all(payment.troubled_since is None for payment in ended)
    await assert_clean(orchestrator)


async def test_a_session_under_way_is_watched_to_its_end_in_a_pause(
    orchestrator: Orchestrator, sandbox: Sandbox, waits: list[str]
) -> None:
    payment = await submit(orchestrator, "PAID-1", "phone")
    async with orchestrator.worker():
        await orchestrator.wait(payment.id, until="handed_over", timeout=30)
        await pause(orchestrator)
        later = await submit(orchestrator, "PAID-2", "digital")
        while later.id not in waits:
            await asyncio.sleep(0.01)
        ended = await orchestrator.wait(payment.id, timeout=30)

    assert ended.state is State.COMPLETED
    assert sandbox.stats()["session_calls"] == 1
    assert payment.id not in waits


async def test_a_caller_is_told_when_the_pause_outlasts_the_deadline(sandbox: Sandbox, tmp_path, waits) -> None:
    settings = settings_for(sandbox.base_url, tmp_path, policy={"phone": {"start_s": 0.4}})
    async with Orchestrator(settings) as orchestrator:
        failed = []
        orchestrator.on("failed", failed.append)
        await pause(orchestrator)
        payment = await submit(orchestrator, "PAID-1", "phone")
        async with orchestrator.worker():
            while not failed:
                await asyncio.sleep(0.01)
        await assert_clean(orchestrator)

    assert failed[0].id == payment.id
    assert (failed[0].outcome, failed[0].reason) == (Outcome.PROVIDER_UNAVAILABLE, "account_paused")
    assert sandbox.stats()["token_calls"] == 0
