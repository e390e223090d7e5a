"""A person's word on a held payment: through the real flow, and refused where it must be."""

import asyncio
import json

import pytest

from orchestrator import Conflict, InvalidInput, Orchestrator, Outcome, Payment, State
from orchestrator.domain.errors import ConfigurationError, NotFound
from orchestrator.domain.payment import HoldReason
from orchestrator.sandbox import Sandbox
from tests.support.flow import DIGITAL_POLICY, assert_clean, settings_for, submit, triggers

ADA = {"person": "ada", "reason": "asked the gateway"}


async def held(orchestrator: Orchestrator, reference: str, channel: str = "digital") -> Payment:
    """Submit a payment and let a worker drive it until a person must look."""
    payment = await submit(orchestrator, reference, channel)
    async with orchestrator.worker():
        found = await orchestrator.wait(payment.id, until="settled", timeout=30)
    assert found.hold is not None
    return await orchestrator.get(payment.id)  # its worker is gone, and has given its claim back


async def rest(orchestrator: Orchestrator, payment: Payment) -> Payment:
    async with orchestrator.worker():
        return await orchestrator.wait(payment.id, timeout=30)


def session_of(sandbox: Sandbox, reference: str) -> str:
    """The id that a person would read in the provider's console."""
    (made,) = [made for made in sandbox._twin._sessions.values() if made.start.reference == reference]
    return str(made.id)


async def notes(orchestrator: Orchestrator) -> list[dict[str, object]]:
    chains = await orchestrator.store.chains("admin-", 9)
    entries = [
        entry for chain in chains if chain.startswith("admin-") for entry in await orchestrator.store.entries(chain)
    ]
    # The beginning has its own: the schema, definitions, workers.
    return [json.loads(entry.body) for entry in entries if entry.kind.startswith(("resolution.", "card_data."))]


async def test_a_start_that_came_to_nothing_is_started_anew_once_a_person_says_so(
    orchestrator: Orchestrator, sandbox: Sandbox
) -> None:
    payment = await held(orchestrator, "FLAKY-1")
    asked = await orchestrator.resolve(payment.id, **ADA, retry=True)
    assert (asked.hold, asked.due_at is not None) == (None, True)

    ended = await rest(orchestrator, asked)

    assert (ended.state, ended.money) == (State.COMPLETED, "taken")
    assert sandbox.stats()["sessions_per_reference"] == {"FLAKY-1": 1}
    told = await triggers(orchestrator, ended)
    assert told[:5] == ["submit", "authorize", "request", "hold", "release"]
    (release,) = [entry for entry in await orchestrator.timeline(payment.id) if entry.trigger == "release"]
    assert (release.actor, json.loads(release.body)["why"]) == ("ada", "asked the gateway")
    await assert_clean(orchestrator)


async def test_a_session_whose_answer_was_lost_is_named_and_looked_at_to_its_end(
    orchestrator: Orchestrator, sandbox: Sandbox
) -> None:
    payment = await held(orchestrator, "LOSTANSWER-1")
    named = await orchestrator.resolve(payment.id, **ADA, session=session_of(sandbox, "LOSTANSWER-1"))
    assert (named.state, named.hold) == (State.AWAITING_PAYMENT, None)

    ended = await rest(orchestrator, named)

    assert (ended.state, ended.outcome) == (State.COMPLETED, Outcome.PAID)
    assert sandbox.stats()["session_calls"] == 1
    await assert_clean(orchestrator)


async def test_a_session_of_another_payment_is_not_adopted(orchestrator: Orchestrator, sandbox: Sandbox) -> None:
    theirs = await rest(orchestrator, await submit(orchestrator, "PAID-1", "digital"))
    payment = await held(orchestrator, "LOSTANSWER-1")
    for session in (theirs.session_id, str(theirs.session_id).upper(), str(theirs.session_id).lower()):
        with pytest.raises(Conflict, match="another payment") as refusal:
            await orchestrator.resolve(payment.id, **ADA, session=session)
        assert refusal.value.field == "session"
    assert await orchestrator.get(payment.id) == payment


