"""
A trail as files: written in one piece, signed, and complete to whoever checks them.

Owns the format. `FILE` has the entries, one a line in the order (chain, seq), each chain from
its first entry on: JSON Lines in UTF-8,

    {"hash": "<64 hexadecimal digits>", "leaf": <place in the log or null>, "body": "<the stored text>"}

or CSV with the same and the columns beside it. `FILE.leaves` has every leaf's hash of the log, 32
bytes each, so that root and places can be checked without the database. `FILE.manifest.json` says what
was asked for, how much there is, which checkpoint is over it and what each file's SHA-256 is;
`FILE.manifest.sig` is its signature. Anybody can recompute `hash = SHA-256(0x00 || body)` and
follow `prev` inside the bodies. Next: `exported`.
"""

import contextlib
import csv
import hashlib
import io
import json
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal

from orchestrator.audit.exported import FORMAT, LEAVES, MANIFEST, SIGNATURE
from orchestrator.audit.notes import Checkpoint, Signer, signed_note
from orchestrator.audit.verify import Archive, Trail
from orchestrator.compliance import Placed
from orchestrator.domain.entry import canonical, instant
from orchestrator.domain.errors import ConfigurationError, IntegrityViolated, InvalidInput
from orchestrator.files import sync_directory

CSV_COLUMNS = (
    "chain", "seq", "at", "actor", "origin", "kind", "result", "about", "trigger", "from", "to", "leaf", "hash", "body",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would take for a formula (OWASP: CSV injection); such a cell begins with an apostrophe."""


@dataclass(frozen=True, slots=True)
class Wish:
    """
    What is to be exported.

    Attributes:
        since: Only chains with an entry at or after this; those are written whole.
        until: Only chains with an entry before this; with `since`, an entry between both.
        form: JSON Lines, or CSV.
        said: More for the manifest, such as who asked: ASCII keys, canonical JSON values.
        keys: Each signs the manifest.
    """

    since: datetime | None = None
    until: datetime | None = None
    form: Literal["jsonl", "csv"] = "jsonl"
    said: dict[str, Any] = field(default_factory=dict)
    keys: Sequence[Signer] = ()


@dataclass(frozen=True, slots=True)
class Exported:
    """
    What was written.

    Attributes:
        entries, chains: How many.
        sha256: Of the entries' file, in hexadecimal.
        manifest: What the manifest says.
    """

    entries: int
    chains: int
    sha256: str
    manifest: dict[str, Any] = field(default_factory=dict, compare=False)


async def export(
    archive: Archive, file: Path, told: Callable[[Exported], Awaitable[None]], wish: Wish = Wish()
) -> Exported:
    """
    Write every chain to new files, as all of them were at one moment.

    Args:
        archive: A store, or a copy of one.
        file: The entries' file. Neither it nor those beside it may exist; readable by their owner alone.
        told: Called when everything is written, before the files get their names: writes down
            that there is an export. If it raises, there is none.
        wish: What is to be exported.

    Raises:
        InvalidInput: A file exists.
        ConfigurationError: One can't be written.
        IntegrityViolated: A row of the trail can't be read: no export passes over it.
        Unavailable: The database does not answer.

    Crash:
        Before the end there is no manifest, so there is no export: at most files that end in
        `.part`, or entries and leaves without a manifest, which nobody misses. A crash just before
        the renaming leaves `told`'s word of an export that nobody has; never an export without the word.
    """
    with contextlib.ExitStack() as stack:
        names = [file.with_name(file.name + suffix) for suffix in (SIGNATURE, MANIFEST, "", LEAVES)]
        signature, manifest, entries, leaves = (stack.enter_context(_new_file(name)) for name in names)
        exported = await _write(archive, file, entries, leaves, wish)
        content = canonical(exported.manifest).encode() + b"\n"
        manifest.write(content)
        if wish.keys:
            head = Checkpoint(f"{wish.keys[0].name}/export", len(content), hashlib.sha256(content).digest())
            signature.write(signed_note(head, wish.keys).text.encode())
        for part in (signature, manifest, entries, leaves):
            _flush(part)
        await told(exported)
    return exported


@contextlib.contextmanager
def _new_file(file: Path) -> Iterator[BinaryIO]:
    """Open a file that gets its name at the end, if nothing was raised."""
    if file.exists():
        raise InvalidInput("--output", f"{file} exists", "choose another name; an export is never overwritten")
    try:
        number, name = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}.", suffix=".part")  # 0600
    except OSError as error:
        raise _unwritable(file, error) from None
    try:
        with os.fdopen(number, "w+b") as part:
            yield part
            empty = part.seek(0, os.SEEK_END) == 0 and file.name.endswith(SIGNATURE)
        if not empty:  # without a key there is no signature
            Path(name).rename(file)
        with contextlib.suppress(OSError):  # not every file system can
            sync_directory(file.parent)
    except OSError as error:
        raise _unwritable(file, error) from None
    finally:
        Path(name).unlink(missing_ok=True)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _unwritable(file: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError("--output", f"{file} can't be written ({type(error).__name__})", "check path and disk")


async def _write(archive: Archive, file: Path, entries: BinaryIO, leaves: BinaryIO, wish: Wish) -> Exported:
    async with archive.snapshot() as trail:
        digest, lines, chains, waiting = hashlib.sha256(), 0, 0, 0
        if wish.form == "csv":
            _put(entries, digest, csv_line(CSV_COLUMNS))
        async for new, placed in _wanted(trail, wish):
            _put(entries, digest, csv_of(placed) if wish.form == "csv" else line_of(placed))
            lines, chains, waiting = lines + 1, chains + new, waiting + placed.waiting
        count, over = await _leaves(trail, leaves)
        lives, checkpoint = list(await trail.lives()), await _checkpoint(trail)
    files = {file.name: digest.hexdigest(), f"{file.name}{LEAVES}": over}
    manifest = {
        "format": FORMAT, "entries": lines, "chains": chains, "waiting": waiting, "leaves": count, "lives": lives,
        "checkpoint": checkpoint, "since": _instant(wish.since), "until": _instant(wish.until), "form": wish.form,
        "files": {name: {"sha256": found} for name, found in files.items()}, "signed": bool(wish.keys), **wish.said,
    }  # fmt: skip
    return Exported(lines, chains, digest.hexdigest(), manifest)


def _put(file: BinaryIO, digest: Any, line: bytes) -> None:
    digest.update(line)
    file.write(line)


async def _wanted(trail: Trail, wish: Wish) -> AsyncIterator[tuple[bool, Placed]]:
    """Give each entry of the wanted chains, and whether it begins one; keep a chain's beginning until that is known."""
    kept: list[Placed] = []
    chain, wanted = "", False
    since, until = _instant(wish.since), _instant(wish.until)
    async for placed in trail.entries(_refuse):
        if placed.chain_id != chain:
            chain, wanted, kept = placed.chain_id, False, []
        kept.append(placed)
        if not wanted and not _within(placed.at, since, until):
            continue
        for number, one in enumerate(kept):
            yield not wanted and number == 0, one
        kept, wanted = [], True


async def _leaves(trail: Trail, file: BinaryIO) -> tuple[int, str]:
    digest, count = hashlib.sha256(), 0
    async for page in trail.leaves():
        _put(file, digest, b"".join(leaf.hash for leaf in page))
        count += len(page)
    return count, digest.hexdigest()


async def _checkpoint(trail: Trail) -> str | None:
    note = None
    async for page in trail.seals():
        note = page[-1].note
    return note


def _refuse(chain_id: str, _: int | None) -> None:
    raise IntegrityViolated(f"a row of {chain_id[:60]} can't be read, see `orchestrator audit verify`")


def _within(at: str, since: str | None, until: str | None) -> bool:
    return (since is None or at >= since) and (until is None or at < until)


def _instant(at: datetime | None) -> str | None:
    return None if at is None else instant(at)


def line_of(placed: Placed) -> bytes:
    """Give the entry's line: the stored hash and body, whatever they say of each other."""
    record = {"hash": placed.hash.hex(), "leaf": placed.idx, "body": placed.body}
    return json.dumps(record, ensure_ascii=False, separators=(", ", ": ")).encode() + b"\n"


def csv_of(placed: Placed) -> bytes:
    """Give the entry's line of a CSV file."""
    return csv_line((
        placed.chain_id, placed.seq, placed.at, placed.actor, placed.origin, placed.kind, placed.result, placed.about,
        placed.trigger, placed.from_state, placed.to_state, placed.idx, placed.hash.hex(), placed.body,
    ))  # fmt: skip


def csv_line(cells: Sequence[object]) -> bytes:
    """Give one line of CSV (RFC 4180)."""
    line = io.StringIO(newline="")
    csv.writer(line).writerow([f"'{cell}" if str(cell).startswith(_FORMULA) else cell for cell in cells])
    return line.getvalue().encode()
