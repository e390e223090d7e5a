"""Every kind of event is written through its real door, and none can leave out one of the six elements of 10.2.2."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert
from sqlalchemy.exc import DBAPIError

from orchestrator.domain.decision import Walk
from orchestrator.domain.entry import Entry, body_hash, canonical
from orchestrator.domain.kinds import ADMIN, KINDS, PAYMENT
from orchestrator.domain.outcome import Outcome
from orchestrator.domain.payment import HoldReason, Payment
from orchestrator.records import Record
from orchestrator.store import SqlStore
from orchestrator.store.rows import row_of_entry
from orchestrator.store.schema import audit_entry
from tests.integration.store.makers import at, birth, context, walk

ROOT = Path(__file__).parents[3]
ELEMENTS = {
    "actor": "who", "kind": "what kind of event", "at": "when", "result": "success or failure", "origin": "from where",
    "about": "about what",
}  # fmt: skip

Steps = Callable[[Payment], Walk]
_SESSION = {"session_id": "5e55", "session_at": at(0), "sessions": 1}


def _end(payment: Payment) -> Walk:
    walked = walk(payment, "authorize").step("start_session", **_SESSION).step("hand_over").step("acknowledge")
    return walked.step("observe", session_state="x").step("cancel", cancel_requested=True)


WAYS: Mapping[str, Steps] = {
    "collect": lambda new: walk(new, "collect"),
    "request": lambda new: walk(new, "authorize", "request", "retry", "request", "supersede"),
    "late_result": lambda new: (
        _end(new).step("hold", hold=HoldReason.REVIEW, held_at=at(1)).step("release", hold=None, held_at=None)
        .step("fail", outcome=Outcome.CANCELLED_BY_HOST, reason="x", watch_until=at(99))
        .step("late_result", watch_until=None)
    ),
    "complete": lambda new: walk(new, "authorize", "start_session", "hand_over", "complete"),
}  # fmt: skip


async def everything(store: SqlStore) -> dict[str, Entry]:
    """Write one entry of every kind; give the last entry of each."""
    found: dict[str, Entry] = {}
    for number, (name, way) in enumerate(WAYS.items()):
        new = await store.submit(birth(name.upper(), number=str(number)))
        stored = await store.record(Record(way(new).due(at(9)), held_claim=False))
        for entry in await store.entries(stored.id):
            found[entry.kind] = entry
    for kind in ADMIN:
        entry = await store.note(kind, about="something", context=context())
        assert entry is not None
        found[kind] = entry
    return found


def following(last: Entry, kind: str, element: str, value: object) -> dict[str, Any]:
    """Give the row of an entry that a chain could go on with, but for one element; body and hash say the same."""
    trigger = "hold" if last.chain_id.startswith("pay-") else "note"
    body = canonical(
        {
            "v": 1, "chain": last.chain_id, "seq": last.seq + 1, "trigger": trigger, "from": last.to_state,
            "to": last.to_state, "at": "2026-11-24T15:46:40.000000Z", "actor": last.actor, "origin": last.origin,
            "kind": kind, "result": last.result, "about": last.about, "prev": last.hash.hex(),
        } | {element: value}
    )  # fmt: skip
    made = replace(
        last, seq=last.seq + 1, trigger=trigger, from_state=last.to_state, prev_hash=last.hash, body=body,
        hash=body_hash(body), at=at(0), kind=kind,
    )  # fmt: skip
    return row_of_entry(made) | {element: value}


async def refusal(store: SqlStore, row: dict[str, Any]) -> str:
    def work(connection: Connection) -> str:
        try:
            connection.execute(insert(audit_entry), [row])
        except DBAPIError as error:
            return str(error.orig).split("\n", 1)[0]
        finally:
            connection.rollback()
        return ""

    return await store.database.engines.write.run(work, begin=False)


async def test_no_kind_of_event_can_leave_out_one_of_the_six_elements(store: SqlStore) -> None:
    written = await everything(store)
    assert set(written) == set(KINDS), "a kind has no way to it here"
    for kind, entry in written.items():
        last = (await store.entries(entry.chain_id))[-1]
        for element in ELEMENTS:
            assert getattr(entry, element), (kind, element)
            for value in (None, "") if element != "at" else (None,):
                told = await refusal(store, following(last, kind, element, value))
                assert re.search(rf"ck_audit_entry_answers|audit_entry\.{element}\b|\"{element}\"", told) or (
                    element == "at" and re.search("ck_audit_entry_(says|shape)", told)
                ), (kind, element, value, told)


async def test_a_result_is_one_of_three_words(store: SqlStore) -> None:
    entry = await store.note("key.used", about="k", context=context())
    assert entry is not None
    assert "ck_audit_entry_answers" in await refusal(store, following(entry, entry.kind, "result", "maybe"))


async def test_an_entry_that_leaves_out_nothing_would_be_taken(store: SqlStore) -> None:
    entry = await store.note("key.used", about="k", context=context())
    assert entry is not None
    assert await refusal(store, following(entry, entry.kind, "actor", "somebody")) == ""


@pytest.mark.parametrize("kind", ["", "host.noted", "payment.submit", "Key.used"])
async def test_a_note_of_an_unknown_kind_is_a_defect(store: SqlStore, kind: str) -> None:
    with pytest.raises(ValueError, match="kind"):
        await store.note(kind, about="x", context=context())
    assert await store.chains(None, 9) == []


NOTED = re.compile(r'note(?:d|d_within)?\(\s*(?:connection, )?"([a-z_]+\.[a-z_]+)"')


def test_every_kind_that_the_code_writes_is_known_and_says_what_it_means() -> None:
    files = (ROOT / "orchestrator").rglob("*.py")
    written = {kind for file in files for kind in NOTED.findall(file.read_text("utf-8"))}
    assert {"schema.upgraded", "account.paused", "control.failed", "worker.started"} <= written
    assert written <= set(ADMIN)
    assert all(meaning and meaning[0].islower() and not meaning.endswith(".") for meaning in KINDS.values())
    assert not set(ADMIN) & set(PAYMENT)
    assert list(ADMIN) == sorted(ADMIN)
