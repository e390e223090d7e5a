import hashlib
import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType

import pytest

from orchestrator.domain.entry import (
    ADMIN_EDGES,
    NO_HASH,
    Context,
    Looks,
    body_hash,
    canonical,
    changed_facts,
    extend,
    fact,
    instant,
    sealed_entry,
)
from orchestrator.domain.machine import START, Operation
from orchestrator.domain.outcome import MoneyFact, Outcome
from orchestrator.domain.payment import FACTS, HoldReason, Payment
from orchestrator.domain.verdict import Cause, Exchange, Verdict, VerdictKind, crashed
from tests.unit.domain.story import (
    ABSENT,
    ANSWERED,
    NOT_SENT,
    OPENED,
    T0,
    THROTTLED,
    UNKNOWN,
    at,
    born,
    completed,
    ctx,
    fresh,
    requested,
    start,
    waiting,
)  # fmt: skip


def entry_of(trigger, verdict=None, before=None, **changes):
    before = before or waiting()
    return extend(before, replace(before, **changes), trigger, ctx(3), verdict=verdict)


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1.5}, {"a": float("nan")}, {"a": 2**53}, {"a": -(2**53)}, {"a": "\ud800"}, {"a": [{"b": 1.0}]},
        {"é": 1}, {1: 1}, {"a": {None: 1}}, {"a": Decimal(1)}, {"a": b"x"}, {"a": {1, 2}}, {"a": T0}, {"a": ...},
        {"a": MappingProxyType({"b": 1})},
    ],
    ids=ascii,
)  # fmt: skip
def test_what_others_would_encode_differently_has_no_canonical_form(value):
    with pytest.raises(ValueError):  # noqa: PT011 - a lone surrogate's own error is one too
        canonical(value)


