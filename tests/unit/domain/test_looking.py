"""The column "status" of the verdict table, deadlines, evidence, and results after the end."""

import json
from dataclasses import replace

import pytest

from orchestrator.domain.decide import lapsed
from orchestrator.domain.looking import still_runs
from orchestrator.domain.outcome import HOLDING, WITHOUT_PAYER, MoneyFact, Observation, Outcome
from orchestrator.domain.payment import Channel, HoldReason, State
from orchestrator.domain.settling import Resolution, settle
from orchestrator.domain.verdict import VerdictKind
from tests.unit.domain.story import (
    ABSENT,
    ANSWERED,
    BOTH,
    FORBIDDEN,
    HOUR,
    INVALID,
    LIFE,
    NOT_SENT,
    OTHER_SESSION,
    POLICIES,
    SESSION,
    THROTTLED,
    UNAUTHORIZED,
    UNKNOWN,
    at,
    authorized,
    born,
    cancelled,
    completed,
    ctx,
    declined,
    doubted,
    ended,
    hand_over,
    held,
    look,
    paid,
    refused_number,
    running,
    says,
    start,
    waiting,
    waiting_with_unseen,
    watched,
)

ENDS = [outcome for outcome in Outcome if outcome is not Outcome.PAID and outcome not in HOLDING]
TOKENLESS = replace(ABSENT, kind=VerdictKind.NOT_SENT, reason="token_http_404")
TOKEN_REFUSED = replace(INVALID, kind=VerdictKind.NOT_SENT, reason="token_http_400")
PARTIAL = ended(Outcome.PARTIALLY_PAID, codes={"result": "10"}, amount_minor=1000, currency="GBP")
REVIEW = ended(Outcome.REVIEW, codes={"result": "126"})
VAGUE = ended(Outcome.INDETERMINATE)


def triggers(decision):
    return [entry.trigger for entry in decision.entries]


def events(decision):
    return [notice.event for notice in decision.notices]


def last(decision):
    return json.loads(decision.entries[-1].body)


def written_once(payment, seen, seconds=10, **more):
    """Decide, and check that the same again is no news."""
    decision = look(payment, seen, seconds, **more)
    again = look(decision.payment, seen, seconds, **more)
    assert again.quiet, "equal evidence a second time is no change"
    return decision


# ---- looks without a usable answer


@pytest.mark.parametrize("channel", BOTH)
@pytest.mark.parametrize(
    "verdict",
    [NOT_SENT, TOKENLESS, TOKEN_REFUSED, THROTTLED, UNAUTHORIZED, FORBIDDEN, UNKNOWN, ANSWERED,
     replace(UNKNOWN, retry_after_s=12.0)],
)  # fmt: skip
def test_a_look_without_a_usable_answer_writes_nothing_and_is_repeated(channel, verdict):
    first = look(waiting(channel), verdict, 100)
    assert first.quiet
    assert first.payment.due_at == at(100 + max(1.0, verdict.retry_after_s or 0))
    tired = look(waiting(channel), verdict, 100, looks=40, failed=40)
    assert tired.payment.due_at == at(130), "a failed look is repeated within half a minute"


@pytest.mark.parametrize("channel", BOTH)
def test_silence_until_the_sessions_longest_life_is_over_holds(channel):
    life = LIFE[channel]
    assert look(waiting(channel), UNKNOWN, life - 0.5).payment.due_at == at(life)
    decision = written_once(waiting(channel), UNKNOWN, life)
    after = decision.payment
    assert (triggers(decision), after.state) == (["hold"], State.AWAITING_PAYMENT)
    assert (after.hold, after.outcome, after.money) == (HoldReason.INDETERMINATE, Outcome.INDETERMINATE, "unknown")
    assert (after.reason, after.due_at, events(decision)) == ("silence", None, ["held"])


