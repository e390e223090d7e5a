"""Whose turn it is among the waiting: what is no look at once, looks by the loss of their evidence."""

import gc
import sys
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.payment import Channel, HoldReason
from orchestrator.domain.policy import DIGITAL
from orchestrator.waiting import AHEAD_S, Waiting, evidence_until, is_look
from tests.unit.domain import story
from tests.unit.domain.story import T0, at

LOOK = story.waiting(Channel.DIGITAL)


def named(number, account="emea"):
    return replace(LOOK, id=f"pay-{number}", account=account)


def waiting(per_second=None, concurrency=1000):
    rates = per_second if isinstance(per_second, dict) else None
    return Waiting(lambda account: rates[account] if rates else per_second, concurrency)


@pytest.mark.parametrize(
    ("payment", "look"),
    [
        (story.born(), False),
        (story.authorized(), False),
        (story.requested(), False),
        (story.waiting(), True),
        (story.waiting(Channel.DIGITAL), True),
        (story.watched(), True),
        (story.held(story.waiting(), HoldReason.INDETERMINATE), True),
    ],
)
def test_a_look_is_what_a_session_waits_for(payment, look):
    assert is_look(payment) is look


def test_evidence_is_counted_from_the_last_answer_else_from_the_sessions_beginning():
    begun = LOOK.session_at
    assert evidence_until(LOOK, None, DIGITAL) == begun + timedelta(seconds=900)
    assert evidence_until(LOOK, begun + timedelta(hours=3), DIGITAL) == begun + timedelta(hours=3, seconds=900)
    assert evidence_until(story.born(), None, DIGITAL) == T0 + timedelta(seconds=900)


@given(st.lists(st.tuples(st.floats(0, 100), st.one_of(st.none(), st.floats(0, 900))), max_size=40), st.integers(0, 50))
def test_the_most_urgent_of_those_whose_time_has_come_go_first(waiters, room):
    room_of = waiting()
    for number, (due, by) in enumerate(waiters):
        room_of.push(named(number), due, None if by is None else at(by))
    taken = list(room_of.take(50.0, room))
    came = [number for number, (due, _) in enumerate(waiters) if due <= 50.0]
    plain = sorted((n for n in came if waiters[n][1] is None), key=lambda n: (waiters[n][0], n))
    looks = sorted((n for n in came if waiters[n][1] is not None), key=lambda n: (at(waiters[n][1]).timestamp(), n))
    assert taken == [f"pay-{number}" for number in (*plain, *looks)][:room]
    assert len(room_of) == len(waiters) - len(taken)
    assert room_of.pressed is (len(taken) < len(came))
    later = [due for due, _ in waiters if due > 50.0]
    assert room_of.next_at() == (min(later) if later else None)


def test_looks_leave_half_of_the_room_to_starts():
    room_of = waiting(concurrency=10)
    for number in range(20):
        room_of.push(named(number), 0, at(number))
    assert len(list(room_of.take(0, 10))) == 5
    room_of.push(named("start"), 0, None)
    assert list(room_of.take(0, 5)) == ["pay-start"]
    assert not room_of.looked("pay-start")
    assert room_of.looked("pay-3")
    assert not room_of.looked("pay-3"), "it is counted once"
    assert list(room_of.take(0, 5)) == ["pay-5"]


def test_an_account_has_no_more_looks_under_way_than_its_budget_sends_in_seconds():
    room_of = waiting({"slow": 0.1, "fast": 5.0, "free": None})
    for account in ("slow", "fast", "free"):
        for number in range(30):
            room_of.push(named(f"{account}-{number}", account), 0, at(number))
    taken = list(room_of.take(0, 1000))
    counts = {name: sum(name in payment_id for payment_id in taken) for name in ("slow", "fast", "free")}
    assert counts == {"slow": 1, "fast": 5 * AHEAD_S, "free": 30}
    assert room_of.counts() == {"slow": 30, "fast": 30, "free": 30}


def test_only_the_newest_ticket_counts_and_who_is_driven_waits_no_more():
    room_of = waiting()
    room_of.push(named(1), 0, None)
    room_of.push(named(1), 9, None)
    room_of.push(named(2), 0, at(1))
    room_of.forget("pay-2")
    room_of.forget("pay-unheard-of")
    assert list(room_of.take(5, 9)) == []
    assert list(room_of.take(9, 9)) == ["pay-1"]
    room_of.push(named(3), 0, at(1))
    room_of.clear()
    assert list(room_of.take(99, 9)) == []
    assert len(room_of) == 0


def test_a_look_that_became_urgent_is_taken_by_its_newest_place():
    room_of = waiting(concurrency=2)
    for number in (1, 2, 3):
        room_of.push(named(number), 0, at(number))
    assert list(room_of.take(0, 2)) == ["pay-1"]
    room_of.push(named(3), 0, None)
    assert list(room_of.take(0, 1)) == ["pay-3"]


def test_stale_tickets_are_swept():
    room_of, random = waiting(), Random(4)
    for _ in range(20_000):
        room_of.push(named(random.randrange(100)), random.uniform(1000, 2000), at(random.uniform(0, 900)))
    assert len(room_of) == 100
    assert room_of.tickets <= 2 * 100 + 65
    taken = list(room_of.take(2000, 1000))
    assert len(taken) == len(set(taken)) == 100


def test_a_waiting_payment_costs_little_memory():
    gc.collect()
    before = sys.getallocatedblocks()
    room_of = waiting()
    payments = [named(number) for number in range(1000)]
    for payment in payments:
        room_of.push(payment, 1000.0, at(1))
    blocks = (sys.getallocatedblocks() - before) / 1000
    print(f"{blocks:.1f} blocks a waiting payment, its own included")
    assert blocks < 20
