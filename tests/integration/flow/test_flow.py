"""Payments from submit to their end: real HTTP, real SQLite, a worker in this process."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator import HoldReason, Orchestrator, Payment, State
from orchestrator.sandbox import Sandbox, SandboxOptions
from tests.support.flow import assert_clean, fields_of, settings_for, submit, triggers

END = {
    # reference: (phone: state, outcome), (digital: state, outcome); None: as phone
    "PAID": ("completed", "paid"),
    "DECLINED": ("failed", "declined"),
    "HUNGUP": ("failed", "hung_up"),
    "CANCELLED": ("failed", "cancelled_by_payer"),
    "EXPIRED": ("failed", "expired"),
    "TIMEOUT": ("failed", "input_timeout"),
    "FAILED": ("failed", "provider_error"),
    "UNKNOWNSTATE": ("completed", "paid"),
    "TOKENEXPIRES": ("completed", "paid"),
    "INVALID": ("failed", "invalid_request"),
    "STATUS404": ("completed", "paid"),
    "STATUS5XX": ("completed", "paid"),
    "THROTTLED": ("completed", "paid"),
    "SLOWANSWER": ("completed", "paid"),
}
HELD = {
    "REVIEW": HoldReason.REVIEW,
    "PARTIAL": HoldReason.PARTIALLY_PAID,
    "NORESULT": HoldReason.INDETERMINATE,
    "GATEWAYERROR": HoldReason.INDETERMINATE,  # code 150 leaves open whether the transaction ran
    "WRONGAMOUNT": HoldReason.ANSWER_MISMATCH,
    "WRONGREF": HoldReason.ANSWER_MISMATCH,
    "WRONGSESSION": HoldReason.ANSWER_MISMATCH,
}
IN_DOUBT = ("ERRORBEFORE", "ERRORAFTER", "LOSTANSWER", "RESETBEFORE", "CUTBODY", "HTML", "FLAKY")
"""After a start that answered one of these, nobody knows whether a session exists."""


async def settle(orchestrator: Orchestrator, payments: list[Payment]) -> dict[str, Payment]:
    async with orchestrator.worker():
        ended = await asyncio.gather(
            *(orchestrator.wait(payment.id, until="settled", timeout=30) for payment in payments)
        )
    return {payment.reference: payment for payment in ended}


@pytest.mark.parametrize("channel", ["phone", "digital"])
async def test_every_end_that_the_provider_can_give_is_told_apart(
    orchestrator: Orchestrator, sandbox: Sandbox, channel: str
) -> None:
    payments = [await submit(orchestrator, f"{name}-{channel}", channel, n) for n, name in enumerate(END)]

    ended = await settle(orchestrator, payments)

    assert {name: (ended[f"{name}-{channel}"].state, ended[f"{name}-{channel}"].outcome) for name in END} == END
    assert {name: ended[f"{name}-{channel}"].hold for name in END} == dict.fromkeys(END)
    await assert_clean(orchestrator)


@pytest.mark.parametrize("channel", ["phone", "digital"])
async def test_what_proves_nothing_about_the_money_is_held(orchestrator: Orchestrator, channel: str) -> None:
    payments = [await submit(orchestrator, f"{name}-{channel}", channel, n) for n, name in enumerate(HELD)]

    ended = await settle(orchestrator, payments)

    assert {name: ended[f"{name}-{channel}"].hold for name in HELD} == HELD
    assert {payment.state for payment in ended.values()} == {State.AWAITING_PAYMENT}
    await assert_clean(orchestrator)


async def test_a_digital_session_in_doubt_is_held_and_never_started_twice(
    orchestrator: Orchestrator, sandbox: Sandbox
) -> None:
    payments = [await submit(orchestrator, f"{name}-1", "digital") for name in IN_DOUBT]

    ended = await settle(orchestrator, payments)

    assert {payment.hold for payment in ended.values()} == {HoldReason.SESSION_UNKNOWN}
    assert {payment.state for payment in ended.values()} == {State.AUTHORIZED}
    assert max((sandbox.stats()["sessions_per_reference"] | {"": 0}).values()) <= 1
    assert sandbox.stats()["session_calls"] == len(IN_DOUBT)
    await assert_clean(orchestrator)


async def test_a_phone_session_in_doubt_is_superseded_while_the_caller_is_on_the_line(
    orchestrator: Orchestrator, sandbox: Sandbox
) -> None:
    payments = [await submit(orchestrator, f"{name}-1", "phone", n) for n, name in enumerate(IN_DOUBT)]

    ended = await settle(orchestrator, payments)

    assert {payment.outcome for payment in ended.values()} == {"paid"}
    for payment in ended.values():
        assert (await triggers(orchestrator, payment)).count("supersede") == 1
        assert payment.sessions == 2
    await assert_clean(orchestrator)


async def test_the_hand_over_reaches_the_host_and_its_return_is_the_acknowledgement(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    handed_over: list[Payment] = []
    unhurried = {"phone": {"poll_first_s": 1.0}}
    async with Orchestrator(settings_for(sandbox.base_url, tmp_path, policy=unhurried)) as orchestrator:
        orchestrator.on("handed_over", handed_over.append)
        payment = await submit(orchestrator, "PAID-1", "phone")

        ended = await settle(orchestrator, [payment])
        path = await triggers(orchestrator, payment)

    assert [given.id for given in handed_over] == [payment.id]
    assert handed_over[0].number == "+442079460101"
    assert handed_over[0].link_id
    assert path == [
        "submit", "authorize", "request", "start_session", "hand_over", "acknowledge", "complete",
    ]  # fmt: skip
    assert ended["PAID-1"].acknowledged_at is not None


async def test_a_payment_waits_for_its_fields_and_goes_on_when_they_are_complete(orchestrator: Orchestrator) -> None:
    given = fields_of("digital")
    last = {"cardholderName": given.pop("cardholderName")}
    payment = await submit(orchestrator, "PAID-1", "digital", fields=given)

    assert payment.missing == ("cardholderName",)

    async with orchestrator.worker():
        await orchestrator.collect(payment.id, last)
        ended = await orchestrator.wait(payment.id, timeout=20)

    assert ended.state is State.COMPLETED
    assert (await triggers(orchestrator, payment))[:2] == ["submit", "collect"]


async def test_a_cancel_before_the_session_ends_it_at_once(orchestrator: Orchestrator) -> None:
    payment = await submit(orchestrator, "PAID-1", "digital")

    cancelled = await orchestrator.cancel(payment.id, reason="the caller changed her mind")

    assert (cancelled.state, cancelled.outcome) == (State.FAILED, "cancelled_by_host")
    assert await orchestrator.cancel(payment.id) == await orchestrator.get(payment.id)


async def test_a_cancel_with_a_live_session_looks_once_more_and_keeps_watching(
    orchestrator: Orchestrator, sandbox: Sandbox
) -> None:
    payment = await submit(orchestrator, "NEVER-1", "digital")
    async with orchestrator.worker():
        await orchestrator.wait(payment.id, until="handed_over", timeout=20)
        await orchestrator.cancel(payment.id)
        ended = await orchestrator.wait(payment.id, timeout=20)

    assert (ended.state, ended.outcome) == (State.FAILED, "cancelled_by_host")
    assert ended.watch_until is not None
    await assert_clean(orchestrator)


async def test_money_that_moves_after_the_end_holds_the_payment_and_tells_the_host(tmp_path: Path) -> None:
    told: list[Payment] = []
    # The provider's time stands still until the test says so: the cancel comes before the payer pays.
    async with (
        Sandbox(SandboxOptions(), clock=lambda: 0.0) as frozen,
        Orchestrator(settings_for(frozen.base_url, tmp_path)) as orchestrator,
    ):
        orchestrator.on("money_changed", told.append)
        payment = await submit(orchestrator, "SLOW-1", "digital")
        async with orchestrator.worker():
            await orchestrator.wait(payment.id, until="handed_over", timeout=20)
            await orchestrator.cancel(payment.id)
            ended = await orchestrator.wait(payment.id, timeout=20)
            assert (ended.outcome, ended.money) == ("cancelled_by_host", "none")
            frozen.advance(6)
            await until(lambda: bool(told))

        late = await orchestrator.get(payment.id)
        assert (late.state, late.hold, late.money) == (State.FAILED, HoldReason.LATE_MONEY, "taken")
        assert "late_result" in await triggers(orchestrator, payment)
        await assert_clean(orchestrator)


async def test_a_hand_over_that_nobody_takes_is_looked_at_once_more_and_not_attempted(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    policy = {"phone": {"hand_over_s": 0.3, "poll_first_s": 0.05, "poll_max_s": 0.1}}
    async with Orchestrator(settings_for(sandbox.base_url, tmp_path, policy=policy)) as silent, silent.worker():
        payment = await submit(silent, "NEVER-1", "phone")
        ended = await silent.wait(payment.id, timeout=20)

        assert (ended.state, ended.outcome) == (State.FAILED, "not_attempted")
        assert ended.watch_until is not None


async def test_a_number_outside_the_allowed_prefixes_is_never_handed_over(sandbox: Sandbox, tmp_path: Path) -> None:
    seen: list[Payment] = []
    settings = settings_for(sandbox.base_url, tmp_path, dial_prefixes=["+49"])
    async with Orchestrator(settings) as wary, wary.worker():
        wary.on("handed_over", seen.append)
        payment = await submit(wary, "NEVER-1", "phone")
        held = await wary.wait(payment.id, until="settled", timeout=20)

        assert (held.state, held.hold) == (State.SESSION_STARTED, HoldReason.NUMBER_NOT_ALLOWED)
        assert seen == []


async def test_wrong_credentials_are_the_accounts_trouble_and_the_payment_waits(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    policy = {"digital": {"start_s": 2, "start_pause_s": 0.5}}
    settings = settings_for(sandbox.base_url, tmp_path, client_id="nobody", policy=policy)
    async with Orchestrator(settings) as locked_out, locked_out.worker():
        payment = await submit(locked_out, "PAID-1", "digital")
        ended = await locked_out.wait(payment.id, timeout=20)

        assert (ended.state, ended.outcome) == (State.FAILED, "config_error")
        assert sandbox.stats()["session_calls"] == 0


async def test_a_provider_that_is_away_is_unavailable_by_the_deadline(sandbox: Sandbox, tmp_path: Path) -> None:
    policy = {"phone": {"start_s": 0.5}}
    async with (
        Orchestrator(settings_for("http://127.0.0.1:9", tmp_path, policy=policy)) as alone,
        alone.worker(),
    ):
        payment = await submit(alone, "PAID-1", "phone")
        ended = await alone.wait(payment.id, timeout=20)

        assert (ended.state, ended.outcome) == (State.FAILED, "provider_unavailable")


async def test_two_hundred_equal_submits_make_one_payment(orchestrator: Orchestrator) -> None:
    payments = await asyncio.gather(*(submit(orchestrator, "PAID-1", "digital") for _ in range(200)))

    assert len({payment.id for payment in payments}) == 1
    assert len(await orchestrator.list()) == 1
    assert len(await orchestrator.timeline(payments[0].id)) == 1


async def test_payer_data_and_secrets_are_nowhere_in_the_database(orchestrator: Orchestrator, tmp_path: Path) -> None:
    payments = [await submit(orchestrator, f"{name}-1", "phone", n) for n, name in enumerate(("PAID", "INVALID"))]
    await settle(orchestrator, payments)

    stored = b"".join(path.read_bytes() for path in tmp_path.glob("orchestrator.db*") if path.suffix != ".key")
    for canary in (b"Canary", b"ZZ9", b"sandbox-secret", b"eyJ"):
        assert canary not in stored


@pytest.fixture
async def slow_sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(SandboxOptions(speed=1)) as twin:
        yield twin


async def test_no_transaction_is_open_while_the_provider_is_called(slow_sandbox: Sandbox, tmp_path: Path) -> None:
    patient = {"claim_life_s": 6, "claim_trust_s": 5}
    settings = settings_for(slow_sandbox.base_url, tmp_path, worker=patient, start_deadline_s=3)

    def lock_and_give_back() -> None:
        with contextlib.closing(
            sqlite3.connect(tmp_path / "orchestrator.db", timeout=0.5, isolation_level=None)
        ) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")

    async with Orchestrator(settings) as waiting:
        payment = await submit(waiting, "SLOWANSWER-1", "digital")
        async with waiting.worker():
            await until(lambda: slow_sandbox.stats()["session_calls"] == 1)
            # The provider thinks for a second; a write lock that somebody else wants is free long before.
            await asyncio.to_thread(lock_and_give_back)
            assert (await waiting.get(payment.id)).open_attempt == 1
            assert (await waiting.wait(payment.id, timeout=20)).state is State.COMPLETED


async def test_a_drain_ends_the_steps_in_flight_and_gives_the_claims_back(
    slow_sandbox: Sandbox, tmp_path: Path
) -> None:
    async with Orchestrator(settings_for(slow_sandbox.base_url, tmp_path, start_deadline_s=0.99)) as leaving:
        payment = await submit(leaving, "PAID-1", "digital")
        async with leaving.worker():
            await leaving.wait(payment.id, until="handed_over", timeout=20)
        given_back = await leaving.get(payment.id)

        assert given_back.claimed_by is None
        assert given_back.due_at is not None
        async with leaving.worker():
            assert (await leaving.wait(payment.id, timeout=20)).state is State.COMPLETED
        await assert_clean(leaving)


async def until(condition: object, seconds: float = 20.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
