"""What `explain` says is what `plan` does, and every word of it is there."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.machine import Operation
from orchestrator.domain.operation import Next, plan
from orchestrator.domain.payment import ENDED, Channel, HoldReason, State
from orchestrator.domain.policy import DIGITAL
from orchestrator.explain import BECAUSE, HOLDS, NOTHING_SENT, claimed, explain
from tests.property.test_domain_walk import LIVE_LOOKS, STEPS, WORLDS, Life
from tests.unit.domain.story import (
    HOUR,
    LIFE,
    OPENED,
    POLICIES,
    at,
    authorized,
    born,
    cancelled,
    completed,
    declined,
    doubted,
    held,
    refused_number,
    requested,
    superseded,
    waiting,
    watched,
)

SEND, RESCUE, LAPSE, WAIT = Next.SEND, Next.RESCUE, Next.LAPSE, Next.WAIT
DIGITAL_ = Channel.DIGITAL


def told(payment, seconds, policy=None, **more):
    return explain(payment, at(seconds), policy or POLICIES[payment.channel], **more)


@pytest.mark.parametrize(
    ("payment", "seconds", "step", "why", "due", "effects", "deadline", "otherwise"),
    [
        (born(), 1, SEND, "authorize", 1, "A token", 20, "fails, since"),
        (born(DIGITAL_), 1, SEND, "authorize", 1, "A token", 600, "fails, since"),
        (born(missing=["x"]), 1, LAPSE, "abandoned", 1800, NOTHING_SENT, 1800, "fails as abandoned"),
        (held(born(), HoldReason.POISON), 9, WAIT, "held", None, NOTHING_SENT, None, "stays held"),
        (authorized(), 1, SEND, "start_session", 1, "a session begins", 20, "fails, since"),
        (authorized(DIGITAL_), 1, SEND, "start_session", 1, "texts the payer a link", 600, "fails, since"),
        (authorized(), 25, LAPSE, "start_deadline", 25, NOTHING_SENT, 20, "fails, since"),
        (requested(), 1, RESCUE, "open_attempt", 1, NOTHING_SENT, None, "never sent again"),
        (superseded(), 1, SEND, "start_session", 1, "a session begins", 20, "may still be paid"),
        (cancelled(superseded(), 1), 1, LAPSE, "cancelled", 1, NOTHING_SENT, 20, "may still be paid"),
        (doubted(Channel.PHONE), 1, LAPSE, "unseen_session_over", 3600, NOTHING_SENT, 3600, "fails: no session"),
        (doubted(), 1, WAIT, "held", None, NOTHING_SENT, None, "stays held"),
        (refused_number(), 0.5, SEND, "query_status", 1, "status is read", None, "stays held"),
        (waiting(), 0.5, SEND, "query_status", 1, "status is read", 900, "overdue"),
        (waiting(), 1000, SEND, "query_status", 1000, "status is read", 3600, "a last look decides"),
        (replace(waiting(), overdue=True), 9, SEND, "query_status", 9, "status is read", 3600, "a last look decides"),
        (waiting(DIGITAL_), 1, SEND, "query_status", 5, "status is read", 72 * HOUR, "overdue"),
        (watched(), 20, SEND, "query_status", 310, "status is read", LIFE[DIGITAL_], "until then, and once more"),
        (completed(), 99, WAIT, "ended", None, NOTHING_SENT, None, "Nothing more happens"),
        (declined(), 99, WAIT, "ended", None, NOTHING_SENT, None, "Nothing more happens"),
        (replace(waiting(), claim_no=20), 1, LAPSE, "poison", 1, NOTHING_SENT, 900, "overdue"),
    ],
)  # fmt: skip
def test_what_is_next_and_what_comes_without_a_word(*, payment, seconds, step, why, due, effects, deadline, otherwise):
    found = told(payment, seconds)

    assert (found.next, found.why, found.because) == (step, why, BECAUSE[why])
    assert found.due_at == (None if due is None else at(due))
    assert found.deadline_at == (None if deadline is None else at(deadline))
    assert effects in found.effects
    assert otherwise in found.if_nothing_happens
    assert found.advice == (None if payment.hold is None else HOLDS[payment.hold])


def test_every_hold_has_a_reason_and_an_advice():
    assert set(HOLDS) == set(HoldReason)
    assert all(text.endswith(".") for advice in HOLDS.values() for text in advice)


@pytest.mark.parametrize(
    ("payment", "seconds", "blocked"),
    [(born(), 1, True), (authorized(), 1, True), (authorized(), 25, False), (waiting(), 1, False),
     (requested(), 1, False), (completed(), 1, False)],
)  # fmt: skip
def test_a_paused_account_stops_what_begins_and_nothing_else(payment, seconds, blocked):
    found, unpaused = told(payment, seconds, paused=True), told(payment, seconds)

    assert found.waits_for_account is blocked
    assert ("while the account is paused" in found.effects) is blocked
    assert (found.next, found.why, found.operation) == (unpaused.next, unpaused.why, unpaused.operation)


def test_the_deadline_of_a_digital_start_moves_with_the_time_that_trouble_costs():
    troubled = replace(authorized(DIGITAL_), troubled_since=at(100))

    assert told(troubled, 400).deadline_at == at(DIGITAL.start_s + 300)


def test_a_claim_that_is_held_is_not_counted_again():
    mine = replace(waiting(), claimed_by="worker-1", claim_no=20)

    assert told(mine, 1).why == "query_status"
    assert told(replace(mine, claimed_by=None), 1).why == "poison"


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(WORLDS), st.sampled_from([(), (), ("x",)]), st.integers(0, 3), st.lists(STEPS, max_size=10))
def test_explain_never_contradicts_plan(world, missing, way, steps):
    life = Life(world, missing)
    for _ in range(way):
        life.a_worker_follows_the_plan(replace(OPENED, observation=LIVE_LOOKS[0]))
    for method, *arguments in steps:
        method(life, *arguments)
    payment, policy = life.payment, life.policy
    found = explain(payment, life.now, policy)

    if found.due_at is None:
        assert found.next is Next.WAIT or payment.due_at is None
    else:
        assert found.due_at >= life.now
    step = plan(claimed(payment), found.due_at or max(life.now, payment.due_at or life.now), policy)
    assert (found.next, found.why, found.operation) == (step.next, step.why, step.operation)
    sends = found.next is Next.SEND and found.operation is not Operation.HAND_OVER
    assert (found.effects == NOTHING_SENT) is (found.next is not Next.SEND)
    assert not sends or payment.hold is None or found.operation is Operation.QUERY_STATUS
    before_a_session = payment.state in (State.COLLECTING, State.AUTHORIZED) and payment.open_attempt is None
    if before_a_session and found.deadline_at is not None:
        late = plan(claimed(payment), max(found.deadline_at, life.now) + timedelta(days=2), policy)
        assert late.next is Next.LAPSE, "something was said to happen by time alone"
    if payment.state in ENDED and payment.watch_until is None:
        assert found.deadline_at is None
