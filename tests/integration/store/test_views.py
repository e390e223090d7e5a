"""The views: the same columns on both databases, what they tell, and the examples in docs/views.md."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from orchestrator.domain.decision import Walk
from orchestrator.domain.machine import Operation
from orchestrator.domain.outcome import MoneyFact
from orchestrator.domain.payment import HoldReason, Payment
from orchestrator.domain.verdict import Exchange, Verdict, VerdictKind
from orchestrator.records import Record
from orchestrator.store import SqlStore
from orchestrator.store.views import COLUMNS
from tests.integration.store.makers import at, birth, context, outside, walk

DOCUMENT = (Path(__file__).parents[3] / "docs" / "views.md").read_text(encoding="utf-8")
START: dict[str, Any] = {"operation": Operation.START_SESSION}
UNKNOWN = Verdict(VerdictKind.UNKNOWN, reason="timeout", exchange=Exchange("POST", "https://x/v1", None, 9, 1))
UNSENT = Verdict(VerdictKind.NOT_SENT, reason="refused")

PINNED = {
    "v_payment": "id account channel reference round amount_minor currency state outcome reason money hold held_at"
    " overdue cancel_requested created_at due_at deadline_at watch_until call_guid session_id session_state session_at"
    " attempts open_attempt sessions acknowledged_at unseen_until version claimed_by claim_no machine_version codes",
    "v_timeline": "payment_id seq at actor origin kind trigger from_state to_state result operation verdict cause why"
    " message method url trace software attempt status sends duration_ms reason looks hash",
    "v_provider_calls": "payment_id account reference seq at actor origin trigger step operation attempt verdict result"
    " cause why method url status sends duration_ms looks looks_failed session_id trace",
    "v_unknown": "payment_id account channel reference round amount_minor currency state outcome reason money"
    " money_unknown open_attempt attempt_open hold held_at held unseen_until session_unseen session_id created_at"
    " due_at version",
    "v_session_overlap": "payment_id account reference earlier_seq earlier_at earlier_attempt payable_until seq at"
    " attempt actor supersede_seq explained",
    "v_audit_access": "chain_id seq at actor origin kind result about reason entries sha256 count",
    "v_admin_actions": "chain_id seq at actor origin kind result about reason trigger body hash",
}
"""An interface: what stands here may be added to, and never changed."""


async def rows(store: SqlStore, statement: str) -> list[dict[str, Any]]:
    async with store.snapshot() as moment:
        found = await moment._bound.run(lambda connection: connection.execute(text(statement)).mappings().all())
    return [dict(row) for row in found]


@pytest.mark.parametrize("view", PINNED)
async def test_the_columns_of_a_view_are_pinned(store: SqlStore, view: str) -> None:
    async with store.snapshot() as moment:
        every = text(f"select * from {view}")
        found = await moment._bound.run(lambda connection: list(connection.execute(every).keys()))
    assert found == PINNED[view].split() == list(COLUMNS[view])


def test_every_view_is_pinned_and_documented_column_by_column() -> None:
    assert list(PINNED) == list(COLUMNS)
    for view, columns in COLUMNS.items():
        section = DOCUMENT.split(f"\n## {view}\n")[1].split("\n## ")[0]
        named = [
            name
            for line in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
            for name in re.findall(r"`(\w+)`", line)
        ]
        assert sorted(named) == sorted(columns), view


def intended(walked: Walk, attempt: int) -> Walk:
    return walked.step("request", **START, attempt=attempt, attempts=attempt, open_attempt=attempt)


async def written(store: SqlStore, walked: Walk) -> Payment:
    return await store.record(Record(walked.due(at(9)), held_claim=False))


def later(payment: Payment, seconds: float) -> Walk:
    return Walk(payment, context(seconds))


async def superseded(store: SqlStore, reference: str, *, life_s: float = 900) -> Payment:
    """Start, hear nothing, give that session up, and start again 60 s later."""
    new = await store.submit(birth(reference))
    first = intended(walk(new, "authorize"), 1)
    first.step("supersede", **START, attempt=1, verdict=UNKNOWN, open_attempt=None, sessions=1, unseen_until=at(life_s))
    return await written(store, intended(later(await written(store, first), 60), 2))


async def test_a_start_over_a_session_that_may_still_be_paid_is_shown_with_its_explanation(store: SqlStore) -> None:
    payment = await superseded(store, "TWICE")
    await superseded(store, "OVER", life_s=30)  # its life was over when the other began
    [row] = await rows(store, "select * from v_session_overlap")
    assert (row["payment_id"], row["reference"], row["explained"]) == (payment.id, "TWICE", "yes")
    assert (row["earlier_seq"], row["earlier_attempt"], row["supersede_seq"], row["seq"], row["attempt"]) == (
        3,
        1,
        4,
        5,
        2,
    )
    assert row["actor"] == "worker-1"
    assert row["payable_until"] is not None


async def test_a_start_that_nobody_explains_is_shown_as_such(store: SqlStore) -> None:
    new = await store.submit(birth("SILENT"))
    first = await written(store, intended(walk(new, "authorize"), 1))
    # As a defect of ours would write it: the machine forbids it only while the first is open.
    forgotten = await written(
        store, later(first, 5).step("hold", hold=HoldReason.REVIEW, held_at=at(5), open_attempt=None)
    )
    freed = await written(store, later(forgotten, 6).step("release", hold=None, held_at=None))
    await written(store, intended(later(freed, 7), 2))
    assert [row["explained"] for row in await rows(store, "select * from v_session_overlap")] == ["no"]


async def test_what_came_to_nothing_or_was_settled_by_a_person_is_no_overlap(store: SqlStore) -> None:
    new = await store.submit(birth("RETRIED"))
    first = intended(walk(new, "authorize"), 1).step("retry", **START, attempt=1, verdict=UNSENT, open_attempt=None)
    await written(store, intended(later(await written(store, first), 5), 2))
    new = await store.submit(birth("SETTLED"))
    doubt = intended(walk(new, "authorize"), 1).step(
        "hold", **START, attempt=1, verdict=UNKNOWN, hold=HoldReason.SESSION_UNKNOWN, held_at=at(1), open_attempt=None,
        sessions=1, unseen_until=at(900),
    )  # fmt: skip
    word = later(await written(store, doubt), 5).step("release", hold=None, held_at=None, unseen_until=None)
    await written(store, intended(later(await written(store, word), 6), 2))
    assert await rows(store, "select * from v_session_overlap") == []


async def test_calls_are_intents_answers_and_looks(store: SqlStore) -> None:
    payment = await superseded(store, "CALLS")
    looked = replace(context(90), looks=context().looks.plus(at=at(61), failed=True, state="x"))
    await written(store, Walk(payment, looked).step("hold", hold=HoldReason.REVIEW, held_at=at(90)))
    found = await rows(store, "select * from v_provider_calls order by seq")
    assert [(row["step"], row["attempt"], row["verdict"], row["looks"]) for row in found] == [
        ("intent", 1, None, None), ("answer", 1, "unknown", None), ("intent", 2, None, None), ("looks", None, None, 1),
    ]  # fmt: skip
    assert (found[1]["method"], found[1]["url"], found[1]["why"], found[1]["duration_ms"]) == (
        "POST", "https://x/v1", "timeout", 9,
    )  # fmt: skip
    assert {(row["account"], row["reference"]) for row in found} == {("emea", "CALLS")}
    assert found[3]["looks_failed"] == 1


async def test_what_is_unknown_is_one_row_for_each_payment(store: SqlStore) -> None:
    await store.submit(birth("CLEAR"))
    await superseded(store, "OPEN")
    new = await store.submit(birth("HELD"))
    step = later(new, 1).step("hold", hold=HoldReason.REVIEW, held_at=at(1), money=MoneyFact.UNKNOWN)
    await written(store, step)
    found = await rows(store, "select * from v_unknown order by reference")
    told = [
        (row["reference"], row["money_unknown"], row["attempt_open"], row["held"], row["session_unseen"])
        for row in found
    ]
    assert told == [("HELD", "yes", "no", "yes", "no"), ("OPEN", "no", "yes", "no", "yes")]


async def test_who_looked_and_what_persons_did_is_told(store: SqlStore) -> None:
    payment = await store.submit(birth("P"))
    person = Walk(payment, context(1, actor="ada")).step("hold", extra={"why": "she said so"})
    await written(store, person)
    by_host = await store.submit(birth("Q"))
    await store.record(outside(by_host, "authorize", due=at(9)))
    exported = {"entries": 3, "sha256": "ab"}
    await store.note("audit.exported", about="trail", context=context(2, actor="ada"), details=exported)
    denied = {"reason": "unauthorized", "sender": "10.0.0.7", "count": 4}
    await store.note(
        "access.denied", about="metrics", context=context(3, actor="webhook"), details=denied, result="failure"
    )
    await store.note("clock.skew", about="host:1", context=context(4))
    access = await rows(store, "select * from v_audit_access order by seq")
    assert [(row["kind"], row["actor"], row["entries"], row["sha256"], row["count"]) for row in access] == [
        ("audit.exported", "ada", 3, "ab", None), ("access.denied", "webhook", None, None, 4),
    ]  # fmt: skip
    actions = await rows(store, "select * from v_admin_actions order by at")
    assert [(row["kind"], row["reason"]) for row in actions] == [
        ("payment.hold", "she said so"), ("audit.exported", None), ("access.denied", "unauthorized"),
        ("clock.skew", None),
    ]  # fmt: skip
    assert actions[0]["about"] == payment.id


EXAMPLES = re.findall(r"```sql\n(.*?)```", DOCUMENT, re.DOTALL)


async def test_every_example_of_the_document_runs_on_both_databases(store: SqlStore) -> None:
    await superseded(store, "EXAMPLE")
    for name in ("v_payment", *COLUMNS):
        assert any(name in example for example in EXAMPLES), name
    for example in EXAMPLES:
        await rows(store, example)