@pytest.mark.parametrize("channel", BOTH)
def test_an_absent_session_is_lag_for_a_minute_then_held(channel):
    payment = waiting(channel, 5)
    for seconds in (5, 30, 64.9):
        decision = look(payment, ABSENT, seconds)
        assert decision.quiet
        assert decision.payment.due_at == at(seconds) + POLICIES[channel].poll_after(0)
    decision = written_once(payment, ABSENT, 65)
    assert (decision.payment.hold, decision.payment.reason) == (HoldReason.INDETERMINATE, "session_absent")
    assert decision.payment.money is MoneyFact.UNKNOWN
    assert decision.payment.due_at == at(65) + POLICIES[channel].poll_after(0)
    again = look(decision.payment, ABSENT, 70)
    assert again.quiet, "a hold never stops observation, and a look that learns nothing writes nothing"
    over = look(decision.payment, ABSENT, POLICIES[channel].session_life_s + 6)
    assert (over.quiet, over.payment.due_at) == (True, None)


@pytest.mark.parametrize("channel", BOTH)
def test_a_refused_look_holds_and_looks_on(channel):
    decision = written_once(waiting(channel), INVALID, 10)
    after = decision.payment
    assert (after.hold, after.reason, after.money) == (HoldReason.INDETERMINATE, "status_refused", MoneyFact.UNKNOWN)
    assert after.due_at == at(10) + POLICIES[channel].poll_after(0), "a hold never stops observation"
    assert look(after, paid(), 20).payment.state is State.COMPLETED
    assert look(after, INVALID, LIFE[channel]).payment.due_at is None


@pytest.mark.parametrize("payment", [born(), authorized(), doubted(), doubted(Channel.PHONE)])
def test_without_a_session_there_is_nothing_to_look_at(payment):
    assert all(look(payment, seen).payment == payment for seen in (paid(), running(), ABSENT, INVALID, UNKNOWN))


# ---- a session that is not over


@pytest.mark.parametrize("channel", BOTH)
def test_polls_that_learn_nothing_slow_down_and_write_nothing(channel):
    policy = POLICIES[channel]
    for looks in (0, 1, 5, 50):
        decision = look(waiting(channel), running(), 10, looks=looks)
        assert decision.quiet
        assert decision.payment.due_at == at(10) + policy.poll_after(looks)
    assert look(waiting(channel), running(), LIFE[channel] - 0.5, looks=50).payment.due_at == at(LIFE[channel])


def test_a_state_that_the_profile_does_not_know_is_written_once():
    decision = written_once(waiting(), running("Zombie", known=False))
    assert (triggers(decision), decision.payment.session_state) == (["observe"], "Zombie")
    assert look(decision.payment, running("Ghoul", known=False), 12).payment.session_state == "Ghoul"


@pytest.mark.parametrize(("channel", "deadline"), [(Channel.PHONE, 900), (Channel.DIGITAL, 72 * HOUR)])
def test_a_deadline_makes_overdue_and_never_fails_a_live_session(channel, deadline):
    assert look(waiting(channel), running(), deadline - 1).quiet
    decision = written_once(waiting(channel), running(), deadline)
    after = decision.payment
    assert (triggers(decision), after.state, after.overdue) == (["observe"], State.AWAITING_PAYMENT, True)
    assert (events(decision), after.due_at > at(deadline)) == (["overdue"], True)
    assert look(after, paid(), deadline + 60).payment.state is State.COMPLETED


@pytest.mark.parametrize("channel", BOTH)
def test_expired_takes_the_longest_life_and_a_last_look_that_answered(channel):
    decision = written_once(waiting(channel), running(), LIFE[channel])
    after = decision.payment
    assert (after.state, after.outcome, after.reason) == (State.FAILED, Outcome.EXPIRED, "session_life_over")
    assert (after.watch_until, after.due_at, after.deadline_at) == (None, None, None)


