"""Log lines: what is written, what never is, and that none can break a payment."""

import ast
import asyncio
import io
import json
import logging
import re
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from uuid import UUID

import pytest
import structlog

from orchestrator import events, shown, telemetry
from orchestrator.events import ALWAYS, EVENTS, LEVELS
from orchestrator.privacy.guard import REMOVED
from orchestrator.privacy.secret import Secret
from orchestrator.telemetry import configure, correlated, emit, log

CANARY = "s3cr3t-canary"
CARD = "4111 1111 1111 1111"


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Odd(io.StringIO):
    """A stream that fails as a full disk does."""

    def write(self, text):
        raise OSError(28, "No space left on device")


class Color(StrEnum):
    RED = "red"


class Payer:
    def __repr__(self):
        return CANARY

    __str__ = __repr__


@pytest.fixture(autouse=True)
def _own_logging(own_logging):
    """Every test here configures."""


@pytest.fixture
def lines():
    """Give a function that reads every JSON line written so far."""
    stream = io.StringIO()
    configure(stream=stream, level="debug")
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def raised(error, cause=None):
    """Give an exception that was really raised, with the frames of that."""
    with pytest.raises(type(error)) as caught:
        raise error from cause
    return caught.value


def test_a_line_is_one_json_object_with_name_level_and_utc_time(lines):
    emit("payment.ended", payment_id="pay-1", state="completed", money="taken", duration_s=1.5)
    (line,) = lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", line.pop("at"))
    assert line == {
        "event": "payment.ended",
        "level": "info",
        "payment_id": "pay-1",
        "state": "completed",
        "money": "taken",
        "duration_s": 1.5,
    }


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_is_written_at_its_level_with_all_its_fields(lines, event):
    fields = dict.fromkeys(EVENTS[event] - {"error"}, "x")
    emit(event, **fields)
    (line,) = lines()
    assert line["level"] == LEVELS[event]
    assert {name: line[name] for name in fields} == fields
    assert "dropped" not in line


@pytest.mark.parametrize("event", EVENTS)
def test_names_are_a_noun_and_a_past_participle_or_an_adjective(event):
    assert re.fullmatch(r"[a-z_]+\.[a-z]+", event)
    assert EVENTS[event] >= ALWAYS


def test_what_the_table_does_not_allow_is_named_but_not_written(lines):
    emit("payment.ended", state="failed", payer=CANARY, note=CANARY)
    emit("payment.invented", payer=CANARY)
    known, unknown = lines()
    assert known["dropped"] == ["note", "payer"]
    assert (unknown["event"], unknown["name"], unknown["dropped"]) == ("log.refused", "payment.invented", ["payer"])
    assert CANARY not in json.dumps([known, unknown])


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (CARD, REMOVED),
        ("cvv=123", f"cvv={REMOVED}"),
        (4111111111111111, REMOVED),
        (1240, 1240),
        (9184120223296183904003, 9184120223296183904003),
        (True, True),
        (None, None),
        (0.25, 0.25),
        (float("nan"), "nan"),
        (Secret(CANARY), "Secret(***)"),
        (Payer(), "<Payer>"),
        (ValueError(CANARY), "<ValueError>"),
        (CANARY.encode(), "<bytes>"),
        (Color.RED, "red"),
        (Decimal("12.40"), "12.40"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (datetime(2026, 11, 24, tzinfo=UTC), "2026-11-24 00:00:00+00:00"),
        (Path("a/b"), "a/b"),
        (["a", CARD, {"k": Secret(CANARY)}], ["a", REMOVED, {"k": "Secret(***)"}]),
        ({CARD: CARD, "who": Payer()}, {REMOVED: REMOVED, "who": "<Payer>"}),
        (frozenset({CARD}), [REMOVED]),
        ([[[[[CANARY]]]]], [[[["<list>"]]]]),
        ("a\nb\x1b[31m\u202e\u2028\ud800\x00", "a\\nb\\x1b[31m\\u202e\\u2028\\ud800\\x00"),
        ("Zo\u00eb", "Zo\u00eb"),
        ("x" * 5000, "x" * 1000 + "..."),
    ],
)
def test_a_value_is_written_safely_or_by_its_class(lines, value, written):
    emit("payment.ended", reason=value)
    assert lines()[0]["reason"] == written


