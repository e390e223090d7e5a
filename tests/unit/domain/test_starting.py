"""The columns "authorize" and "start" of the verdict table, and what comes late to them."""

import json
from dataclasses import replace

import pytest
from transitions import MachineError

from orchestrator.domain.decide import lapsed
from orchestrator.domain.operation import lapse
from orchestrator.domain.outcome import Outcome
from orchestrator.domain.payment import Channel, HoldReason, State
from orchestrator.domain.policy import DIGITAL, PHONE
from orchestrator.domain.starting import intend, refuse_request, take_up, wait_for_account
from orchestrator.domain.verdict import Cause, Session, VerdictKind, crashed
from tests.unit.domain.story import (
    ABSENT,
    ANSWERED,
    BOTH,
    DIALLED,
    EMPTY,
    FORBIDDEN,
    INVALID,
    LIFE,
    NOT_SENT,
    OPENED,
    OTHER_SESSION,
    POLICIES,
    SESSION,
    T0,
    THROTTLED,
    UNAUTHORIZED,
    UNKNOWN,
    at,
    authorize,
    authorized,
    born,
    cancelled,
    completed,
    ctx,
    declined,
    doubted,
    hand_over,
    held,
    refused_number,
    released,
    requested,
    running,
    start,
    superseded,
    waiting,
    waiting_with_unseen,
)

PHONE_, DIGITAL_ = Channel.PHONE, Channel.DIGITAL
BACKOFF = 1.0
TOKENLESS = replace(ABSENT, kind=VerdictKind.NOT_SENT, reason="token_http_404")
OTHER = replace(ANSWERED, session=OTHER_SESSION)


def triggers(decision):
    return [entry.trigger for entry in decision.entries]


def events(decision):
    return [notice.event for notice in decision.notices]


def last(decision):
    return json.loads(decision.entries[-1].body)


@pytest.mark.parametrize("channel", BOTH)
@pytest.mark.parametrize(
    ("verdict", "delay", "troubled"),
    [
        (NOT_SENT, BACKOFF, False),
        (THROTTLED, 7, False),
        (replace(THROTTLED, retry_after_s=0.0), BACKOFF, False),
        (UNAUTHORIZED, BACKOFF, True),
        (FORBIDDEN, BACKOFF, True),
        (ABSENT, BACKOFF, True),
        (INVALID, BACKOFF, True),
        (UNKNOWN, BACKOFF, False),
        (EMPTY, BACKOFF, False),
        (crashed(), BACKOFF, False),
    ],
)
def test_authorize_is_retried_and_refusals_are_the_accounts_trouble(channel, verdict, delay, troubled):
    decision = authorize(born(channel), verdict, 2)
    after = decision.payment
    assert (after.state, triggers(decision), after.reason) == (State.COLLECTING, ["retry"], verdict.reason)
    assert after.troubled_since == (at(2) if troubled else None)
    assert after.due_at == at(2 + delay)
    again = authorize(after, verdict, 3, failed=3)
    assert again.quiet, "the same trouble again is no news"
    assert again.payment.due_at == at(3 + max(8, delay)), "never sooner than our own back-off"


@pytest.mark.parametrize("channel", BOTH)
def test_an_answered_authorize_goes_on_and_ends_the_trouble(channel):
    troubled = authorize(born(channel), FORBIDDEN, 2).payment
    decision = authorize(troubled, ANSWERED, 12)
    after = decision.payment
    assert (triggers(decision), after.state, after.due_at) == (["authorize"], State.AUTHORIZED, at(12))
    assert (after.troubled_since, after.paused_s, after.reason) == (None, 10, "")


@pytest.mark.parametrize(
    "payment", [born(missing=["x"]), authorized(), waiting(), completed(), held(born(), HoldReason.POISON)]
)
@pytest.mark.parametrize("verdict", [ANSWERED, UNKNOWN, FORBIDDEN])
def test_an_authorize_that_nobody_needs_changes_nothing(payment, verdict):
    assert authorize(payment, verdict).payment == payment


@pytest.mark.parametrize("channel", BOTH)
@pytest.mark.parametrize(
    ("verdict", "delay", "troubled"),
    [
        (NOT_SENT, BACKOFF, False),
        (TOKENLESS, BACKOFF, True),
        (replace(UNAUTHORIZED, kind=VerdictKind.NOT_SENT, reason="token_http_401"), BACKOFF, True),
        (THROTTLED, 7, False),
        (UNAUTHORIZED, BACKOFF, True),
        (FORBIDDEN, BACKOFF, True),
    ],
)
def test_a_start_without_effect_is_retried(channel, verdict, delay, troubled):
    decision = start(requested(channel), verdict, 2)
    after = decision.payment
    assert (triggers(decision), after.state, after.open_attempt) == (["retry"], State.AUTHORIZED, None)
    assert (after.attempts, after.sessions, after.failures) == (1, 0, 1)
    assert (after.due_at, after.troubled_since) == (at(2 + delay), at(2) if troubled else None)
    assert last(decision)["attempt"] == 1


