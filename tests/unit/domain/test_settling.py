import json
from dataclasses import replace
from itertools import product

import pytest

from orchestrator.domain.asking import cancel
from orchestrator.domain.decision import Walk
from orchestrator.domain.errors import Conflict, InvalidInput
from orchestrator.domain.looking import after_query
from orchestrator.domain.machine import Operation
from orchestrator.domain.operation import Next, lapse, plan
from orchestrator.domain.outcome import HOLDING, MONEY_OF, MoneyFact, Outcome
from orchestrator.domain.payment import Channel, HoldReason, State
from orchestrator.domain.policy import PHONE
from orchestrator.domain.restoring import restored
from orchestrator.domain.settling import (
    FITS,
    OUTCOMES,
    Kind,
    Resolution,
    checked_session,
    fitting,
    repeats,
    settle,
    standing_proposal,
)
from orchestrator.domain.starting import intend
from tests.unit.domain.story import (
    ABSENT,
    BOTH,
    DIALLED,
    LIFE,
    NOT_SENT,
    OPENED,
    OTHER_SESSION,
    POLICIES,
    SESSION,
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
    requested,
    running,
    says,
    start,
    superseded,
    waiting,
    waiting_with_unseen,
    watched,
)

RETRY, OUTCOME, SESSION_ = Kind.RETRY, Kind.OUTCOME, Kind.SESSION
PHONE_, DIGITAL_ = Channel.PHONE, Channel.DIGITAL


def said(outcome=None, *, retry=False, session=None, person="ada", reason="asked the gateway"):
    return Resolution(person, reason, outcome, retry, session)


def resolved(payment, word, seconds=100, policy=None, proposal=None):
    context = replace(ctx(seconds), actor=word.person)
    return settle(payment, word, context, policy or POLICIES[payment.channel], proposal)


def triggers(decision):
    return [entry.trigger for entry in decision.entries]


def body(decision, index=0):
    return json.loads(decision.entries[index].body)


def unseen_over():
    """Held: the second session ended without a payer, and the first was never seen."""
    return look(waiting_with_unseen(), ended(Outcome.NOT_ATTEMPTED)).payment


def late():
    """Failed for the host at 10 s, proven paid at 20 s."""
    return look(watched(), paid(), 20).payment


def indeterminate():
    return look(waiting(), ABSENT, 70).payment


def mismatch():
    return look(waiting(), paid(reference="INV-2")).payment


def partial():
    return look(waiting(), ended(Outcome.PARTIALLY_PAID, amount_minor=1000)).payment


def review():
    return look(waiting(), ended(Outcome.REVIEW)).payment


HELD = {
    "digital start unknown": doubted(),
    "phone start unknown": doubted(PHONE_),
    "restored while collecting": restored(born(DIGITAL_, ["x"]), ctx(3), 288_000).payment,
    "restored when authorized": restored(authorized(DIGITAL_), ctx(3), 288_000).payment,
    "restored while waiting": restored(waiting(), ctx(3), 288_000).payment,
    "unseen, no session seen": held(superseded(), HoldReason.UNSEEN_SESSION),
    "unseen, the seen one over": unseen_over(),
    "number": refused_number(),
    "mismatch": mismatch(),
    "partial": partial(),
    "review": review(),
    "indeterminate": indeterminate(),
    "late money": late(),
    "poison in collecting": held(born(), HoldReason.POISON),
    "poison lacking fields": held(born(missing=["x"]), HoldReason.POISON),
    "poison when authorized": held(authorized(), HoldReason.POISON),
    "poison while waiting": held(waiting(), HoldReason.POISON),
    "poison, cancelled": cancelled(held(waiting(), HoldReason.POISON)),
}
UNHELD = [born(), authorized(), requested(), superseded(), waiting(), completed(), declined(), watched()]
WORDS = [
    said(outcome, retry=retry, session=session)
    for outcome, retry, session in product([None, *Outcome], [False, True], [None, "S9", SESSION.id.lower()])
]
EVERY_HOLD = {
    "every state and hold": [
        Walk(payment, ctx(5)).hold(hold).due(None).payment
        for payment in (*UNHELD, waiting_with_unseen(), refused_number(), cancelled(waiting()))
        for hold in HoldReason
    ]
}  # fmt: skip