def test_an_exception_is_written_as_classes_and_our_frames_without_texts(lines):
    error = raised(KeyError(CANARY), ValueError(CARD))
    emit("handler.failed", error=error, name="handed_over")
    (line,) = lines()
    assert (line["error"], line["causes"]) == ("KeyError", ["ValueError"])
    assert CANARY not in json.dumps(line)
    assert REMOVED not in json.dumps(line)


def test_frames_of_the_package_are_named_and_others_are_not(lines):
    try:
        configure(level="no such level")
    except KeyError as error:
        emit("handler.failed", error=error)
    (frame,) = lines()[0]["frames"]
    assert re.fullmatch(r"orchestrator\.telemetry:\d+ configure", frame)


def test_a_circle_of_causes_ends(lines):
    one, two = ValueError(), KeyError()
    one.__cause__, two.__cause__ = two, one
    emit("handler.failed", error=one)
    assert len(lines()[0]["causes"]) == shown.MOST_FRAMES - 1


async def test_lines_of_a_task_carry_what_was_bound_around_it(lines):
    async def work(name):
        with correlated(payment_id=name, trace_id=None):
            await asyncio.sleep(0)
            await asyncio.create_task(inner())

    async def inner():
        emit("payment.claimed", claim_no=1)

    with correlated(worker_id="w-1"):
        await asyncio.gather(work("pay-1"), work("pay-2"))
    emit("payment.claimed", claim_no=1)
    *inside, outside = lines()
    assert sorted((line["payment_id"], line["worker_id"]) for line in inside) == [("pay-1", "w-1"), ("pay-2", "w-1")]
    assert not {"payment_id", "worker_id", "trace_id"} & set(outside)


def test_context_that_a_host_has_bound_is_not_written(lines):
    with structlog.contextvars.bound_contextvars(customer=CANARY):
        emit("payment.claimed")
        logging.getLogger("host").warning("x")
    assert CANARY not in json.dumps(lines())


def test_less_severe_lines_are_left_out():
    stream = io.StringIO()
    configure(stream=stream, level="warning")
    emit("payment.claimed")
    emit("payment.ended")
    emit("payment.held")
    logging.getLogger("host").info("x")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["payment.held"]


@pytest.mark.parametrize(
    ("stream", "fmt", "is_json"),
    [(io.StringIO, "auto", True), (Terminal, "auto", False), (Terminal, "json", True), (io.StringIO, "console", False)],
)
def test_lines_are_json_but_on_a_terminal(stream, fmt, is_json):
    out = stream()
    configure(stream=out, fmt=fmt)
    emit("payment.ended", reason=f"a\nb {CARD}", error=raised(KeyError(CANARY)))
    assert out.getvalue().count("\n") == 1
    assert out.getvalue().startswith("{") is is_json
    assert "payment.ended" in out.getvalue()
    assert CANARY not in out.getvalue()
    assert "1111" not in out.getvalue()


def test_libraries_are_heard_from_warnings_on_and_without_their_arguments(lines):
    for name in telemetry._LIBRARIES:
        logging.getLogger(f"{name}.part").info("request to %s", CANARY)
        logging.getLogger(f"{name}.part").warning("lost %s\n%s", CANARY, CANARY)
    logging.getLogger("asyncio").error(f"Task exception was never retrieved\nfuture: {CANARY}")  # noqa: G004 - as asyncio does
    written = lines()
    assert [line["message"] for line in written[:-1]] == ["lost %s"] * len(telemetry._LIBRARIES)
    assert written[-1]["message"] == "Task exception was never retrieved"
    assert {line["event"] for line in written} == {"library.logged"}
    assert CANARY not in json.dumps(written)


def test_a_hosts_own_lines_are_redacted_and_lose_exception_texts(lines):
    with correlated(payment_id="pay-1"):
        logging.getLogger("host").warning("card %s", CARD, exc_info=raised(ValueError(CANARY)))
    (line,) = lines()
    assert (line["message"], line["error"], line["level"]) == (f"card {REMOVED}", "ValueError", "warning")
    assert (line["logger"], line["payment_id"]) == ("host", "pay-1")
    assert CANARY not in json.dumps(line)


def test_lines_past_emit_meet_the_last_line_of_defence(lines):
    try:
        int(CANARY)
    except ValueError:
        log().warning(f"paid with {CARD}", payer=Payer(), exc_info=True, stack_info=CANARY, _checked=True)
    (line,) = lines()
    assert (line["event"], line["payer"], line["error"]) == (f"paid with {REMOVED}", "<Payer>", "ValueError")
    assert CANARY not in json.dumps(line)


