"""Verifying what came after a checkpoint, and the worker that does so by itself."""

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.audit import Report, verify
from orchestrator.audit.log import Evidence
from orchestrator.audit.notes import read_note
from orchestrator.audit.sealer import SealWatch, Terms
from orchestrator.audit.watchman import VERIFY, Watchman
from orchestrator.domain.errors import ControlFailed, InvalidInput
from orchestrator.store import SqlStore
from orchestrator.upkeep import Upkeep
from tests.integration.audit.test_seal_matrix import (
    KEY,
    SEALED,
    STRANGER,
    TAIL,
    Estate,
    context,
    estate,
    rechained,
    record,
    tale,
)
from tests.integration.audit.test_sealer import VirtualClockAt
from tests.integration.store.makers import at
from tests.support.intruder import intruder

__all__ = ["estate"]


async def since(estate: Estate, note: str) -> Report:
    store = SqlStore(estate.url)
    try:
        after = ("old.note", read_note(note, "old.note"))
        return await verify(store, evidence=Evidence([KEY.public], sinks=[estate.sink], after=after))
    finally:
        await store.close()


async def newest(estate: Estate) -> str:
    async with estate.store() as store:
        seal = await store.newest_seal()
    assert seal is not None
    return seal.note


async def grown(estate: Estate) -> str:
    """Let the log grow behind a checkpoint; give the checkpoint."""
    note = await newest(estate)
    async with estate.store() as store:
        await estate.sealer(store).seal()
        await record(store, tale("pay-after"))
    return note


async def test_only_what_came_after_is_read_and_chains_that_have_grown_are_read_whole(estate: Estate) -> None:
    report = await since(estate, await grown(estate))

    assert report.findings == ()
    counted = {name: report.counts[name] for name in ("chains", "entries", "payments", "leaves", "checkpoints")}
    assert counted == {"chains": 2, "entries": 12, "payments": 2, "leaves": 20, "checkpoints": 1}


async def test_what_was_changed_behind_a_checkpoint_is_found_and_before_it_is_for_a_whole_verification(
    estate: Estate,
) -> None:
    note = await grown(estate)
    with intruder(estate.url) as it:
        rechained(it, TAIL)
        it.sql("update log_leaf set hash = ? where idx = 16", (bytes(32),))

    found = {(f.kind, f.chain_id) for f in (await since(estate, note)).findings}

    assert {("leaf", TAIL), ("root", "log"), ("sink", TAIL)} <= found
    assert SEALED not in {chain for _, chain in found}


async def test_a_checkpoint_that_is_none_of_this_log_can_not_be_gone_on_from(estate: Estate) -> None:
    note = await grown(estate)

    with pytest.raises(InvalidInput, match="no checkpoint of this log"):
        await since(estate, note.replace("\n14\n", "\n13\n"))
    with intruder(estate.url) as it:
        it.sql("update checkpoint set nodes = ? where size = 14", (bytes(96),))
    with pytest.raises(InvalidInput, match="nodes were changed"):
        await since(estate, note)


class Ticking:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        return self.at


async def test_a_watchman_finds_what_is_changed_under_a_running_worker(estate: Estate) -> None:
    clock = Ticking()
    async with estate.store() as store:
        watchman = Watchman(store, [KEY.public], clock, every_s=300)  # type: ignore[arg-type]
        upkeep = Upkeep(watchman, VERIFY, store, context)
        await upkeep.turn()
        assert await store.failures() == []

        await record(store, tale("pay-new"))
        with intruder(estate.url) as it:
            rechained(it, "pay-new")
            it.sql("update audit_entry set actor = 'eve' where chain_id = 'pay-new' and seq = 2")
        await upkeep.turn()
        assert await store.failures() == [], "it is not time yet"
        clock.at = 301
        store._database.guard = None
        await upkeep.turn()

        (failure,) = await store.failures(only_open=True)
    assert failure.control == "verify"
    assert "findings; " in failure.cause


async def test_a_watchman_goes_on_from_what_it_has_seen(estate: Estate) -> None:
    clock = Ticking()
    async with estate.store() as store:
        watchman = Watchman(store, [KEY.public], clock, every_s=300)  # type: ignore[arg-type]
        await watchman.turn()
        await estate.sealer(store).seal()
        clock.at = 301
        await watchman.turn()
        assert watchman._seen == await store.newest_seal()
        # A key that nobody trusts signs the next one.
        await record(store, tale("pay-next"))
        await replace(watchman, keys=()).turn()
        await estate.sealer(store, STRANGER).seal()
        clock.at = 602
        with pytest.raises(ControlFailed, match="signature"):
            await watchman.turn()


async def test_a_worker_without_a_key_minds_that_somebody_else_seals_in_time(estate: Estate) -> None:
    clock = VirtualClockAt(at(0))
    async with estate.store() as store:
        lag = await store.lag()
        watch = SealWatch(store, clock, Terms())  # type: ignore[arg-type]
        clock.at = lag.since + timedelta(seconds=119)
        assert (await watch.turn(), await watch.failing()) == (False, "")
        clock.at = lag.since + timedelta(seconds=121)
        assert "have waited for their seal" in await watch.failing()
