"""Submit and collect at the door: the same content is the same payment, other content is a conflict that names it."""

import asyncio
import contextlib
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Conflict, HoldReason, InvalidInput, Money, NotFound, Orchestrator, Payment
from orchestrator.domain import asking
from orchestrator.domain.decision import Walk
from orchestrator.domain.entry import Context
from orchestrator.domain.errors import ConfigurationError, Fenced
from orchestrator.domain.outcome import MoneyFact, Outcome
from orchestrator.domain.payment import State
from orchestrator.records import Record
from orchestrator.resolve import MAX_RACES
from orchestrator.sandbox import Sandbox
from tests.integration.flow.troubled import Fault, Troubled
from tests.integration.store.conftest import sqlite_template
from tests.support.flow import PAYER, assert_clean, fields_of, settings_for, submit, triggers

__all__ = ["sqlite_template"]

CANARIES = (*PAYER.values(), "+447700900124", "call-000009")


@pytest.fixture(autouse=True)
def migrated(sqlite_template: Path, tmp_path: Path) -> None:
    shutil.copy(sqlite_template, tmp_path / "orchestrator.db")


DIFFERENT: dict[str, tuple[str, dict[str, Any]]] = {
    # what differs: (what the conflict names, the second submit)
    "amount": ("amount", {"amount": Money("12.41", "GBP")}),
    "currency": ("currency", {"amount": Money("12.40", "EUR")}),
    "amount and currency": ("amount, currency", {"amount": Money("12.41", "EUR")}),
    "channel": ("channel, fields.CustomerPhoneNumber", {"channel": "digital"}),
    "a field": ("fields.cardholderName", {"fields": fields_of("phone") | {"cardholderName": "Other"}}),
    "two fields": (
        "fields.cardholderAddress, fields.cardholderName",
        {"fields": fields_of("phone") | {"cardholderName": "Other", "cardholderAddress": "2 Elsewhere"}},
    ),
    "the call": ("fields.CallGuid", {"fields": fields_of("phone", 9)}),
    "a field left out": (
        "fields.cardholderName", {"fields": {k: v for k, v in fields_of("phone").items() if k != "cardholderName"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENT)
async def test_other_content_is_a_conflict_that_names_what_differs_and_never_a_value(
    orchestrator: Orchestrator, name: str
) -> None:
    named, changes = DIFFERENT[name]
    first = await submit(orchestrator, "PAID-1", "phone")
    again: dict[str, Any] = {"channel": "phone", "fields": fields_of(changes.get("channel", "phone"))} | changes

    with pytest.raises(Conflict) as refused:
        await submit(orchestrator, "PAID-1", again.pop("channel"), **again)

    assert refused.value.field == named
    assert first.id in str(refused.value)
    assert not [canary for canary in CANARIES if canary in str(refused.value)]
    assert await orchestrator.list() == [first]
    assert len(await orchestrator.timeline(first.id)) == 1


async def test_an_explicit_key_belongs_to_one_reference(orchestrator: Orchestrator) -> None:
    first = await submit(orchestrator, "PAID-1", "phone", idempotency_key="k-1")

    with pytest.raises(Conflict) as other:
        await submit(orchestrator, "PAID-2", "phone", idempotency_key="k-1")

    assert other.value.field == "reference"
    assert await submit(orchestrator, "PAID-1", "phone", idempotency_key="k-1") == first


@pytest.mark.parametrize(("first", "second"), [("k-1", "k-2"), ("k-1", None), (None, "k-2")])
async def test_one_reference_under_two_keys_needs_again(
    orchestrator: Orchestrator, first: str | None, second: str | None
) -> None:
    await submit(orchestrator, "PAID-1", "phone", idempotency_key=first)

    with pytest.raises(Conflict, match="under another key"):
        await submit(orchestrator, "PAID-1", "phone", idempotency_key=second)


async def test_a_field_that_was_erased_is_not_called_different(orchestrator: Orchestrator, tmp_path: Path) -> None:
    first = await submit(orchestrator, "PAID-1", "phone")
    with contextlib.closing(sqlite3.connect(tmp_path / "orchestrator.db", timeout=10)) as connection:
        connection.execute("delete from payer_data")
        connection.commit()

    assert await submit(orchestrator, "PAID-1", "phone") == first
    with pytest.raises(Conflict) as refused:
        await submit(orchestrator, "PAID-1", "phone", fields=fields_of("phone") | {"cardholderName": "Other"})
    assert refused.value.field == "fields"


# --- again --------------------------------------------------------------------------------------


async def change(orchestrator: Orchestrator, payment: Payment, *steps: str, **facts: Any) -> Payment:
    """Take a payment further by the steps named; `facts` go with the last of them."""
    walk = Walk(payment, Context(payment.created_at, "tester", "here:1"))
    for step in steps[:-1]:
        walk.step(step, **_NEEDS.get(step, {}))
    walk.step(steps[-1], **_NEEDS.get(steps[-1], {}) | facts)
    return await orchestrator.store.record(Record(walk.due(None), held_claim=False))


_NEEDS: dict[str, dict[str, Any]] = {
    "fail": {"outcome": Outcome.DECLINED},
    "start_session": {"session_id": "5e55", "sessions": 1},
    "complete": {"outcome": Outcome.PAID, "money": MoneyFact.TAKEN},
}
ENDED = ("authorize", "start_session", "hand_over")

AGAIN: dict[str, tuple[tuple[str, ...], dict[str, Any], str]] = {
    # how it stands: (its steps, the facts of the last one, why it can't be taken again)
    "collecting": ((), {}, "is still open"),
    "waiting": (ENDED, {}, "is still open"),
    "held": ((*ENDED, "hold"), {"hold": HoldReason.ANSWER_MISMATCH}, "is held"),
    "paid": ((*ENDED, "complete"), {}, "was paid"),
    "failed": ((*ENDED, "fail"), {}, ""),
    "failed, watched": ((*ENDED, "fail"), {"watch_until": "later"}, "is still watched"),
    "failed, paid later": ((*ENDED, "fail", "late_result"), {"money": MoneyFact.TAKEN}, "was paid"),
    "failed, perhaps paid": ((*ENDED, "fail", "late_result"), {"money": MoneyFact.UNKNOWN}, "may have been paid"),
}


@pytest.mark.parametrize("name", AGAIN)
async def test_only_a_failed_payment_without_doubt_may_be_taken_again(orchestrator: Orchestrator, name: str) -> None:
    steps, facts, why = AGAIN[name]
    first = await submit(orchestrator, "PAID-1", "digital")
    facts = {fact: first.created_at if value == "later" else value for fact, value in facts.items()}
    facts |= {"held_at": first.created_at} if "hold" in facts else {}
    if steps[-1:] == ("late_result",):
        watched = await change(orchestrator, first, *steps[:-1], watch_until=first.created_at)
        await change(orchestrator, watched, "late_result", watch_until=None, **facts)
    elif steps:
        await change(orchestrator, first, *steps, **facts)

    if why:
        with pytest.raises(Conflict, match=f"{first.id} {why}"):
            await submit(orchestrator, "PAID-1", "digital", again=True)
        assert len(await orchestrator.list()) == 1
        return
    second = await submit(orchestrator, "PAID-1", "digital", again=True, amount=Money("5.00", "GBP"))

    assert (second.round, second.state) == (2, State.COLLECTING)
    assert second.id != first.id


async def test_a_round_that_was_paid_late_forbids_every_later_round(orchestrator: Orchestrator) -> None:
    first = await submit(orchestrator, "PAID-1", "digital")
    failed = await change(orchestrator, first, *ENDED, "fail", watch_until=None)
    second = await submit(orchestrator, "PAID-1", "digital", again=True)
    await orchestrator.cancel(second.id)
    walk = Walk(failed, Context(first.created_at, "tester", "here:1"))
    walk.step("hold", hold=HoldReason.LATE_MONEY, held_at=first.created_at)
    walk.step("release", hold=None, held_at=None, money=MoneyFact.TAKEN)
    await orchestrator.store.record(Record(walk.due(None), held_claim=False))

    with pytest.raises(Conflict, match=f"{first.id} was paid"):
        await submit(orchestrator, "PAID-1", "digital", again=True)


async def test_again_without_any_earlier_payment_is_the_first_round(orchestrator: Orchestrator) -> None:
    first = await submit(orchestrator, "PAID-1", "digital", again=True)

    assert first.round == 1
    assert await submit(orchestrator, "PAID-1", "digital") == first


async def test_again_under_a_key_is_idempotent(orchestrator: Orchestrator) -> None:
    first = await submit(orchestrator, "PAID-1", "digital")
    await orchestrator.cancel(first.id)

    rounds = await asyncio.gather(
        *(submit(orchestrator, "PAID-1", "digital", again=True, idempotency_key="second") for _ in range(20))
    )

    assert {payment.id for payment in rounds} == {rounds[0].id}
    assert rounds[0].round == 2
    assert (await submit(orchestrator, "PAID-1", "digital")).id == first.id


async def test_of_two_hosts_that_take_a_reference_again_at_once_one_wins(orchestrator: Orchestrator) -> None:
    first = await submit(orchestrator, "PAID-1", "digital")
    await orchestrator.cancel(first.id)

    tries = [submit(orchestrator, "PAID-1", "digital", again=True, idempotency_key=f"k-{n}") for n in range(6)]
    results = await asyncio.gather(*tries, return_exceptions=True)

    assert len([result for result in results if isinstance(result, Payment)]) == 1
    assert {type(result) for result in results} == {Payment, Conflict}
    assert len(await orchestrator.list()) == 2


async def test_one_call_has_one_session_at_a_time(orchestrator: Orchestrator) -> None:
    first = await submit(orchestrator, "PAID-1", "phone")

    with pytest.raises(Conflict, match="CallGuid"):
        await submit(orchestrator, "PAID-2", "phone")

    await orchestrator.cancel(first.id)
    assert (await submit(orchestrator, "PAID-2", "phone")).call_guid == first.call_guid


# --- what is refused ----------------------------------------------------------------------------

REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "account": ("account", {"account": "apac"}),
    "channel": ("channel", {"channel": "fax"}),
    "reference": ("reference", {"reference": "INV 1"}),
    "reference is a card number": ("reference", {"reference": "4111111111111111"}),
    "amount is text": ("amount", {"amount": "12.40"}),
    "key": ("idempotency_key", {"idempotency_key": "a b"}),
    "no key": ("idempotency_key", {"idempotency_key": ""}),
    "field of another channel": ("fields.CustomerPhoneNumber", {"fields": {"CustomerPhoneNumber": "+447700900123"}}),
    "field's name": ("fields", {"fields": {"1": "x"}}),
    "empty field": ("fields.cardholderName", {"fields": {"cardholderName": "  "}}),
    "card number in a field": ("fields.cardholderName", {"fields": {"cardholderName": "4111 1111 1111 1111"}}),
    "field is no text": ("fields.cardholderName", {"fields": {"cardholderName": 7}}),
    "call": ("CallGuid", {"fields": {"CallGuid": "<guid>"}}),
    "phone number": ("fields.CustomerPhoneNumber", {"channel": "digital", "fields": {"CustomerPhoneNumber": "12"}}),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_bad_value_is_refused_by_name_and_nothing_is_written(orchestrator: Orchestrator, name: str) -> None:
    field, changes = REFUSED[name]
    given: dict[str, Any] = {
        "account": "test", "channel": "phone", "reference": "PAID-1", "amount": Money("12.40", "GBP"),
        "fields": fields_of("phone"),
    }  # fmt: skip

    with pytest.raises(InvalidInput) as refused:
        await orchestrator.submit(**given | changes)

    assert refused.value.field == field
    assert "4111" not in str(refused.value)
    assert await orchestrator.list() == []


async def test_collecting_is_checked_at_the_same_door(orchestrator: Orchestrator) -> None:
    payment = await submit(orchestrator, "PAID-1", "digital", fields={})

    for field, fields in {
        "fields.cardholderName": {"cardholderName": "4111 1111 1111 1111"},
        "fields.CallGuid": {"CallGuid": "call-1"},
        "fields.CustomerPhoneNumber": {"CustomerPhoneNumber": "12"},
    }.items():
        with pytest.raises(InvalidInput) as refused:
            await orchestrator.collect(payment.id, fields)
        assert refused.value.field == field
    with pytest.raises(NotFound):
        await orchestrator.collect("pay-nobody", {})
    assert len(await orchestrator.timeline(payment.id)) == 1


async def test_collecting_is_over_when_every_field_is_known(orchestrator: Orchestrator) -> None:
    payment = await submit(orchestrator, "PAID-1", "digital")

    with pytest.raises(InvalidInput, match="can't be collected"):
        await orchestrator.collect(payment.id, {"cardholderName": "Other"})


async def test_fields_that_come_at_once_from_many_places_are_all_kept(orchestrator: Orchestrator) -> None:
    payment = await submit(orchestrator, "PAID-1", "digital", fields={})

    await asyncio.gather(
        *(orchestrator.collect(payment.id, {name: value}) for name, value in fields_of("digital").items())
    )
    async with orchestrator.worker():
        ended = await orchestrator.wait(payment.id, timeout=20)

    assert ended.state is State.COMPLETED
    assert (await triggers(orchestrator, payment))[:5] == ["submit", "collect", "collect", "collect", "collect"]
    await assert_clean(orchestrator)


async def test_an_account_that_is_configured_no_more_takes_no_fields(
    orchestrator: Orchestrator, sandbox: Sandbox, tmp_path: Path
) -> None:
    payment = await submit(orchestrator, "PAID-1", "digital", fields={})
    settings = settings_for(sandbox.base_url, tmp_path)
    renamed = settings.model_copy(update={"accounts": {"other": settings.accounts["test"]}})

    async with Orchestrator(renamed) as other:
        with pytest.raises(InvalidInput, match="not configured any more"):
            await other.collect(payment.id, {"cardholderName": "A"})
    async with Orchestrator(settings.model_copy(update={"accounts": {}})) as empty:
        with pytest.raises(ConfigurationError, match="at least one account"):
            empty.new_worker()


# --- races --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lost", "wins"), [(1, True), (MAX_RACES - 1, True), (MAX_RACES, False)])
async def test_a_wish_from_outside_reads_again_until_the_version_agrees(
    orchestrator: Orchestrator, lost: int, wins: bool
) -> None:
    payment = await submit(orchestrator, "NEVER-1", "digital")
    store = Troubled(orchestrator.store)
    store.faults.append(race := Fault("record", times=lost, error=Fenced))
    orchestrator.store = store

    if not wins:
        with pytest.raises(Fenced, match="20 times"):
            await orchestrator.cancel(payment.id)
        assert (await orchestrator.get(payment.id)).version == 1
    else:
        assert (await orchestrator.cancel(payment.id)).state is State.FAILED
    assert race.struck == lost
    assert store.calls["record"] == min(lost + 1, MAX_RACES)


@pytest.mark.parametrize("verb", ["cancel", "acknowledge"])
async def test_wishes_need_a_payment(orchestrator: Orchestrator, verb: str) -> None:
    with pytest.raises(NotFound):
        await getattr(orchestrator, verb)("pay-nobody")


async def test_nothing_is_acknowledged_before_it_was_handed_over(orchestrator: Orchestrator) -> None:
    payment = await submit(orchestrator, "PAID-1", "phone")

    with pytest.raises(InvalidInput, match="no hand-over"):
        await orchestrator.acknowledge(payment.id)


async def test_a_race_between_cancel_and_collect_keeps_both_or_ends_it(orchestrator: Orchestrator) -> None:
    payment = await submit(orchestrator, "NEVER-1", "digital", fields={})

    results = await asyncio.gather(
        orchestrator.cancel(payment.id), orchestrator.collect(payment.id, fields_of("digital")), return_exceptions=True
    )

    assert not [result for result in results if isinstance(result, Exception) and not isinstance(result, InvalidInput)]
    assert (await orchestrator.get(payment.id)).outcome == "cancelled_by_host"
    assert asking.cancel(await orchestrator.get(payment.id), Context(payment.created_at, "x", "y"), reason="").quiet
    await assert_clean(orchestrator)