def test_every_hold_has_its_words_and_they_fit_the_held():
    assert set(FITS) == set(HoldReason) == {payment.hold for payment in HELD.values()}
    assert all(meanings for meanings in FITS.values())
    assert set(OUTCOMES) == set(Outcome) - {Outcome.REVIEW, Outcome.INDETERMINATE}


@pytest.mark.parametrize("payment", [*HELD.values(), *EVERY_HOLD["every state and hold"], *UNHELD])
def test_every_word_on_every_payment_is_taken_or_refused_in_words(payment):
    """Never a defect of the machine; and what is taken does what was said and nothing else."""
    for word in WORDS:
        try:
            decision = resolved(payment, word)
        except InvalidInput as refusal:
            refused = refusal
            told = str(refused)
        else:
            after = decision.payment
            assert decision.entries[0].trigger == "release"
            assert decision.entries[0].actor == "ada"
            assert word.kind in fitting(payment)
            assert (after.hold is None) or (after.hold is HoldReason.NUMBER_NOT_ALLOWED and word.retry)
            assert after.ended is (payment.ended or word.outcome is not None)
            assert after.state is payment.state or not payment.ended
            assert after.outcome is word.outcome or word.outcome is None or payment.ended
            assert (after.ended and after.watch_until is None) or after.due_at is not None
            continue
        assert told.startswith(("payment: ", "outcome: ", "retry: ", "session: ", "resolution: "))


@pytest.mark.parametrize(
    ("payment", "word", "steps", "state", "outcome", "money"),
    [
        ("review", said(Outcome.PAID), ["release", "complete"], "completed", "paid", "taken"),
        ("indeterminate", said(Outcome.PAID), ["release", "complete"], "completed", "paid", "taken"),
        ("indeterminate", said(Outcome.DECLINED), ["release", "fail"], "failed", "declined", "none"),
        ("partial", said(Outcome.PARTIALLY_PAID), ["release", "fail"], "failed", "partially_paid", "partial"),
        ("partial", said(Outcome.PAID), ["release", "complete"], "completed", "paid", "taken"),
        ("mismatch", said(Outcome.EXPIRED), ["release", "fail"], "failed", "expired", "none"),
        ("unseen, the seen one over", said(Outcome.NOT_ATTEMPTED), ["release", "fail"], "failed", "not_attempted",
         "none"),
        ("number", said(Outcome.PAID), ["release", "hand_over", "complete"], "completed", "paid", "taken"),
        ("digital start unknown", said(Outcome.NOT_ATTEMPTED), ["release", "fail"], "failed", "not_attempted", "none"),
        ("digital start unknown", said(Outcome.PAID, session="S9"),
         ["release", "start_session", "hand_over", "complete"], "completed", "paid", "taken"),
        ("digital start unknown", said(Outcome.DECLINED, session="S9"),
         ["release", "start_session", "hand_over", "fail"], "failed", "declined", "none"),
        ("restored while collecting", said(Outcome.PAID, session="S9"),
         ["release", "authorize", "start_session", "hand_over", "complete"], "completed", "paid", "taken"),
        ("unseen, the seen one over", said(Outcome.PAID, session="S9"), ["release", "complete"], "completed", "paid",
         "taken"),
        ("poison in collecting", said(Outcome.ABANDONED), ["release", "fail"], "failed", "abandoned", "none"),
    ],
)  # fmt: skip
def test_an_outcome_ends_the_payment_as_the_person_says(*, payment, word, steps, state, outcome, money):
    decision = resolved(HELD[payment], word)
    after = decision.payment
    assert (triggers(decision), after.state, after.outcome, after.money) == (steps, state, outcome, money)
    assert [notice.event for notice in decision.notices][-1] == ("completed" if state == "completed" else "failed")
    assert "handed_over" not in [notice.event for notice in decision.notices]
    assert (after.hold, after.unseen_until, after.reason) == (None, None, "resolved_by_person")
    told = body(decision)
    assert (told["persons"], told["why"], told["resolved"]) == (["ada"], "asked the gateway", HELD[payment].hold)
    assert told["resolution"] == word.choice
    assert body(decision, -1)["resolution"]["outcome"] == outcome


