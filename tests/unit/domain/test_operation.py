from dataclasses import replace

import pytest

from orchestrator.domain.asking import cancel
from orchestrator.domain.decide import lapsed
from orchestrator.domain.machine import Operation
from orchestrator.domain.operation import Next, plan
from orchestrator.domain.outcome import Outcome
from orchestrator.domain.payment import Channel, HoldReason, State
from orchestrator.domain.policy import DIGITAL, PHONE
from orchestrator.domain.starting import intend
from tests.unit.domain.story import (
    FORBIDDEN,
    HOUR,
    INVALID,
    POLICIES,
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
    held,
    look,
    paid,
    refused_number,
    released,
    requested,
    running,
    start,
    superseded,
    waiting,
    waiting_with_unseen,
    watched,
)

SEND, RESCUE, LAPSE, WAIT = Next.SEND, Next.RESCUE, Next.LAPSE, Next.WAIT
DIGITAL_DOUBT = doubted()
PHONE_DOUBT = doubted(Channel.PHONE)
REFUSED_AGAIN = start(intend(superseded(), ctx(1), request_digest="r2").payment, INVALID, 2).payment
POISONED = replace(waiting(), claim_no=21)


def planned(payment, seconds, policy=None):
    return plan(payment, at(seconds), policy or POLICIES[payment.channel])


@pytest.mark.parametrize(
    ("payment", "seconds", "kind", "why"),
    [
        (born(), 0, SEND, "authorize"),
        (born(), 19.9, SEND, "authorize"),
        (born(), 20, LAPSE, "start_deadline"),
        (born(Channel.DIGITAL), 599, SEND, "authorize"),
        (born(Channel.DIGITAL), 600, LAPSE, "start_deadline"),
        (born(missing=["CallGuid"]), 1799, WAIT, "not_due"),
        (born(missing=["CallGuid"]), 1800, LAPSE, "abandoned"),
        (held(born(), HoldReason.POISON), 9999, WAIT, "held"),
        (authorized(), 0, SEND, "start_session"),
        (authorized(), 20, LAPSE, "start_deadline"),
        (requested(), 0, RESCUE, "open_attempt"),
        (requested(), 10**6, RESCUE, "open_attempt"),
        (replace(requested(), due_at=None), 0, RESCUE, "open_attempt"),
        (replace(requested(), claim_no=99), 0, RESCUE, "open_attempt"),
        (replace(requested(), cancel_requested=True), 0, RESCUE, "open_attempt"),
        (superseded(), 0, SEND, "start_session"),
        (superseded(), 20, LAPSE, "start_deadline"),
        (cancelled(superseded(), 1), 1, LAPSE, "cancelled"),
        (PHONE_DOUBT, 3599, WAIT, "not_due"),
        (PHONE_DOUBT, 3600, LAPSE, "unseen_session_over"),
        (DIGITAL_DOUBT, 10**7, WAIT, "held"),
        (refused_number(), 0.5, WAIT, "not_due"),
        (refused_number(), 1, SEND, "query_status"),
        (released(refused_number()), 6, SEND, "hand_over"),
        (cancelled(released(refused_number()), 7), 7, SEND, "query_status"),
        (waiting(), 0.9, WAIT, "not_due"),
        (waiting(), 1, SEND, "query_status"),
        (waiting(), 901, SEND, "query_status"),
        (waiting(), 3 * HOUR, SEND, "query_status"),
        (held(waiting(), HoldReason.REVIEW), 10, WAIT, "held"),
        (replace(held(waiting(), HoldReason.REVIEW), due_at=at(10)), 10, SEND, "query_status"),
        (cancelled(waiting()), 5, SEND, "query_status"),
        (completed(), 10**6, WAIT, "ended"),
        (declined(), 10**6, WAIT, "ended"),
        (watched(), 309, WAIT, "not_due"),
        (watched(), 310, SEND, "query_status"),
        (replace(POISONED, claim_no=20), 1, SEND, "query_status"),
        (POISONED, 1, LAPSE, "poison"),
        (replace(POISONED, hold=HoldReason.REVIEW), 1, LAPSE, "poison"),
        (replace(POISONED, hold=HoldReason.REVIEW, due_at=None), 1, WAIT, "held"),
        (replace(PHONE_DOUBT, claim_no=99), 1, LAPSE, "poison"),
        (replace(PHONE_DOUBT, claim_no=99), 3600, LAPSE, "unseen_session_over"),
        (replace(DIGITAL_DOUBT, claim_no=99), 1, WAIT, "held"),
        (replace(declined(), claim_no=99), 1, WAIT, "ended"),
        (replace(watched(), claim_no=99), 310, LAPSE, "poison"),
    ],
)
def test_the_plan_of_each_state_and_time(payment, seconds, kind, why):
    step = planned(payment, seconds)
    assert (step.next, step.why) == (kind, why)
    assert (step.operation is not None) is (kind is SEND)