def test_an_exception_may_be_given_as_logging_gives_it(lines):
    error = raised(KeyError(CANARY))
    for exc_info in (error, (KeyError, error, error.__traceback__)):
        log().error("x", exc_info=exc_info)
    assert [line["error"] for line in lines()] == ["KeyError"] * 2


def test_configuring_again_moves_all_lines():
    first, second = io.StringIO(), io.StringIO()
    configure(stream=first)
    configure(stream=second)
    emit("payment.ended")
    logging.getLogger("host").warning("x")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 2


def test_a_line_that_cannot_be_written_is_lost_and_not_raised():
    class Hostile:
        __class__ = property(lambda self: 1 / 0)

    closed = io.StringIO()
    configure(stream=closed)
    closed.close()
    emit("payment.ended")
    logging.getLogger("host").warning("x")
    configure(stream=Odd())
    emit("payment.ended")
    logging.getLogger("host").warning("x")
    out = io.StringIO()
    configure(stream=out)
    emit("payment.ended", reason=Hostile())
    emit("payment.ended", reason="fine")
    assert json.loads(out.getvalue().splitlines()[-1])["reason"] == "fine"


def test_without_configuring_lines_go_to_the_standard_library(caplog):
    with caplog.at_level(logging.INFO, logger="orchestrator"):
        emit("payment.ended", reason=CARD)
        emit("payment.claimed", claim_no=1)
    (record,) = caplog.records
    assert record.name == "orchestrator"
    assert json.loads(record.getMessage()) == {"event": "payment.ended", "reason": REMOVED}


def test_our_own_lines_do_not_feed_on_themselves_when_structlog_is_reset(caplog):
    configure(stream=io.StringIO())
    structlog.reset_defaults()
    with caplog.at_level(logging.INFO, logger="orchestrator"):
        emit("payment.ended", reason=CARD)
    (record,) = caplog.records
    assert json.loads(record.getMessage()) == {"event": "payment.ended", "reason": REMOVED}


def test_a_host_that_configured_structlog_keeps_its_output():
    captured = structlog.testing.CapturingLogger()
    structlog.configure(processors=[structlog.processors.KeyValueRenderer()], logger_factory=lambda *_: captured)
    emit("payment.ended", reason=CARD, payer=CANARY)
    (call,) = captured.calls
    assert call.method_name == "info"
    assert REMOVED in call.args[0]
    assert "_checked" not in call.args[0]
    assert CANARY not in call.args[0]


def wrong_calls(source):
    """Give what is wrong with the calls of `emit` in a module's text: names and keywords not in the table."""
    nodes = list(ast.walk(ast.parse(source)))
    tables = {}
    for node in nodes:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            name = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
            tables[name] = tables.get(name, set()) | {getattr(key, "value", "**") for key in node.value.keys}
    calls = [
        node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) in ("emit", "telemetry.emit")
    ]
    return [problem for call in calls for problem in wrong_call(call, tables)]


def wrong_call(call, tables):
    name = getattr(call.args[0], "value", None) if call.args else None
    if name not in EVENTS:
        return [f"{call.lineno}: {name!r} is no event"]
    given = set()
    for keyword in call.keywords:
        given |= {keyword.arg} if keyword.arg else tables.get(ast.unparse(keyword.value), {"**"})
    return [f"{call.lineno}: {name} has no field {field}" for field in sorted(given - EVENTS[name])]


def test_every_call_of_emit_in_the_package_keeps_to_the_table():
    package = Path(events.__file__).parent
    found = {
        str(file.relative_to(package)): problems
        for file in package.rglob("*.py")
        if file.name != "telemetry.py" and (problems := wrong_calls(file.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("call", "problems"),
    [
        ("emit('payment.ended', state=1, error=e, account='x')", []),
        ("told = {'state': 1, 'money': 2}\nemit('payment.ended', outcome=3, **told)", []),
        ("told: dict = {'state': 1}\nemit('payment.ended', **told)", []),
        ("emit('payment.ended', payer=1)", ["1: payment.ended has no field payer"]),
        ("emit('payment.endde')", ["1: 'payment.endde' is no event"]),
        ("telemetry.emit(name)", ["1: None is no event"]),
        ("emit('payment.ended', **anything)", ["1: payment.ended has no field **"]),
        ("told = {'payer': 1}\nemit('payment.ended', **told)", ["2: payment.ended has no field payer"]),
    ],
)
def test_a_call_that_leaves_the_table_would_be_found(call, problems):
    assert wrong_calls(call) == problems