@pytest.mark.parametrize(
    ("payment", "watched_on"),
    [
        (refused_number(), True),
        (held(waiting(), HoldReason.POISON), True),
        (restored(waiting(), ctx(3), 288_000).payment, True),
        (cancel(restored(waiting(), ctx(3), 288_000).payment, ctx(4), reason="", hung_up=True).payment, True),
        (review(), False),
        (indeterminate(), False),
        (mismatch(), False),
        (unseen_over(), False),
    ],
)
def test_a_session_that_may_still_be_paid_stays_watched(payment, watched_on):
    after = resolved(payment, said(Outcome.CANCELLED_BY_PAYER)).payment
    assert after.watch_until == (at(LIFE[PHONE_]) if watched_on else None)
    assert (after.due_at is not None) is watched_on
    if watched_on:
        proven = look(after, paid(), 110).payment
        assert (proven.state, proven.money, proven.hold) == ("failed", MoneyFact.TAKEN, HoldReason.LATE_MONEY)
    over = resolved(payment, said(Outcome.CANCELLED_BY_PAYER), 3601).payment
    assert over.watch_until is None


def test_a_retry_without_a_session_starts_anew_with_a_fresh_deadline():
    decision = resolved(HELD["digital start unknown"], said(retry=True), 5000)
    after = decision.payment
    assert (triggers(decision), after.state, after.due_at) == (["release"], State.AUTHORIZED, at(5000))
    assert (after.unseen_until, after.deadline_at, after.failures) == (None, at(5600), 0)
    assert plan(after, at(5000), POLICIES[DIGITAL_]).operation is Operation.START_SESSION
    again = start(intend(after, ctx(5000), request_digest="r2").payment, replace(OPENED, session=OTHER_SESSION), 5001)
    assert (again.payment.session_id, again.payment.sessions) == (OTHER_SESSION.id, 2)


def test_sessions_go_on_counting_after_a_retry_so_that_the_next_doubt_holds_at_once():
    phone = resolved(doubted(PHONE_), said(retry=True), 5000, policy=replace(DIALLED, max_sessions=2)).payment
    requested_again = intend(phone, ctx(5000), request_digest="r2").payment
    unknown = start(requested_again, UNKNOWN, 5001, policy=replace(DIALLED, max_sessions=2))
    assert (unknown.payment.sessions, unknown.payment.hold) == (2, HoldReason.SESSION_UNKNOWN)


@pytest.mark.parametrize(
    ("payment", "due", "then"),
    [
        ("restored while collecting", 100 + 1800, Next.WAIT),
        ("poison lacking fields", 100 + 1800, Next.WAIT),
        ("poison in collecting", 100, Next.SEND),
        ("poison while waiting", 100, Next.SEND),
        ("poison, cancelled", 100, Next.SEND),
        ("unseen, no session seen", 100, Next.SEND),
        ("unseen, the seen one over", 100, Next.SEND),
        ("review", 100, Next.SEND),
        ("mismatch", 100, Next.SEND),
        ("indeterminate", 100, Next.SEND),
    ],
)
def test_a_retry_lets_the_payment_go_on(payment, due, then):
    after = resolved(HELD[payment], said(retry=True)).payment
    assert (after.hold, after.due_at) == (None, at(due))
    assert plan(after, at(100), POLICIES[after.channel]).next is then


def test_a_look_after_a_retry_holds_again_while_nothing_new_is_known():
    for payment in (partial(), review()):
        again = resolved(payment, said(retry=True)).payment
        answer = ended(payment.outcome, amount_minor=1000 if payment.hold is HoldReason.PARTIALLY_PAID else None)
        assert look(again, answer, 101).payment.hold is payment.hold
    again = resolved(indeterminate(), said(retry=True)).payment
    assert look(again, ABSENT, 101).payment.hold is HoldReason.INDETERMINATE
    assert look(again, ended(Outcome.DECLINED), 101).payment.outcome is Outcome.DECLINED
    assert look(again, paid(), 101).payment.state is State.COMPLETED