def test_an_unseen_session_is_waited_for_whatever_the_policy_but_an_unknown_digital_start_for_ever():
    unseen = replace(DIGITAL_DOUBT, hold=HoldReason.UNSEEN_SESSION, due_at=at(72 * HOUR + 900))
    assert planned(unseen, 72 * HOUR + 900).why == "unseen_session_over"
    assert planned(replace(PHONE_DOUBT, due_at=None), HOUR, replace(DIGITAL, session_life_s=HOUR)).next is WAIT


def test_the_accounts_trouble_stops_the_digital_start_clock_for_a_day_and_no_longer():
    troubled = authorize(born(Channel.DIGITAL), UNAUTHORIZED, 100).payment
    troubled = replace(troubled, due_at=at(0))
    for seconds in (600, 12 * HOUR, 24 * HOUR + 599):
        assert planned(troubled, seconds).operation is Operation.AUTHORIZE
    assert planned(troubled, 24 * HOUR + 600).why == "start_deadline"


def test_trouble_does_not_stop_the_clock_of_a_caller_on_the_line():
    troubled = authorize(born(), UNAUTHORIZED, 1).payment
    assert planned(troubled, 20).why == "start_deadline"


def test_periods_of_trouble_add_up():
    payment = authorize(born(Channel.DIGITAL), FORBIDDEN, 100).payment
    payment = authorize(payment, UNKNOWN, 400).payment
    assert (payment.paused_s, payment.troubled_since) == (300, None)
    payment = authorize(payment, FORBIDDEN, 500).payment
    assert payment.start_deadline(at(650), 86400) == at(600 + 300 + 150)
    assert payment.start_deadline(at(650), 400) == at(600 + 400)
    assert payment.start_deadline(at(0), 86400) == at(600 + 300), "a clock that went back gives no time"
    assert replace(payment, deadline_at=None).start_deadline(at(650), 86400) is None


@pytest.mark.parametrize(
    ("payment", "seconds", "outcome", "reason"),
    [
        (born(), 20, Outcome.PROVIDER_UNAVAILABLE, "start_deadline"),
        (authorized(), 20, Outcome.PROVIDER_UNAVAILABLE, "start_deadline"),
        (authorize(born(), UNAUTHORIZED).payment, 20, Outcome.CONFIG_ERROR, "start_deadline"),
        (authorize(born(Channel.DIGITAL), FORBIDDEN).payment, 24 * HOUR + 601, Outcome.CONFIG_ERROR, "start_deadline"),
        (born(missing=["CallGuid"]), 1800, Outcome.ABANDONED, "never_fully_collected"),
        (PHONE_DOUBT, 3600, Outcome.PROVIDER_UNAVAILABLE, "unseen_session_over"),
        (REFUSED_AGAIN, 3600, Outcome.INVALID_REQUEST, "unseen_session_over"),
        (cancelled(PHONE_DOUBT), 3600, Outcome.CANCELLED_BY_HOST, "unseen_session_over"),
        (replace(authorized(), cancel_requested=True), 1, Outcome.CANCELLED_BY_HOST, "cancelled"),
    ],
)
def test_a_lapse_without_a_session_fails_for_good(payment, seconds, outcome, reason):
    decision = lapsed(payment, planned(payment, seconds).why, ctx(seconds))
    after = decision.payment
    assert (after.state, after.outcome, after.reason) == (State.FAILED, outcome, reason)
    assert (after.due_at, after.hold, after.watch_until, after.troubled_since) == (None, None, None, None)
    assert [notice.event for notice in decision.notices] == ["failed"]


