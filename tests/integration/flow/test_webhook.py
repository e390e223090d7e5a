"""Webhooks over a real sandbox and a real database: a hint that is confirmed, or doubt for a person."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Money, Orchestrator, Payment
from orchestrator.domain.errors import CardDataRefused, ConfigurationError, InvalidInput, Unavailable
from orchestrator.domain.outcome import MoneyFact, Outcome
from orchestrator.domain.payment import HoldReason, State
from orchestrator.sandbox import Sandbox, SandboxOptions, Script
from orchestrator.sandbox.script import Act, Fault, Gateway, Step
from orchestrator.webhook import Result
from tests.support.flow import assert_clean, settings_for, submit, triggers

NEVER = {"poll_first_s": 5000.0, "poll_max_s": 5000.0, "poll_retry_s": 5000.0, "absent_grace_s": 0.0}
"""No look of its own: whatever is learnt was learnt from a webhook."""
CARD = "4111 1111 1111 1111"
_LONG = (Step(0, "Created"), Step(20 * 60, "Finished"))
_ACCEPT = Gateway("ACCEPT", ("100",))
SCRIPTS = (
    Script("LONG", "the payer takes 20 minutes", "paid", _LONG, gateway=_ACCEPT),
    Script("LOSTLONG", "and the first answer is lost", "paid", _LONG, gateway=_ACCEPT,
           start=Fault(Act.CLOSE, effect=True)),
)  # fmt: skip
"""Nothing here depends on who is quicker."""


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(SandboxOptions(speed=20, faults=SCRIPTS)) as twin:
        yield twin


def opened(sandbox: Sandbox, directory: Path, **policy: Any) -> Orchestrator:
    terms = NEVER | policy
    return Orchestrator(settings_for(sandbox.base_url, directory, policy={"phone": terms, "digital": terms}))


@pytest.fixture
async def orchestrator(sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[Orchestrator]:
    async with opened(sandbox, tmp_path) as host:
        yield host


async def until(condition: Callable[[], Any], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


async def brought(host: Orchestrator, reference: str, channel: str, state: State = State.AWAITING_PAYMENT) -> Payment:
    """Submit, and drive it there; nobody drives it afterwards."""
    payment = await submit(host, reference, channel)

    async def there() -> bool:
        found = await host.get(payment.id)
        return found.state is state or found.hold is not None

    async with host.worker():
        await until(there)
    return await host.get(payment.id)


def ended(sandbox: Sandbox, reference: str, which: int = -1) -> bytes:
    """Let the reference's sessions come to their end, and give the webhook of one of them."""
    sandbox.advance(20 * 60 if "LONG" in reference else 30)
    return sandbox.webhooks(reference)[which]


def changed(body: bytes, **result: Any) -> bytes:
    told = json.loads(body)
    top = {name: result.pop(name) for name in list(result) if name in told}
    return json.dumps(told | top | {"paymentResultData": told["paymentResultData"] | result}).encode()


@pytest.mark.parametrize("channel", ["phone", "digital"])
async def test_a_webhook_is_confirmed_by_a_look_and_recorded(
    channel: str, orchestrator: Orchestrator, sandbox: Sandbox
) -> None:
    payment = await brought(orchestrator, "PAID-1", channel)

    heard = await orchestrator.webhook("test", ended(sandbox, "PAID-1"))

    assert heard.result is Result.RECORDED
    assert heard.payment is not None
    assert (heard.payment.state, heard.payment.outcome) == (State.COMPLETED, Outcome.PAID)
    last = json.loads((await orchestrator.timeline(payment.id))[-1].body)
    assert (last["why"], last["method"], last["status"], last["actor"]) == ("webhook_confirmed", "GET", 200, "host")
    await assert_clean(orchestrator)


