"""
Walk a payment at random through everything that can be decided about it.

A worker follows `plan`, while answers come late, twice or for another session,
hosts cancel and acknowledge, people release holds and time leaps. After each
decision every invariant that the domain can break is checked.
"""

import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain import asking
from orchestrator.domain.decide import decide, lapsed
from orchestrator.domain.decision import Decision, Walk
from orchestrator.domain.entry import NO_HASH, Context, Looks, fact
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.machine import START, Operation, edges
from orchestrator.domain.operation import Next, plan
from orchestrator.domain.outcome import MoneyFact, Observation, Outcome
from orchestrator.domain.payment import FACTS, Channel, HoldReason, State
from orchestrator.domain.policy import DIGITAL, PHONE, OnUnknownStart
from orchestrator.domain.settling import Kind, Resolution, fitting, settle, standing_proposal
from orchestrator.domain.starting import intend, refuse_request, wait_for_account
from orchestrator.domain.verdict import Cause, Session, Verdict, VerdictKind, crashed
from tests.unit.domain.story import DIALLED, OPENED, T0, fresh

EDGES = set(edges())
UNSET = (None, False, 0, "", [], {})
EFFECTS = (Operation.AUTHORIZE, Operation.START_SESSION, Operation.HAND_OVER)
WORLDS = [
    (Channel.PHONE, DIALLED),
    (Channel.PHONE, replace(DIALLED, max_sessions=2, max_claims=3)),
    (Channel.PHONE, PHONE),
    (Channel.PHONE, replace(DIALLED, on_unknown_start=OnUnknownStart.HOLD)),
    (Channel.DIGITAL, DIGITAL),
    (Channel.DIGITAL, replace(DIGITAL, max_claims=3, resolve_persons=2)),
    (Channel.DIGITAL, replace(DIGITAL, on_unknown_start=OnUnknownStart.SUPERSEDE, max_sessions=3)),
]
LEAPS = (0.3, 1, 5, 21, 61, 300, 601, 901, 3600, 3700, 24 * 3600 + 1, 73 * 3600)
SESSIONS = [Session(f"S{n}", number, "77") for n, number in ((1, "+4420"), (2, "+4420"), (3, "+190"), (4, None))]
LIVE_LOOKS = [Observation("InProgress"), Observation("Odd", known=False), Observation("Even", known=False),
              Observation(None), Observation("InProgress", reference="INV-2")]  # fmt: skip
ABOUT_US = {"amount_minor": 1240, "currency": "GBP", "reference": "INV-1001", "codes": {"result": "0"}}
ABOUT_OTHERS = [{"amount_minor": 1000}, {"amount_minor": 1300}, {"currency": "EUR"}, {"reference": "INV-2"},
                {"session_id": "s2"}, {"amount_minor": None}, {"codes": {"result": "51"}}, {"codes": {}}]  # fmt: skip
ENDS = [Observation("Finished", outcome=outcome, **ABOUT_US) for outcome in Outcome]
ODD_ENDS = [replace(end, **other) for end, other in product(ENDS, ABOUT_OTHERS)]
NO_ANSWER = [
    Verdict(kind, reason, cause, retry_after_s=delay)
    for kind, cause, (reason, delay) in product(
        (VerdictKind.REJECTED, VerdictKind.UNKNOWN, VerdictKind.NOT_SENT), Cause,
        (("http_503", None), ("", 300.0), ("timeout", 0.0)),
    )
]  # fmt: skip


def answered(observations):
    return st.builds(
        Verdict,
        st.just(VerdictKind.ANSWERED),
        session=st.sampled_from(SESSIONS),
        observation=st.sampled_from(observations),
    )


VERDICT = st.one_of(
    answered(LIVE_LOOKS),
    answered(ENDS),
    answered(ODD_ENDS),
    st.sampled_from(NO_ANSWER),
    st.sampled_from([Verdict(VerdictKind.ANSWERED), Verdict(VerdictKind.REJECTED, "http_404", Cause.ABSENT)]),
)


def step(method, *arguments):
    return st.tuples(st.just(method), *arguments)