@pytest.mark.parametrize("outcome", [Outcome.PAID, Outcome.DECLINED])
async def test_what_was_found_out_elsewhere_ends_the_payment(orchestrator: Orchestrator, outcome: Outcome) -> None:
    payment = await held(orchestrator, "REVIEW-1")

    ended = await orchestrator.resolve(payment.id, **ADA, outcome=outcome.value)

    assert (ended.ended, ended.outcome, ended.hold) == (True, outcome, None)
    await assert_clean(orchestrator)


async def test_two_persons_must_agree_where_the_policy_says_so(sandbox: Sandbox, tmp_path) -> None:
    policy = {"digital": DIGITAL_POLICY | {"resolve_persons": 2}}
    async with Orchestrator(settings_for(sandbox.base_url, tmp_path, policy=policy)) as orchestrator:
        payment = await held(orchestrator, "REVIEW-1")
        proposed = await orchestrator.resolve(payment.id, **ADA, outcome="paid")
        assert (proposed.hold, proposed.held_at, proposed.state) == (payment.hold, payment.held_at, payment.state)

        with pytest.raises(Conflict, match="second person"):
            await orchestrator.resolve(payment.id, person="ADA", reason="I insist", outcome="paid")
        assert await orchestrator.get(payment.id) == proposed
        (note,) = await notes(orchestrator)
        assert (note["kind"], note["about"], note["result"]) == ("resolution.refused", payment.id, "failure")
        assert (note["actor"], note["refused"]) == ("ADA", "same_person_twice")

        ended = await orchestrator.resolve(payment.id, person="bo", reason="saw it", outcome="paid")
        assert (ended.state, ended.outcome) == (State.COMPLETED, Outcome.PAID)
        (entry,) = [each for each in await orchestrator.timeline(payment.id) if each.trigger == "release"]
        assert json.loads(entry.body)["persons"] == ["ada", "bo"]
        await assert_clean(orchestrator)


async def test_many_equal_words_at_once_are_one_release(orchestrator: Orchestrator) -> None:
    payment = await held(orchestrator, "REVIEW-1")
    words = [orchestrator.resolve(payment.id, **ADA, outcome="paid") for _ in range(20)]

    told = await asyncio.gather(*words, return_exceptions=True)

    taken = [each for each in told if isinstance(each, Payment)]
    assert len(taken) == 1
    assert all(isinstance(each, Conflict) for each in told if each is not taken[0])
    assert (await triggers(orchestrator, payment)).count("release") == 1
    await assert_clean(orchestrator)


REFUSED = {
    "no reason": ({"reason": " ", "retry": True}, InvalidInput, "reason"),
    "no person": ({"person": "", "retry": True}, InvalidInput, "person"),
    "a person too long": ({"person": "a" * 101, "retry": True}, InvalidInput, "person"),
    "a card number for a reason": ({"reason": "4111 1111 1111 1111", "retry": True}, InvalidInput, "reason"),
    "a card number for a session": ({"session": "4111111111111111"}, InvalidInput, "session"),
    "a path for a session": ({"session": "../x"}, InvalidInput, "session"),
    "no outcome of ours": ({"outcome": "fine"}, InvalidInput, "outcome"),
    "a doubt for an outcome": ({"outcome": "indeterminate"}, InvalidInput, "outcome"),
    "nothing": ({}, InvalidInput, "resolution"),
    "a kind that does not fit": ({"session": "S9"}, InvalidInput, "session"),
}