async def test_the_same_webhook_again_writes_nothing_and_asks_nobody(
    orchestrator: Orchestrator, sandbox: Sandbox
) -> None:
    payment = await brought(orchestrator, "DECLINED-1", "digital")
    body = ended(sandbox, "DECLINED-1")
    await orchestrator.webhook("test", body)
    entries, looks = await triggers(orchestrator, payment), sandbox.stats()["status_calls"]

    heard = await orchestrator.webhook("test", body)

    assert (heard.result, heard.payment and heard.payment.outcome) == (Result.NOTHING_NEW, Outcome.DECLINED)
    assert await triggers(orchestrator, payment) == entries
    assert sandbox.stats()["status_calls"] == looks


async def test_two_hundred_equal_webhooks_at_once_have_one_effect(orchestrator: Orchestrator, sandbox: Sandbox) -> None:
    payment = await brought(orchestrator, "PAID-1", "digital")
    body = ended(sandbox, "PAID-1")

    heard = await asyncio.gather(*(orchestrator.webhook("test", body) for _ in range(200)))

    assert [each.result for each in heard].count(Result.RECORDED) == 1
    assert (await triggers(orchestrator, payment)).count("complete") == 1
    await assert_clean(orchestrator)


async def test_a_word_that_was_overtaken_changes_nothing(orchestrator: Orchestrator, sandbox: Sandbox) -> None:
    payment = await brought(orchestrator, "LONG-1", "digital")
    running = sandbox.webhooks("LONG-1")[0]
    assert json.loads(running)["sessionState"] != "Finished"
    await orchestrator.webhook("test", ended(sandbox, "LONG-1"))
    entries = await triggers(orchestrator, payment)

    heard = await orchestrator.webhook("test", running)

    assert heard.result is Result.NOTHING_NEW
    assert await triggers(orchestrator, payment) == entries


async def test_a_webhook_overtakes_the_answer_to_the_start(orchestrator: Orchestrator, sandbox: Sandbox) -> None:
    payment = await submit(orchestrator, "SLOWANSWER-1", "digital")
    async with orchestrator.worker():
        await until(lambda: asyncio.sleep(0, sandbox.webhooks("SLOWANSWER-1")))
        assert (await orchestrator.get(payment.id)).open_attempt == 1
        heard = await orchestrator.webhook("test", ended(sandbox, "SLOWANSWER-1"))

    assert heard.result is Result.RECORDED
    path = [(entry.trigger, entry.from_state, entry.to_state) for entry in await orchestrator.timeline(payment.id)]
    assert path[-3:] == [
        ("start_session", "authorized", "session_started"),
        ("hand_over", "session_started", "awaiting_payment"),
        ("complete", "awaiting_payment", "completed"),
    ]
    await assert_clean(orchestrator)


@pytest.mark.parametrize("channel", ["digital", "phone"])
@pytest.mark.parametrize(
    ("reference", "state", "outcome"),
    [("PAID", State.COMPLETED, Outcome.PAID), ("DECLINED", State.FAILED, Outcome.DECLINED)],
)
async def test_a_session_that_nobody_has_seen_is_found_by_reference_and_amount(
    channel: str, reference: str, state: State, *, outcome: Outcome, sandbox: Sandbox, tmp_path: Path
) -> None:
    async with opened(sandbox, tmp_path, on_unknown_start="hold") as host:
        payment = await brought(host, "LOSTANSWER-1", channel)
        assert (payment.hold, payment.session_id) == (HoldReason.SESSION_UNKNOWN, None)
        decision = {"PAID": "ACCEPT", "DECLINED": "REJECT"}[reference]
        sandbox.reset()  # nobody can be asked any more
        body = changed(webhook_of("LOSTANSWER-1"), decision=decision)
        terms = host.accounts["test"].terms[payment.channel].policy
        assert terms.webhook_alone == "hold"

    async with opened(sandbox, tmp_path, on_unknown_start="hold", webhook_alone="trust") as host:
        heard = await host.webhook("test", body)

        assert heard.payment is not None
        assert (heard.payment.state, heard.payment.outcome, heard.payment.hold) == (state, outcome, None)
        assert "release" in await triggers(host, payment)
        await assert_clean(host)


