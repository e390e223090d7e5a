"""The sealer on real databases: what it seals, when, and what it does when something stands in its way."""

import asyncio
import json
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.audit.lines import Told, read_lines
from orchestrator.audit.notes import read_note
from orchestrator.audit.sealer import Sealer, Terms, late
from orchestrator.compliance import Closing
from orchestrator.domain.errors import ControlFailed, IntegrityViolated, NotFound
from orchestrator.privacy.signing import SigningKey
from orchestrator.sinks import FileSink, HashLines, SyslogSink
from orchestrator.store import SqlStore
from orchestrator.upkeep import Upkeep
from tests.integration.audit.test_seal_matrix import KEY, TAIL, Estate, context, estate, record, tale
from tests.integration.store.makers import at
from tests.support.intruder import intruder
from tests.support.quality import row
from tests.support.virtual import VirtualClock

__all__ = ["estate"]

NEXT = SigningKey("test-log", bytes(range(32)))


def lines(path: Path) -> list[Told]:
    with path.open("rb") as file:
        return [line for line in read_lines(file, path.stat().st_size) if isinstance(line, Told)]


async def test_what_waits_is_sealed_with_its_signature_and_carried_away(estate: Estate) -> None:
    async with estate.store() as store:
        before = await store.lag()
        sealed = await estate.sealer(store).seal()
        after = await store.lag()
        nothing = await estate.sealer(store).seal()

    assert (before.waiting, after.waiting, after.since, nothing) == (6, 0, None, None)
    assert after.newest == sealed
    note = read_note(sealed.note, "note")
    assert (note.checkpoint.size, note.checkpoint.root) == (20, sealed.root)
    assert note.signed_by([KEY.public])
    told = lines(estate.sink)
    assert [line.idx for line in told if line.idx is not None] == list(range(20))
    assert [line.note for line in told if line.note][-1] == sealed.note
    assert len({line.hash for line in told if line.chain and line.idx is None}) == 20


async def test_ten_sealers_at_once_make_one_log(estate: Estate) -> None:
    stores = [estate.store() for _ in range(5)]
    for store in stores:
        await store.open()
    try:
        await asyncio.gather(*(estate.sealer(store).seal() for store in stores * 2))
        await record(stores[0], tale("pay-later"))
        await asyncio.gather(*(estate.sealer(store).seal() for store in stores * 2))
        assert (await stores[0].lag()).waiting == 0
    finally:
        for store in stores:
            await store.close()

    report = await estate.verified(announced=True)
    assert report.findings == ()
    assert report.counts["leaves"] == 26


async def test_it_seals_when_it_is_time_or_when_enough_waits(estate: Estate) -> None:
    clock = VirtualClockAt(at(0))
    async with estate.store() as store:
        sealer = replace(estate.sealer(store), clock=clock, terms=Terms(every_s=30, entries=500))
        newest = (await store.lag()).newest
        clock.at = newest.created_at + timedelta(seconds=29)
        assert not await sealer.turn()
        assert await replace(sealer, terms=Terms(every_s=30, entries=6)).turn()
        await record(store, tale("pay-later"))
        clock.at += timedelta(seconds=29)
        assert not await sealer.turn()
        clock.at += timedelta(seconds=1)
        assert await sealer.turn()
        assert not await sealer.turn()


class VirtualClockAt(VirtualClock):
    """A clock that says what it is told."""

    def __init__(self, moment: object) -> None:
        super().__init__()
        self.at = moment

    def now(self):
        return self.at


async def test_a_key_is_rotated_by_a_checkpoint_that_both_have_signed(estate: Estate) -> None:
    async with estate.store() as store:
        both = await replace(estate.sealer(store), keys=[KEY, NEXT]).seal()
        await record(store, tale("pay-later"))
        alone = await replace(estate.sealer(store), keys=[NEXT]).seal()
        used = [json.loads(entry.body) for entry in await store.entries("admin-2026-11-24")]

    assert len(read_note(both.note, "note").signed_by([KEY.public, NEXT.public])) == 2
    assert read_note(alone.note, "note").signed_by([KEY.public, NEXT.public]) == [NEXT.public]
    assert [body["key"] for body in used if body["kind"] == "key.used"] == [str(KEY.public), str(NEXT.public)]


async def test_what_was_sealed_and_not_carried_is_carried_by_the_next(estate: Estate) -> None:
    """As after a crash between the commit and the export."""
    async with estate.store() as store:
        await replace(estate.sealer(store), sinks=()).seal()
        assert [line.idx for line in lines(estate.sink) if line.idx is not None] == list(range(14))
        await estate.sealer(store).turn()

    assert [line.idx for line in lines(estate.sink) if line.idx is not None] == list(range(20))
    assert (await estate.verified()).findings == ()


async def test_nothing_is_sealed_in_a_database_that_lacks_what_a_sink_was_told(estate: Estate) -> None:
    with intruder(estate.url) as it:
        it.sql("delete from checkpoint")
    store = SqlStore(estate.url)
    try:
        with pytest.raises(ControlFailed, match="does not hold the checkpoint of 14"):
            await estate.sealer(store).seal()
        assert (await store.lag()).waiting == 6
    finally:
        await store.close()


async def test_nothing_is_sealed_over_a_checkpoint_that_does_not_hold_together(estate: Estate) -> None:
    with intruder(estate.url) as it:
        it.sql("update checkpoint set nodes = ?", (bytes(96),))
    store = SqlStore(estate.url)
    try:
        with pytest.raises(ControlFailed, match="does not hold together"):
            await replace(estate.sealer(store), sinks=()).seal()
    finally:
        await store.close()