def test_a_cancelled_payment_ends_after_a_last_look_and_is_watched_on():
    decision = written_once(cancelled(waiting(Channel.DIGITAL)), running())
    after = decision.payment
    assert (after.state, after.outcome, after.money) == (State.FAILED, Outcome.CANCELLED_BY_HOST, MoneyFact.NONE)
    assert (after.watch_until, after.due_at) == (at(LIFE[Channel.DIGITAL]), at(310))
    assert look(cancelled(waiting()), paid()).payment.state is State.COMPLETED, "the last look decides"
    assert look(cancelled(waiting()), UNKNOWN).payment.state is State.AWAITING_PAYMENT, "silence ends nothing"


def test_a_held_payment_is_not_ended_by_a_cancel_and_a_running_session():
    payment = cancelled(held(waiting(), HoldReason.REVIEW))
    assert look(payment, running()).quiet


# ---- the hand-over to the host


def test_a_hand_over_that_was_never_begun_is_looked_at_once_more_then_not_attempted_and_watched():
    lapsed = hand_over(waiting(), NOT_SENT, 20)
    assert (triggers(lapsed), lapsed.payment.undelivered, lapsed.payment.due_at) == (["observe"], True, at(20))
    assert hand_over(lapsed.payment, NOT_SENT, 21).quiet
    decision = written_once(lapsed.payment, running(), 21)
    after = decision.payment
    assert (after.state, after.outcome, after.watch_until) == (State.FAILED, Outcome.NOT_ATTEMPTED, at(HOUR))
    assert look(lapsed.payment, paid(), 21).payment.state is State.COMPLETED


@pytest.mark.parametrize("verdict", [UNKNOWN, INVALID])
def test_a_hand_over_that_was_begun_is_watched(verdict):
    decision = hand_over(waiting(), verdict, 20)
    assert (triggers(decision), decision.payment.undelivered) == (["observe"], False)
    assert decision.payment.reason == "hand_over_unconfirmed"
    assert hand_over(decision.payment, verdict, 21).quiet
    assert look(decision.payment, running(), 21).quiet


def test_an_acknowledged_hand_over_is_an_entry_and_clears_a_lapse():
    decision = hand_over(hand_over(waiting(), NOT_SENT, 20).payment, ANSWERED, 21)
    after = decision.payment
    assert (triggers(decision), after.acknowledged_at, after.undelivered) == (["acknowledge"], at(21), False)
    assert all(hand_over(after, verdict, 22).quiet for verdict in (ANSWERED, NOT_SENT, UNKNOWN))


@pytest.mark.parametrize(
    "payment", [born(), authorized(), waiting(Channel.DIGITAL), completed(), declined(), watched()]
)
@pytest.mark.parametrize("verdict", [ANSWERED, NOT_SENT, UNKNOWN])
def test_a_hand_over_that_is_over_changes_nothing(payment, verdict):
    assert hand_over(payment, verdict).payment == payment


def test_a_publication_that_lost_its_race_is_no_acknowledgement():
    assert hand_over(waiting(), replace(ANSWERED, reason="published"), 2).quiet


# ---- evidence


@pytest.mark.parametrize("channel", BOTH)
def test_evidence_of_a_positive_result_completes(channel):
    decision = written_once(waiting(channel), paid())
    after = decision.payment
    assert (triggers(decision), after.state, after.outcome) == (["complete"], State.COMPLETED, Outcome.PAID)
    assert (after.money, after.reason, after.due_at) == (MoneyFact.TAKEN, "paid", None)
    assert (after.session_state, after.codes, events(decision)) == ("Finished", {"result": "0"}, ["completed"])
    assert (last(decision)["url"], last(decision)["status"]) == (says(paid()).exchange.url, 200)


def test_an_answer_without_an_amount_completes_as_unconfirmed():
    assert written_once(waiting(), paid(amount_minor=None)).payment.reason == "amount_unconfirmed"