def webhook_of(reference: str, session: str = "0b7e4a52-8f5c-4f0a-9d55-2a4f1b1c9e11", **result: Any) -> bytes:
    """A webhook as the provider documents it."""
    return changed(
        json.dumps({
            "lastUpdatedOn": "2026-11-24T09:00:00.000000Z", "createdOn": "2026-11-24T09:00:01.000000Z",
            "callGuid": None, "sessionGuid": session, "providerSessionGuid": session, "sessionState": "Finished",
            "paymentResultData": {
                "decision": "ACCEPT", "reasonCode": "100", "requestID": "7641035271716583904951",
                "Amount": "1240", "MerchantReferenceCode": reference,
            },
        }).encode(),
        **result,
    )  # fmt: skip


async def test_paid_in_an_unseen_session_is_paid_and_paid_in_ours_too_is_for_a_person(
    orchestrator: Orchestrator, sandbox: Sandbox
) -> None:
    payment = await lost(orchestrator, "LOSTANSWER-1")
    first, second = ended(sandbox, "LOSTANSWER-1", 0), ended(sandbox, "LOSTANSWER-1", 1)

    heard = await orchestrator.webhook("test", first)

    assert heard.payment is not None
    assert (heard.payment.state, heard.payment.outcome) == (State.COMPLETED, Outcome.PAID)
    assert heard.payment.session_id != payment.session_id
    assert (await orchestrator.webhook("test", first)).result is Result.NOTHING_NEW

    twice = await orchestrator.webhook("test", second)

    assert twice.payment is not None
    assert (twice.payment.state, twice.payment.hold) == (State.COMPLETED, HoldReason.LATE_MONEY)
    assert (await orchestrator.webhook("test", second)).result is Result.NOTHING_NEW
    await assert_clean(orchestrator)


async def test_evidence_gone_is_doubt_by_default(orchestrator: Orchestrator, sandbox: Sandbox) -> None:
    payment = await brought(orchestrator, "PAID-1", "digital")
    body = ended(sandbox, "PAID-1")
    sandbox.reset()

    heard = await orchestrator.webhook("test", body)

    assert heard.payment is not None
    assert (heard.payment.state, heard.payment.hold) == (State.AWAITING_PAYMENT, HoldReason.INDETERMINATE)
    assert (heard.payment.reason, heard.payment.session_state) == ("webhook_alone", "Finished")
    assert heard.payment.codes["decision"] == "ACCEPT", "a person sees what was told"
    last = json.loads((await orchestrator.timeline(payment.id))[-1].body)
    assert last["why"] == "webhook_alone"
    entries = await triggers(orchestrator, payment)
    assert (await orchestrator.webhook("test", body)).result is Result.NOTHING_NEW
    assert await triggers(orchestrator, payment) == entries
    await assert_clean(orchestrator)


