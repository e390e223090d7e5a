"""
One way to write a log line that can neither leak nor break a payment.

Owns the shape of a line, what a value may look like in it, and the routing of
other libraries' lines; structlog has its home here, the table of events is
`events`. Every value passes through the card guard, control characters are
written as escapes, a `Secret` as stars, an object of any other class as the name
of its class, an exception as class names and our own frames: its text and its
locals could hold anything. A line that can't be written is lost, never raised.

A host that has configured structlog or the standard library's logging keeps its
own output: until `configure` is called, lines go there under the name
`orchestrator`. Next: `privacy.guard`.
"""

import contextlib
import logging
import math
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import TracebackType
from typing import Any, Literal, TextIO
from uuid import UUID

import structlog
from structlog.contextvars import bound_contextvars, get_contextvars
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from orchestrator.events import CONTEXT, EVENTS, LEVELS
from orchestrator.privacy.guard import redact_card_data
from orchestrator.privacy.secret import Secret

__all__ = ["EVENTS", "LEVELS", "configure", "correlated", "emit", "listened", "log"]

NAME = "orchestrator"
LONGEST_TEXT = 1000
DEEPEST = 4
MOST_FRAMES = 12

_LIBRARIES = (
    "transitions",
    "httpx",
    "httpcore",
    "aiohttp",
    "sqlalchemy",
    "asyncio",
    "alembic",
    "aiosqlite",
    "asyncpg",
    "psycopg",
    "uvicorn",
)
"""Their arguments are URLs, rows and exceptions: of their lines only the fixed part is written, from warnings on."""

_CHECKED = object()
"""Marks a line of `emit`, whose values need no second look; nobody else can hold it."""

_ESCAPED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_PACKAGE = f"{NAME}."


def configure(
    *,
    level: Literal["debug", "info", "warning", "error"] = "info",
    fmt: Literal["auto", "json", "console"] = "auto",
    stream: TextIO | None = None,
) -> None:
    """
    Take over the process's logging. For our own command line and workers; a host calls it only if it likes.

    May be called again; the last call counts.

    Args:
        level: The least severe line that is written.
        fmt: `auto` is `console` on a terminal and JSON lines elsewhere.
        stream: Where lines go, standard error by default: standard output belongs to results.
    """
    stream = stream or sys.stderr
    terminal = stream.isatty()
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=_processors(console=fmt == "console" or (fmt == "auto" and terminal), colors=terminal),
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Reroute)]:
        root.removeHandler(handler)
    root.addHandler(_Reroute())
    root.setLevel(number)
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def log() -> FilteringBoundLogger:
    """
    Give the logger that `emit` writes to: `configure`'s, else the host's structlog, else the standard library's.

    Prefer `emit`: what is written to the logger directly passes only the filters
    of `configure`, not those of the table.
    """
    if structlog.is_configured():
        logger: FilteringBoundLogger = structlog.get_logger(NAME)
        return logger
    wrapped: FilteringBoundLogger = structlog.wrap_logger(
        logging.getLogger(NAME),
        processors=[structlog.stdlib.filter_by_level, structlog.processors.JSONRenderer(sort_keys=True)],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return wrapped


def emit(event: str, /, *, error: BaseException | None = None, **fields: Any) -> None:
    """
    Write one event of the table.

    Never raises: a log line must not break a payment. What the table doesn't
    allow is left out and named in `dropped`, so that it is found in the output;
    an unknown event is written as `log.refused`.

    Args:
        event: A name in `EVENTS`.
        error: The exception it is about; written without its text.
        fields: What the event may carry.

    Crash:
        A line is written at once or lost; nothing depends on it.
    """
    with contextlib.suppress(Exception):  # a full disk, a closed stream: there is nowhere left to say so
        for listener in _LISTENERS:
            listener(event, fields)
        _emit(event, error, fields)


_LISTENERS: list[Callable[[str, Mapping[str, Any]], None]] = []


@contextlib.contextmanager
def listened(listener: Callable[[str, Mapping[str, Any]], None]) -> Iterator[None]:
    """Tell `listener` every event and its fields, written or not, until the block ends: metrics count so."""
    _LISTENERS.append(listener)
    try:
        yield
    finally:
        _LISTENERS.remove(listener)


@contextlib.contextmanager
def correlated(
    *,
    payment_id: str | None = None,
    account: str | None = None,
    worker_id: str | None = None,
    trace_id: str | None = None,
) -> Iterator[None]:
    """Tie all lines of this task and of those it starts to what is given, until the block ends."""
    given = {"payment_id": payment_id, "account": account, "worker_id": worker_id, "trace_id": trace_id}
    with bound_contextvars(**{name: value for name, value in given.items() if value is not None}):
        yield


def _emit(event: str, error: BaseException | None, fields: dict[str, Any]) -> None:
    allowed = EVENTS.get(event)
    if allowed is None:
        event, fields, allowed = "log.refused", {"name": event} | fields, EVENTS["log.refused"]
    if not _is_written(LEVELS[event]):
        return
    line = _context()
    line |= {name: _shown(value) for name, value in fields.items() if name in allowed}
    dropped = sorted(_shown(name) for name in fields if name not in allowed)
    if dropped:
        line["dropped"] = dropped
    if error is not None:
        line |= _exception(error)
    if structlog.is_configured() and _is_ours():
        line["_checked"] = _CHECKED
    getattr(log(), LEVELS[event])(event, **line)


def _is_written(level: str) -> bool:
    """Tell early what the logger would drop anyway, so that a silent event costs next to nothing."""
    number = logging.getLevelNamesMapping()[level.upper()]
    if not structlog.is_configured():
        return logging.getLogger(NAME).isEnabledFor(number)
    return not _is_ours() or log().is_enabled_for(number)


def _is_ours() -> bool:
    return _redact in structlog.get_config()["processors"]


def _context() -> dict[str, Any]:
    bound = get_contextvars()
    return {name: _shown(bound[name]) for name in CONTEXT if name in bound}


def _processors(*, console: bool, colors: bool) -> list[Processor]:
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=colors, timestamp_key="at", exception_formatter=_no_traceback)
        if console
        else structlog.processors.JSONRenderer(sort_keys=False)
    )
    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        _redact,
        renderer,
    ]