def test_canonical_json_is_sorted_compact_and_unescaped():
    value = {"b": [1, None, True], "a": {"z": "é\u2028\x7f", "Z": '"\\\n\x01'}, "": -(2**53) + 1}
    assert (
        canonical(value) == '{"":-9007199254740991,"a":{"Z":"\\"\\\\\\n\\u0001","z":"é\u2028\x7f"},"b":[1,null,true]}'
    )


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (T0, "2026-11-24T15:46:40.000000Z"),
        (T0 + timedelta(microseconds=7), "2026-11-24T15:46:40.000007Z"),
        (T0.astimezone(timezone(timedelta(hours=5, minutes=30))), "2026-11-24T15:46:40.000000Z"),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000000Z"),
        (datetime.max.replace(tzinfo=UTC), "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_an_instant_is_27_characters_of_utc(moment, text):
    assert instant(moment) == text


def test_the_first_entry_extends_nothing_and_tells_the_birth():
    payment = born(missing=["CallGuid", "cardholderName"])
    entry = extend(None, replace(payment, version=0), "submit", ctx())
    body = json.loads(entry.body)
    assert (entry.seq, entry.prev_hash, entry.from_state, entry.to_state) == (1, NO_HASH, START, "collecting")
    assert entry.hash == payment.head
    assert body["facts"]["missing"] == ["CallGuid", "cardholderName"]
    assert (body["facts"]["amount_minor"], body["facts"]["currency"]) == (1240, "GBP")
    assert body["facts"]["definitions"] == {"authorize": "aa", "start_session": "bb"}
    assert body["facts"]["deadline_at"] == instant(at(1800))
    assert not {"hold", "session_id", "attempts", "overdue"} & set(body["facts"]), "what isn't set isn't told"


def test_columns_say_what_the_body_says_and_hash_covers_the_body():
    decision = start(requested(), replace(ANSWERED, session=None), 2)
    entry = decision.entries[0]
    body = json.loads(entry.body)
    told = {
        "chain": entry.chain_id, "seq": entry.seq, "trigger": entry.trigger, "from": entry.from_state,
        "to": entry.to_state, "at": instant(entry.at), "actor": entry.actor, "origin": entry.origin,
        "kind": entry.kind, "result": entry.result, "about": entry.about, "prev": entry.prev_hash.hex(),
    }  # fmt: skip
    assert {name: body[name] for name in told} == told
    assert entry.hash == hashlib.sha256(b"\x00" + entry.body.encode()).digest() == decision.payment.head
    assert (body["v"], body["software"]) == (1, "0.1.0")


def test_each_entry_extends_the_one_before_it():
    before = requested()
    first, second = start(before, OPENED, 2).entries
    assert (first.seq, first.prev_hash, first.from_state) == (before.version + 1, before.head, "authorized")
    assert (second.seq, second.prev_hash, second.from_state) == (first.seq + 1, first.hash, first.to_state)


def test_no_value_in_a_body_changes_without_its_hash():
    entry = entry_of("observe", THROTTLED, overdue=True, codes={"a": "1"})
    body = json.loads(entry.body)
    variants = [body | {name: "other"} for name in body] + [{k: v for k, v in body.items() if k != n} for n in body]
    variants += [body | {"facts": body["facts"] | {name: None}} for name in body["facts"]] + [body | {"extra": 1}]
    hashes = {body_hash(canonical(variant)) for variant in variants}
    assert len(hashes) == len(variants)
    assert entry.hash not in hashes
    assert body_hash(canonical(body)) == entry.hash


SIX = ("actor", "kind", "at", "result", "origin", "about")


@pytest.mark.parametrize("name", SIX)
def test_the_six_elements_of_pci_dss_10_2_2_stand_in_column_and_body(name):
    entry = entry_of("observe")
    assert getattr(entry, name)
    assert json.loads(entry.body)[name]


@pytest.mark.parametrize(
    ("trigger", "verdict", "result"),
    [
        ("submit", None, "success"),
        ("collect", None, "success"),
        ("authorize", ANSWERED, "success"),
        ("request", None, "success"),
        ("observe", ANSWERED, "success"),
        ("cancel", None, "success"),
        ("release", None, "success"),
        ("retry", NOT_SENT, "failure"),
        ("retry", THROTTLED, "failure"),
        ("retry", None, "failure"),
        ("fail", None, "failure"),
        ("fail", ANSWERED, "failure"),
        ("observe", ABSENT, "failure"),
        ("supersede", crashed(), "unknown"),
        ("supersede", ANSWERED, "failure"),
        ("hold", UNKNOWN, "unknown"),
        ("hold", ANSWERED, "unknown"),
        ("hold", None, "unknown"),
        ("observe", UNKNOWN, "unknown"),
    ],
)
def test_an_entry_says_success_failure_or_unknown(trigger, verdict, result):
    assert entry_of(trigger, verdict).result == result


def test_an_entry_tells_the_wire_without_more():
    verdict = Verdict(
        VerdictKind.REJECTED, "http_400", Cause.INVALID, message="no such currency",
        exchange=Exchange("POST", "https://vcc.example/sessions", 400, 41, 2),
    )  # fmt: skip
    before = waiting()
    entry = extend(before, before, "observe", ctx(), operation=Operation.START_SESSION, attempt=2, verdict=verdict)
    body = json.loads(entry.body)
    told = {
        "operation": "start_session", "attempt": 2, "verdict": "rejected", "cause": "invalid", "why": "http_400",
        "message": "no such currency", "method": "POST", "url": "https://vcc.example/sessions", "status": 400,
        "sends": 2, "duration_ms": 41, "facts": {},
    }  # fmt: skip
    assert {name: body[name] for name in told} == told
    assert set(json.loads(entry_of("retry", NOT_SENT).body)) == {
        "v", "software", "facts", "verdict", "why", "chain", "seq", "trigger", "from", "to", "at", "actor", "origin",
        "kind", "result", "about", "prev",
    }  # fmt: skip


def test_details_can_not_overwrite_a_column():
    before = waiting()
    forged = {"actor": "nobody", "to": "completed", "seq": 1, "facts": {}, "prev": ""}
    entry = extend(before, replace(before, overdue=True), "observe", ctx(), extra=forged)
    body = json.loads(entry.body)
    assert (body["actor"], body["to"], body["seq"]) == ("worker-7", "awaiting_payment", before.version + 1)
    assert body["facts"] == {"overdue": True}


def test_silent_looks_are_summed_up_in_the_next_entry():
    looks = Looks()
    for second, failed, state in [
        (1, False, "Created"),
        (2, True, None),
        (4, False, "InProgress"),
        (7, False, "Created"),
    ]:
        looks = looks.plus(at=at(second), failed=failed, state=state)
    before = waiting()
    entry = extend(before, before, "observe", Context(at(9), "w", "o", trace="t-1", looks=looks))
    body = json.loads(entry.body)
    assert body["looks"] == {"count": 4, "failed": 1, "since": instant(at(1)), "states": ["Created", "InProgress"]}
    assert body["trace"] == "t-1"
    assert "looks" not in json.loads(entry_of("observe").body)


def test_a_summary_keeps_the_last_eight_states():
    looks = Looks()
    for number in range(20):
        looks = looks.plus(at=at(number), failed=False, state=f"S{number}")
    assert looks.states == tuple(f"S{number}" for number in range(12, 20))
    assert looks.count == 20


def test_every_fact_has_a_form_that_json_keeps():
    payment = replace(
        completed(), hold=HoldReason.LATE_MONEY, held_at=at(1), codes=MappingProxyType({"a": "1"}), missing=("x",),
        acknowledged_at=at(2), watch_until=at(3), unseen_until=at(4), troubled_since=at(5), call_guid="guid",
    )  # fmt: skip
    told = {name: fact(payment, name) for name in FACTS}
    assert json.loads(canonical(told)) == told
    assert all(type(value) in (str, int, bool, list, dict, type(None)) for value in told.values())
    assert (told["money"], told["outcome"], told["hold"]) == (MoneyFact.TAKEN, Outcome.PAID, HoldReason.LATE_MONEY)


def test_facts_are_all_but_identity_chain_due_time_and_claim():
    outside = {
        "id",
        "amount",
        "created_at",
        "state",
        "version",
        "head",
        "due_at",
        "claimed_by",
        "claim_no",
        "progress_claim",
    }
    assert set(FACTS) == {f.name for f in fields(Payment)} - outside | {"currency", "amount_minor"}
    assert len(FACTS) == len(set(FACTS))


def test_changed_facts_are_those_that_differ():
    before = waiting()
    assert changed_facts(before, before) == {}
    assert changed_facts(before, replace(before, due_at=at(99), version=77, claim_no=3)) == {}
    after = replace(before, codes={"a": "1"}, number=None, overdue=True)
    assert changed_facts(before, after) == {"codes": {"a": "1"}, "number": None, "overdue": True}
    assert "money" in changed_facts(None, fresh())


@pytest.mark.parametrize(("trigger", "source", "target"), ADMIN_EDGES)
def test_chains_of_workers_and_admins_use_the_same_form(trigger, source, target):
    entry = sealed_entry(
        chain_id="worker-1", seq=1, prev_hash=NO_HASH, trigger=trigger, from_state=source, to_state=target,
        kind="worker.started", result="success", about="worker-1", context=ctx(), details={"why": "boot"},
    )  # fmt: skip
    body = json.loads(entry.body)
    assert (body["chain"], body["from"], body["to"], body["why"]) == ("worker-1", source, target, "boot")
    assert entry.hash == body_hash(entry.body)


def test_an_answered_verdict_has_no_cause():
    with pytest.raises(ValueError, match="no cause"):
        Verdict(VerdictKind.ANSWERED, cause=Cause.ABSENT)
    assert (crashed().kind, crashed().reason) == (VerdictKind.UNKNOWN, "worker_lost")