@pytest.mark.parametrize(
    ("result", "reason"),
    [({"Amount": "1241"}, "other_amount"), ({"MerchantReferenceCode": "PAID-2"}, "other_reference")],
)
async def test_a_trusted_body_about_something_else_holds(
    result: dict[str, str], reason: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    async with opened(sandbox, tmp_path, webhook_alone="trust") as host:
        await brought(host, "PAID-1", "digital")
        body = changed(ended(sandbox, "PAID-1"), **result)
        sandbox.reset()

        heard = await host.webhook("test", body)

        assert heard.payment is not None
        assert (heard.payment.hold, heard.payment.reason) == (HoldReason.ANSWER_MISMATCH, reason)


async def test_a_body_that_lies_is_overruled_by_the_provider(orchestrator: Orchestrator, sandbox: Sandbox) -> None:
    await brought(orchestrator, "DECLINED-1", "digital")
    lie = changed(ended(sandbox, "DECLINED-1"), decision="ACCEPT", reasonCode="100", Amount="1")

    heard = await orchestrator.webhook("test", lie)

    assert heard.payment is not None
    assert (heard.payment.state, heard.payment.outcome) == (State.FAILED, Outcome.DECLINED)


async def test_while_the_provider_does_not_answer_nothing_is_written(sandbox: Sandbox, tmp_path: Path) -> None:
    async with opened(sandbox, tmp_path) as host:
        payment = await brought(host, "PAID-1", "digital")
        body = ended(sandbox, "PAID-1")
    entries = payment.version
    gone = settings_for("http://127.0.0.1:9", tmp_path, call_deadline_s=1.0, policy={"digital": NEVER})
    async with Orchestrator(gone) as host:
        with pytest.raises(Unavailable):
            await host.webhook("test", body)
        assert (await host.get(payment.id)).version == entries


async def test_paid_after_the_end_is_a_late_result(sandbox: Sandbox, tmp_path: Path) -> None:
    async with opened(sandbox, tmp_path) as host:
        payment = await brought(host, "LONG-1", "digital")
        await host.cancel(payment.id)
        async with host.worker():
            cancelled = await host.wait(payment.id, timeout=10)
        assert (cancelled.outcome, cancelled.money) == (Outcome.CANCELLED_BY_HOST, MoneyFact.NONE)

        heard = await host.webhook("test", ended(sandbox, "LONG-1"))

        assert heard.payment is not None
        assert (heard.payment.state, heard.payment.outcome) == (State.FAILED, Outcome.CANCELLED_BY_HOST)
        assert (heard.payment.hold, heard.payment.money) == (HoldReason.LATE_MONEY, MoneyFact.TAKEN)
        assert "late_result" in await triggers(host, payment)
        await assert_clean(host)


async def test_what_belongs_to_no_payment_is_kept_and_seen(orchestrator: Orchestrator, sandbox: Sandbox) -> None:
    await brought(orchestrator, "PAID-1", "digital")
    other = webhook_of("PAID-1", Amount="1241")

    heard = await orchestrator.webhook("test", other)

    assert (heard.result, heard.payment) == (Result.UNMATCHED, None)
    found = (await orchestrator.health()).findings
    assert [(each.what, each.about) for each in found if each.what == "webhooks_unmatched"] == [
        ("webhooks_unmatched", "test")
    ]
    await assert_clean(orchestrator)


async def test_of_several_payments_of_a_reference_none_is_guessed(sandbox: Sandbox, tmp_path: Path) -> None:
    async with opened(sandbox, tmp_path) as host:
        for number in (1, 2):
            first = await brought(host, "DECLINED-1", "digital") if number == 1 else await again(host)
            await host.webhook("test", ended(sandbox, "DECLINED-1"))
            assert (await host.get(first.id)).ended

        heard = await host.webhook("test", webhook_of("DECLINED-1"))

        assert heard.result is Result.UNMATCHED


async def again(host: Orchestrator) -> Payment:
    payment = await submit(host, "DECLINED-1", "digital", again=True)
    async with host.worker():
        await host.wait(payment.id, until="handed_over", timeout=10)
    return payment


async def test_a_payment_may_be_of_another_amount_than_an_earlier_round(
    orchestrator: Orchestrator, sandbox: Sandbox
) -> None:
    await brought(orchestrator, "DECLINED-1", "digital")
    await orchestrator.webhook("test", ended(sandbox, "DECLINED-1"))
    later = await submit(orchestrator, "DECLINED-1", "digital", again=True, amount=Money("5.00", "GBP"))
    async with orchestrator.worker():
        await orchestrator.wait(later.id, until="handed_over", timeout=10)

    heard = await orchestrator.webhook("test", webhook_of("DECLINED-1", Amount="500"))

    assert heard.payment is not None
    assert heard.payment.id == later.id


DEEP = b'{"sessionGuid": "s", "sessionState": "Finished", "paymentResultData": ' + b"[" * 40 + b"]" * 40 + b"}"

BAD = {
    "no JSON": (b"<html>", "body"),
    "no UTF-8": (b"\xff\xfe{}", "body"),
    "empty": (b"", "body"),
    "a list": (b"[]", "body"),
    "too long": (b'{"a": "' + b"x" * 70_000 + b'"}', "body"),
    "too deep": (DEEP, "body"),
    "far too deep": (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, "body"),
    "two values for one key": (b'{"sessionState": "Finished", "sessionState": "Failed"}', "body"),
    "a number that JSON does not know": (b'{"sessionState": NaN}', "body"),
    "no session": (b'{"sessionState": "Finished"}', "sessionGuid"),
    "no state": (b'{"sessionGuid": "s-1"}', "sessionState"),
    "a state of another type": (b'{"sessionGuid": "s-1", "sessionState": {"is": "Finished"}}', "sessionState"),
    "a session of another type": (b'{"sessionGuid": ["s-1"], "sessionState": "Finished"}', "sessionGuid"),
    "a session that is none": (b'{"sessionGuid": "s 1\\n", "sessionState": "Finished"}', "session"),
    "a result of another type": (
        b'{"sessionGuid": "s-1", "sessionState": "Finished", "paymentResultData": []}',
        "paymentResultData",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_is_no_webhook_is_refused_by_name_and_leaves_nothing(name: str, orchestrator: Orchestrator) -> None:
    body, field = BAD[name]
    before = await assert_clean(orchestrator)

    with pytest.raises(InvalidInput) as refused:
        await orchestrator.webhook("test", body)

    assert refused.value.field == field
    assert await assert_clean(orchestrator) == before


@pytest.mark.parametrize("place", ["value", "key", "deep", "state", "track", "code", "number"])
async def test_card_data_is_refused_and_noted_without_it(
    place: str, orchestrator: Orchestrator, sandbox: Sandbox, tmp_path: Path
) -> None:
    payment = await brought(orchestrator, "PAID-1", "digital")
    body = json.loads(ended(sandbox, "PAID-1"))
    match place:
        case "value":
            body["paymentResultData"]["comment"] = CARD
        case "key":
            body["paymentResultData"][CARD] = "x"
        case "deep":
            body["more"] = [{"a": [{"b": f"card {CARD}"}]}]
        case "state":
            body["sessionState"] = CARD
        case "track":
            body["paymentResultData"]["raw"] = f"%B{CARD.replace(' ', '')}^PAYER/A^2912101000?"
        case "code":
            body["paymentResultData"]["cvv"] = "737"
        case "number":
            body["paymentResultData"]["token"] = int(CARD.replace(" ", ""))

    with pytest.raises(CardDataRefused) as refused:
        await orchestrator.webhook("test", json.dumps(body).encode())

    assert "4111" not in str(refused.value)
    assert (await orchestrator.get(payment.id)).state is State.AWAITING_PAYMENT
    admin = [each async for each in orchestrator.store.all_entries() if each.kind == "card_data.refused"]
    assert [(each.result, each.about) for each in admin] == [("failure", "test")]
    await assert_clean(orchestrator)
    for file in tmp_path.iterdir():
        assert CARD.encode() not in file.read_bytes()


async def test_an_end_that_the_provider_does_not_tell_yet_is_sent_again_unless_we_look_ourselves(
    orchestrator: Orchestrator, sandbox: Sandbox
) -> None:
    payment = await lost(orchestrator, "LOSTLONG-1")
    theirs, ours = (changed(body, **END) for body in sandbox.webhooks("LOSTLONG-1"))

    with pytest.raises(Unavailable):
        await orchestrator.webhook("test", theirs)
    heard = await orchestrator.webhook("test", ours)

    assert heard.result is Result.NOTHING_NEW, "polling goes on"
    assert (await orchestrator.get(payment.id)).version == payment.version
    await assert_clean(orchestrator)


END = {
    "sessionState": "Finished", "decision": "ACCEPT", "reasonCode": "100", "Amount": "1240",
    "MerchantReferenceCode": "LOSTLONG-1",
}  # fmt: skip


async def lost(host: Orchestrator, reference: str) -> Payment:
    """A phone payment whose first session nobody here has seen, and whose second one is waited for."""
    payment = await submit(host, reference, "phone")

    async def there() -> bool:
        return (await host.get(payment.id)).state is State.AWAITING_PAYMENT

    async with host.worker():
        await until(there)
    return await host.get(payment.id)


async def test_an_account_that_is_not_configured_hears_nothing(orchestrator: Orchestrator) -> None:
    with pytest.raises(ConfigurationError):
        await orchestrator.webhook("other", webhook_of("PAID-1"))
