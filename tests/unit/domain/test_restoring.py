"""What becomes of a payment whose database went back in time."""

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.domain.decision import Walk
from orchestrator.domain.operation import Next, plan
from orchestrator.domain.payment import Channel, HoldReason, Payment, State
from orchestrator.domain.restoring import REASON, restored
from orchestrator.domain.settling import Kind, fitting
from orchestrator.domain.starting import intend
from orchestrator.domain.verdict import Verdict, VerdictKind
from tests.unit.domain.story import (
    BOTH,
    HOUR,
    OTHER_SESSION,
    POLICIES,
    SESSION,
    at,
    authorize,
    born,
    ctx,
    hand_over,
    start,
)

DAY = 24 * HOUR
LONGEST_S = 80 * HOUR
ANSWERED = Verdict(VerdictKind.ANSWERED)


def authorized(channel: Channel) -> Payment:
    return authorize(born(channel), ANSWERED).payment


def intended(channel: Channel) -> Payment:
    return intend(authorized(channel), ctx(2), request_digest="r").payment


def started(channel: Channel) -> Payment:
    return start(intended(channel), Verdict(VerdictKind.ANSWERED, session=SESSION), 3, attempt=1).payment


@pytest.mark.parametrize("channel", BOTH)
@pytest.mark.parametrize("made", [born, authorized, intended])
def test_without_a_session_there_may_be_one_that_nobody_has_seen(channel: Channel, made: object) -> None:
    payment = made(channel)  # type: ignore[operator]
    decision = restored(payment, ctx(DAY), LONGEST_S)
    after = decision.payment

    assert (after.hold, after.reason, after.open_attempt, after.due_at) == (
        HoldReason.SESSION_UNKNOWN, REASON, None, None,
    )  # fmt: skip
    assert after.state is payment.state
    assert [notice.event for notice in decision.notices] == ["held"]
    assert set(fitting(after)) == set(Kind)
    for seconds in (DAY, 100 * DAY):
        assert plan(after, at(seconds), POLICIES[channel]).next is Next.WAIT


@pytest.mark.parametrize("channel", BOTH)
def test_with_a_session_it_is_looked_at_and_nothing_else_is_done(channel: Channel) -> None:
    after = restored(started(channel), ctx(DAY), LONGEST_S).payment
    planned = plan(after, at(DAY), POLICIES[channel])

    assert (after.hold, after.reason, after.session_id) == (HoldReason.INDETERMINATE, REASON, SESSION.id)
    assert (planned.next, planned.why) == (Next.SEND, "query_status")


@pytest.mark.parametrize("channel", BOTH)
def test_the_same_again_changes_nothing(channel: Channel) -> None:
    for payment in (born(channel), intended(channel), started(channel)):
        once = restored(payment, ctx(DAY), LONGEST_S).payment
        assert restored(once, ctx(2 * DAY), LONGEST_S).quiet


def test_a_hold_with_an_end_of_its_own_lasts_until_every_session_is_over() -> None:
    unknown = Verdict(VerdictKind.UNKNOWN, "timeout")
    once = start(intended(Channel.PHONE), unknown, 3, attempt=1).payment
    twice = intend(once, ctx(4), request_digest="r").payment
    held = start(twice, unknown, 5, attempt=2, policy=replace(POLICIES[Channel.PHONE], max_sessions=2)).payment
    assert held.hold is HoldReason.SESSION_UNKNOWN
    assert held.due_at == held.unseen_until != None  # noqa: E711 - both comparisons count

    after = restored(held, ctx(HOUR / 2), LONGEST_S).payment

    assert after.due_at == after.unseen_until == at(HOUR / 2) + timedelta(seconds=LONGEST_S)
    assert plan(after, at(2 * HOUR), POLICIES[Channel.PHONE]).next is Next.WAIT
    assert restored(after, ctx(HOUR), LONGEST_S).quiet
    # An unseen session beside the seen one, too.
    superseded = replace(started(Channel.PHONE), unseen_until=at(HOUR))
    unseen = restored(superseded, ctx(HOUR / 2), LONGEST_S).payment.unseen_until
    assert unseen == at(HOUR / 2) + timedelta(seconds=LONGEST_S)


def test_other_holds_and_what_has_ended_stay_as_they_are() -> None:
    poisoned = Walk(born(), ctx(1)).hold(HoldReason.POISON).due(None).payment
    ended = Walk(started(Channel.PHONE), ctx(9)).step("fail", outcome="declined", reason="declined").due(None).payment

    assert ended.state is State.FAILED
    for payment in (poisoned, ended):
        assert restored(payment, ctx(DAY), LONGEST_S).quiet


@pytest.mark.parametrize("channel", BOTH)
def test_an_answer_that_was_in_flight_is_kept_and_released_by_what_it_proves(channel: Channel) -> None:
    answer = Verdict(VerdictKind.ANSWERED, session=OTHER_SESSION)
    # The copy knows nothing of the start: a person names the session that the trail now holds.
    before = restored(born(channel), ctx(DAY), LONGEST_S).payment
    told = start(before, answer, DAY + 1, attempt=1)
    assert (told.payment.hold, told.payment.reason) == (HoldReason.SESSION_UNKNOWN, "session_never_intended")
    assert OTHER_SESSION.id in told.entries[-1].body
    assert start(told.payment, answer, DAY + 2, attempt=1).quiet
    # The copy knows that a start was near or begun: the session is taken up.
    for payment in (authorized(channel), intended(channel)):
        adopted = start(restored(payment, ctx(DAY), LONGEST_S).payment, answer, DAY + 1, attempt=1).payment
        assert (adopted.hold, adopted.session_id) == (None, OTHER_SESSION.id)


def test_a_hand_over_that_was_in_flight_is_watched_not_taken_for_never_begun() -> None:
    after = restored(started(Channel.PHONE), ctx(10), LONGEST_S).payment
    told = hand_over(after, Verdict(VerdictKind.UNKNOWN, "hand_over_lapsed"), 30).payment

    assert (told.hold, told.undelivered, told.reason) == (HoldReason.INDETERMINATE, False, "hand_over_unconfirmed")
    assert told.due_at is not None
    assert told.due_at <= at(10) + timedelta(seconds=30)
