"""
Pictures as text: the machine, the flow of one payment, and the path that one took.

Owns the Mermaid text, made of the machine's table and the domain's enumerations
alone, so that a picture can't say what the code doesn't. The files in
`diagrams/` are written from here and a test compares them. Must not know files,
the database or the command line. Next: `cli.diagram`.

Source of the syntax: https://mermaid.js.org/syntax/stateDiagram.html and
https://mermaid.js.org/syntax/sequenceDiagram.html
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from orchestrator.domain.entry import Entry
from orchestrator.domain.machine import MACHINE, START, TABLE, Operation, Row, edges
from orchestrator.domain.payment import ENDED, Channel, State
from orchestrator.domain.verdict import VerdictKind

_NODE = {START: "[*]"}
_MOVES = tuple(edge for edge in edges() if edge[1] != edge[2])
_STAYS = tuple(edge for edge in edges() if edge[1] == edge[2])

_STYLE = (
    "classDef live fill:#eef4fb,stroke:#2f5d8a,color:#14293d",
    "classDef good fill:#e6f4ea,stroke:#2e7d4f,color:#12331f",
    "classDef bad fill:#fdecea,stroke:#a5423a,color:#4a1512",
)
_PATH_STYLE = (
    "classDef passed fill:#eef4fb,stroke:#2f5d8a,color:#14293d",
    "classDef now fill:#fff3cd,stroke:#8a6d1a,stroke-width:3px,color:#3d2f06",
    "classDef apart fill:#f6f6f6,stroke:#bbbbbb,color:#888888",
)

_ASKED = {
    Operation.AUTHORIZE: "provider",
    Operation.START_SESSION: "provider",
    Operation.HAND_OVER: "host",
    Operation.QUERY_STATUS: "provider",
}
"""Whom each operation turns to; an operation that is missing here stops the drawing."""

_TOLD = {Channel.PHONE: "handed_over", Channel.DIGITAL: "link_sent"}


def machine_text() -> str:
    """
    Give the machine as a Mermaid state diagram.

    A move is an arrow with the guards that `plan` or the write asks for. What
    leaves the state as it is stands in the state's box, and what every state
    allows stands in one note: as arrows they would hide the picture.
    """
    everywhere = _everywhere()
    lines = [f"{_node(source)} --> {target} : {_labelled(trigger)}" for trigger, source, target in _MOVES]
    for state in State:
        stays = [trigger for trigger, source, _ in _STAYS if source == state and trigger not in everywhere]
        lines += _box(state, stays)
    lines += [f"{state} --> [*]" for state in State if state in ENDED]
    lines += ["note right of collecting", *_notes(everywhere), "end note"]
    lines += [*_STYLE, *(f"class {state} {_class(state)}" for state in State)]
    return _drawn("stateDiagram-v2", ["direction TB", *lines])


def path_text(entries: Sequence[Entry]) -> str:
    """
    Give the machine with the path that one payment took.

    Args:
        entries: The payment's chain, in order.

    Returns:
        A Mermaid state diagram. Each entry's number stands before its trigger: at an
        arrow when it moved the payment, in the state's box when it didn't. The
        state that the payment is in is marked, states it never saw are grey.
    """
    taken = defaultdict(list)
    for entry in entries:
        taken[entry.trigger, entry.from_state, entry.to_state].append(entry.seq)
    lines = [f"{_node(edge[1])} --> {edge[2]} : {_numbered(edge[0], taken.get(edge, ()))}" for edge in _MOVES]
    for state in State:
        stays = [_numbered(edge[0], taken[edge]) for edge in _STAYS if edge[1] == state and edge in taken]
        lines += _box(state, stays)
    seen = {entry.to_state for entry in entries}
    last = entries[-1].to_state if entries else ""
    lines += _PATH_STYLE
    lines += [f"class {s} {'now' if s == last else 'passed' if s in seen else 'apart'}" for s in State]
    return _drawn("stateDiagram-v2", ["direction TB", *lines])


def flow_text() -> str:
    """
    Give the flow of one payment as a Mermaid sequence diagram.

    Shows the durable steps (T1 to T4) and, for each operation of the machine's
    table, who is asked and what is recorded. Any verdict takes the same road;
    the last frame says where each kind leads.
    """
    lines = [
        "participant host as Host",
        "participant worker as Worker",
        "participant database as Database",
        "participant provider as Provider",
        f"host->>database: T1 submit: payment in {State.COLLECTING}, entry 1",
        "worker->>database: T2 claim: due payments, fenced by claim_no",
        "loop plan, send, decide, record",
    ]
    for row in TABLE:
        if row.operation is not None and row.target is not None:
            lines += _turn(row, row.operation)
    lines += ["end", *_watching(), *_verdicts()]
    return _drawn("sequenceDiagram", ["autonumber", *lines])


def _turn(row: Row, operation: Operation) -> Iterable[str]:
    """One operation from its plan to its record."""
    (source,) = row.sources
    yield f"Note over worker: plan: {operation}"
    if operation is Operation.START_SESSION:
        intent = _row("request")
        yield f"worker->>database: T3 {intent.trigger}: {intent.does}, before a byte is sent"
    if _ASKED[operation] == "provider":
        yield f"worker->>provider: {operation}"
        yield "provider-->>worker: verdict"
    yield f"worker->>database: T4 {row.trigger}: {source} to {row.target}"
    if _ASKED[operation] == "host":
        told = ", ".join(f"{event} ({channel})" for channel, event in _TOLD.items())
        yield f"database-->>host: {told}, at least once"
        taken = _row("acknowledge")
        yield f"host->>database: {taken.trigger}: {taken.does} ({Channel.PHONE})"


def _watching() -> Iterable[str]:
    """The looks at the session, and the ends they lead to."""
    look = _row("observe")
    yield "loop until the provider's word, for seconds or for days"
    yield f"worker->>provider: {look.operation}"
    yield "provider-->>worker: verdict"
    yield "Note over worker: a look that learns nothing writes nothing"
    yield "end"
    for word, trigger in (("alt", "complete"), ("else", "fail"), ("else", "hold")):
        row = _row(trigger)
        to = f" to {row.target}" if row.target else ", the state stays"
        yield f"{word} {row.does}"
        yield f"worker->>database: T4 {row.trigger}: {State.AWAITING_PAYMENT}{to}"
    yield "end"
    yield "database-->>host: completed, failed or held, at least once"


def _verdicts() -> Iterable[str]:
    """Where each kind of verdict leads; one that is missing here stops the drawing."""
    leads = {
        VerdictKind.NOT_SENT: "nothing left this host: retry",
        VerdictKind.REJECTED: "no effect: retry later, or fail",
        VerdictKind.ANSWERED: "go on",
        VerdictKind.UNKNOWN: "no blind second start: supersede, or hold",
    }
    words = "<br/>".join(f"{kind}: {leads[kind]}" for kind in VerdictKind)
    yield f"Note over host,provider: a verdict is one of<br/>{words}<br/>a crash is one more: {VerdictKind.UNKNOWN}"


def _row(trigger: str) -> Row:
    return next(row for row in TABLE if row.trigger == trigger)


def _everywhere() -> list[str]:
    """Triggers that every state allows, in table order."""
    states = {trigger: {source for word, source, _ in _STAYS if word == trigger} for trigger in MACHINE.events}
    return [trigger for trigger, sources in states.items() if sources == {state.value for state in State}]


def _notes(everywhere: Iterable[str]) -> Iterable[str]:
    """What would clutter the picture if it stood where it belongs."""
    yield "in a box: what leaves the state as it is"
    yield f"in every state: {', '.join(everywhere)}"
    for row in TABLE:
        if row.target is not None and len(row.sources) > 1 and row.guards:
            yield f"{row.trigger}: [{_guards(row)}]"


def _labelled(trigger: str) -> str:
    """An arrow's text; guards that many arrows share are in the note."""
    named = [row for row in TABLE if row.trigger == trigger and len(row.sources) == 1 and row.guards]
    return f"{trigger}<br/>[{_guards(named[0])}]" if named else trigger


def _guards(row: Row) -> str:
    return ", ".join(guard.__name__ for guard in row.guards)


def _numbered(trigger: str, numbers: Iterable[int]) -> str:
    known = ", ".join(map(str, numbers))
    return f"{known} {trigger}" if known else trigger


def _node(state: str) -> str:
    return _NODE.get(state, state)


def _box(state: State, lines: Sequence[str]) -> list[str]:
    return [f"{state} : {state}", *(f"{state} : {line}" for line in lines)] if lines else [f"{state} : {state}"]


def _class(state: State) -> str:
    return "live" if state not in ENDED else "good" if state is State.COMPLETED else "bad"


def _drawn(kind: str, lines: Iterable[str]) -> str:
    return "\n".join((kind, *(f"    {line}" for line in lines), ""))
