"""What tests of every kind share."""

import logging
import signal
from collections.abc import Iterator

import pytest
import structlog

from orchestrator import telemetry


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Put structlog and the standard library's logging back as they were: both belong to the process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in telemetry._LIBRARIES}
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level
    for name, former in levels.items():
        logging.getLogger(name).setLevel(former)


def pytest_configure() -> None:
    """Take Ctrl-C as any program does: a shell that runs us in the background has us and our children ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
