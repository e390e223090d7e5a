import json
from dataclasses import replace

import pytest

from orchestrator.domain.asking import acknowledge, cancel, collect, submit
from orchestrator.domain.decide import lapsed
from orchestrator.domain.decision import Walk
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.outcome import Outcome
from orchestrator.domain.payment import Channel, HoldReason, State
from orchestrator.domain.restoring import restored
from tests.unit.domain.story import (
    ANSWERED,
    BOTH,
    DIALLED,
    NOT_SENT,
    OPENED,
    POLICIES,
    at,
    authorized,
    born,
    cancelled,
    completed,
    ctx,
    declined,
    doubted,
    fresh,
    hand_over,
    held,
    look,
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

DIGITAL = Channel.DIGITAL


def triggers(decision):
    return [entry.trigger for entry in decision.entries]


@pytest.mark.parametrize(("channel", "allowed"), [(Channel.PHONE, 20), (Channel.DIGITAL, 600)])
def test_a_complete_payment_is_born_due_with_the_starts_deadline(channel, allowed):
    decision = submit(fresh(channel), ctx(), POLICIES[channel])
    after = decision.payment
    assert (triggers(decision), after.state, after.version) == (["submit"], State.COLLECTING, 1)
    assert (after.due_at, after.deadline_at) == (at(0), at(allowed))
    assert (decision.before, after.head) == (fresh(channel), decision.entries[0].hash)


@pytest.mark.parametrize("channel", BOTH)
def test_a_payment_with_missing_fields_waits_half_an_hour_for_them(channel):
    payment = born(channel, ["CallGuid", "name"])
    assert (payment.due_at, payment.deadline_at) == (at(1800), at(1800))
    first = collect(payment, ["name"], None, ctx(60), POLICIES[channel]).payment
    assert (first.missing, first.due_at, first.deadline_at) == (("CallGuid",), at(1800), at(1800))
    then = collect(first, ["name", "CallGuid"], "guid-1", ctx(70), POLICIES[channel])
    after = then.payment
    assert (triggers(then), after.missing, after.call_guid, after.due_at) == (["collect"], (), "guid-1", at(70))
    assert after.deadline_at == at(70 + POLICIES[channel].start_s)
    assert json.loads(then.entries[0].body)["facts"]["missing"] == []


def test_a_call_id_that_is_known_is_not_forgotten():
    payment = replace(born(missing=["a"]), call_guid="guid-1")
    assert collect(payment, ["a"], None, ctx(1), DIALLED).payment.call_guid == "guid-1"


@pytest.mark.parametrize(
    "payment", [born(), authorized(), requested(), doubted(), waiting(), completed(), declined(), watched()]
)
def test_nothing_is_collected_once_everything_is_known(payment):
    with pytest.raises(InvalidInput, match="can't be collected") as refusal:
        collect(payment, ["CallGuid"], None, ctx(1), DIALLED)
    assert refusal.value.field == "fields"


def test_a_held_payment_takes_fields_and_stays_where_it_is():
    payment = held(born(missing=["a", "b"]), HoldReason.POISON)
    for names in (["a"], ["a", "b"]):
        payment = collect(payment, names, None, ctx(7), DIALLED).payment
        assert (payment.due_at, payment.hold) == (None, HoldReason.POISON)


@pytest.mark.parametrize("channel", BOTH)
@pytest.mark.parametrize("make", [born, authorized, lambda channel: born(channel, ["CallGuid"])])
def test_a_cancel_without_a_session_ends_it_at_once(make, channel):
    decision = cancel(make(channel), ctx(5), reason="caller left")
    after = decision.payment
    assert (triggers(decision), after.state, after.outcome) == (["fail"], State.FAILED, Outcome.CANCELLED_BY_HOST)
    assert (after.due_at, after.watch_until) == (None, None)
    assert json.loads(decision.entries[0].body)["why"] == "caller left"


def test_a_cancel_ends_a_held_payment_that_nothing_was_started_for():
    decision = cancel(held(born(), HoldReason.POISON), ctx(5), reason="")
    assert (triggers(decision), decision.payment.hold) == (["release", "fail"], None)
    assert "why" not in json.loads(decision.entries[-1].body)


@pytest.mark.parametrize(
    ("payment", "due"),
    [
        (requested(), at(0)),
        (superseded(), at(5)),
        (doubted(), None),
        (doubted(Channel.PHONE), at(3600)),
        (refused_number(), at(1)),
        (waiting(), at(5)),
        (waiting(Channel.DIGITAL), at(5)),
        (held(waiting(), HoldReason.REVIEW), None),
    ],
)
def test_a_cancel_with_a_session_or_a_doubt_only_asks(payment, due):
    decision = cancel(payment, ctx(5), reason="caller left")
    after = decision.payment
    assert (triggers(decision), after.state, after.cancel_requested) == (["cancel"], payment.state, True)
    assert (after.hold, after.open_attempt, after.due_at) == (payment.hold, payment.open_attempt, due)
    assert cancel(after, ctx(6), reason="again").quiet


DOUBTED = [
    restored(born(DIGITAL, ["x"]), ctx(1), 288_000).payment,
    start(born(), OPENED).payment,  # an answer to a start that this copy of the database never intended
]


@pytest.mark.parametrize("payment", DOUBTED)
def test_a_cancel_never_ends_a_payment_whose_session_may_have_been_forgotten(payment):
    """The database may be an older copy of itself."""
    assert (payment.state, payment.hold) == (State.COLLECTING, HoldReason.SESSION_UNKNOWN)
    decision = cancel(payment, ctx(5), reason="caller left")
    after = decision.payment
    assert (triggers(decision), after.state, after.hold) == (["hold"], State.COLLECTING, payment.hold)
    assert (after.cancel_requested, after.due_at, after.held_at) == (True, payment.due_at, payment.held_at)
    assert json.loads(decision.entries[0].body)["why"] == "caller left"
    assert cancel(after, ctx(6), reason="again").quiet


STATES = [
    *(make(channel) for make in (born, authorized, requested, waiting) for channel in BOTH),
    born(missing=["x"]), superseded(), waiting_with_unseen(), refused_number(), hand_over(waiting(), NOT_SENT).payment,
    hand_over(waiting(), ANSWERED, 2).payment, completed(), declined(), watched(), *DOUBTED,
]  # fmt: skip
WISHED = {True: Outcome.HUNG_UP, False: Outcome.CANCELLED_BY_HOST}


@pytest.mark.parametrize("payment", STATES)
@pytest.mark.parametrize("hold", [None, *HoldReason])
@pytest.mark.parametrize("hung_up", [False, True])
def test_a_wish_to_end_is_total_over_states_holds_and_attempts_and_fails_no_live_session(payment, hold, hung_up):
    payment = payment if hold is None else held(payment, hold)
    if hung_up and payment.channel is DIGITAL:
        with pytest.raises(InvalidInput, match="phone") as refusal:
            cancel(payment, ctx(5), reason="", hung_up=True)
        assert refusal.value.field == "hung_up"
        return
    decision = cancel(payment, ctx(5), reason="gone", hung_up=hung_up)
    after = decision.payment
    if payment.ended:
        assert decision.quiet
        return
    if after.ended:
        unbegun = payment.session_id is None and payment.open_attempt is None and payment.unseen_until is None
        assert unbegun
        assert payment.hold is not HoldReason.SESSION_UNKNOWN
        assert after.outcome is WISHED[hung_up]
    else:
        assert (after.cancel_requested, after.hold) == (True, payment.hold)
        assert (after.outcome is Outcome.HUNG_UP) is hung_up
    again = cancel(after, ctx(6), reason="again", hung_up=not hung_up and payment.channel is Channel.PHONE)
    assert (again.quiet, again.payment.outcome) == (True, after.outcome), "the first wish counts"


@pytest.mark.parametrize("hung_up", [False, True])
@pytest.mark.parametrize(
    "end",
    [
        lambda asked: look(asked(waiting()), running()).payment,
        lambda asked: start(asked(requested()), NOT_SENT, 6).payment,
        lambda asked: lapsed(released(asked(held(authorized(), HoldReason.POISON))), "cancelled", ctx(7)).payment,
        lambda asked: lapsed(asked(doubted(Channel.PHONE)), "unseen_session_over", ctx(3600)).payment,
        lambda asked: look(start(asked(doubted(Channel.PHONE)), OPENED, 6).payment, running()).payment,
        lambda asked: asked(authorized()),
        lambda asked: asked(born(missing=["x"])),
    ],
)
def test_a_hang_up_ends_as_one_wherever_a_cancel_ends(end, hung_up):
    after = end(lambda payment: cancel(payment, ctx(5), reason="", hung_up=hung_up).payment)
    assert (after.state, after.outcome) == (State.FAILED, WISHED[hung_up])
    assert (after.watch_until is None) is (after.session_id is None)


@pytest.mark.parametrize("payment", [completed(), declined(), watched()])
def test_a_cancel_after_the_end_changes_nothing(payment):
    assert cancel(payment, ctx(99), reason="late").payment == payment


def test_an_acknowledgement_is_taken_once():
    decision = acknowledge(hand_over(waiting(), NOT_SENT, 20).payment, ctx(21))
    after = decision.payment
    assert (triggers(decision), after.acknowledged_at, after.undelivered) == (["acknowledge"], at(21), False)
    assert json.loads(decision.entries[0].body)["why"] == "acknowledged_by_call"
    assert acknowledge(after, ctx(22)).quiet
    assert acknowledge(look(cancelled(after), running()).payment, ctx(30)).quiet, "even after the end"


@pytest.mark.parametrize(
    "payment", [born(), authorized(), requested(), refused_number(), waiting(Channel.DIGITAL), completed(), watched()]
)
def test_what_was_not_handed_over_can_not_be_acknowledged(payment):
    with pytest.raises(InvalidInput, match="no hand-over to acknowledge"):
        acknowledge(payment, ctx(9))


def test_a_walk_sums_up_the_looks_in_its_first_entry_only():
    walk = Walk(waiting(), ctx(9, looks=4, failed=1)).hold(HoldReason.REVIEW).release("by_person")
    bodies = [json.loads(entry.body) for entry in walk.due(None).entries]
    assert ["looks" in body for body in bodies] == [True, False]
    assert walk.release("nothing to release") is walk
    assert len(walk.due(None).entries) == 2


def test_an_entry_counts_as_progress_of_its_claim():
    payment = replace(waiting(), claim_no=9, progress_claim=3)
    assert hand_over(payment, ANSWERED, 2).payment.progress_claim == 9
    assert look(payment, running()).payment.progress_claim == 3
