"""What a rescue makes due though it has nothing to do, and what a record from outside leaves of a claim."""

from dataclasses import replace

import pytest

from orchestrator.domain import asking
from orchestrator.domain.decide import lapsed
from orchestrator.domain.looking import after_query
from orchestrator.domain.operation import Next, plan
from orchestrator.domain.outcome import MoneyFact, Outcome
from orchestrator.domain.payment import Channel, HoldReason
from orchestrator.domain.starting import intend
from orchestrator.domain.verdict import Verdict, VerdictKind
from orchestrator.records import Record
from tests.unit.audit.tales import intended, new, watched
from tests.unit.domain.story import HOUR, POLICIES, UNKNOWN, at, ctx, ended, held, look, start, waiting

PHONE, DIGITAL = Channel.PHONE, Channel.DIGITAL


@pytest.mark.parametrize(
    ("payment", "expected"),
    [
        (waiting(), at(1)),
        (replace(waiting(), due_at=at(50)), at(50)),
        (replace(waiting(), due_at=None), None),
        (replace(held(waiting(), HoldReason.REVIEW), session_id=None, due_at=at(5)), None),
        (replace(new(missing=("CallGuid",)).payment, due_at=at(5)), at(1800)),
        (replace(intended(DIGITAL).tell(start, UNKNOWN).payment, due_at=at(5)), None),
    ],
    ids=["a look", "not due", "never due", "held", "fields are missing", "by policy a person must settle it"],
)
def test_a_payment_that_waits_wakes_when_something_can_be_done(payment, expected):
    now = at(0.5) if payment.due_at == at(1) else at(10)

    planned = plan(payment, now, POLICIES[payment.channel])

    assert (planned.next, planned.again_at) == (Next.WAIT, expected)


def test_a_rescued_hold_waits_for_the_end_of_the_unseen_session_and_is_not_planned_without_pause():
    payment = replace(
        held(replace(waiting(), session_id=None, unseen_until=at(HOUR)), HoldReason.UNSEEN_SESSION), due_at=at(5)
    )  # fmt: skip
    planned = plan(payment, at(10), POLICIES[PHONE])

    assert (planned.next, planned.again_at) == (Next.WAIT, at(HOUR))
    assert plan(payment, at(HOUR), POLICIES[PHONE]).next is Next.LAPSE


def test_a_watched_payment_that_takes_its_workers_down_is_held_as_well():
    payment = replace(watched().payment, claim_no=99)

    assert plan(payment, at(310), POLICIES[DIGITAL]).why == "poison"


def test_a_held_payment_whose_looks_take_workers_down_keeps_its_doubt_and_is_looked_at_no_more():
    doubted = replace(held(waiting(), HoldReason.REVIEW), due_at=at(10), claim_no=99)
    decision = lapsed(doubted, plan(doubted, at(10), POLICIES[PHONE]).why, ctx(10))

    assert (decision.payment.hold, decision.payment.due_at) == (HoldReason.REVIEW, None)
    assert [entry.trigger for entry in decision.entries] == ["hold"]
    assert [notice.event for notice in decision.notices] == ["held"]
    assert decision.payment.fruitless == 0

    waits = replace(held(waiting(), HoldReason.UNSEEN_SESSION), unseen_until=at(HOUR), due_at=at(10), claim_no=99)
    assert lapsed(waits, "poison", ctx(10)).payment.due_at == at(HOUR), "it still ends by itself"


def test_a_cancel_during_a_start_leaves_the_claim_and_any_other_takes_it():
    open_ = replace(intended(DIGITAL).payment, claimed_by="worker-1", claim_no=1)
    decision = asking.cancel(open_, ctx(3), reason="left")
    assert Record(decision, held_claim=False).keeps_claim

    closed = replace(waiting(), claimed_by="worker-1", claim_no=1)
    assert not Record(asking.cancel(closed, ctx(3), reason="left"), held_claim=False).keeps_claim
    under_claim = intend(replace(intended(DIGITAL).payment, open_attempt=None), ctx(4), request_digest="r")
    assert Record(under_claim, held_claim=True).keeps_claim
    assert not Record(under_claim, held_claim=True, keep_claim=False).keeps_claim


def test_an_answer_about_something_else_is_written_when_it_tells_of_an_end_though_the_money_was_in_doubt():
    policy = POLICIES[PHONE]
    doubted = replace(held(waiting(), HoldReason.ANSWER_MISMATCH), money=MoneyFact.UNKNOWN)
    seen = replace(ended(Outcome.DECLINED, codes={"result": "51"}), reference="INV-2")
    first = after_query(doubted, Verdict(VerdictKind.ANSWERED, observation=seen), ctx(9), policy)

    assert first.payment.codes == {"result": "51"}
    assert look(first.payment, seen, 10).quiet, "once"