def test_evidence_releases_whatever_was_in_doubt():
    for payment in (held(waiting(), HoldReason.INDETERMINATE), look(waiting(), ABSENT, 100).payment):
        decision = written_once(payment, paid(), 101)
        assert (triggers(decision), decision.payment.hold) == (["release", "complete"], None)
    early = look(refused_number(), paid())
    assert triggers(early) == ["release", "hand_over", "complete"]
    assert events(early) == ["completed"], "nobody is told to transfer a call any more"


@pytest.mark.parametrize("outcome", ENDS)
def test_the_providers_word_fails_with_its_outcome(outcome):
    decision = written_once(waiting(), ended(outcome, codes={"result": "51"}))
    after = decision.payment
    assert (triggers(decision), after.state, after.outcome) == (["fail"], State.FAILED, outcome)
    assert (after.money, after.codes, after.watch_until) == (MoneyFact.NONE, {"result": "51"}, None)
    assert events(decision) == ["failed"]


@pytest.mark.parametrize(
    ("seen", "hold", "money"),
    [
        (PARTIAL, HoldReason.PARTIALLY_PAID, MoneyFact.PARTIAL),
        (REVIEW, HoldReason.REVIEW, MoneyFact.UNKNOWN),
        (VAGUE, HoldReason.INDETERMINATE, MoneyFact.UNKNOWN),
    ],
)
@pytest.mark.parametrize("channel", BOTH)
def test_an_end_that_a_person_must_judge_holds(channel, seen, hold, money):
    decision = written_once(waiting(channel), seen)
    after = decision.payment
    assert (triggers(decision), after.state, after.hold) == (["hold"], State.AWAITING_PAYMENT, hold)
    assert (after.money, after.outcome, events(decision)) == (money, seen.outcome, ["held"])
    assert after.due_at == at(10) + POLICIES[channel].poll_after(0)
    other = look(after, replace(seen, codes={"result": "other"}), 11)
    assert other.payment.codes == {"result": "other"}, "other codes are other evidence"
    assert look(after, seen, LIFE[channel]).payment.due_at is None, "polls are bounded"
    assert look(after, seen, 12, looks=50).payment.due_at == at(12) + POLICIES[channel].poll_after(50)


MISMATCHES = [
    ("session", paid(session_id=OTHER_SESSION.id)),
    ("reference", paid(reference="INV-2")),
    ("currency", paid(currency="EUR")),
    ("amount", paid(amount_minor=1239)),
    ("amount", paid(amount_minor=1241)),
    ("amount", replace(PARTIAL, amount_minor=1250)),
    ("reference", ended(Outcome.DECLINED, reference="INV-2")),
]


@pytest.mark.parametrize(("wrong", "seen"), MISMATCHES)
def test_an_answer_about_something_else_holds(wrong, seen):
    decision = written_once(waiting(), seen)
    after = decision.payment
    assert (triggers(decision), after.state, after.hold) == (
        ["hold"], State.AWAITING_PAYMENT, HoldReason.ANSWER_MISMATCH,
    )  # fmt: skip
    assert (after.reason, after.money) == (f"other_{wrong}", MoneyFact.UNKNOWN)
    assert look(after, paid(), 11).payment.state is State.COMPLETED, "the right answer settles it"
    settled = look(after, ended(Outcome.DECLINED), 11).payment
    assert (settled.state, settled.money) == (State.FAILED, MoneyFact.NONE)
    assert look(after, running(), LIFE[Channel.PHONE]).payment.state is State.AWAITING_PAYMENT, "no failure from doubt"


def test_a_running_session_of_another_reference_holds_before_any_money_is_in_doubt():
    payment = written_once(waiting(), running(reference="INV-2")).payment
    assert (payment.hold, payment.money) == (HoldReason.ANSWER_MISMATCH, MoneyFact.NONE)
    then = written_once(payment, paid(reference="INV-2"), 11).payment
    assert then.money is MoneyFact.UNKNOWN


