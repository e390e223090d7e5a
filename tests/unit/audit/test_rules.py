"""The rules of a review: each finds what it is there for, in the period and nowhere else."""

from datetime import timedelta
from typing import Any

import pytest

from orchestrator.audit.rules import RULES, of_chain, of_entry, worth_reading
from orchestrator.domain.entry import NO_HASH, Entry, sealed_entry
from tests.integration.store.makers import at, context
from tests.unit.audit.tales import TALES, completed, superseded

DAY = timedelta(days=1)
SINCE, UNTIL = at(0) - DAY, at(0) + DAY


def note(kind: str, result: str = "failure", **details: Any) -> Entry:
    return sealed_entry(
        chain_id="admin-2026-11-24", seq=1, prev_hash=NO_HASH, trigger="note", from_state="-", to_state="open",
        kind=kind, result=result, about="x", context=context(5, actor="ada"), details=details,
    )  # fmt: skip


def step(seq: int, trigger: str, seconds: float = 0, **details: Any) -> Entry:
    return sealed_entry(
        chain_id="pay-a", seq=seq, prev_hash=NO_HASH, trigger=trigger, from_state="authorized", to_state="authorized",
        kind=f"payment.{trigger}", result="success", about="pay-a", context=context(seconds, actor="ada"),
        details=details,
    )  # fmt: skip


def asked(seq: int, attempt: int, seconds: float = 0) -> Entry:
    return step(seq, "request", seconds, operation="start_session", attempt=attempt)


def answered(seq: int, trigger: str, attempt: int, verdict: str, seconds: float = 0) -> Entry:
    return step(seq, trigger, seconds, operation="start_session", attempt=attempt, verdict=verdict)


def rules(*chain: Entry, since=SINCE, until=UNTIL, limit=timedelta(hours=4)) -> list[tuple[str, int | None]]:
    return [(found.rule, found.seq) for found in of_chain(chain, since, until, limit)]


@pytest.mark.parametrize(
    ("entry", "rule"),
    [
        (note("webhook.refused", reason="unauthorized", account="emea"), "access.denied"),
        (note("webhook.refused", reason="card_data", account="emea"), "card.refused"),
        (note("card_data.refused", where="reference"), "card.refused"),
        (note("resolution.refused", refused="same_person_twice"), "access.denied"),
        (note("access.denied", reason="no rights"), "access.denied"),
        (note("clock.skew", offset_ms=7000), "clock.skew"),
        (note("account.paused", reason="maintenance"), "account.paused"),
        (note("database.restored", reason="disk"), "database.restored"),
        (note("schema.upgraded", "success"), "schema.changed"),
        (note("control.failed", cause="no sink"), "control.failed"),
        (note("key.used", key="k"), "key.used"),
        (step(9, "late_result"), "result.late"),
        (step(9, "release", persons=["ada"], resolution={"kind": "outcome", "outcome": "paid"}), "override"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.kind,
)
def test_an_entry_is_found_by_its_rule(entry: Entry, rule: str) -> None:
    (found,) = of_entry(entry)
    assert (found.rule, found.about, found.seq, found.actor) == (rule, entry.chain_id, entry.seq, "ada")
    assert found.told["version"] == RULES[rule].version


@pytest.mark.parametrize(
    "entry",
    [
        note("account.resumed", "success"), note("webhook.unmatched"), note("audit.exported", "success"),
        note("access.granted", "success"), note("review.signed", "success"), step(2, "authorize"),
        step(3, "release", facts={"reason": "paid"}), step(3, "hold", proposal={"kind": "outcome"}),
    ],
    ids=lambda entry: entry.kind,
)  # fmt: skip
def test_what_is_in_order_is_no_finding(entry: Entry) -> None:
    assert list(of_entry(entry)) == []


def test_a_second_start_that_nothing_explains_is_found() -> None:
    chain = [asked(3, 1), answered(4, "hold", 1, "unknown"), step(5, "release"), asked(6, 2)]

    assert rules(*chain) == [("session.overlap", 6)]
    assert rules(*chain, until=at(0)) == [], "outside the period it is another review's"


@pytest.mark.parametrize(
    "chain",
    [
        [asked(3, 1), answered(4, "supersede", 1, "unknown"), asked(5, 2)],
        [asked(3, 1), answered(4, "retry", 1, "not_sent"), asked(5, 2)],
        [asked(3, 1), answered(4, "hold", 1, "unknown"), step(5, "release", resolution={"kind": "retry"}), asked(6, 2)],
    ],
    ids=["superseded", "never sent", "a person's word"],
)
def test_a_second_start_that_something_explains_is_in_order(chain: list[Entry]) -> None:
    assert rules(*chain) == []


def test_a_hold_is_too_old_when_it_lasted_longer_than_the_limit() -> None:
    chain = [step(3, "hold"), step(4, "hold", 3600), step(5, "release", 5 * 3600)]

    assert rules(*chain) == [("hold.old", 5)]
    assert rules(*chain, limit=timedelta(hours=6)) == []


@pytest.mark.parametrize("name", sorted(TALES))
def test_the_flow_itself_never_overlaps_sessions(name: str) -> None:
    assert not [found for found in rules(*TALES[name]().entries) if found[0] == "session.overlap"]


def test_only_what_calls_for_it_is_read_whole() -> None:
    assert any(map(worth_reading, superseded().entries))
    assert worth_reading(step(5, "release"))
    assert not any(map(worth_reading, completed().entries))
