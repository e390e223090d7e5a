"""What a webhook's word leads to at every point of a payment's story."""

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.domain.decision import Decision
from orchestrator.domain.hearing import Unmatched, after_webhook, is_news, match, unconfirmed
from orchestrator.domain.looking import ALONE
from orchestrator.domain.money import Money
from orchestrator.domain.outcome import MoneyFact, Observation, Outcome
from orchestrator.domain.payment import Channel, HoldReason, Payment, State
from orchestrator.domain.policy import OnWebhookAlone
from tests.unit.domain.story import (
    BOTH,
    POLICIES,
    SESSION,
    at,
    authorized,
    born,
    cancelled,
    completed,
    ctx,
    declined,
    doubted,
    ended,
    fresh,
    held,
    look,
    paid,
    refused_number,
    requested,
    running,
    says,
    superseded,
    waiting,
    waiting_with_unseen,
    watched,
)

OTHER = "0b7e4a52-8f5c-4f0a-9d55-2a4f1b1c9e11"
UNSEEN_HELD = look(waiting_with_unseen(), ended(Outcome.INPUT_TIMEOUT), 60).payment
STORY = {
    "born": born(), "collecting": born(missing=("cardholderName",)), "authorized": authorized(),
    "requested": requested(), "requested, digital": requested(Channel.DIGITAL), "superseded": superseded(),
    "doubted": doubted(), "doubted, phone": doubted(Channel.PHONE), "waiting": waiting(),
    "waiting, digital": waiting(Channel.DIGITAL), "unseen": waiting_with_unseen(), "unseen, held": UNSEEN_HELD,
    "number": refused_number(), "cancelled": cancelled(waiting()), "watched": watched(), "declined": declined(),
    "completed": completed(), "review": held(waiting(), HoldReason.REVIEW),
}  # fmt: skip
WORDS = {
    "paid": paid(), "declined": ended(Outcome.DECLINED), "expired": ended(Outcome.EXPIRED), "running": running(),
    "partial": ended(Outcome.PARTIALLY_PAID, amount_minor=100), "vague": ended(Outcome.INDETERMINATE),
    "another amount": paid(amount_minor=1), "another reference": paid(reference="INV-2"),
}  # fmt: skip


def heard(payment: Payment, seen: Observation, session: str, seconds: float = 70, **policy: Any) -> Decision:
    terms = replace(POLICIES[payment.channel], **policy)
    return after_webhook(payment, says(replace(seen, session_id=session)), ctx(seconds), terms)


def triggers(decision: Decision) -> list[str]:
    return [entry.trigger for entry in decision.entries]


@pytest.mark.parametrize("session", [SESSION.id, OTHER])
@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("name", STORY)
def test_every_word_is_decided_everywhere_and_equal_ones_once(name: str, word: str, session: str) -> None:
    payment, seen = STORY[name], WORDS[word]

    decision = heard(payment, seen, session)
    again = heard(decision.payment, seen, session, 71)

    assert again.quiet, triggers(again)
    assert decision.payment.amount == payment.amount
    if payment.ended:
        assert decision.payment.state is payment.state
    if decision.payment.state is State.COMPLETED and not payment.ended:
        assert word == "paid"
    if decision.payment.state is State.FAILED and not payment.ended:
        assert word in ("declined", "expired") or payment.cancel_requested


@pytest.mark.parametrize("channel", BOTH)
def test_before_the_answer_to_the_start_three_entries_are_one_record(channel: Channel) -> None:
    decision = heard(requested(channel), paid(), OTHER)

    assert triggers(decision) == ["start_session", "hand_over", "complete"]
    assert (decision.payment.session_id, decision.payment.open_attempt) == (OTHER, None)
    assert (decision.payment.outcome, decision.payment.money) == (Outcome.PAID, MoneyFact.TAKEN)


@pytest.mark.parametrize("channel", BOTH)
def test_an_unknown_start_is_settled_by_its_session(channel: Channel) -> None:
    decision = heard(doubted(channel), ended(Outcome.DECLINED), OTHER)

    assert triggers(decision)[:2] == ["release", "start_session"]
    assert (decision.payment.state, decision.payment.hold) == (State.FAILED, None)
    assert decision.payment.outcome is Outcome.DECLINED