async def test_a_wrong_word_changes_nothing(orchestrator: Orchestrator) -> None:
    payment = await held(orchestrator, "REVIEW-1")
    for given, error, field in REFUSED.values():
        with pytest.raises(error) as refusal:
            await orchestrator.resolve(payment.id, **ADA | given)
        assert refusal.value.field == field
        assert "4111" not in str(refusal.value)
    assert await orchestrator.get(payment.id) == payment
    ended = await orchestrator.resolve(payment.id, **ADA, outcome="declined")
    with pytest.raises(Conflict, match="has ended"):
        await orchestrator.resolve(payment.id, **ADA, outcome="paid")
    with pytest.raises(NotFound):
        await orchestrator.resolve("pay-none", **ADA, retry=True)
    assert await orchestrator.get(payment.id) == ended
    assert {note["kind"] for note in await notes(orchestrator)} == {"card_data.refused"}


async def test_a_payment_whose_account_is_gone_is_not_resolved_by_another_policy(
    orchestrator: Orchestrator, sandbox: Sandbox, tmp_path
) -> None:
    payment = await held(orchestrator, "REVIEW-1")
    settings = settings_for(sandbox.base_url, tmp_path)
    renamed = settings.model_copy(update={"accounts": {"other": settings.accounts["test"]}})
    async with Orchestrator(renamed) as elsewhere:
        with pytest.raises(ConfigurationError, match=r"accounts\.test"):
            await elsewhere.resolve(payment.id, **ADA, retry=True)


async def test_a_hang_up_under_way_ends_as_one_and_stays_watched(orchestrator: Orchestrator, sandbox: Sandbox) -> None:
    payment = await submit(orchestrator, "NEVER-1", "phone")
    async with orchestrator.worker():
        await orchestrator.wait(payment.id, until="handed_over", timeout=30)
        asked = await orchestrator.cancel(payment.id, reason="the line is dead", hung_up=True)
        assert (asked.cancel_requested, asked.outcome) == (True, Outcome.HUNG_UP)
        ended = await orchestrator.wait(payment.id, timeout=30)
    assert (ended.state, ended.outcome, ended.hold) == (State.FAILED, Outcome.HUNG_UP, None)
    await assert_clean(orchestrator)


async def test_a_digital_payment_has_no_caller_to_hang_up(orchestrator: Orchestrator) -> None:
    payment = await submit(orchestrator, "PAID-1", "digital")
    with pytest.raises(InvalidInput, match="phone") as refusal:
        await orchestrator.cancel(payment.id, hung_up=True)
    assert refusal.value.field == "hung_up"
    assert await orchestrator.get(payment.id) == payment


async def test_an_answer_that_proves_the_outcome_releases_a_hold_before_anybody_says_a_word(
    sandbox: Sandbox, tmp_path
) -> None:
    settings = settings_for(sandbox.base_url, tmp_path, dial_prefixes=["+1"])
    async with Orchestrator(settings) as orchestrator, orchestrator.worker():
        payment = await submit(orchestrator, "PAID-1", "phone")
        ended = await orchestrator.wait(payment.id, timeout=30)

        assert (ended.state, ended.hold) == (State.COMPLETED, None)
        assert (await triggers(orchestrator, ended))[-4:] == ["hold", "release", "hand_over", "complete"]
        doubt = [entry for entry in await orchestrator.timeline(ended.id) if entry.trigger == "hold"]
        assert [json.loads(entry.body)["facts"]["hold"] for entry in doubt] == [HoldReason.NUMBER_NOT_ALLOWED]
        await assert_clean(orchestrator)


async def test_without_any_session_a_payment_that_the_host_wants_ended_ends(orchestrator: Orchestrator) -> None:
    payment = await held(orchestrator, "RESETBEFORE-1")
    asked = await orchestrator.cancel(payment.id, reason="no longer wanted")
    assert (asked.hold, asked.cancel_requested) == (HoldReason.SESSION_UNKNOWN, True)
    await orchestrator.resolve(payment.id, **ADA, retry=True)

    ended = await rest(orchestrator, payment)

    assert (ended.state, ended.outcome) == (State.FAILED, Outcome.CANCELLED_BY_HOST)
    await assert_clean(orchestrator)