class Life:
    """One payment's life, with everything that the store would keep of it."""

    def __init__(self, world, missing=()):
        channel, self.policy = world
        self.now, self.looks = T0, Looks()
        self.entries, self.folded = [], {}
        self.first = self.payment = fresh(channel, missing)
        self.recorded(asking.submit(self.payment, self.context, self.policy))

    @property
    def context(self):
        return Context(self.now, "worker-1", "host:1", version="1", looks=self.looks)

    def time_passes(self, leap):
        self.now += timedelta(seconds=leap)

    def a_worker_comes_when_it_is_due(self, verdict):
        self.now = max(self.now, self.payment.due_at or self.now)
        self.a_worker_follows_the_plan(verdict)

    def a_worker_follows_the_plan(self, verdict):
        self.payment = replace(self.payment, claim_no=self.payment.claim_no + 1)
        step = plan(self.payment, self.now, self.policy)
        if self.payment.hold is not None or self.payment.open_attempt is not None or self.payment.ended:
            assert not (step.next is Next.SEND and step.operation in EFFECTS)
        assert (self.payment.open_attempt is not None) is (step.next is Next.RESCUE)
        match step.next:
            case Next.RESCUE:
                self.decided(Operation.START_SESSION, crashed(), must_move=True)
            case Next.LAPSE:
                self.recorded(lapsed(self.payment, step.why, self.context), must_move=True)
            case Next.SEND if step.operation is Operation.START_SESSION:
                self.recorded(intend(self.payment, self.context, request_digest="d"), must_move=True)
                self.decided(step.operation, verdict, must_move=True)
            case Next.SEND:
                self.decided(step.operation, verdict, must_move=True)
            case Next.WAIT:
                due = self.payment.due_at
                assert due is None or due > self.now, "a worker would spin"

    def a_worker_dies_after_its_intent(self):
        if self.may_start():
            self.recorded(intend(self.payment, self.context, request_digest="d"))

    def the_request_can_not_be_rendered(self):
        if self.may_start():
            self.recorded(refuse_request(self.payment, self.context, field="cardholderName"), must_move=True)

    def the_account_is_paused(self):
        self.now = max(self.now, self.payment.due_at or self.now)
        if plan(self.payment, self.now, self.policy).operation in (Operation.AUTHORIZE, Operation.START_SESSION):
            self.recorded(wait_for_account(self.payment, self.context, self.policy), must_move=True)
            assert wait_for_account(self.payment, self.context, self.policy).quiet, "one pause is one entry"

    def may_start(self):
        return plan(self.payment, self.now, self.policy).operation is Operation.START_SESSION

    def an_answer_comes_that_nobody_waits_for(self, operation, verdict, back):
        attempt = None if back == 0 else max(0, self.payment.attempts + 1 - back)
        self.decided(operation, verdict, attempt=attempt)

    def a_look_is_answered(self, verdict):
        self.decided(Operation.QUERY_STATUS, verdict)

    def the_host_collects(self, names):
        if self.payment.state is State.COLLECTING and self.payment.missing:
            self.recorded(asking.collect(self.payment, names, "guid-1", self.context, self.policy))
        else:
            with pytest.raises(InvalidInput):
                asking.collect(self.payment, names, "guid-1", self.context, self.policy)

    def the_host_cancels(self):
        self.recorded(asking.cancel(self.payment, self.context, reason="caller left"))
        assert asking.cancel(self.payment, self.context, reason="again").quiet

    def the_caller_hangs_up(self):
        if self.payment.channel is not Channel.PHONE:
            with pytest.raises(InvalidInput, match="hung_up"):
                asking.cancel(self.payment, self.context, reason="", hung_up=True)
            return
        asked = self.payment.cancel_requested
        self.recorded(asking.cancel(self.payment, self.context, reason="", hung_up=True))
        assert asked or self.payment.cancel_requested or self.payment.ended, "the wish is written down"

    def a_person_resolves(self, person, outcome, retry, session):
        word = Resolution(person, "looked up", outcome, retry, session)
        before, proposal = self.payment, standing_proposal(self.entries)
        context = replace(self.context, actor=person)
        try:
            decision = settle(before, word, context, self.policy, proposal)
        except InvalidInput:
            return  # nothing to check: nothing is recorded
        assert before.hold is not None
        assert word.kind in fitting(before)
        assert Kind.SESSION in fitting(before) or session is None
        agreed = self.policy.resolve_persons == 1 or (
            proposal is not None and proposal.choice == word.choice and proposal.person != person
        )
        assert [entry.trigger == "release" for entry in decision.entries[:1]] == [agreed]
        self.recorded(decision, word=word if agreed else None)
        if not agreed:
            assert replace(self.payment, version=0, head=b"") == replace(
                before, version=0, head=b"", progress_claim=before.claim_no
            ), "a proposal changes nothing"

    def the_host_acknowledges(self):
        try:
            self.recorded(asking.acknowledge(self.payment, self.context))
        except InvalidInput:
            assert self.payment.state is not State.AWAITING_PAYMENT or self.payment.hand_over_until is None

    def a_person_releases(self):
        if self.payment.hold is None or self.payment.money is not MoneyFact.NONE:
            return  # a person who settles money says what became of it: another decision than this
        walk = Walk(self.payment, self.context).release("by_person")
        later = self.payment.deadline_at if self.payment.missing else self.now
        self.recorded(walk.due(None if self.payment.ended else later))

    def decided(self, operation, verdict, *, attempt=None, must_move=False):
        """Decide, record, and decide once more: the same look twice is no news."""
        before = self.payment
        decision = decide(before, operation, verdict, self.context, self.policy, attempt=attempt)
        self.recorded(decision, verdict, must_move=must_move)
        if operation is Operation.QUERY_STATUS:
            again = decide(self.payment, operation, verdict, self.context, self.policy)
            assert again.quiet, "equal evidence was written twice"
        if decision.quiet:
            failed = verdict.kind is not VerdictKind.ANSWERED
            self.looks = self.looks.plus(at=self.now, failed=failed, state=None)

    def recorded(
        self, decision: Decision, verdict: Verdict | None = None, *,
        must_move: bool = False, word: Resolution | None = None,
    ) -> None:  # fmt: skip
        """Do what the store does, and check all that the domain promises."""
        before, after = self.payment, decision.payment
        assert decision.before == before
        self.check_chain(decision)
        if word is None:
            self.check_ends(decision, verdict)
        else:
            self.check_word(decision, word)
        for name in ("id", "account", "channel", "reference", "round", "amount", "created_at", "definitions"):
            assert getattr(after, name) == getattr(self.first, name)
        assert (after.ended and after.watch_until is None) or after.hold or after.due_at or after.open_attempt
        assert after.attempts - before.attempts in (0, 1)
        assert after.sessions <= after.attempts or after.sessions <= 1
        assert (after.hold is None) is (after.held_at is None)
        assert after.open_attempt is None or after.state is State.AUTHORIZED
        if not decision.quiet:
            self.looks = Looks()
        elif must_move:
            assert after.due_at is None or after.due_at > self.now, "a worker would spin"
        self.payment = after

    def check_chain(self, decision: Decision) -> None:
        seq = self.entries[-1].seq if self.entries else 0
        head = self.entries[-1].hash if self.entries else NO_HASH
        state = self.entries[-1].to_state if self.entries else START
        for entry in decision.entries:
            seq += 1
            body = json.loads(entry.body)
            assert (entry.seq, entry.prev_hash, entry.from_state) == (seq, head, state)
            assert (body["seq"], body["prev"], body["from"], body["to"]) == (seq, head.hex(), state, entry.to_state)
            assert (entry.trigger, entry.from_state, entry.to_state) in EDGES
            assert entry.hash == hashlib.sha256(b"\0" + entry.body.encode()).digest()
            assert entry.result in ("success", "failure", "unknown")
            assert entry.chain_id == entry.about == self.first.id
            self.folded |= body["facts"]
            head, state = entry.hash, entry.to_state
        self.entries.extend(decision.entries)
        after = decision.payment
        assert (after.version, after.head, after.state.value) == (seq, head, state)
        assert all(1 <= notice.seq <= seq for notice in decision.notices)
        assert not decision.notices or decision.entries
        for name in FACTS:
            value = fact(after, name)
            assert self.folded.get(name, value) == value, name
            assert name in self.folded or value in UNSET, name

    def check_word(self, decision: Decision, word: Resolution) -> None:
        """What a person's word may lead to: nothing but what was said."""
        before, after = decision.before, decision.payment
        assert json.loads(decision.entries[0].body)["resolved"] == before.hold
        if before.ended:
            assert (after.state, after.outcome, after.hold) == (before.state, before.outcome, None)
            return
        assert after.ended is (word.outcome is not None)
        if after.ended:
            assert after.outcome is word.outcome
            assert (after.state is State.COMPLETED) is (word.outcome is Outcome.PAID)
            life = timedelta(seconds=self.policy.session_life_s)
            assert after.watch_until is None or after.watch_until == after.session_at + life > self.now
        elif after.hold is not None:
            assert after.hold is HoldReason.NUMBER_NOT_ALLOWED
        else:
            assert after.due_at is not None
        if word.session is not None:
            assert after.session_id == word.session

    def check_ends(self, decision: Decision, verdict: Verdict | None) -> None:
        before, after = decision.before, decision.payment
        seen = verdict.observation if verdict and verdict.kind is VerdictKind.ANSWERED else None
        if before.ended:
            assert after.state is before.state
            assert after.outcome is before.outcome
            if after.money is not before.money:
                assert after.hold is HoldReason.LATE_MONEY
                assert [notice.event for notice in decision.notices] == ["money_changed", "held"]
            return
        if after.state is State.COMPLETED:
            assert seen is not None
            assert seen.outcome is after.outcome is Outcome.PAID
            assert (after.money, after.hold) == (MoneyFact.TAKEN, None)
            assert seen.amount_minor in (None, before.amount.minor)
        if after.state is State.FAILED:
            assert after.outcome not in (None, Outcome.PAID)
            assert (after.money, after.hold) == (MoneyFact.NONE, None)
            told_before = before.hold is HoldReason.UNSEEN_SESSION and verdict is None
            assert before.session_id is None or seen is not None or told_before, "failed from silence"
            assert before.unseen_until is None or before.unseen_until <= self.now or after.outcome in {
                Outcome.DECLINED, Outcome.ATTEMPTS_EXHAUSTED, Outcome.CANCELLED_BY_PAYER, Outcome.CANCELLED_BY_HOST,
                Outcome.HUNG_UP, Outcome.LINK_UNDELIVERABLE, Outcome.PROVIDER_ERROR, Outcome.CONFIG_ERROR,
                Outcome.INVALID_REQUEST, Outcome.PROVIDER_UNAVAILABLE, Outcome.ABANDONED,
            }  # fmt: skip
        if before.hold is not None and after.hold is not None:
            assert all(entry.trigger != "hand_over" for entry in decision.entries), "an effect under a hold"