def test_without_the_unseen_session_the_end_of_the_seen_one_counts():
    after = resolved(unseen_over(), said(retry=True)).payment
    failed = look(after, ended(Outcome.NOT_ATTEMPTED), 101).payment
    assert (failed.state, failed.outcome) == (State.FAILED, Outcome.NOT_ATTEMPTED)


def test_a_number_is_handed_over_under_the_prefixes_of_today():
    with pytest.raises(InvalidInput, match="dial_prefixes") as refusal:
        resolved(refused_number(), said(retry=True), policy=PHONE)
    assert refusal.value.field == "retry"
    decision = resolved(refused_number(), said(retry=True))
    assert (triggers(decision), decision.payment.state) == (["release", "hand_over"], State.AWAITING_PAYMENT)
    assert [(notice.event, notice.expires_at) for notice in decision.notices] == [("handed_over", at(120))]
    wished = resolved(cancelled(refused_number()), said(retry=True), policy=PHONE).payment
    assert look(wished, running(), 101).payment.outcome is Outcome.CANCELLED_BY_HOST


def test_an_older_doubt_about_the_number_is_not_resolved_by_a_word_on_another():
    unread = look(refused_number(), paid(reference="INV-2")).payment
    decision = resolved(unread, said(retry=True), policy=PHONE)
    assert (triggers(decision), decision.payment.hold) == (["release", "hold"], HoldReason.NUMBER_NOT_ALLOWED)


@pytest.mark.parametrize(
    ("payment", "steps", "notices"),
    [
        ("digital start unknown", ["release", "start_session", "hand_over"], ["link_sent"]),
        ("phone start unknown", ["release", "start_session", "hand_over"], []),
        ("restored while collecting", ["release", "authorize", "start_session", "hand_over"], ["link_sent"]),
        ("restored when authorized", ["release", "start_session", "hand_over"], ["link_sent"]),
        ("unseen, no session seen", ["release", "start_session", "hand_over"], []),
        ("unseen, the seen one over", ["release"], []),
    ],
)
def test_a_named_session_is_adopted_and_looked_at_now(payment, steps, notices):
    decision = resolved(HELD[payment], said(session="S9"))
    after = decision.payment
    assert (triggers(decision), [notice.event for notice in decision.notices]) == (steps, notices)
    assert (after.state, after.session_id, after.session_at) == (State.AWAITING_PAYMENT, "S9", at(100))
    assert (after.unseen_until, after.due_at, after.outcome, after.missing) == (None, at(100), None, ())
    assert (after.sessions >= 1, after.hand_over_until if after.channel is DIGITAL_ else None) == (True, None)
    assert plan(after, at(100), POLICIES[after.channel]).operation is Operation.QUERY_STATUS
    done = look(after, paid(session_id="s9"), 101).payment
    assert (done.state, done.money) == (State.COMPLETED, MoneyFact.TAKEN)


def test_other_sessions_that_nobody_saw_stay_in_doubt_after_one_was_named():
    twice = start(intend(superseded(), ctx(1), request_digest="r2").payment, UNKNOWN, 2,
                  policy=replace(DIALLED, max_sessions=2)).payment  # fmt: skip
    assert (twice.hold, twice.sessions) == (HoldReason.SESSION_UNKNOWN, 2)
    assert resolved(twice, said(session="S9")).payment.unseen_until == twice.unseen_until


def test_a_seen_session_that_still_runs_stays_in_doubt_when_another_is_named():
    lapsed = look(hand_over(waiting_with_unseen(), NOT_SENT, 21).payment, running(), 22).payment
    assert (lapsed.hold, lapsed.reason) == (HoldReason.UNSEEN_SESSION, "hand_over_lapsed")
    assert resolved(lapsed, said(session="S9")).payment.unseen_until == at(3600)


@pytest.mark.parametrize(
    ("payment", "outcome", "money", "told"),
    [
        (late(), Outcome.PAID, MoneyFact.TAKEN, []),
        (late(), Outcome.CANCELLED_BY_HOST, MoneyFact.NONE, ["money_changed"]),
        (late(), Outcome.PARTIALLY_PAID, MoneyFact.PARTIAL, ["money_changed"]),
        (held(completed(), HoldReason.LATE_MONEY), Outcome.DECLINED, MoneyFact.NONE, ["money_changed"]),
    ],
)
def test_after_the_end_a_word_corrects_the_money_and_never_the_state(payment, outcome, money, told):
    decision = resolved(payment, said(outcome))
    after = decision.payment
    assert (triggers(decision), after.state, after.outcome) == (["release"], payment.state, payment.outcome)
    assert (after.money, after.hold, [notice.event for notice in decision.notices]) == (money, None, told)


