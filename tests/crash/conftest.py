"""Fleets on either database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.crash.fleet import Fleet, fleet
from tests.integration.store.conftest import new_schema, postgresql_host, postgresql_url

__all__ = ["postgresql_host"]


@pytest.fixture
async def database(postgresql_host: str) -> str:
    """A PostgreSQL database, migrated and fresh; workers in processes use the default driver."""
    return postgresql_url(postgresql_host, await new_schema(postgresql_host), driver="asyncpg")


@pytest.fixture
async def quick(database: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    """A fleet whose claims live for 4 s, on a sandbox that runs four times as fast as life."""
    async with fleet(tmp_path, database, speed=4) as made:
        yield made
