import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from orchestrator import diagrams
from orchestrator.diagrams import flow_text, machine_text, path_text
from orchestrator.domain.decision import Decision
from orchestrator.domain.entry import Entry
from orchestrator.domain.machine import TABLE, Operation, Row, edges
from orchestrator.domain.payment import State
from orchestrator.domain.verdict import VerdictKind
from tests.unit.domain import story

MOVES = [edge for edge in edges() if edge[1] != edge[2]]
STAYS = [edge for edge in edges() if edge[1] == edge[2]]
PAID = [
    "submit", "authorize", "request", "start_session", "hand_over", "acknowledge", "complete",
]  # fmt: skip


def chain(*decisions: Decision) -> Sequence[Entry]:
    return [entry for decision in decisions for entry in decision.entries]


def paid_by_phone() -> Sequence[Entry]:
    born = story.asking.submit(story.fresh(), story.ctx(), story.DIALLED)
    authorized = story.authorize(born.payment, story.ANSWERED, 0)
    requested = story.intend(authorized.payment, story.ctx(), request_digest="r1")
    started = story.start(requested.payment, story.OPENED, 1)
    taken = story.hand_over(started.payment, story.ANSWERED, 2)
    return chain(born, authorized, requested, started, taken, story.look(taken.payment, story.paid()))


def boxes(text: str) -> dict[str, list[str]]:
    """Each state's lines below its name."""
    found: dict[str, list[str]] = {}
    for state, line in re.findall(r"^    (\w+) : (.+)$", text, re.MULTILINE):
        found.setdefault(state, []).append(line)
    assert all(state == lines[0] for state, lines in found.items())
    return {state: lines[1:] for state, lines in found.items()}


@pytest.mark.parametrize("edge", MOVES, ids="-".join)
def test_every_move_is_one_arrow(edge: tuple[str, str, str]) -> None:
    trigger, source, target = edge
    node = source.replace("-", "[*]")
    arrows = re.findall(rf"^    {re.escape(node)} --> {target} : {trigger}(?:<br/>|$)", machine_text(), re.MULTILINE)
    assert len(arrows) == 1


@pytest.mark.parametrize("edge", STAYS, ids="-".join)
def test_what_leaves_a_state_as_it_is_stands_in_its_box_or_in_the_note(edge: tuple[str, str, str]) -> None:
    trigger, state, _ = edge
    (everywhere,) = re.findall(r"in every state: (.+)", machine_text())
    assert (trigger in boxes(machine_text())[state]) != (trigger in everywhere.split(", "))


def test_the_machines_picture_holds_no_arrow_that_the_machine_has_not() -> None:
    assert len(re.findall(r"-->", machine_text())) == len(MOVES) + 2  # both ends


@pytest.mark.parametrize("row", [row for row in TABLE if row.guards and row.target], ids=lambda row: row.trigger)
def test_the_guards_of_a_move_are_shown(row: Row) -> None:
    guards = ", ".join(guard.__name__ for guard in row.guards)
    assert re.search(rf"{row.trigger}(?:<br/>|: )\[{guards}\]", machine_text())


def test_the_texts_are_the_same_each_time() -> None:
    assert machine_text() == machine_text()
    assert flow_text() == flow_text()


@pytest.mark.parametrize("operation", Operation)
def test_the_flow_shows_every_operation(operation: Operation) -> None:
    assert re.search(rf"(plan: |worker->>provider: ){operation}$", flow_text(), re.MULTILINE)


@pytest.mark.parametrize("kind", VerdictKind)
def test_the_flow_says_where_every_verdict_leads(kind: VerdictKind) -> None:
    assert f"<br/>{kind}: " in flow_text()


def test_the_flow_shows_the_durable_steps_in_their_order() -> None:
    steps = re.findall(r"\bT[1-4]\b", flow_text())
    assert steps == ["T1", "T2", "T4", "T3", *["T4"] * 5]
    assert flow_text().index("T3 request") < flow_text().index("worker->>provider: start_session")


def test_the_flow_goes_stale_when_the_table_does(monkeypatch: pytest.MonkeyPatch) -> None:
    before = flow_text()
    renamed = tuple(replace(row, does="asked for") if row.trigger == "request" else row for row in TABLE)
    monkeypatch.setattr(diagrams, "TABLE", renamed)
    assert "T3 request: asked for, before a byte is sent" in flow_text()
    assert flow_text() != before


def test_a_path_numbers_what_happened() -> None:
    entries = paid_by_phone()
    assert [entry.trigger for entry in entries] == PAID
    text = path_text(entries)
    assert re.findall(r"--> (\w+) : (\d+) (\w+)$", text, re.MULTILINE) == [
        ("collecting", "1", "submit"), ("authorized", "2", "authorize"), ("session_started", "4", "start_session"),
        ("awaiting_payment", "5", "hand_over"), ("completed", "7", "complete"),
    ]  # fmt: skip
    assert boxes(text) == {state: [] for state in State} | {
        "authorized": ["3 request"], "awaiting_payment": ["6 acknowledge"],
    }  # fmt: skip


def test_a_path_tells_the_present_state_from_those_passed_and_those_never_seen() -> None:
    classes = dict(re.findall(r"^    class (\w+) (\w+)$", path_text(paid_by_phone()), re.MULTILINE))
    assert classes == dict.fromkeys(State, "passed") | {"completed": "now", "failed": "apart"}


def test_a_step_taken_twice_has_both_numbers() -> None:
    requested = story.requested()
    retried = story.start(requested, story.NOT_SENT, 1)
    again = story.intend(retried.payment, story.ctx(2), request_digest="r2")
    born = story.asking.submit(story.fresh(), story.ctx(), story.DIALLED)
    first = story.authorize(born.payment, story.ANSWERED, 0)
    entries = chain(born, first, story.intend(first.payment, story.ctx(), request_digest="r1"), retried, again)
    assert boxes(path_text(entries))["authorized"] == ["3, 5 request", "4 retry"]


def test_a_path_without_entries_marks_nothing() -> None:
    text = path_text(())
    assert not re.search(r": \d", text)
    assert set(re.findall(r"^    class \w+ (\w+)$", text, re.MULTILINE)) == {"apart"}
