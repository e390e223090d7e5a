"""What the log says, kept as text."""

import io
import logging
from collections.abc import Iterator

import pytest
import structlog

from orchestrator.telemetry import configure


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Give every log line as JSON, and put logging back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure(level="debug", fmt="json", stream=stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level