def test_a_session_that_runs_gives_a_phone_payment_nothing_to_dial() -> None:
    assert heard(requested(), running(), OTHER).quiet


def test_paid_in_the_unseen_session_is_paid() -> None:
    decision = heard(UNSEEN_HELD, paid(), OTHER)

    assert triggers(decision) == ["release", "complete"]
    assert (decision.payment.session_id, decision.payment.unseen_until) == (OTHER, None)


def test_the_unseen_session_ended_without_money_too() -> None:
    decision = heard(UNSEEN_HELD, ended(Outcome.EXPIRED, reference=UNSEEN_HELD.reference), OTHER)

    assert triggers(decision) == ["release", "fail"]
    assert (decision.payment.outcome, decision.payment.money) == (Outcome.INPUT_TIMEOUT, MoneyFact.NONE)
    assert decision.payment.session_id == SESSION.id


def test_the_unseen_session_ended_while_ours_is_waited_for() -> None:
    payment = waiting_with_unseen()

    decision = heard(payment, ended(Outcome.DECLINED, reference=payment.reference), OTHER, 30)

    assert triggers(decision) == ["observe"]
    assert (decision.payment.hold, decision.payment.unseen_until) == (None, None)
    later = look(decision.payment, ended(Outcome.INPUT_TIMEOUT), 60).payment
    assert (later.state, later.outcome) == (State.FAILED, Outcome.INPUT_TIMEOUT), "no doubt is left"


def test_paid_in_the_unseen_session_while_ours_is_waited_for_is_paid() -> None:
    decision = heard(waiting_with_unseen(), paid(), OTHER, 30)

    assert triggers(decision) == ["observe", "complete"]
    assert decision.payment.session_id == OTHER


def test_paid_in_the_unseen_session_while_ours_is_reviewed_is_for_a_person() -> None:
    reviewed = look(waiting_with_unseen(), ended(Outcome.REVIEW), 30).payment

    decision = heard(reviewed, paid(), OTHER, 40)

    assert (decision.payment.hold, decision.payment.reason) == (HoldReason.ANSWER_MISMATCH, "paid_elsewhere")


def test_our_own_session_is_looked_at_when_the_unseen_one_has_ended_without_money() -> None:
    payment = look(cancelled(waiting_with_unseen()), running(), 10).payment
    assert (payment.hold, payment.reason) == (HoldReason.UNSEEN_SESSION, "cancelled")

    decision = heard(payment, ended(Outcome.NOT_ATTEMPTED, reference=payment.reference), OTHER, 30)

    assert triggers(decision) == ["release"]
    assert (decision.payment.hold, decision.payment.unseen_until, decision.payment.due_at) == (None, None, at(30))
    assert look(decision.payment, running(), 31).payment.outcome is Outcome.CANCELLED_BY_HOST


@pytest.mark.parametrize("payment", [declined(), completed()])
def test_another_session_that_ended_without_money_changes_nothing_after_the_end(payment: Payment) -> None:
    assert heard(payment, ended(Outcome.EXPIRED, reference=payment.reference), OTHER).quiet


@pytest.mark.parametrize("payment", [declined(), completed()])
def test_paid_in_another_session_after_the_end_is_for_a_person(payment: Payment) -> None:
    decision = heard(payment, paid(), OTHER)

    assert triggers(decision) == ["late_result", "hold"]
    assert (decision.payment.hold, decision.payment.money) == (HoldReason.LATE_MONEY, MoneyFact.UNKNOWN)
    assert decision.payment.state is payment.state


def test_another_session_that_still_runs_is_no_doubt() -> None:
    payment = waiting_with_unseen()

    assert heard(payment, running(reference=payment.reference), OTHER).quiet


def test_of_two_unseen_sessions_one_settles_nothing() -> None:
    several = replace(UNSEEN_HELD, sessions=3)

    assert heard(several, ended(Outcome.EXPIRED, reference=several.reference), OTHER).quiet


