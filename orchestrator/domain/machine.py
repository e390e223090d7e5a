"""
The machine: the one table of what may happen to a payment.

`transitions` owns it as a module-level, synchronous machine without models: it
is definition, guard, planner and diagram source. Each transition carries its
operation and its guards as the machine's own data. No I/O in callbacks, because
there are none: `decide` asks for the next state and does the rest. The edges
in the database's checks and the pictures in `diagrams/` are generated from it.
Next: `operation`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from transitions import EventData, Machine, MachineError, Transition
from transitions import State as MachineState

from orchestrator.domain.outcome import Outcome
from orchestrator.domain.payment import ENDED, Payment, State

VERSION = 1
"""The version that payments are pinned to; it changes with the table, not with the source."""

START = "-"
"""The state before the first entry, in entries and edges."""


class Operation(StrEnum):
    """What the machine does next, outside itself."""

    AUTHORIZE = "authorize"
    START_SESSION = "start_session"
    HAND_OVER = "hand_over"
    QUERY_STATUS = "query_status"


Guard = Callable[[Payment], bool]


def collected(payment: Payment) -> bool:
    """Every field that the channel's definitions use is known."""
    return not payment.missing


def closed(payment: Payment) -> bool:
    """No attempt is open: nothing is in flight whose verdict is not recorded."""
    return payment.open_attempt is None


def sole(payment: Payment) -> bool:
    """The open attempt, if any, is the newest: an intent is never recorded over an older one."""
    return payment.open_attempt in (None, payment.attempts)


def unheld(payment: Payment) -> bool:
    """Nobody has to look: effects are allowed."""
    return payment.hold is None


def wanted(payment: Payment) -> bool:
    """The host has not asked to end it."""
    return not payment.cancel_requested


def evidenced(payment: Payment) -> bool:
    """The provider's answer proves that it was paid."""
    return payment.outcome is Outcome.PAID


def watched(payment: Payment) -> bool:
    """The ended payment's session may still be paid."""
    return payment.watch_until is not None


def sessioned(payment: Payment) -> bool:
    """There is a session to ask about."""
    return payment.session_id is not None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `operation` is what `plan` does to make it happen."""

    trigger: str
    sources: tuple[State, ...]
    target: State | None
    """`None`: the state stays."""
    does: str
    operation: Operation | None = None
    guards: tuple[Guard, ...] = ()


LIVE = tuple(state for state in State if state not in ENDED)
_C, _A, _S, _W = State.COLLECTING, State.AUTHORIZED, State.SESSION_STARTED, State.AWAITING_PAYMENT
_DONE, _FAILED = State.COMPLETED, State.FAILED

TABLE = (
    Row("collect", (_C,), None, "the host supplies fields"),
    Row("authorize", (_C,), _A, "the token is there", Operation.AUTHORIZE, (collected, closed, unheld, wanted)),
    Row("request", (_A,), None, "the intent to start a session", None, (sole, unheld, wanted)),
    Row("retry", (_C, _A), None, "a try came to nothing, without effect"),
    Row("supersede", (_A,), None, "a session nobody saw is given up for a new one", None, (unheld,)),
    Row("start_session", (_A,), _S, "the session is known", Operation.START_SESSION, (closed, unheld, wanted)),
    Row("hand_over", (_S,), _W, 'number and link id, or "link sent", are published', Operation.HAND_OVER,
        (sessioned, unheld, wanted)),
    Row("acknowledge", (_W,), None, "the host has taken the hand-over"),
    Row("observe", (_A, _S, _W), None, "a look or an answer that changed something", Operation.QUERY_STATUS,
        (sessioned,)),
    Row("cancel", (_A, _S, _W), None, "the host asks to end it; one last look first"),
    Row("complete", (_W,), _DONE, "evidence of a positive gateway result", None, (evidenced,)),
    Row("fail", LIVE, _FAILED, "an outcome and a reason", None, (unheld, closed)),
    Row("hold", tuple(State), None, "doubt is set: a person must look"),
    Row("release", tuple(State), None, "doubt is resolved"),
    Row("late_result", (_DONE, _FAILED), None, "evidence after the end", Operation.QUERY_STATUS, (watched, sessioned)),
)  # fmt: skip


def _condition(guard: Guard) -> Callable[[EventData], bool]:
    def condition(event: EventData) -> bool:
        return guard(event.kwargs["payment"])

    condition.__name__ = guard.__name__
    return condition


class GuardedTransition(Transition):
    """A transition that carries what is done to make it happen."""

    def __init__(self, *args: Any, operation: Operation | None = None, guards: tuple[Guard, ...] = (),
                 **kwargs: Any) -> None:  # fmt: skip
        super().__init__(*args, **kwargs)
        self.operation = operation
        self.guards = guards


class PaymentMachine(Machine):
    """The library's machine with `GuardedTransition`."""

    transition_cls = GuardedTransition


