"""An old copy of the database is put back under running workers: noticed, and with the notice switched off, caught."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.domain.entry import Context
from orchestrator.domain.errors import WentBack
from orchestrator.domain.payment import Channel
from orchestrator.store.incarnation import Witness
from tests.simulation.lives import Weather
from tests.simulation.sqlite import in_a_file
from tests.simulation.world import Result, Scene, simulate

SEED = 17
DRILL = Scene(weather=Weather(slow=0.5, trouble=0.0, cancels=0.0), payments=4, workers=2, busy_s=30.0)


async def an_old_copy_is_put_back(world: Any) -> None:
    """Copy the file while the account is paused; put the copy back when payments that waited have sessions."""
    store = world.store
    ann = Context(world.true_now(), "ann", "here")
    await store.pause_account("emea", reason="drill", context=ann)
    await asyncio.sleep(25)
    copy = store.copied()
    waiting = [one.id for one in store.everybody() if one.channel is Channel.DIGITAL and not one.missing]
    await store.resume_account("emea", reason="drill", context=ann)
    while not any(world.vendor.of(one) for one in waiting):
        await asyncio.sleep(1)
    await asyncio.sleep(5)
    store.put_back(copy)
    world.log("put back")
    # The copy knows the account as paused: whoever does not notice that it is a copy resumes it.
    await asyncio.sleep(15)
    with suppress(WentBack):
        await store.resume_account("emea", reason="drill", context=ann)
    await asyncio.sleep(15)
    store.restored(world.seed)
    await store.resume_account("emea", reason="drill", context=ann)
    world.log("restored")


def drilled() -> Result:
    with in_a_file() as store:
        return simulate(SEED, replace(DRILL, store=store, also=an_old_copy_is_put_back))


def test_no_session_is_started_twice() -> None:
    result = drilled()

    assert any("restored" in line for line in result.lines)
    assert {finding.invariant for finding in result.findings} <= {"I6", "I7"}, "what the copy does not know is lost"


def test_a_store_that_ignores_its_incarnation_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def demand(self: Witness, connection: object) -> None:
        del self, connection

    monkeypatch.setattr(Witness, "demand", demand)

    assert "I1" in {finding.invariant for finding in drilled().findings}