REFUSED = {
    "not held": (waiting(), said(retry=True), "payment", "not held"),
    "ended": (completed(), said(Outcome.PAID), "payment", "has ended"),
    "ended and watched": (watched(), said(retry=True), "payment", "has ended"),
    "a start in flight": (held(requested(), HoldReason.POISON), said(retry=True), "payment", "in flight"),
    "no word": (doubted(), said(), "resolution", "one of its kinds"),
    "two words": (doubted(), said(retry=True, session="S9"), "resolution", "--retry"),
    "an outcome and a retry": (doubted(), said(Outcome.PAID, retry=True), "outcome", "no retry"),
    "a doubt for an outcome": (doubted(), said(Outcome.INDETERMINATE), "outcome", "doubt"),
    "another doubt": (review(), said(Outcome.REVIEW), "outcome", "doubt"),
    "money without a session": (doubted(), said(Outcome.PAID), "session", "missing"),
    "part of it without a session": (doubted(), said(Outcome.PARTIALLY_PAID), "session", "missing"),
    "a session where one is": (review(), said(session="S9"), "session", "--outcome"),
    "a session beside an outcome": (review(), said(Outcome.PAID, session="S9"), "session", "--retry"),
    "the session that it has": (unseen_over(), said(session=SESSION.id.lower()), "session", "already"),
    "going on after the end": (late(), said(retry=True), "retry", "--outcome"),
    "no person": (doubted(), said(retry=True, person=" "), "person", "name who"),
    "no reason": (doubted(), said(retry=True, reason=" "), "reason", "say why"),
}


@pytest.mark.parametrize("row", REFUSED)
def test_a_wrong_word_is_refused_with_field_and_fix(row):
    payment, word, field, text = REFUSED[row]
    with pytest.raises(InvalidInput) as refusal:
        resolved(payment, word)
    assert refusal.value.field == field
    assert text in str(refusal.value)
    assert isinstance(refusal.value, Conflict) is (field == "payment")


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "a b", "a?b", "é", "-x", "s" * 129, "%2e"])
def test_what_can_not_be_an_id_of_a_session_is_refused(bad):
    with pytest.raises(InvalidInput) as refusal:
        checked_session(bad)
    assert refusal.value.field == "session"


def test_ids_as_providers_write_them_are_taken():
    for good in (SESSION.id, "{5E551011-AAAA}", "a:b_c.d", "7"):
        assert checked_session(good) == good


class Chain:
    """A held payment under the rule of two persons, with its entries."""

    def __init__(self, payment):
        self.policy = replace(POLICIES[payment.channel], resolve_persons=2)
        self.payment, self.entries = payment, []

    def says(self, word):
        return self.takes(resolved(self.payment, word, 100, self.policy, standing_proposal(self.entries)))

    def takes(self, decision):
        self.payment = decision.payment
        self.entries.extend(decision.entries)
        return decision


@pytest.mark.parametrize("payment", [doubted(), review(), late(), refused_number(), unseen_over()])
def test_the_first_of_two_persons_proposes_and_the_second_releases(payment):
    chain, word = Chain(payment), said(Outcome.DECLINED)
    first = chain.says(word)
    assert (triggers(first), first.notices, body(first)["event"]) == (["hold"], (), "resolution_proposed")
    kept = replace(payment, version=first.payment.version, head=first.payment.head)
    assert first.payment == replace(kept, progress_claim=payment.claim_no), "a proposal changes nothing"
    second = chain.says(replace(word, person="bo", reason="saw it too"))
    assert triggers(second)[0] == "release"
    assert body(second)["persons"] == ["ada", "bo"]
    assert chain.payment.hold is None


