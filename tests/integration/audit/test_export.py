"""An export of a real database: what it says is what is stored, and the database knows that it was made."""

import hashlib
import json
import stat
from pathlib import Path

import pytest

from orchestrator.audit.export import Exported, Wish, export
from orchestrator.audit.exported import read_export
from orchestrator.domain.errors import ConfigurationError, InvalidInput, Unavailable
from orchestrator.domain.payment import HoldReason
from orchestrator.records import Record
from orchestrator.store import SqlStore
from tests.integration.store.conftest import postgresql_host, sqlite_template, store, url
from tests.integration.store.makers import PAID, at, birth, outside, walk

__all__ = ["postgresql_host", "sqlite_template", "store", "url"]


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    file = tmp_path / "payments.db"
    file.write_bytes(sqlite_template.read_bytes())
    return f"sqlite:///{file}"


async def some(store: SqlStore) -> None:
    for number in range(3):
        await store.submit(birth(f"INV-{number}", created_at=at(number)))
    (done,) = await store.of_reference("emea", "INV-1")
    await store.record(outside(done, *PAID))
    (doubted,) = await store.of_reference("emea", "INV-2")
    await store.record(Record(walk(doubted).hold(HoldReason.REVIEW).due(None), held_claim=False))


async def silent(_: Exported) -> None:
    return


async def test_an_export_holds_the_trail_as_it_is_stored(store: SqlStore, tmp_path: Path) -> None:
    await some(store)
    file, told = tmp_path / "trail.jsonl", list[Exported]()

    async def note(exported: Exported) -> None:
        assert not file.exists(), "the word comes before the name"
        told.append(exported)

    exported = await export(store, file, note)

    content = file.read_bytes()
    stored = [entry async for entry in store.all_entries()]
    rows = [json.loads(line) for line in content.splitlines()]
    assert [(bytes.fromhex(row["hash"]), row["body"]) for row in rows] == [(each.hash, each.body) for each in stored]
    assert told == [exported]
    assert exported == Exported(
        len(stored), len({each.chain_id for each in stored}), hashlib.sha256(content).hexdigest()
    )
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with file.open("rb") as again:
        stories = list(read_export(again, file.name))
    assert {story.chain_id: story.head for story in stories} == {each.chain_id: each.hash for each in stored}


async def test_a_period_takes_whole_chains_that_have_an_entry_in_it(store: SqlStore, tmp_path: Path) -> None:
    await some(store)

    exported = await export(store, tmp_path / "trail.jsonl", silent, Wish(since=at(1), until=at(2)))

    with (tmp_path / "trail.jsonl").open("rb") as file:
        stories = {story.chain_id: story.seq for story in read_export(file, "trail.jsonl")}
    stored = [entry async for entry in store.all_entries()]
    within = {entry.chain_id for entry in stored if at(1) <= entry.at < at(2)}
    assert 0 < len(within) < 3
    assert stories == {chain: max(each.seq for each in stored if each.chain_id == chain) for chain in within}
    assert (exported.chains, exported.entries) == (len(stories), sum(stories.values()))


async def test_an_export_is_never_overwritten(store: SqlStore, tmp_path: Path) -> None:
    (tmp_path / "trail.jsonl").write_text("mine")

    with pytest.raises(InvalidInput, match="exists"):
        await export(store, tmp_path / "trail.jsonl", silent)

    assert (tmp_path / "trail.jsonl").read_text() == "mine"


async def test_an_export_that_nobody_was_told_of_is_none(store: SqlStore, tmp_path: Path) -> None:
    await some(store)
    place = tmp_path / "exports"
    place.mkdir()

    async def gone(_: Exported) -> None:
        raise Unavailable("the database is gone")

    with pytest.raises(Unavailable):
        await export(store, place / "trail.jsonl", gone)

    assert list(place.iterdir()) == []


async def test_a_place_that_can_not_be_written_is_named(store: SqlStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't be written"):
        await export(store, tmp_path / "nowhere" / "trail.jsonl", silent)