def test_paid_elsewhere_while_ours_may_be_paid_is_for_a_person() -> None:
    decision = heard(waiting(), paid(), OTHER, 10)

    assert (decision.payment.hold, decision.payment.reason) == (HoldReason.ANSWER_MISMATCH, "paid_elsewhere")
    assert decision.payment.money is MoneyFact.UNKNOWN
    assert decision.payment.due_at is not None, "our own session is looked at on"


@pytest.mark.parametrize("outcome", [Outcome.PAID, Outcome.EXPIRED, Outcome.REVIEW])
def test_no_end_of_our_own_session_settles_that_another_was_paid(outcome: Outcome) -> None:
    doubt = heard(waiting(), paid(), OTHER, 10).payment

    decision = look(doubt, paid() if outcome is Outcome.PAID else ended(outcome, codes={"result": "7"}), 20)
    after = decision.payment

    assert (after.state, after.hold) == (State.AWAITING_PAYMENT, HoldReason.ANSWER_MISMATCH)
    assert (after.reason, after.money) == ("paid_elsewhere", MoneyFact.UNKNOWN)
    assert heard(after, paid(), SESSION.id, 21).quiet or outcome is not Outcome.PAID


def test_what_nobody_confirms_is_proof_or_doubt_by_policy() -> None:
    trust = replace(POLICIES[Channel.PHONE], webhook_alone=OnWebhookAlone.TRUST)

    proof, doubt = unconfirmed(paid(), trust), unconfirmed(paid(), POLICIES[Channel.PHONE])

    assert (proof.observation, proof.reason) == (paid(), ALONE)
    assert doubt.observation is not None
    assert (doubt.observation.outcome, doubt.observation.codes) == (Outcome.INDETERMINATE, paid().codes)


@pytest.mark.parametrize(
    ("payment", "seen", "news"),
    [
        (waiting(), running(), False), (waiting(), paid(), True), (completed(), paid(), False),
        (completed(), ended(Outcome.DECLINED), True), (declined(), paid(), True),
        (declined(), ended(Outcome.DECLINED, session_id=OTHER), True),
        (declined(), ended(Outcome.DECLINED, session_id=SESSION.id.lower()), False),
    ],
)  # fmt: skip
def test_only_an_end_that_the_payment_does_not_have_is_news(payment: Payment, seen: Observation, news: bool) -> None:
    assert is_news(payment, seen) is news


def test_the_case_of_a_session_id_is_the_providers_whim() -> None:
    assert waiting().has_session(SESSION.id.lower())
    assert not requested().has_session(SESSION.id)


def told(payment: Payment) -> Observation:
    del payment
    return Observation("Finished", outcome=Outcome.PAID, amount_minor=1240, reference="INV-1001", session_id=OTHER)


def test_a_webhook_is_matched_by_session_then_by_what_was_tried() -> None:
    one, two = requested(), replace(requested(), id="pay-b")
    other_amount = replace(one, id="pay-c", amount=Money("9.99", "GBP"))
    over = replace(declined(), id="pay-d")

    assert match([one], [two], told) is one
    assert match([one, two], [], told) is Unmatched.AMBIGUOUS
    assert match([], [one, other_amount], told) is one
    assert match([], [one, over], told) is one
    assert match([], [one, two], told) is Unmatched.AMBIGUOUS
    assert match([], [fresh(), other_amount], told) is Unmatched.UNKNOWN
    assert match([], [over], told) is over


def test_another_currency_is_another_payment() -> None:
    def euros(payment: Payment) -> Observation:
        return replace(told(payment), currency="EUR")

    assert match([], [requested()], euros) is Unmatched.UNKNOWN


def test_a_word_without_news_puts_the_next_look_off_as_any_look_does() -> None:
    payment = replace(waiting(), due_at=at(15))

    decision = heard(payment, running(), SESSION.id, 12)

    assert (decision.quiet, decision.payment.due_at) == (True, at(13))
