from dataclasses import replace
from types import SimpleNamespace

import pytest
from transitions import MachineError

from orchestrator.domain import machine
from orchestrator.domain.machine import MACHINE, Operation, allows, edges, next_state, planned
from orchestrator.domain.outcome import Outcome
from orchestrator.domain.payment import ENDED, HoldReason, State
from tests.unit.domain.story import (
    authorized,
    born,
    cancelled,
    completed,
    declined,
    doubted,
    fresh,
    refused_number,
    released,
    requested,
    superseded,
    waiting,
    watched,
)

LIVE = ("collecting", "authorized", "session_started", "awaiting_payment")
EVERY = (*LIVE, "completed", "failed")
DESIGNED = {
    ("submit", "-", "collecting"),
    ("collect", "collecting", "collecting"),
    ("authorize", "collecting", "authorized"),
    ("request", "authorized", "authorized"),
    ("retry", "collecting", "collecting"),
    ("retry", "authorized", "authorized"),
    ("supersede", "authorized", "authorized"),
    ("start_session", "authorized", "session_started"),
    ("hand_over", "session_started", "awaiting_payment"),
    ("acknowledge", "awaiting_payment", "awaiting_payment"),
    *(("observe", state, state) for state in LIVE[1:]),
    *(("cancel", state, state) for state in LIVE[1:]),
    ("complete", "awaiting_payment", "completed"),
    *(("fail", state, "failed") for state in LIVE),
    *(("hold", state, state) for state in EVERY),
    *(("release", state, state) for state in EVERY),
    *(("late_result", state, state) for state in EVERY[4:]),
}
TRIGGERS = sorted({trigger for trigger, _, _ in DESIGNED} - {"submit"})
MOVES = {(trigger, source): target for trigger, source, target in DESIGNED}


def free(state):
    """A payment that no guard forbids anything."""
    return replace(fresh(), state=State(state), outcome=Outcome.PAID)


def test_the_edges_are_the_design_and_each_stands_once():
    assert len(edges()) == len(set(edges()))
    assert set(edges()) == DESIGNED


@pytest.mark.parametrize("state", EVERY)
@pytest.mark.parametrize("trigger", TRIGGERS)
def test_next_state_follows_an_edge_and_refuses_everything_else(trigger, state):
    payment = free(state)
    if (trigger, state) in MOVES:
        assert next_state(payment, trigger) is State(MOVES[trigger, state])
    else:
        with pytest.raises(MachineError):
            next_state(payment, trigger)
    assert payment == free(state)


@pytest.mark.parametrize("trigger", ["submit", "refund", "", "to_completed", "trigger", "__class__"])
def test_a_trigger_that_the_table_does_not_have_is_refused(trigger):
    for state in EVERY:
        with pytest.raises(MachineError):
            next_state(free(state), trigger)


def test_every_state_is_reached_and_no_edge_leaves_an_end():
    reached, frontier = set(), {"-"}
    while frontier:
        reached |= frontier
        frontier = {to for _, source, to in edges() if source in frontier} - reached
    assert reached == {"-", *EVERY}
    assert all(to == source for _, source, to in edges() if source in ENDED)
    assert {state for state in EVERY if MACHINE.get_state(state).final} == set(ENDED)


@pytest.mark.parametrize(
    ("trigger", "payment"),
    [
        ("request", replace(free("authorized"), attempts=2, open_attempt=1)),
        ("request", replace(free("authorized"), hold=HoldReason.SESSION_UNKNOWN)),
        ("request", replace(free("authorized"), cancel_requested=True)),
        ("supersede", replace(free("authorized"), hold=HoldReason.SESSION_UNKNOWN)),
        ("complete", replace(free("awaiting_payment"), outcome=None)),
        *(("complete", replace(free("awaiting_payment"), outcome=o)) for o in Outcome if o is not Outcome.PAID),
        *(("fail", replace(free(state), hold=HoldReason.REVIEW)) for state in LIVE),
        *(("fail", replace(free(state), attempts=1, open_attempt=1)) for state in LIVE),
    ],
)
def test_a_binding_guard_forbids_even_its_own_edge(trigger, payment):
    with pytest.raises(MachineError, match="a guard forbids"):
        next_state(payment, trigger)


@pytest.mark.parametrize("hold", list(HoldReason))
def test_what_an_answer_proved_may_be_written_down_in_spite_of_a_hold(hold):
    for trigger, state in [
        ("authorize", "collecting"),
        ("start_session", "authorized"),
        ("observe", "awaiting_payment"),
    ]:
        assert next_state(replace(free(state), hold=hold), trigger)


AUTHORIZE, START, HAND_OVER, QUERY = Operation


@pytest.mark.parametrize(
    ("payment", "operation"),
    [
        (born(), AUTHORIZE),
        (born(missing=["CallGuid"]), None),
        (replace(born(), hold=HoldReason.POISON), None),
        (authorized(), START),
        (superseded(), START),
        (requested(), None),
        (doubted(), None),
        (replace(authorized(), cancel_requested=True), None),
        (refused_number(), QUERY),
        (released(refused_number()), HAND_OVER),
        (cancelled(released(refused_number())), QUERY),
        (waiting(), QUERY),
        (replace(waiting(), hold=HoldReason.REVIEW), QUERY),
        (cancelled(waiting()), QUERY),
        (completed(), None),
        (declined(), None),
        (watched(), QUERY),
        (replace(watched(), session_id=None), None),
    ],
)
def test_planned_gives_the_operation_whose_guards_hold(payment, operation):
    assert planned(payment) is operation


def test_the_machine_keeps_no_models_and_binds_nothing():
    for payment in (born(), waiting(), completed()):
        for trigger in TRIGGERS:
            try:
                next_state(payment, trigger)
            except MachineError:
                continue
    assert MACHINE.models == []
    assert not MACHINE.has_queue
    assert not MACHINE.ignore_invalid_triggers
    assert not any(trigger.startswith("to_") for trigger in MACHINE.events)
    assert MACHINE.on_exception == MACHINE.finalize_event == MACHINE.before_state_change == []
    assert all(not state.on_enter and not state.on_exit for state in MACHINE.states.values())


def test_the_operations_and_guards_are_the_machines_own_data():
    own = [
        (trigger, transition.operation, transition.guards)
        for trigger, event in MACHINE.events.items()
        for transitions in event.transitions.values()
        for transition in transitions
    ]
    table = {row.trigger: (row.operation, row.guards) for row in machine.TABLE}
    assert all(table[trigger] == (operation, guards) for trigger, operation, guards in own)
    assert {row.operation for row in machine.TABLE} - {None} == set(Operation)
    assert all(row.does for row in machine.TABLE)


@pytest.mark.parametrize("trigger", sorted(MACHINE.events))
@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hold": HoldReason.REVIEW},
        {"cancel_requested": True},
        {"open_attempt": 1, "attempts": 1},
        {"open_attempt": 1, "attempts": 2},
        {"outcome": Outcome.PAID, "session_id": "s"},
        {"watch_until": fresh().created_at, "session_id": "s"},
    ],
)
def test_the_librarys_own_trigger_answers_alike(trigger, state, changes):
    payment, cursor = replace(free(state), **changes), SimpleNamespace(state=state.value)
    try:
        moved = MACHINE.events[trigger].trigger(cursor, payment=payment)
        expected = State(cursor.state) if moved else None
    except MachineError:
        expected = None

    assert (next_state(payment, trigger) if allows(payment, trigger) else None) is expected
