"""An export is verified by its files alone, and whatever is changed in one of them is said."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.audit import Report, verify
from orchestrator.audit.export import CSV_COLUMNS, Exported, Wish, export
from orchestrator.audit.exported import ExportArchive, check_manifest, read_manifest
from orchestrator.audit.log import Evidence
from orchestrator.domain.errors import InvalidInput
from tests.integration.audit.test_seal_matrix import KEY, SEALED, STRANGER, Estate, estate
from tests.integration.store.makers import at

__all__ = ["estate"]


async def silent(_: Exported) -> None:
    return


@pytest.fixture
async def file(estate: Estate, tmp_path: Path) -> Path:
    async with estate.store() as store:
        await export(store, tmp_path / "trail.jsonl", silent, Wish(keys=[KEY], said={"by": "ada"}))
    return tmp_path / "trail.jsonl"


async def verified(file: Path, *sinks: Path) -> Report:
    manifest = read_manifest(file)
    found = tuple(check_manifest(manifest, [KEY.public]))
    if found:
        return Report(found, {})
    note = manifest.checkpoint
    assert note is not None
    return await verify(
        ExportArchive(manifest), evidence=Evidence([KEY.public], [("the manifest's checkpoint", note)], sinks)
    )


async def test_a_whole_export_is_verified_without_its_database(estate: Estate, file: Path) -> None:
    report = await verified(file, estate.sink)

    assert report.findings == ()
    counted = {name: report.counts[name] for name in ("entries", "leaves", "waiting", "payments")}
    assert counted == {"entries": 20, "leaves": 14, "waiting": 6, "payments": 0}
    manifest = read_manifest(file)
    assert (manifest.told["entries"], manifest.told["waiting"], manifest.told["by"]) == (20, 6, "ada")
    assert manifest.whole


async def test_a_period_is_verified_as_well(estate: Estate, tmp_path: Path) -> None:
    path = tmp_path / "part.jsonl"
    async with estate.store() as store:
        exported = await export(store, path, silent, Wish(keys=[KEY], since=at(-3600), until=at(0.5)))

    assert (await verified(path)).findings == ()
    assert 0 < exported.entries <= 20
    assert not read_manifest(path).whole


def lines(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def work(file: Path) -> None:
        file.write_text("".join(change(file.read_text().splitlines(keepends=True))))

    return work


def part(suffix: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def work(file: Path) -> None:
        other = Path(f"{file}{suffix}")
        other.write_bytes(change(other.read_bytes()))

    return work


def said(**more: object) -> Callable[[bytes], bytes]:
    def work(content: bytes) -> bytes:
        return (
            json.dumps(json.loads(content) | more, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
            + b"\n"
        )

    return work


FOUND = {
    "a line is missing": (lines(lambda all_: all_[:3] + all_[4:]), "export"),
    "a line is changed": (lines(lambda all_: [all_[0].replace("ada", "eve"), *all_[1:]]), "export"),
    "the leaves are cut off": (part(".leaves", lambda content: content[:-32]), "export"),
}
REFUSED = {
    "the manifest is cut off": (part(".manifest.json", lambda content: content[:-9]), "manifest.json: is cut off"),
    "the manifest is gone": (lambda file: Path(f"{file}.manifest.json").unlink(), "can't be read"),
    "the manifest says something else": (part(".manifest.json", said(entries=19)), "signature of another manifest"),
    "the manifest is of another program": (part(".manifest.json", said(format="x")), "no manifest"),
    "the signature is cut off": (part(".manifest.sig", lambda content: content[:-9]), "manifest.sig"),
    "the signature is gone": (lambda file: Path(f"{file}.manifest.sig").unlink(), "manifest.sig: can't be read"),
    "the entries are gone": (lambda file: file.unlink(), "trail.jsonl: can't be read"),
}


@pytest.mark.parametrize("what", FOUND)
async def test_what_was_changed_in_a_file_is_a_finding(file: Path, what: str) -> None:
    change, kind = FOUND[what]
    change(file)

    assert [found.kind for found in (await verified(file)).findings] == [kind]


@pytest.mark.parametrize("what", REFUSED)
async def test_what_is_no_export_any_more_is_one_clear_error(file: Path, what: str) -> None:
    change, told = REFUSED[what]
    change(file)

    with pytest.raises(InvalidInput) as refused:
        await verified(file)
    assert told in str(refused.value)
    assert "export the trail again" in str(refused.value) or "checkpoint" in str(refused.value)


async def test_a_forged_export_under_a_key_of_their_own_has_no_signature_that_counts(
    estate: Estate, tmp_path: Path
) -> None:
    path = tmp_path / "forged.jsonl"
    async with estate.store() as store:
        await export(store, path, silent, Wish(keys=[STRANGER]))

    assert [found.kind for found in (await verified(path)).findings] == ["signature"]


async def test_an_entry_that_was_left_out_by_whoever_holds_the_key_is_missed_in_the_log(
    estate: Estate, tmp_path: Path
) -> None:
    """The forger writes a true export of a lying database; the leaves tell."""
    path = tmp_path / "left-out.jsonl"
    async with estate.store() as store:
        await export(store, path, silent, Wish())
    kept = [line for line in path.read_text().splitlines(keepends=True) if SEALED not in line]
    path.write_text("".join(kept))
    manifest = read_manifest(path)

    report = await verify(ExportArchive(manifest), evidence=Evidence())

    assert {found.kind for found in report.findings} == {"leaf"}


async def test_a_csv_file_holds_the_same_and_no_formula(estate: Estate, tmp_path: Path) -> None:
    path = tmp_path / "trail.csv"
    async with estate.store() as store:
        exported = await export(store, path, silent, Wish(form="csv", keys=[KEY]))

    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert len(rows) == exported.entries == 20
    assert rows[0]["from"] == "'-"
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@"))]
    assert tuple(check_manifest(read_manifest(path), [KEY.public])) == ()
