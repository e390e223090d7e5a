"""
A trail as a file: written in one piece, read back only if whole.

Owns the format: JSON Lines in UTF-8, one entry a line in the order (chain, seq),
each chain from its first entry on:

    {"hash": "<64 hexadecimal digits>", "body": "<the stored body's very text>"}

Anybody can recompute `hash = SHA-256(0x00 || body)` and follow `prev` inside the
bodies. Knows no database and no command line. Next: `upgrade`.
"""

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from orchestrator.audit.chain import Story, read_chain
from orchestrator.audit.verify import Archive
from orchestrator.domain.entry import BODY_VERSION, NO_HASH, Entry, body_hash, canonical, instant
from orchestrator.domain.errors import ConfigurationError, IntegrityViolated, InvalidInput
from orchestrator.domain.machine import START
from orchestrator.files import sync_directory

LONGEST_LINE = 1 << 20
"""Bytes; our longest bodies are a few thousand."""

_WHOLE = "export the trail again"
_TEXTS = ("chain", "trigger", "from", "to", "at", "actor", "origin", "kind", "result", "about", "prev")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Exported:
    """
    What was written.

    Attributes:
        entries, chains: How many.
        sha256: Of the file, in hexadecimal.
    """

    entries: int
    chains: int
    sha256: str


async def export(
    archive: Archive,
    file: Path,
    told: Callable[[Exported], Awaitable[None]],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Exported:
    """
    Write every chain to a new file, as all of them were at one moment.

    Args:
        archive: A store, or a copy of one.
        file: Must not exist; readable by its owner alone.
        told: Called when everything is written, before the file gets its name: writes down
            that there is an export. If it raises, there is none.
        since: Only chains with an entry at or after this; those are written whole.
        until: Only chains with an entry before this; with `since`, an entry between both.

    Raises:
        InvalidInput: The file exists.
        ConfigurationError: It can't be written.
        IntegrityViolated: A row of the trail can't be read: no export passes over it.
        Unavailable: The database does not answer.

    Crash:
        Before the end there is no file of this name, at most one that ends in `.part`,
        which nobody misses. A crash just before the renaming leaves `told`'s word of an
        export that nobody has; never an export without the word.
    """
    with _new_file(file) as part:
        exported = await _write(archive, part, (since, until))
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
        with os.fdopen(number, "wb") as part:
            yield part
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


async def _write(archive: Archive, file: BinaryIO, period: tuple[datetime | None, datetime | None]) -> Exported:
    """Write line by line; of a chain that may still be left out, keep its beginning in memory."""
    digest, entries, chains = hashlib.sha256(), 0, 0
    kept: list[bytes] = []
    chain, wanted = "", False
    async with archive.snapshot() as trail:
        async for placed in trail.entries(_refuse):
            entry = placed.entry
            if entry.chain_id != chain:
                chain, wanted, kept = entry.chain_id, False, []
            if not wanted and not _within(entry.at, *period):
                kept.append(line_of(entry))
                continue
            chains += not wanted
            for line in (*kept, line_of(entry)):
                digest.update(line)
                file.write(line)
                entries += 1
            kept, wanted = [], True
    return Exported(entries, chains, digest.hexdigest())


def _refuse(chain_id: str, _: int | None) -> None:
    raise IntegrityViolated(f"a row of {chain_id[:60]} can't be read, see `orchestrator audit verify`")


def _within(at: datetime, since: datetime | None, until: datetime | None) -> bool:
    return (since is None or at >= since) and (until is None or at < until)


def line_of(entry: Entry) -> bytes:
    """Give the entry's line: the stored hash and body, whatever they say of each other."""
    record = {"hash": entry.hash.hex(), "body": entry.body}
    return json.dumps(record, ensure_ascii=False, separators=(", ", ": ")).encode() + b"\n"


class _UnfitError(ValueError):
    """What is wrong with a line, in words of ours that repeat nothing of it."""


def read_export(file: BinaryIO, name: str) -> Iterator[Story]:
    """
    Read an export back, chain by chain, checking each entry against the one before.

    Args:
        file: Opened in binary.
        name: What errors call it.

    Raises:
        InvalidInput: The file is damaged: names the first line that doesn't fit.
    """
    chain: list[Entry] = []
    number = 0
    for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), 1):
        entry = _checked(line, chain, f"{name}, line {number}")
        if chain and entry.chain_id != chain[-1].chain_id:
            yield read_chain(chain[-1].chain_id, chain)[0]
            chain = []
        chain.append(entry)
    if not chain:
        raise InvalidInput(f"{name}, line {number + 1}", "is the end: there is no entry at all", _WHOLE)
    yield read_chain(chain[-1].chain_id, chain)[0]


def _checked(line: bytes, chain: list[Entry], where: str) -> Entry:
    try:
        entry = _entry(line)
        _extends(entry, chain[-1] if chain else None)
    except _UnfitError as error:
        raise InvalidInput(where, str(error), _WHOLE) from None
    except (ValueError, RecursionError):  # their texts may hold what the line holds
        problem = "is not one of our entries"
    else:
        return entry
    raise InvalidInput(where, problem, _WHOLE)


def _entry(line: bytes) -> Entry:
    if len(line) > LONGEST_LINE:
        raise _UnfitError("is too long")
    if not line.endswith(b"\n"):
        raise _UnfitError("is cut off")
    record = json.loads(line)
    if not isinstance(record, dict) or not isinstance(body := record.get("body"), str):
        raise _UnfitError("is not an object with hash and body")
    if record.get("hash") != body_hash(body).hex():
        raise _UnfitError("has a hash that is not its body's")
    told = json.loads(body)
    if not isinstance(told, dict) or told.get("v") != BODY_VERSION:
        raise _UnfitError("has a body of another version")
    if canonical(told) != body:
        raise _UnfitError("has a body that is not canonical JSON")
    if any(not isinstance(told.get(column), str) for column in _TEXTS) or type(told.get("seq")) is not int:
        raise _UnfitError("lacks what every entry has")
    if not _HASH.fullmatch(told["prev"]):
        raise _UnfitError("names no entry before it")
    at = datetime.fromisoformat(told["at"])
    if at.tzinfo is None or instant(at) != told["at"]:
        raise _UnfitError("has an instant in another form")
    return Entry(
        told["chain"], told["seq"], told["trigger"], told["from"], told["to"], at, told["actor"], told["origin"],
        told["kind"], told["result"], told["about"], bytes.fromhex(told["prev"]), body_hash(body), body,
    )  # fmt: skip


def _extends(entry: Entry, last: Entry | None) -> None:
    if last is not None and entry.chain_id < last.chain_id:
        raise _UnfitError("is of a chain that belongs further up")
    if last is not None and entry.chain_id > last.chain_id:
        last = None
    if entry.seq != (last.seq + 1 if last else 1):
        raise _UnfitError(f"is number {entry.seq} of its chain, after {last.seq if last else 0}")
    if entry.prev_hash != (last.hash if last else NO_HASH):
        raise _UnfitError("does not extend the entry before it")
    if entry.from_state != (last.to_state if last else START):
        raise _UnfitError("leaves another state than its chain was in")