@pytest.mark.parametrize("channel", BOTH)
@pytest.mark.parametrize(("verdict", "outcome"), [(ABSENT, Outcome.CONFIG_ERROR), (INVALID, Outcome.INVALID_REQUEST)])
def test_a_refused_start_fails_with_the_providers_own_text(channel, verdict, outcome):
    decision = start(requested(channel), verdict, 2)
    after = decision.payment
    assert (triggers(decision), after.state, after.outcome) == (["fail"], State.FAILED, outcome)
    assert (after.open_attempt, after.due_at, after.deadline_at) == (None, None, None)
    assert last(decision).get("message") == verdict.message
    assert events(decision) == ["failed"]


@pytest.mark.parametrize(("verdict", "outcome"), [(ABSENT, Outcome.CONFIG_ERROR), (INVALID, Outcome.INVALID_REQUEST)])
def test_a_refused_start_after_a_superseded_session_holds(verdict, outcome):
    payment = intend(superseded(), ctx(1), request_digest="r2").payment
    decision = start(payment, verdict, 2)
    after = decision.payment
    assert (after.state, after.hold, after.outcome) == (State.AUTHORIZED, HoldReason.UNSEEN_SESSION, outcome)
    assert (after.due_at, events(decision)) == (at(3600), ["held"])


DOUBTS = [UNKNOWN, EMPTY, ANSWERED, crashed(), replace(UNKNOWN, cause=Cause.INVALID)]


@pytest.mark.parametrize("verdict", DOUBTS)
def test_an_unknown_digital_start_holds_and_waits_for_nobody_but_a_person(verdict):
    decision = start(requested(DIGITAL_), verdict, 2)
    after = decision.payment
    assert (triggers(decision), after.state, after.hold) == (["hold"], State.AUTHORIZED, HoldReason.SESSION_UNKNOWN)
    assert (after.due_at, after.unseen_until) == (None, at(2 + LIFE[DIGITAL_]))
    assert (after.sessions, after.open_attempt, events(decision)) == (1, None, ["held"])


@pytest.mark.parametrize("verdict", DOUBTS)
def test_an_unknown_phone_start_is_superseded_until_the_last_session_then_held(verdict):
    payment, seen = requested(), []
    for number in (1, 2, 3):
        decision = start(payment, verdict, number)
        seen.append((triggers(decision), decision.payment.sessions, decision.payment.hold))
        if number < 3:
            assert last(decision)["event"] == "session_superseded"
            assert decision.payment.due_at == at(number)
            payment = intend(decision.payment, ctx(number), request_digest="r").payment
    assert seen == [
        (["supersede"], 1, None), (["supersede"], 2, None), (["hold"], 3, HoldReason.SESSION_UNKNOWN)
    ]  # fmt: skip
    assert decision.payment.due_at == at(3 + LIFE[PHONE_])


@pytest.mark.parametrize(
    ("payment", "seconds", "policy"),
    [
        (requested(), 1, replace(DIALLED, on_unknown_start=DIGITAL.on_unknown_start)),
        (requested(), 1, replace(DIALLED, max_sessions=1)),
        (requested(), 20, DIALLED),
        (cancelled(requested(), 1), 2, DIALLED),
    ],
    ids=["policy hold", "no session left", "deadline over", "cancelled"],
)
def test_a_phone_start_in_doubt_is_held_where_no_other_may_be_started(payment, seconds, policy):
    decision = start(payment, UNKNOWN, seconds, policy=policy)
    assert (triggers(decision), decision.payment.hold) == (["hold"], HoldReason.SESSION_UNKNOWN)


@pytest.mark.parametrize("verdict", [NOT_SENT, THROTTLED, UNAUTHORIZED, FORBIDDEN])
def test_a_cancelled_start_without_effect_ends_it(verdict):
    decision = start(cancelled(requested(), 1), verdict, 2)
    assert (decision.payment.state, decision.payment.outcome) == (State.FAILED, Outcome.CANCELLED_BY_HOST)
    unseen = cancelled(intend(superseded(), ctx(1), request_digest="r2").payment, 1)
    held_on = start(unseen, verdict, 2).payment
    assert (held_on.hold, held_on.due_at) == (HoldReason.UNSEEN_SESSION, at(3600))