STEPS = st.one_of(
    step(Life.a_worker_comes_when_it_is_due, VERDICT),
    step(Life.a_worker_comes_when_it_is_due, VERDICT),
    step(Life.a_worker_follows_the_plan, VERDICT),
    step(Life.a_look_is_answered, VERDICT),
    step(
        Life.an_answer_comes_that_nobody_waits_for, st.sampled_from([*Operation, *EFFECTS]), VERDICT, st.integers(0, 3)
    ),
    step(Life.time_passes, st.sampled_from(LEAPS)),
    step(
        Life.a_person_resolves, st.sampled_from(["ada", "bo"]), st.sampled_from([None, None, *Outcome]),
        st.booleans(), st.sampled_from([None, None, "S1", "S9"]),
    ),
    st.sampled_from([
        (Life.the_host_cancels,), (Life.the_caller_hangs_up,), (Life.the_host_acknowledges,), (Life.a_person_releases,),
        (Life.a_worker_dies_after_its_intent,), (Life.the_request_can_not_be_rendered,),
        (Life.the_account_is_paused,), (Life.the_host_collects, ["CallGuid"]), (Life.the_host_collects, ["x", "y"]),
    ]),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(WORLDS),
    st.sampled_from([(), (), (), ("CallGuid",), ("CallGuid", "x")]),
    st.integers(0, 3),
    st.lists(STEPS, max_size=16),
)
def test_whatever_happens_to_a_payment_every_promise_holds(world, missing, way, steps):
    life = Life(world, missing)
    for _ in range(way):  # so far all goes well: authorized, started, and a quiet first look
        life.a_worker_follows_the_plan(replace(OPENED, observation=LIVE_LOOKS[0]))
    for method, *arguments in steps:
        method(life, *arguments)
