"""A sandbox that runs twenty times as fast as life, and an orchestrator on a new SQLite file."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator import Orchestrator, Payment
from orchestrator.sandbox import Sandbox, SandboxOptions
from tests.support.flow import settings_for


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(SandboxOptions(speed=20)) as twin:
        yield twin


@pytest.fixture
def handed_over() -> list[Payment]:
    return []


@pytest.fixture
async def orchestrator(sandbox: Sandbox, tmp_path: Path, handed_over: list[Payment]) -> AsyncIterator[Orchestrator]:
    async with Orchestrator(settings_for(sandbox.base_url, tmp_path)) as opened:
        opened.on("handed_over", handed_over.append)
        yield opened