def test_another_second_proposal_replaces_the_first():
    chain = Chain(doubted())
    chain.says(said(Outcome.DECLINED))
    assert triggers(chain.says(said(Outcome.EXPIRED, person="bo"))) == ["hold"]
    assert standing_proposal(chain.entries).person == "bo"
    assert triggers(chain.says(said(Outcome.DECLINED, person="bo"))) == ["hold"], "bo thinks again"
    assert triggers(chain.says(said(Outcome.DECLINED))) == ["release", "fail"]


@pytest.mark.parametrize("person", ["ada", "ADA", " Ada "])
def test_one_person_is_never_two(person):
    chain = Chain(doubted())
    chain.says(said(Outcome.DECLINED))
    word = said(Outcome.DECLINED, person=person, reason="I am sure")
    assert repeats(chain.payment, word, chain.policy, standing_proposal(chain.entries))
    with pytest.raises(Conflict, match="second person") as refusal:
        chain.says(word)
    assert refusal.value.field == "person"
    assert not repeats(chain.payment, word, POLICIES[DIGITAL_], standing_proposal(chain.entries)), "one is enough"


def test_a_proposal_stands_through_silent_facts_and_falls_with_new_doubt():
    chain = Chain(restored(waiting(), ctx(3), 288_000).payment)
    chain.says(said(Outcome.DECLINED))
    chain.takes(cancel(chain.payment, ctx(101), reason=""))
    chain.takes(look(chain.payment, running("Odd", known=False), 102))
    assert [entry.trigger for entry in chain.entries] == ["hold", "cancel", "observe"]
    assert standing_proposal(chain.entries).choice == {"kind": "outcome", "outcome": "declined"}
    chain.takes(look(chain.payment, ended(Outcome.REVIEW), 103))
    assert (chain.payment.hold, standing_proposal(chain.entries)) == (HoldReason.REVIEW, None)
    chain.says(said(Outcome.DECLINED))
    chain.says(said(Outcome.DECLINED, person="bo"))
    assert standing_proposal(chain.entries) is None
    assert standing_proposal([]) is None


def test_the_answer_that_proves_an_outcome_releases_every_hold_by_itself():
    sessions = [payment for payment in HELD.values() if payment.session_id is not None and not payment.ended]
    assert {payment.hold for payment in sessions} == set(HoldReason) - {
        HoldReason.SESSION_UNKNOWN, HoldReason.LATE_MONEY
    }  # fmt: skip
    for payment in sessions:
        decision = after_query(payment, says(paid()), ctx(100), POLICIES[payment.channel])
        assert (triggers(decision)[0], triggers(decision)[-1]) == ("release", "complete")
        assert (decision.payment.state, decision.payment.hold) == (State.COMPLETED, None)


@pytest.mark.parametrize("channel", BOTH)
def test_a_held_payment_is_looked_at_as_long_as_its_session_can_live(channel):
    """But where the provider has said that it is over, or that it knows nothing of it."""
    for hold, seconds in product(HoldReason, (5, LIFE[channel] - 1)):
        payment = replace(held(waiting(channel), hold), due_at=at(5), unseen_until=None)
        assert plan(payment, at(seconds), POLICIES[channel]).operation is Operation.QUERY_STATUS
        seen = look(payment, running(), seconds).payment
        assert at(seconds) < seen.due_at <= at(LIFE[channel])
        assert look(payment, UNKNOWN, seconds).payment.due_at is not None


def test_poison_is_looked_at_until_looks_take_workers_down_as_well():
    policy = replace(DIALLED, max_claims=3)
    poisoned = replace(held(waiting(), HoldReason.POISON), due_at=at(9), claim_no=4, progress_claim=0)
    assert lapse(poisoned, at(9), policy) == "poison"
    assert lapse(replace(poisoned, progress_claim=1), at(9), policy) == ""
    assert lapse(replace(poisoned, due_at=None), at(9), policy) == ""


def test_the_money_of_a_word_is_the_money_of_its_outcome():
    for outcome in OUTCOMES:
        after = resolved(review(), said(outcome)).payment
        assert after.money is MONEY_OF.get(outcome, MoneyFact.NONE)
    assert not set(OUTCOMES) & (HOLDING - {Outcome.PARTIALLY_PAID})