@pytest.mark.parametrize("why", ["start_deadline", "cancelled"])
def test_a_lapse_with_an_unseen_session_holds_until_that_can_not_be_paid_any_more(why):
    payment = superseded() if why == "start_deadline" else cancelled(superseded(), 1)
    decision = lapsed(payment, why, ctx(20))
    assert (decision.payment.hold, decision.payment.due_at) == (HoldReason.UNSEEN_SESSION, at(3600))
    over = lapsed(decision.payment, planned(decision.payment, 3600).why, ctx(3600))
    assert [entry.trigger for entry in over.entries] == ["release", "fail"]
    assert over.payment.unseen_until is None


def test_poison_is_held_and_only_looked_at_until_looks_do_harm_as_well():
    nothing_to_look_at = lapsed(replace(authorized(), claim_no=21), "poison", ctx(2)).payment
    assert (nothing_to_look_at.hold, nothing_to_look_at.due_at) == (HoldReason.POISON, None)
    decision = lapsed(POISONED, "poison", ctx(2))
    assert (decision.payment.hold, decision.payment.due_at) == (HoldReason.POISON, at(2))
    assert planned(decision.payment, 2).operation is Operation.QUERY_STATUS
    harmful = replace(decision.payment, claim_no=decision.payment.claim_no + 21)
    assert (planned(harmful, 3).next, planned(harmful, 3).why) == (Next.LAPSE, "poison")
    again = lapsed(harmful, "poison", ctx(3)).payment
    assert (again.hold, again.due_at) == (HoldReason.POISON, None)
    assert planned(replace(again, claim_no=again.claim_no + 99), 4).next is Next.WAIT
    assert planned(released(decision.payment), 7).operation is Operation.QUERY_STATUS, "a release counts as progress"


@pytest.mark.parametrize("hung_up", [False, True])
def test_a_wish_with_an_unseen_session_holds_and_the_seen_one_is_looked_at_meanwhile(hung_up):
    asked = cancel(waiting_with_unseen(), ctx(5), reason="", hung_up=hung_up).payment
    doubt = look(asked, running(), 6).payment
    wish = Outcome.HUNG_UP if hung_up else Outcome.CANCELLED_BY_HOST
    assert (doubt.hold, doubt.outcome, doubt.due_at) == (HoldReason.UNSEEN_SESSION, wish, at(7))
    assert look(doubt, paid(), 8).payment.state is State.COMPLETED
    still = look(doubt, running(), 800, looks=9)
    assert (still.quiet, still.payment.due_at) == (True, at(805))
    seen = replace(doubt, session_at=at(10))  # the seen one is the younger: it may be paid longer
    over = lapsed(seen, planned(seen, 3600).why, ctx(3600)).payment
    assert (over.state, over.hold, over.unseen_until, over.due_at) == (seen.state, None, None, at(3600))
    end = look(over, running(), 3601).payment
    assert (end.outcome, end.watch_until) == (wish, at(3610))


def test_a_start_that_is_retried_reaches_its_deadline():
    payment = requested()
    payment = start(payment, FORBIDDEN, 19, policy=PHONE).payment
    assert payment.due_at == at(20), "not after the deadline"
    assert planned(payment, 20).why == "start_deadline"
