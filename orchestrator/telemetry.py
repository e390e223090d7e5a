"""
One way to write a log line that can neither leak nor break a payment.

Owns the shape of a line, what a value may look like in it, and the routing of
other libraries' lines; structlog has its home here, the table of events is
`events`. Every value passes through the card guard, control characters are
written as escapes, an exception as class names and our own frames (`shown`). A line
that can't be written is lost, never raised.

A host that has configured structlog or the standard library's logging keeps its
own output: until `configure` is called, lines go there under the name
`orchestrator`. Next: `shown`.
"""

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import structlog
from structlog.contextvars import bound_contextvars, get_contextvars
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from orchestrator.domain.entry import instant
from orchestrator.events import CONTEXT, EVENTS, LEVELS
from orchestrator.shown import exception, raised, shown, text

__all__ = ["EVENTS", "LEVELS", "configure", "correlated", "emit", "listened", "log"]

NAME = "orchestrator"

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
    number = _NUMBERS[level]
    processors = _processors(console=fmt == "console" or (fmt == "auto" and terminal), colors=terminal)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    _OURS.processors, _OURS.number, _OURS.stream = processors, number, structlog.WriteLogger(stream)
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


@dataclass(slots=True)
class _Ours:
    """What `configure` set up, so that a line need not ask for it again."""

    processors: Sequence[Processor] = ()
    number: int = 0
    stream: structlog.WriteLogger | None = None

    @property
    def in_use(self) -> bool:
        """Whether structlog is still configured so: a host, or a test, may have done it anew."""
        return self.stream is not None and structlog.get_config()["processors"] is self.processors

    def write(self, level: str, line: Any) -> None:
        """Write a line as structlog's own logger would, without making one."""
        for processor in self.processors:
            line = processor(self.stream, level, line)
        if self.stream is not None:
            self.stream.msg(line)


_OURS = _Ours()
_NUMBERS = {level: logging.getLevelNamesMapping()[level.upper()] for level in ("debug", "info", "warning", "error")}


def _emit(event: str, error: BaseException | None, fields: dict[str, Any]) -> None:
    allowed = EVENTS.get(event)
    if allowed is None:
        event, fields, allowed = "log.refused", {"name": event} | fields, EVENTS["log.refused"]
    ours, level = _OURS.in_use, LEVELS[event]
    # Told early what the logger would drop anyway, so that a silent event costs next to nothing.
    if not (_NUMBERS[level] >= _OURS.number if ours else _is_written(level)):
        return
    line = _context()
    dropped = None
    for name, value in fields.items():
        if name in allowed:
            line[name] = shown(value)
        else:
            dropped = [*(dropped or ()), shown(name)]
    if dropped:
        line["dropped"] = sorted(dropped)
    if error is not None:
        line |= exception(error)
    if ours:
        _OURS.write(level, {"event": event, "_checked": _CHECKED, **line})
    else:
        getattr(log(), level)(event, **line)


def _is_written(level: str) -> bool:
    return structlog.is_configured() or logging.getLogger(NAME).isEnabledFor(_NUMBERS[level])


def _context() -> dict[str, Any]:
    bound = get_contextvars()
    return {name: shown(bound[name]) for name in CONTEXT if name in bound} if bound else {}


def _processors(*, console: bool, colors: bool) -> list[Processor]:
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=colors, timestamp_key="at", exception_formatter=_no_traceback)
        if console
        else structlog.processors.JSONRenderer(_encoded)
    )
    return [
        structlog.processors.add_log_level,
        _stamped,
        _redact,
        renderer,
    ]


_encode = json.JSONEncoder(default=repr).encode
"""One encoder for all lines; their values are plain by now."""


def _stamped(_logger: Any, _method: str, line: EventDict) -> EventDict:
    line["at"] = instant(datetime.now(UTC))  # noqa: TID251 - a line is written when it is written
    return line


def _encoded(line: EventDict, **_: Any) -> str:
    return _encode(line)


def _redact(_logger: Any, _method: str, event_dict: EventDict) -> EventDict:
    """Be the last line of defence, for lines that came past `emit`."""
    if event_dict.pop("_checked", None) is _CHECKED:
        return event_dict
    error = event_dict.pop("exc_info", None)
    event_dict.pop("stack_info", None)
    plain = {shown(str(name)): shown(value) for name, value in event_dict.items()}
    if error:
        plain |= exception(raised(error))
    return plain


def _no_traceback(_stream: TextIO, _exc_info: Any) -> None:
    """Print nothing: exceptions have become fields already."""


class _Reroute(logging.Handler):
    """Writes the standard library's log records as our lines; those that are ours already are written."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == NAME:
            # Where structlog was reset behind our back, our lines come by here: they would feed on themselves.
            return
        with contextlib.suppress(Exception):  # same as in the function `emit`
            line: dict[str, Any] = {"logger": text(record.name), "message": _message(record)} | _context()
            if record.exc_info:
                line |= exception(record.exc_info[1])
            log().log(record.levelno, "library.logged", **line)


def _message(record: logging.LogRecord) -> str:
    """Give a library's fixed words only; a host's own message with its arguments, redacted."""
    if record.name.partition(".")[0] in _LIBRARIES:
        return text(str(record.msg).partition("\n")[0])
    return text(record.getMessage())