def test_an_answered_phone_start_hands_over_the_call_for_twenty_seconds():
    decision = start(requested(), OPENED, 2)
    after = decision.payment
    assert (triggers(decision), after.state) == (["start_session", "hand_over"], State.AWAITING_PAYMENT)
    assert (after.session_id, after.session_at, after.number, after.link_id) == (
        SESSION.id, at(2), SESSION.number, SESSION.link_id,
    )  # fmt: skip
    assert (after.hand_over_until, after.deadline_at, after.due_at) == (at(22), at(902), at(3))
    assert (after.sessions, after.open_attempt, after.failures) == (1, None, 0)
    assert [(n.event, n.seq, n.expires_at) for n in decision.notices] == [("handed_over", after.version, at(22))]


def test_an_answered_digital_start_says_that_the_link_was_sent():
    decision = start(requested(DIGITAL_), OPENED, 2)
    after = decision.payment
    assert (after.state, after.hand_over_until) == (State.AWAITING_PAYMENT, None)
    assert (after.deadline_at, after.due_at) == (at(2 + 72 * 3600), at(7))
    assert [(n.event, n.expires_at) for n in decision.notices] == [("link_sent", None)]


def test_an_answered_start_ends_the_trouble_and_forgets_the_failures():
    payment = start(requested(DIGITAL_), FORBIDDEN, 2).payment
    payment = start(intend(payment, ctx(3), request_digest="r2").payment, FORBIDDEN, 4).payment
    assert (payment.failures, payment.troubled_since) == (2, at(2))
    after = start(intend(payment, ctx(8), request_digest="r3").payment, OPENED, 12).payment
    assert (after.failures, after.troubled_since, after.paused_s, after.attempts) == (0, None, 10, 3)


@pytest.mark.parametrize(
    ("number", "prefixes", "allowed"),
    [
        ("+442071234567", ("+44",), True),
        ("+35312345", ("+44", "+353"), True),
        ("+19001234567", ("+44",), False),
        ("0044207", ("+44",), False),
        ("+442071234567", (), False),
        (None, ("+44",), False),
        ("", ("+44",), False),
    ],
)
def test_a_number_outside_the_accounts_prefixes_is_never_handed_over(number, prefixes, allowed):
    opened = replace(ANSWERED, session=Session("S", number, "1"))
    decision = start(requested(), opened, 2, policy=replace(PHONE, dial_prefixes=prefixes))
    after = decision.payment
    assert after.state is (State.AWAITING_PAYMENT if allowed else State.SESSION_STARTED)
    assert events(decision) == (["handed_over"] if allowed else ["held"])
    assert after.hold is (None if allowed else HoldReason.NUMBER_NOT_ALLOWED)
    assert after.due_at == at(3), "it is looked at all the same"


def test_a_session_that_a_webhook_told_of_is_never_handed_over():
    decision = take_up(requested(), replace(ANSWERED, session=Session("S")), ctx(2), PHONE)
    assert (triggers(decision), decision.payment.due_at) == (["start_session"], at(2))
    assert hand_over(decision.payment, ANSWERED, 2).payment.hold is HoldReason.NUMBER_NOT_ALLOWED


def test_the_answer_to_a_start_that_a_webhook_overtook_is_no_news_whatever_the_case_of_its_id():
    told = replace(ANSWERED, session=Session("5e551011-a"), observation=running())
    payment = start(requested(Channel.DIGITAL), told, 2).payment
    assert start(payment, OPENED, 3, attempt=1).quiet


def test_a_released_number_is_handed_over_if_it_is_allowed_by_now():
    payment = released(refused_number())
    assert triggers(hand_over(payment, ANSWERED, 7)) == ["hand_over"]
    assert triggers(hand_over(payment, ANSWERED, 7, policy=PHONE)) == ["hold"]
    assert hand_over(cancelled(payment), ANSWERED, 7).quiet, "not after the host has cancelled"
    assert hand_over(refused_number(), ANSWERED, 7).quiet, "not while it is held"


def test_a_cancel_during_the_start_keeps_the_call_where_it_is():
    decision = start(cancelled(requested(), 1), OPENED, 2)
    assert (triggers(decision), decision.payment.state) == (["start_session"], State.SESSION_STARTED)
    assert (decision.payment.due_at, events(decision)) == (at(2), [])


# ---- the intent