@pytest.mark.parametrize(
    "seen",
    [
        paid(session_id=SESSION.id.upper()),
        paid(session_id=None, reference=None, currency=None),
        running(amount_minor=7),
    ],
)
def test_letter_case_absence_and_a_running_amount_are_no_mismatch(seen):
    assert look(waiting(), seen).payment.hold is None


def test_a_partial_payment_is_not_failed_by_what_is_said_later():
    payment = look(waiting(), PARTIAL).payment
    for seen, seconds in ((ended(Outcome.DECLINED), 11), (running(), HOUR)):
        decision = written_once(payment, seen, seconds)
        after = decision.payment
        assert (after.state, after.hold) == (State.AWAITING_PAYMENT, HoldReason.PARTIALLY_PAID)
        assert (after.money, after.reason) == (MoneyFact.PARTIAL, "money_in_doubt")
    unheld = replace(payment, hold=None, held_at=None)
    assert look(unheld, ended(Outcome.DECLINED), 11).payment.hold is HoldReason.INDETERMINATE


# ---- a session that nobody saw


@pytest.mark.parametrize("outcome", ENDS)
def test_an_end_without_the_payer_holds_while_another_session_may_be_paid(outcome):
    decision = written_once(waiting_with_unseen(), ended(outcome), 60)
    if outcome in WITHOUT_PAYER:
        assert (decision.payment.hold, decision.payment.outcome) == (HoldReason.UNSEEN_SESSION, outcome)
        assert decision.payment.due_at == at(HOUR)
    else:
        assert (decision.payment.state, decision.payment.outcome) == (State.FAILED, outcome)
    late = written_once(waiting_with_unseen(), ended(outcome), HOUR)
    assert (late.payment.state, late.payment.hold) == (State.FAILED, None)


def test_a_payment_that_waits_for_an_unseen_session_still_takes_evidence():
    payment = look(waiting_with_unseen(), ended(Outcome.INPUT_TIMEOUT), 60).payment
    assert look(payment, paid(), 61).payment.state is State.COMPLETED
    assert look(payment, ABSENT, 61).payment.due_at == at(HOUR)
    assert look(payment, INVALID, 61).payment.due_at == at(HOUR)


# ---- after the end


@pytest.mark.parametrize(
    ("payment", "seen", "money"),
    [
        (declined(), paid(), MoneyFact.TAKEN),
        (watched(), paid(), MoneyFact.TAKEN),
        (declined(), PARTIAL, MoneyFact.PARTIAL),
        (declined(), REVIEW, MoneyFact.UNKNOWN),
        (watched(), VAGUE, MoneyFact.UNKNOWN),
        (declined(), paid(reference="INV-2"), MoneyFact.UNKNOWN),
        (watched(), ended(Outcome.DECLINED, session_id="x"), MoneyFact.UNKNOWN),
        (completed(), ended(Outcome.DECLINED, codes={"result": "51"}), MoneyFact.NONE),
        (completed(), PARTIAL, MoneyFact.PARTIAL),
        (look(waiting(), paid(amount_minor=None)).payment, paid(amount_minor=1000), MoneyFact.UNKNOWN),
    ],
)
def test_late_money_never_changes_the_state_but_holds_and_tells_the_host(payment, seen, money):
    decision = written_once(payment, seen, 100)
    after = decision.payment
    assert (triggers(decision), events(decision)) == (["late_result", "hold"], ["money_changed", "held"])
    assert (after.state, after.outcome, after.money) == (payment.state, payment.outcome, money)
    assert (after.hold, after.due_at, after.watch_until) == (HoldReason.LATE_MONEY, None, None)
    assert json.loads(decision.entries[0].body)["late_outcome"] == seen.outcome.value