async def test_another_databases_sink_is_refused(estate: Estate, tmp_path: Path) -> None:
    other = estate.sink.read_bytes().replace(read_note(newest(estate), "n").checkpoint.life.encode(), b"0" * 32)
    path = tmp_path / "other"
    path.write_bytes(other)
    async with estate.store() as store:
        with pytest.raises(ControlFailed, match="belongs to another database"):
            await replace(estate.sealer(store), sinks=[FileSink(path)]).seal()


def newest(estate: Estate) -> str:
    note = FileSink(estate.sink).reached()
    assert note is not None
    return note


async def test_a_sink_that_takes_nothing_is_a_failure_of_the_control_until_a_person_closes_it(
    estate: Estate, tmp_path: Path
) -> None:
    away = tmp_path / "away"
    async with estate.store() as store:
        sealer = replace(estate.sealer(store), sinks=[FileSink(away / "sink")])
        upkeep = Upkeep(Due(sealer), "seal", store, context)
        await upkeep.turn()
        await upkeep.turn()

        (failure,) = await store.failures(only_open=True)
        assert (failure.control, failure.owner) == ("export", None)
        assert "can't be" in failure.cause
        away.mkdir()
        await upkeep.turn()
        assert await store.failures(only_open=True) == [failure], "only a person says that it works again"
        assert lines(away / "sink")

        said = Closing(at(60), "mounted it", "nothing was lost", "none", "an alert")
        with pytest.raises(IntegrityViolated):
            await store.close_failure(failure.id, replace(said, prevention=""), context())
        await store.close_failure(failure.id, said, context())
        with pytest.raises(NotFound):
            await store.close_failure(failure.id, said, context())
        (closed,) = await store.failures()
        assert (closed.owner, closed.remediation, closed.ended_at is None) == ("ada", "mounted it", False)
        kinds = [entry.kind for entry in await store.entries("admin-2026-11-24")]
        assert [kind for kind in kinds if kind.startswith("control")] == ["control.failed", "control.restored"]
    assert (await estate.verified()).findings == ()


class Due:
    """A sealer for which it is always time."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    async def turn(self) -> bool:
        return await self._sealer.seal() is not None

    async def failing(self) -> str:
        return await self._sealer.failing()


async def test_entries_that_wait_too_long_are_told(estate: Estate) -> None:
    async with estate.store() as store:
        lag = await store.lag()

    assert lag.since is not None
    assert late(lag, lag.since + timedelta(seconds=119), Terms()) == ""
    assert "have waited for their seal since" in late(lag, lag.since + timedelta(seconds=121), Terms())


async def test_a_line_that_was_cut_off_is_passed_over_and_the_next_is_whole(estate: Estate) -> None:
    with estate.sink.open("r+b") as file:
        file.truncate(estate.sink.stat().st_size - 7)
    async with estate.store() as store:
        await estate.sealer(store).seal()

    assert (await estate.verified()).findings == ()
    assert [line.idx for line in lines(estate.sink) if line.idx is not None][-1] == 19


async def test_a_crowd_of_writers_is_verified_again_and_again_without_a_false_alarm(estate: Estate) -> None:
    runs = 1000 if os.environ.get("ORCHESTRATOR_TEST_FULL") else 50
    async with estate.store() as store:
        sealer, going = estate.sealer(store), asyncio.Event()

        async def write(number: int) -> None:
            count = 0
            while not going.is_set():
                await record(store, tale(f"pay-{number}-{count}"))
                count += 1
                await asyncio.sleep(0.2)

        async def seal() -> None:
            while not going.is_set():
                await sealer.seal()
                await asyncio.sleep(0.05)

        tasks = [asyncio.create_task(work) for work in (write(1), write(2), seal())]
        try:
            for _ in range(runs):
                assert (await estate.verified()).findings == ()
        finally:
            going.set()
            await asyncio.gather(*tasks)
    row(
        f"verifications beside two writers and a sealer, {store.dialect}", "0 false alarms in 1,000 (100 in CI)",
        f"{runs} verifications, 0 findings",
    )  # fmt: skip


class Collector(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def datagram_received(self, data: bytes, _: object) -> None:
        self.heard.append(data)


async def test_a_syslog_server_hears_leaves_and_checkpoints(estate: Estate, tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    transport, heard = await loop.create_datagram_endpoint(Collector, local_addr=("127.0.0.1", 0))
    try:
        port = transport.get_extra_info("sockname")[1]
        async with estate.store() as store:
            await replace(estate.sealer(store), sinks=[SyslogSink("127.0.0.1", port)]).seal()
        while len(heard.heard) < 22:
            await asyncio.sleep(0.01)
    finally:
        transport.close()
    path = tmp_path / "syslog"
    path.write_bytes(b"\n".join(heard.heard) + b"\n")

    assert heard.heard[0].startswith(b"<109>1 ")
    assert [line.idx for line in lines(path) if line.idx is not None] == list(range(20))
    assert len([line for line in lines(path) if line.note]) == 2


async def test_hashes_that_can_not_be_written_are_told_once_and_stop_nothing(tmp_path: Path) -> None:
    told: list[str] = []
    waiting = HashLines(FileSink(tmp_path / "away" / "sink"), bytes, told.append)
    for _ in range(2):
        waiting.add([b"{}"])
        await waiting.flush()
    assert len(told) == 1
    (tmp_path / "away").mkdir()
    waiting.add([b"{}"])
    await waiting.close()

    assert waiting.trouble == ""
    assert (tmp_path / "away" / "sink").read_bytes() == b"{}\n"
    assert TAIL