def test_an_intent_opens_an_attempt_with_the_digest_of_its_request():
    decision = intend(authorized(), ctx(1), request_digest="sha256:1")
    assert (triggers(decision), decision.payment.attempts, decision.payment.open_attempt) == (["request"], 1, 1)
    assert (last(decision)["request"], last(decision)["attempt"]) == ("sha256:1", 1)
    both = authorize(born(), ANSWERED).then(decision)
    assert both.before == born()
    assert [entry.seq for entry in both.entries] == [2, 3]


@pytest.mark.parametrize(
    "payment",
    [requested(), doubted(), replace(authorized(), cancel_requested=True), born(), waiting(), completed(), declined()],
)
def test_no_intent_over_an_open_attempt_a_hold_a_cancel_or_elsewhere(payment):
    with pytest.raises(MachineError):
        intend(payment, ctx(1), request_digest="r")


def test_a_request_that_can_not_be_rendered_fails_unless_a_session_is_unseen():
    failed = refuse_request(authorized(), ctx(1), field="cardholderName").payment
    assert (failed.state, failed.outcome) == (State.FAILED, Outcome.INVALID_REQUEST)
    assert failed.reason == "unusable_field:cardholderName"
    kept = refuse_request(superseded(), ctx(1), field="cardholderName").payment
    assert (kept.hold, kept.due_at) == (HoldReason.UNSEEN_SESSION, at(3600))


# ---- what comes late


@pytest.mark.parametrize("channel", BOTH)
def test_the_missing_answer_resolves_the_doubt_it_left(channel):
    decision = start(doubted(channel), OPENED, 9)
    after = decision.payment
    assert triggers(decision) == ["release", "start_session", "hand_over"]
    assert (after.hold, after.unseen_until, after.sessions, after.attempts) == (None, None, 1, 1)


def test_one_late_answer_of_two_leaves_the_other_session_unseen():
    payment = intend(superseded(), ctx(1), request_digest="r2").payment
    payment = start(payment, UNKNOWN, 2, policy=replace(DIALLED, max_sessions=2)).payment
    assert (payment.hold, payment.sessions) == (HoldReason.SESSION_UNKNOWN, 2)
    after = start(payment, OPENED, 3, attempt=1).payment
    assert (after.state, after.sessions, after.unseen_until) == (State.AWAITING_PAYMENT, 2, at(3602))


def test_a_late_answer_before_the_next_intent_is_adopted_and_counted_once():
    decision = start(superseded(), OPENED, 1, attempt=1)
    assert triggers(decision) == ["start_session", "hand_over"]
    assert (decision.payment.sessions, decision.payment.unseen_until) == (1, None)


def test_a_late_answer_resolves_what_was_held_for_its_session():
    waits = refuse_request(superseded(), ctx(1), field="x").payment
    after = start(waits, OPENED, 2, attempt=1).payment
    assert (after.hold, after.outcome, after.state) == (None, None, State.AWAITING_PAYMENT)


def test_a_session_of_a_payment_that_is_held_for_another_reason_is_not_handed_over():
    decision = start(held(superseded(), HoldReason.POISON), OPENED, 9, attempt=1)
    assert (triggers(decision), decision.payment.state) == (["start_session"], State.SESSION_STARTED)
    assert (decision.payment.hold, decision.payment.due_at) == (HoldReason.POISON, at(9))


def test_another_session_that_comes_late_is_kept_in_sight():
    payment = waiting()
    decision = start(payment, OTHER, 30, attempt=1)
    after = decision.payment
    assert (triggers(decision), after.session_id, after.unseen_until) == (["observe"], SESSION.id, at(3630))
    assert last(decision)["other_session"] == OTHER_SESSION.id
    assert start(payment, OPENED, 30, attempt=1).payment == payment, "our own session again is no news"


def test_a_session_of_an_ended_payment_is_watched_if_it_is_its_only_one():
    lost = refuse_request(authorized(), ctx(1), field="x").payment
    after = start(lost, OPENED, 30, attempt=1).payment
    assert (after.state, after.session_id, after.watch_until, after.due_at) == (
        State.FAILED, SESSION.id, at(3630), at(30),
    )  # fmt: skip
    other = start(declined(), OTHER, 30, attempt=1)
    assert (triggers(other), other.payment.session_id, other.payment.due_at) == (["late_result"], SESSION.id, None)