def test_late_evidence_without_money_is_kept_and_ends_the_watch():
    for payment in (watched(), declined()):
        decision = written_once(payment, ended(Outcome.HUNG_UP, codes={"result": "9"}), 100)
        after = decision.payment
        assert (triggers(decision), events(decision)) == (["late_result"], [])
        assert (after.money, after.hold, after.watch_until, after.due_at) == (MoneyFact.NONE, None, None, None)
    found = look(declined(), paid(), 100).payment
    assert look(found, ended(Outcome.HUNG_UP), 101).payment.money is MoneyFact.TAKEN, "money once seen stays"


def test_a_watch_goes_on_until_the_sessions_life_is_over():
    payment, life = watched(), LIFE[Channel.DIGITAL]
    for seen in (running(), UNKNOWN, INVALID, NOT_SENT):
        decision = look(payment, seen, 100)
        assert decision.quiet
        assert at(100) < decision.payment.due_at <= at(130)
    assert look(payment, running(), life - 1, looks=50).payment.due_at == at(life)
    over = written_once(payment, running(), life)
    assert (triggers(over), over.payment.reason, over.payment.watch_until) == (["late_result"], "watch_over", None)
    assert (over.payment.due_at, over.payment.money) == (None, MoneyFact.NONE)


@pytest.mark.parametrize(
    ("verdict", "seconds", "reason"),
    [
        (ABSENT, 100, "session_absent"),
        (UNKNOWN, LIFE[Channel.DIGITAL], "silence"),
        (INVALID, LIFE[Channel.DIGITAL], "status_refused"),
    ],
)
def test_a_watch_that_ends_in_silence_says_that_the_money_is_unknown(verdict, seconds, reason):
    decision = written_once(watched(), verdict, seconds)
    after = decision.payment
    assert (triggers(decision), events(decision)) == (["late_result", "hold"], ["money_changed", "held"])
    assert (after.state, after.money, after.due_at) == (State.FAILED, MoneyFact.UNKNOWN, None)
    assert json.loads(decision.entries[0].body)["facts"]["reason"] == reason


@pytest.mark.parametrize("payment", [declined(), completed()])
@pytest.mark.parametrize("seen", [running(), Observation(None), ABSENT, INVALID, UNKNOWN, NOT_SENT, ANSWERED])
def test_an_ended_payment_that_nobody_watches_learns_nothing_from_less_than_evidence(payment, seen):
    assert look(payment, seen, 10**6).payment == payment


def test_a_session_that_came_after_the_end_is_looked_at():
    lost = start(declined(), replace(ANSWERED, session=OTHER_SESSION), 30, attempt=1).payment
    assert look(lost, paid(session_id=OTHER_SESSION.id), 40).payment.hold is HoldReason.LATE_MONEY


def test_a_held_payment_keeps_the_reason_that_it_is_held_for_and_so_its_own_session_in_sight():
    """The reason says whether the own session is over; a simulation found it overwritten by `overdue`."""
    held_running = look(cancelled(waiting_with_unseen()), running(), 60).payment
    assert (held_running.hold, held_running.reason) == (HoldReason.UNSEEN_SESSION, "cancelled")
    overdue = look(held_running, running(), 16 * 60).payment
    odd = look(overdue, running("Odd", known=False), 17 * 60).payment
    assert (odd.overdue, odd.session_state, odd.reason) == (True, "Odd", "cancelled")
    assert still_runs(odd)
    assert not still_runs(look(waiting_with_unseen(), ended(Outcome.EXPIRED), 60).payment)

    over = lapsed(odd, "unseen_session_over", ctx(HOUR))
    assert (over.payment.state, over.payment.due_at) == (State.AWAITING_PAYMENT, at(HOUR)), "a look decides"
    word = Resolution("j.doe", "seen at the provider", session=OTHER_SESSION.id)
    named = settle(odd, word, ctx(18 * 60), POLICIES[Channel.PHONE]).payment
    assert named.unseen_until is not None, "the session that was looked at before may still be paid"
