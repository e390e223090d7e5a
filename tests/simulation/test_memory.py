"""The store in memory decides as the SQL store does: a seed on either is the same run, to the byte."""

import asyncio
from collections.abc import Callable

import pytest

from tests.simulation.memory import Memory
from tests.simulation.sqlite import in_a_file
from tests.simulation.world import Scene, simulate


class Hintless(Memory):
    """A file gives no hints, so that its polls find everything."""

    async def listen(self, stir: Callable[[], None]) -> None:
        del stir
        await asyncio.Event().wait()


@pytest.mark.parametrize("seed", [2, 9])
def test_a_seed_is_the_same_run_in_memory_and_on_a_file(seed: int) -> None:
    with in_a_file() as store:
        on_file = simulate(seed, Scene(store=store))
    in_memory = simulate(seed, Scene(store=Hintless))

    assert on_file.findings == []
    assert on_file.counts["entries"] > 20
    assert on_file.lines == in_memory.lines
    assert on_file.trace == in_memory.trace
