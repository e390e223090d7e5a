"""Every kind of finding, by tampering with true stories; and no finding without."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.audit.chain import read_chain
from orchestrator.audit.invariants import check
from orchestrator.audit.observed import Heard, Limits, Observed, ProviderSession
from orchestrator.domain.entry import NO_HASH, Context, body_hash, canonical, instant, sealed_entry
from orchestrator.domain.machine import START
from orchestrator.domain.money import Money
from orchestrator.domain.outcome import MoneyFact, Outcome
from orchestrator.domain.payment import Channel, HoldReason, State
from tests.property.test_domain_walk import STEPS, WORLDS, Life
from tests.unit.audit.tales import (
    COLUMNS,
    TALES,
    Tale,
    completed,
    declined,
    rewritten,
    silent,
    superseded,
    waiting,
    watched,
    without,
)  # fmt: skip
from tests.unit.domain.story import T0, at


@pytest.mark.parametrize("name", TALES)
def test_a_true_story_gives_no_finding(name):
    tale = TALES[name]()

    assert len(tale.entries) == tale.payment.version
    assert tale.findings() == []


class Intended(Life):
    """A life in which every answer to a start has its intent: one without is a finding, and rightly so."""

    def an_answer_comes_that_nobody_waits_for(self, operation, verdict, back):
        if self.payment.attempts or operation.value != "start_session":
            super().an_answer_comes_that_nobody_waits_for(
                operation, verdict, min(max(back, 1), self.payment.attempts) or 1
            )

    def decided(self, operation, verdict, *, attempt=None, must_move=False):
        if attempt is not None:
            attempt = min(max(attempt, 1), self.payment.attempts)
        super().decided(operation, verdict, attempt=attempt, must_move=must_move)


PHONE_OR_HOLDING = [world for world in WORLDS if world[0] is Channel.PHONE or world[1].on_unknown_start == "hold"]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PHONE_OR_HOLDING), st.sampled_from([(), ("CallGuid", "x")]), st.lists(STEPS, max_size=16))
def test_no_life_of_a_payment_raises_a_false_alarm(world, missing, steps):
    life = Intended(world, missing)
    for method, *arguments in steps:
        getattr(life, method.__name__)(*arguments)

    story, wrong = read_chain(life.payment.id, life.entries)

    assert wrong + check(life.payment, story) == []


def altered(index, **columns):
    def tamper(tale):
        tale.entries[index] = replace(tale.entries[index], **columns)

    return tamper


def said(index, relink=False, **members):
    def tamper(tale):
        tale.entries[index] = rewritten(tale.entries[index], body=members)
        if relink:
            tale.relinked(index + 1)

    return tamper


def body(index, text, *, rehash=True):
    def tamper(tale):
        entry = tale.entries[index]
        tale.entries[index] = replace(entry, body=text, hash=body_hash(text) if rehash else entry.hash)

    return tamper


def row(**changes):
    def tamper(tale):
        tale.payment = replace(tale.payment, **changes)

    return tamper


def entries(change):
    def tamper(tale):
        change(tale.entries)

    return tamper


def swap(found):
    found[2], found[3] = found[3], found[2]


def deep(levels):
    return '{"a":' * levels + "1" + "}" * levels


def insert_a_note(found):
    before = found[2]
    note = sealed_entry(
        chain_id=before.chain_id, seq=4, prev_hash=before.hash, trigger="retry", from_state="authorized",
        to_state="authorized", kind="payment.retry", result="failure", about=before.about,
        context=Context(at(2), "somebody", "elsewhere"), details={"facts": {}},
    )  # fmt: skip
    found.insert(3, note)


CHAIN = {
    # name: (the tampering, (kind, first bad row), ...: all that must be found, no more)
    "a hash": (altered(2, hash=b"h" * 32), ("hash", 3), ("prev", 4)),
    "a body": (body(2, '{"v":1}', rehash=False), ("hash", 3), ("column", 3), ("fact", None), ("intent", 4)),
    "a body and its hash": (said(2, actor="nobody"), ("column", 3), ("prev", 4)),
    "a member that no column has, and the hash": (said(2, why="because"), ("prev", 4)),
    "the last body and hash, not the head": (said(5, why="because"), ("head", None)),
    "everything behind it relinked, not the head": (
        lambda tale: (said(2, relink=True, why="b")(tale), row(head=b"h" * 32)(tale)), ("head", None),
    ),
    "the previous hash": (altered(2, prev_hash=b"p" * 32), ("column", 3), ("prev", 3)),
    "a first entry that extends something": (
        lambda tale: (tale.entries.__setitem__(0, rewritten(tale.entries[0], prev_hash=b"p" * 32)), tale.relinked(1)),
        ("prev", 1),
    ),
    "not canonical: a space": (
        lambda tale: body(5, tale.entries[5].body.replace(",", ", ", 1))(tale), ("body", 6), ("head", None),
    ),
    "not canonical: a member twice": (
        lambda tale: body(5, tale.entries[5].body.replace('{"about"', '{"about":"x","about"', 1))(tale),
        ("body", 6), ("head", None),
    ),
    "not ours: a float": (
        lambda tale: body(5, tale.entries[5].body.replace('"v":1', '"v":1.5'))(tale), ("body", 6), ("head", None),
    ),
    "not an object": (body(5, "[]"), ("body", 6), ("head", None), ("fact", None)),
    "not JSON": (body(5, "{"), ("body", 6), ("head", None), ("fact", None)),
    "too deep for any parser": (body(5, deep(200_000)), ("body", 6), ("head", None), ("fact", None)),
    "deep": (body(5, deep(900)), ("column", 6), ("head", None), ("fact", None)),
    "a middle entry is gone": (
        entries(lambda found: found.pop(2)),
        ("gap", 4), ("prev", 4), ("fact", None), ("intent", 4),
    ),
    "the birth is gone": (
        entries(lambda found: found.pop(0)),
        ("gap", 2), ("prev", 2), ("state", 2), ("fact", None),
    ),
    "the tail is gone": (entries(lambda found: found.pop()), ("head", None), ("state", None), ("fact", None)),
    "two are swapped": (
        entries(swap), ("gap", 4), ("gap", 3), ("gap", 5), ("prev", 4), ("prev", 3), ("prev", 5), ("state", 3),
        ("state", 5), ("intent", 4), ("fact", None),
    ),
    "one is put in": (entries(insert_a_note), ("prev", 4), ("gap", 4)),
    "one is doubled": (entries(lambda found: found.insert(3, found[2])), ("gap", 3), ("prev", 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAIN)
def test_tampering_with_the_chain_is_found_and_the_first_bad_row_is_named(name):
    tamper, *expected = CHAIN[name]
    tale = completed()

    tamper(tale)

    assert tale.found() == set(expected)


@pytest.mark.parametrize("column", [*COLUMNS, "at"])
def test_each_column_is_held_against_the_body(column):
    entry = completed().entries[3]
    value = entry.at + timedelta(microseconds=1) if column == "at" else 9 if column == "seq" else "other"
    tale = completed()
    tale.entries[3] = replace(entry, **{column: value})

    findings = [found for found in tale.findings() if found.kind == "column"]

    assert [found.what for found in findings] == [f"column {COLUMNS.get(column, column)} contradicts the body"]
    assert findings[0].seq == (9 if column == "seq" else 4)


def test_an_edge_that_the_machine_does_not_have_is_found():
    tale = completed()
    tale.entries[3] = rewritten(tale.entries[3], trigger="complete", kind="payment.complete")
    tale.relinked(4)

    assert ("edge", 4) in tale.found()


@pytest.mark.parametrize(
    ("chain", "edge", "fine"),
    [
        ("admin-2026-11-24", ("note", START, "open"), True),
        ("worker-1", ("worker_started", START, "running"), True),
        ("admin-2026-11-24", ("submit", START, "collecting"), False),
        ("elsewhere", ("submit", START, "collecting"), False),
        ("pay-a", ("note", START, "open"), False),
        ("pay-a", ("submit", START, "collecting"), True),
    ],
)
def test_a_chain_walks_the_edges_of_its_own_kind_only(chain, edge, fine):
    trigger, source, target = edge
    entry = sealed_entry(
        chain_id=chain, seq=1, prev_hash=NO_HASH, trigger=trigger, from_state=source, to_state=target, kind="k",
        result="success", about="x", context=Context(T0, "a", "o"), details={},
    )  # fmt: skip

    _, findings = read_chain(chain, [entry])

    assert [finding.kind for finding in findings] == ([] if fine else ["edge"])


ROW = {
    "state": (row(state=State.AWAITING_PAYMENT), ("state", None), ("stuck", None)),
    "version": (row(version=7), ("head", None)),
    "head": (row(head=b"h" * 32), ("head", None)),
    "amount": (row(amount=Money("1.00", "GBP")), ("fact", None)),
    "currency": (row(amount=Money("12.40", "EUR")), ("fact", None)),
    "reference": (row(reference="INV-2"), ("fact", None)),
    "created_at": (row(created_at=at(-86400)), ("fact", None)),
    "outcome": (row(outcome=Outcome.DECLINED), ("fact", None), ("evidence", None)),
    "outcome gone": (row(outcome=None), ("fact", None), ("evidence", None)),
    "hold": (row(hold=HoldReason.REVIEW, held_at=at(9)), ("fact", None)),
    "money": (row(money=MoneyFact.NONE), ("fact", None)),
    "session": (row(session_id="another"), ("fact", None)),
    "codes": (row(codes={"result": "51"}), ("fact", None)),
    "watch": (row(watch_until=at(9)), ("fact", None), ("stuck", None)),
    "due only": (row(due_at=at(9)),),
    "claim only": (row(claimed_by="worker-9", claim_no=7, progress_claim=3),),
}


@pytest.mark.parametrize("name", ROW)
def test_a_row_that_says_more_or_less_than_its_chain_is_found(name):
    tamper, *expected = ROW[name]
    tale = completed()

    tamper(tale)

    assert tale.found() == set(expected)


def test_a_payment_that_nobody_will_look_at_is_stuck():
    tale = waiting()
    assert tale.payment.due_at is not None

    tale.payment = replace(tale.payment, due_at=None)
    assert tale.found() == {("stuck", None)}

    tale.payment = replace(tale.payment, claimed_by="worker-1")
    assert tale.found() == set()


def test_an_ended_payment_that_is_still_watched_needs_somebody_who_looks():
    tale = watched()
    tale.payment = replace(tale.payment, due_at=None)

    assert tale.found() == {("stuck", None)}


def forged(tale: Tale, trigger: str, source: str, target: str, **details) -> Tale:
    """Append an entry that is right in form, and let the row agree with it."""
    last = tale.entries[-1]
    details["facts"] = dict(details.get("facts", {}))
    tale.entries.append(
        sealed_entry(
            chain_id=last.chain_id, seq=last.seq + 1, prev_hash=last.hash, trigger=trigger, from_state=source,
            to_state=target, kind=f"payment.{trigger}", result="success", about=last.about,
            context=Context(at(50), "somebody", "elsewhere"), details=details,
        )
    )  # fmt: skip
    head = tale.entries[-1]
    tale.payment = replace(tale.payment, state=State(target), version=head.seq, head=head.hash)
    return tale


PAID_FACTS = {"outcome": "paid", "money": "taken"}
FAILED_FACTS = {"outcome": "config_error"}


def completed_without_a_look():
    tale = forged(waiting(), "complete", "awaiting_payment", "completed", facts=PAID_FACTS)
    row(outcome=Outcome.PAID, money=MoneyFact.TAKEN)(tale)
    return tale


def failed_in_silence(**details):
    tale = forged(waiting(), "fail", "awaiting_payment", "failed", facts=FAILED_FACTS, **details)
    row(outcome=Outcome.CONFIG_ERROR)(tale)
    return tale


def a_second_session():
    tale = waiting()
    again = {"operation": "start_session", "attempt": 1, "verdict": "answered"}
    return forged(tale, "start_session", "awaiting_payment", "session_started", **again)


def given_up_early():
    tale = TALES["silent"]()
    tale.entries[5] = rewritten(tale.entries[5], body={"at": instant(at(3599))}, at=at(3599))
    return tale.relinked(6)


def test_what_was_seen_beside_the_database_counts():
    def kinds(**seen):
        tale = waiting()
        story, _ = read_chain(tale.payment.id, tale.entries)
        given = {name: {tale.payment.id: value} for name, value in seen.items() if name not in ("limits", "over")}
        limits = Limits(sessions=1, claims=2, looks=10, calls=3)
        observed = Observed(limits=limits, over=seen.get("over", False), **given)
        return [(found.invariant, found.kind) for found in check(tale.payment, story, observed)]

    assert kinds(claims=2, looks=10, calls=3, late_deliveries=0) == []
    assert kinds(claims=3) == kinds(looks=11) == kinds(calls=4) == kinds(late_deliveries=1) == [("I12", "bounds")]
    assert kinds(acknowledged=[(4, b"h" * 32)]) == [("I6", "forgotten")]
    assert kinds(lost_claims=[5]) == [("I7", "lost_claim")]
    assert kinds(heard=[Heard(1, "answered", "S-OTHER")]) == [("I7", "unheard")]
    assert kinds(sessions=[ProviderSession("S1", intended=False)]) == [("I2", "intent")]
    assert kinds(sessions=[ProviderSession("S1"), ProviderSession("S2")]) == [("I1", "double_session")]
    assert kinds(over=True) == [("I5", "stuck")]


LIES = {
    "completed without evidence": (completed_without_a_look, ("evidence", 6)),
    "completed on an unknown answer": (
        lambda: forged(
            waiting(), "complete", "awaiting_payment", "completed", facts=PAID_FACTS, verdict="unknown",
            operation="query_status",
        ),
        ("evidence", 6), ("fact", None), ("evidence", None),
    ),
    "failed in silence": (failed_in_silence, ("evidence", 6)),
    "failed on a refused look": (
        lambda: failed_in_silence(verdict="rejected", operation="query_status"), ("evidence", 6),
    ),
    "a second session": (a_second_session, ("edge", 6), ("double_session", 6)),
    "an end that is undone": (
        lambda: forged(declined(), "observe", "failed", "awaiting_payment"),
        ("edge", 7), ("state", 7), ("stuck", None),
    ),
    "another outcome after the end": (
        lambda: forged(declined(), "late_result", "failed", "failed", facts={"outcome": "expired"}),
        ("state", 7), ("fact", None),
    ),
    "another amount later": (
        lambda: forged(waiting(), "observe", "awaiting_payment", "awaiting_payment", facts={"amount_minor": 1}),
        ("fact", 6), ("fact", None),
    ),
    "equal evidence a second time": (
        lambda: forged(declined(), "late_result", "failed", "failed", operation="query_status", verdict="answered"),
        ("twice", 7),
    ),
    "given up while it could be paid": (given_up_early, ("evidence", 6)),
    "facts that are none": (lambda: forged_with_facts(7), ("fact", None)),
}  # fmt: skip


def forged_with_facts(facts):
    tale = completed()
    tale.entries[3] = rewritten(tale.entries[3], body={"facts": facts})
    return tale.relinked(4)


@pytest.mark.parametrize("name", LIES)
def test_a_story_that_is_well_linked_but_can_not_be_true_is_found(name):
    make, *expected = LIES[name]

    assert make().found() == set(expected)


def test_a_start_without_its_intent_is_found():
    tale = waiting()
    tale.entries[2] = without(rewritten(tale.entries[2], trigger="retry", kind="payment.retry"), "operation")
    tale.relinked(3)

    assert tale.found() == {("intent", 4)}


def test_a_digital_session_is_never_superseded():
    tale = superseded()
    digital = {"facts": json.loads(tale.entries[0].body)["facts"] | {"channel": "digital"}}
    tale.entries[0] = rewritten(tale.entries[0], body=digital)
    tale.relinked(1)
    tale.payment = replace(tale.payment, channel=Channel.DIGITAL)

    assert tale.found() == {("double_session", 4)}


@pytest.mark.parametrize("attempt", [[1], {"a": 1}, None, "1", True])
def test_a_tampered_attempt_never_stops_the_audit(attempt):
    tale = waiting()
    tale.entries[3] = rewritten(tale.entries[3], body={"attempt": attempt})
    tale.relinked(4)

    assert tale.found() == ({("intent", 4)} if attempt is not True else set())


def test_an_end_after_an_unseen_session_counts_as_it_was_and_not_as_the_row_is_now():
    tale = TALES["silent then answered"]()
    assert (tale.payment.reason, tale.payment.outcome) == ("session_of_lost_claim", Outcome.PROVIDER_UNAVAILABLE)
    assert tale.findings() == []

    early = silent()
    early.entries[-1] = rewritten(early.entries[-1], body={"facts": {"outcome": "provider_unavailable", "reason": "x"}})
    row(reason="x")(early.relinked(len(early.entries) - 1))

    assert ("evidence", early.payment.version) in early.found()


@given(st.integers(0, 5), st.text("0123456789abcdef", min_size=1, max_size=3), st.integers(0, 10_000))
@settings(max_examples=150, deadline=None)
def test_no_change_of_any_byte_of_any_body_goes_unseen(index, put, where):
    tale = completed()
    text = tale.entries[index].body
    place = where % len(text)
    changed = text[:place] + put + text[place + len(put) :]

    body(index, changed, rehash=False)(tale)

    assert (changed == text) is (tale.findings() == [])
    assert changed == text or ("hash", index + 1) in tale.found()


def test_the_canonical_form_is_what_was_hashed():
    for entry in completed().entries:
        assert canonical(json.loads(entry.body)) == entry.body