def _binding(operation: Operation | None, guards: tuple[Guard, ...]) -> tuple[Guard, ...]:
    """
    Give the guards that forbid the step itself.

    A planning guard decides whether to try; once an answer is there, only the facts it rests on may
    forbid writing it down.
    """
    return guards if operation is None else ()


def _build() -> PaymentMachine:
    machine = PaymentMachine(
        model=None,
        states=[MachineState(state.value, final=state in ENDED) for state in State],
        initial=None,
        auto_transitions=False,
        send_event=True,
    )
    for row in TABLE:
        for source in row.sources:
            machine.add_transition(
                row.trigger, source.value, (row.target or source).value,
                conditions=[_condition(guard) for guard in _binding(row.operation, row.guards)],
                operation=row.operation, guards=row.guards,
            )  # fmt: skip
    return machine


MACHINE = _build()
"""The machine itself. Ask it through `next_state` and `planned`."""


def next_state(payment: Payment, trigger: str) -> State:
    """
    Give the state that `trigger` leads to; the payment is not changed.

    Raises:
        MachineError: The table has no such transition, or a guard forbids it. That
            is a defect of the caller, never of input.
    """
    ways = _WAYS.get((trigger, payment.state))
    if ways is None:
        raise MachineError(f"no {trigger} from {payment.state}")
    for target, guards in ways:
        if all(guard(payment) for guard in guards):
            return target
    raise MachineError(f"a guard forbids {trigger} from {payment.state}")


def allows(payment: Payment, trigger: str) -> bool:
    """Tell whether `next_state` would answer: there is such a transition, and no guard forbids it."""
    try:
        next_state(payment, trigger)
    except MachineError:
        return False
    return True


def planned(payment: Payment) -> Operation | None:
    """Give the first operation, in table order, that leaves the present state and whose guards hold."""
    for operation, guards in _PLANNED[payment.state]:
        if all(guard(payment) for guard in guards):
            return operation
    return None


def edges() -> list[tuple[str, str, str]]:
    """Give every legal (trigger, from, to) of a payment's chain, the birth included."""
    found: Iterable[tuple[str, str, str]] = (
        (trigger, transition.source, str(transition.dest))
        for trigger, event in MACHINE.events.items()
        for transitions in event.transitions.values()
        for transition in transitions
    )
    return [("submit", START, State.COLLECTING.value), *found]


# The machine's own table, by what is asked most. A trigger of the library's finds the same, at ten times the
# cost: tests/unit/domain/test_machine.py has both answer alike.
_WAYS: dict[tuple[str, State], list[tuple[State, tuple[Guard, ...]]]] = {
    (trigger, State(source)): [
        (State(str(transition.dest)), _binding(transition.operation, transition.guards))
        for transition in transitions
        if isinstance(transition, GuardedTransition)
    ]
    for trigger, event in MACHINE.events.items()
    for source, transitions in event.transitions.items()
}
_PLANNED: dict[State, list[tuple[Operation, tuple[Guard, ...]]]] = {
    state: [
        (transition.operation, transition.guards)
        for event in MACHINE.events.values()
        for transition in event.transitions.get(state.value, ())
        if isinstance(transition, GuardedTransition) and transition.operation is not None
    ]
    for state in State
}