def _redact(_logger: Any, _method: str, event_dict: EventDict) -> EventDict:
    """Be the last line of defence, for lines that came past `emit`."""
    if event_dict.pop("_checked", None) is _CHECKED:
        return event_dict
    error = event_dict.pop("exc_info", None)
    event_dict.pop("stack_info", None)
    shown = {_shown(str(name)): _shown(value) for name, value in event_dict.items()}
    if error:
        shown |= _exception(_raised(error))
    return shown


def _no_traceback(_stream: TextIO, _exc_info: Any) -> None:
    """Print nothing: exceptions have become fields already."""


def _shown(value: Any, depth: int = 0) -> Any:
    """Give what may be written of a value."""
    match value:
        case None | bool():
            return value
        case float():
            return value if math.isfinite(value) else str(value)  # JSON has no other numbers
        case Enum():
            return _shown(value.value, depth)
        case str():
            return _text(value)
        case int():
            return (
                _text(str(value)) if abs(value) >= 10**12 and redact_card_data(str(value)) != str(value) else int(value)
            )
        case Secret():
            return repr(value)
        case Decimal() | UUID() | date() | PurePath():
            return _text(str(value))
    if depth < DEEPEST:
        if isinstance(value, Mapping):
            return {_text(str(name)): _shown(member, depth + 1) for name, member in value.items()}
        if isinstance(value, Sequence | AbstractSet) and not isinstance(value, bytes | bytearray | memoryview):
            return [_shown(member, depth + 1) for member in value]
    return f"<{type(value).__name__}>"


def _text(text: str) -> str:
    text = redact_card_data(text[: 2 * LONGEST_TEXT])
    if len(text) > LONGEST_TEXT:
        text = f"{text[:LONGEST_TEXT]}..."
    return text if text.isascii() and text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character in _REORDERING or unicodedata.category(character) in _ESCAPED_CATEGORIES:
        return character.encode("unicode_escape").decode("ascii")
    return character


def _exception(error: BaseException | None) -> dict[str, Any]:
    """Give the classes of an exception and its causes, and where in our code it went by."""
    names: list[str] = []
    frames: list[str] = []
    while error is not None and len(names) < MOST_FRAMES:
        names.append(type(error).__name__)
        frames += _frames(error.__traceback__)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return {"error": names[0] if names else None, "causes": names[1:], "frames": frames[-MOST_FRAMES:]}


def _frames(traceback: TracebackType | None) -> Iterator[str]:
    while traceback is not None:
        frame = traceback.tb_frame
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith(_PACKAGE):
            yield f"{module}:{traceback.tb_lineno} {frame.f_code.co_name}"
        traceback = traceback.tb_next


def _raised(exc_info: Any) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    return exc_info[1] if isinstance(exc_info, tuple) else sys.exc_info()[1]


class _Reroute(logging.Handler):
    """Writes the standard library's log records as our lines; those that are ours already are written."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == NAME:
            # Where structlog was reset behind our back, our lines come by here: they would feed on themselves.
            return
        with contextlib.suppress(Exception):  # same as in the function `emit`
            line: dict[str, Any] = {"logger": _text(record.name), "message": _message(record)} | _context()
            if record.exc_info:
                line |= _exception(record.exc_info[1])
            log().log(record.levelno, "library.logged", **line)


def _message(record: logging.LogRecord) -> str:
    """Give a library's fixed words only; a host's own message with its arguments, redacted."""
    if record.name.partition(".")[0] in _LIBRARIES:
        return _text(str(record.msg).partition("\n")[0])
    return _text(record.getMessage())