@pytest.mark.parametrize("payment", [doubted(), waiting(), waiting_with_unseen(), declined(), completed()])
@pytest.mark.parametrize("verdict", [NOT_SENT, UNKNOWN, INVALID, FORBIDDEN, ANSWERED])
def test_a_fenced_workers_answer_is_kept_and_changes_nothing_else(payment, verdict):
    decision = start(payment, verdict, 9, attempt=1)
    assert triggers(decision) == ["late_result" if payment.ended else "observe"]
    assert last(decision)["facts"] == {}
    assert replace(decision.payment, version=payment.version, head=payment.head) == payment


@pytest.mark.parametrize("channel", BOTH)
def test_a_session_that_was_never_intended_keeps_the_payment_from_opening_one(channel):
    payment = born(channel)
    decision = start(payment, OPENED, 9, attempt=1)
    assert (decision.payment.state, decision.payment.hold) == (State.COLLECTING, HoldReason.SESSION_UNKNOWN)
    assert (decision.payment.due_at, last(decision)["other_session"]) == (None, SESSION.id)
    assert start(decision.payment, OPENED, 10, attempt=1).quiet
    assert all(start(payment, verdict, 9, attempt=1).payment == payment for verdict in (UNKNOWN, NOT_SENT, INVALID))


def test_policies_of_the_story_are_the_defaults():
    assert POLICIES == {PHONE_: DIALLED, DIGITAL_: DIGITAL}
    assert at(0) == T0


def wait(payment, seconds, policy=None):
    return wait_for_account(payment, ctx(seconds), policy or POLICIES[payment.channel])


BEFORE_A_SESSION = [born(PHONE_), born(DIGITAL_), authorized(PHONE_), authorized(DIGITAL_), superseded()]


@pytest.mark.parametrize("payment", BEFORE_A_SESSION)
def test_an_effect_of_a_paused_account_waits_with_one_entry_and_no_attempt(payment):
    decision = wait(payment, 2)
    after = decision.payment
    body = last(decision)
    assert (triggers(decision), after.state, after.due_at) == (["retry"], payment.state, at(4))
    assert (after.reason, after.troubled_since, after.attempts) == ("account_paused", at(2), payment.attempts)
    assert (body["verdict"], body["cause"], body["why"]) == ("not_sent", "account", "account_paused")
    assert "attempt" not in body, "a start that was never intended has no attempt"
    assert body.get("operation") == ("authorize" if payment.state is State.COLLECTING else None)

    again = wait(after, 4)
    assert (again.quiet, again.payment.due_at) == (True, at(6))


def test_a_pause_after_another_trouble_is_news_and_goes_on_stopping_the_same_clock():
    troubled = authorize(born(DIGITAL_), FORBIDDEN, 2).payment
    decision = wait(troubled, 12)
    assert (triggers(decision), decision.payment.troubled_since) == (["retry"], at(2))
    assert decision.payment.reason == "account_paused"


@pytest.mark.parametrize("begun", [born, authorized])
def test_a_caller_on_the_line_runs_into_the_deadline_while_the_account_is_paused(begun):
    paused = wait(begun(PHONE_), 2).payment
    assert wait(paused, 19).payment.due_at == at(20)
    decision = lapsed(paused, lapse(paused, at(20), DIALLED), ctx(20))
    after = decision.payment
    assert (after.outcome, after.reason) == (Outcome.PROVIDER_UNAVAILABLE, "account_paused")
    assert events(decision) == ["failed"]


@pytest.mark.parametrize("begun", [born, authorized])
def test_a_digital_payment_outlives_a_pause_of_a_day_and_fails_after_it(begun):
    paused = wait(begun(DIGITAL_), 100).payment
    over = DIGITAL.start_s + DIGITAL.start_pause_s
    assert lapse(paused, at(over - 1), DIGITAL) == ""
    decision = lapsed(paused, lapse(paused, at(over), DIGITAL), ctx(over))
    assert (decision.payment.outcome, decision.payment.reason) == (Outcome.PROVIDER_UNAVAILABLE, "account_paused")


def test_a_pause_that_is_over_gives_the_waiting_time_back():
    paused = wait(authorized(DIGITAL_), 2).payment
    going = intend(paused, ctx(302), request_digest="r").payment
    after = start(going, OPENED, 302).payment
    assert (after.troubled_since, after.paused_s, after.reason) == (None, 300, "")


def test_a_superseded_session_stays_in_doubt_when_the_deadline_passes_in_a_pause():
    paused = wait(superseded(), 2).payment
    decision = lapsed(paused, lapse(paused, at(20), DIALLED), ctx(20))
    assert (decision.payment.hold, decision.payment.due_at) == (HoldReason.UNSEEN_SESSION, at(3600))
