"""
An export, read back and held against its manifest: nothing but the files is needed, and no database.

Owns when a file is whole and its own: each line an entry that extends the one before, every
file the one that the manifest names, the manifest signed. As a trail it is verified like any
other. Next: `proof`.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from orchestrator.audit.chain import Finding, Story, read_chain
from orchestrator.audit.merkle import HASH_BYTES
from orchestrator.audit.notes import LONGEST_NOTE, Note, Verifier, read_note
from orchestrator.compliance import Leaf, Placed, Seal, Unreadable
from orchestrator.domain.entry import BODY_VERSION, NO_HASH, Entry, body_hash, canonical, instant
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.machine import START
from orchestrator.domain.payment import Payment

LONGEST_LINE = 1 << 20
"""Bytes; our longest bodies are a few thousand."""
LONGEST_MANIFEST = 1 << 20
FORMAT = "payment-orchestrator/export/1"
LEAVES, MANIFEST, SIGNATURE = ".leaves", ".manifest.json", ".manifest.sig"
"""What the files beside the entries' file are called."""
PAGE = 5000

_WHOLE = "export the trail again"
_TEXTS = ("chain", "trigger", "from", "to", "at", "actor", "origin", "kind", "result", "about", "prev")
_HASH = re.compile(r"[0-9a-f]{64}")


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
    for entry, _ in read_entries(file, name):
        if chain and entry.chain_id != chain[-1].chain_id:
            yield read_chain(chain[-1].chain_id, chain)[0]
            chain = []
        chain.append(entry)
    if not chain:
        raise InvalidInput(f"{name}, line 1", "is the end: there is no entry at all", _WHOLE)
    yield read_chain(chain[-1].chain_id, chain)[0]


def read_entries(file: BinaryIO, name: str) -> Iterator[tuple[Entry, int | None]]:
    """
    Read an export's entries, each with its place in the log, checking each against the one before.

    Raises:
        InvalidInput: The file is damaged: names the first line that doesn't fit.
    """
    last: Entry | None = None
    for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), 1):
        last, leaf = _checked(line, last, f"{name}, line {number}")
        yield last, leaf


def _checked(line: bytes, last: Entry | None, where: str) -> tuple[Entry, int | None]:
    try:
        entry, leaf = _entry(line)
        _extends(entry, last)
    except _UnfitError as error:
        raise InvalidInput(where, str(error), _WHOLE) from None
    except (ValueError, RecursionError):  # their texts may hold what the line holds
        problem = "is not one of our entries"
    else:
        return entry, leaf
    raise InvalidInput(where, problem, _WHOLE)


def _entry(line: bytes) -> tuple[Entry, int | None]:
    if len(line) > LONGEST_LINE:
        raise _UnfitError("is too long")
    if not line.endswith(b"\n"):
        raise _UnfitError("is cut off")
    record = json.loads(line)
    if not isinstance(record, dict) or not isinstance(body := record.get("body"), str):
        raise _UnfitError("is not an object with hash and body")
    leaf = record.get("leaf")
    if leaf is not None and (type(leaf) is not int or leaf < 0):
        raise _UnfitError("has a place in the log that is none")
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
    entry = Entry(
        told["chain"], told["seq"], told["trigger"], told["from"], told["to"], at, told["actor"], told["origin"],
        told["kind"], told["result"], told["about"], bytes.fromhex(told["prev"]), body_hash(body), body,
    )  # fmt: skip
    return entry, leaf


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


@dataclass(frozen=True, slots=True)
class Manifest:
    """
    What an export says of itself.

    Attributes:
        told: Everything in it.
        note: Its signature, over its SHA-256; `None` if it was written without a key.
        path: Of the entries' file.
    """

    told: Mapping[str, Any]
    note: Note | None
    path: Path

    @property
    def checkpoint(self) -> Note | None:
        """The log's checkpoint at that moment; `None` before the first."""
        text = self.told["checkpoint"]
        return None if text is None else read_note(text, f"{self.path}{MANIFEST}")

    @property
    def whole(self) -> bool:
        """Whether nothing was left out."""
        return self.told["since"] is None and self.told["until"] is None


def read_manifest(path: Path) -> Manifest:
    """
    Read an export's manifest and its signature; neither is checked yet.

    Args:
        path: The entries' file.

    Raises:
        InvalidInput: There is none, or it is cut off or no manifest of ours.
    """
    name = f"{path}{MANIFEST}"
    content = _bytes(Path(name), LONGEST_MANIFEST)
    told: Any = None
    try:
        told = json.loads(content)
        ours = canonical(told).encode() + b"\n" == content and told["format"] == FORMAT and _shaped(told)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        ours = False
    if not ours:
        raise InvalidInput(name, "is cut off, changed, or no manifest", _WHOLE)
    signature = Path(f"{path}{SIGNATURE}")
    note = (
        read_note(_bytes(signature, LONGEST_NOTE).decode(errors="replace"), str(signature)) if told["signed"] else None
    )
    if note is not None and note.checkpoint.root != hashlib.sha256(content).digest():
        raise InvalidInput(str(signature), "is the signature of another manifest", _WHOLE)
    return Manifest(told, note, path)


def _shaped(told: Mapping[str, Any]) -> bool:
    files = told["files"].items()
    named = all(isinstance(name, str) and _HASH.fullmatch(one["sha256"]) for name, one in files)
    numbers = all(type(told[name]) is int for name in ("entries", "chains", "leaves", "waiting"))
    texts = all(told[name] is None or isinstance(told[name], str) for name in ("checkpoint", "since", "until"))
    return named and numbers and texts and all(isinstance(life, str) for life in told["lives"]) and bool(told["lives"])


def _bytes(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise InvalidInput(str(path), f"can't be read ({type(error).__name__})", _WHOLE) from None
    if len(content) > most:
        raise InvalidInput(str(path), "is too long", _WHOLE)
    return content


def check_manifest(manifest: Manifest, keys: Sequence[Verifier]) -> Iterator[Finding]:
    """Check the manifest's signature, and that every file is the one that it names."""
    name = manifest.path.name
    if keys:
        try:
            signed = manifest.note is not None and bool(manifest.note.signed_by(keys))
            what = "the manifest is signed by no key that is trusted here"
        except ValueError as error:
            signed, what = False, f"the manifest: {error}"
        if not signed:
            yield Finding("signature", name, None, what)
    for file, told in sorted(manifest.told["files"].items()):
        path = manifest.path.with_name(file)
        try:
            with path.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            raise InvalidInput(str(path), f"can't be read ({type(error).__name__})", _WHOLE) from None
        if digest != told["sha256"]:
            yield Finding("export", file, None, "the file is not the one that the manifest names")


@dataclass(frozen=True, slots=True)
class ExportArchive:
    """An export as something that `verify` reads."""

    manifest: Manifest

    @contextlib.asynccontextmanager
    async def snapshot(self, *, since: int = 0) -> AsyncIterator["ExportTrail"]:
        """Open the files; an export is always read whole."""
        del since
        with _opened(self.manifest.path) as (entries, leaves):
            yield ExportTrail(self.manifest, entries, leaves)

    async def schema_findings(self) -> Sequence[str]:
        """Tell nothing: a file has no schema."""
        return ()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    with path.open("rb") as entries, Path(f"{path}{LEAVES}").open("rb") as leaves:
        yield entries, leaves


class ExportTrail:
    """An opened export; see `verify.Trail`."""

    has_payments = False

    def __init__(self, manifest: Manifest, entries: BinaryIO, leaves: BinaryIO) -> None:
        self._manifest = manifest
        self._entries = entries
        self._leaves = leaves
        self._placed = 0

    async def entries(self, unreadable: Unreadable) -> AsyncIterator[Placed]:
        """Give the entries in their order."""
        del unreadable  # a line that can't be read ends it: a file is whole or it is not
        self._entries.seek(0)
        for entry, idx in read_entries(self._entries, str(self._manifest.path)):
            leaf = self._leaf(idx) if idx is not None else None
            self._placed += leaf is not None
            yield Placed.of(entry, idx, leaf, waiting=idx is None)

    def _leaf(self, idx: int) -> bytes:
        self._leaves.seek(idx * HASH_BYTES)
        return self._leaves.read(HASH_BYTES)

    async def payments(self, unreadable: Unreadable) -> AsyncIterator[Payment]:
        """Give nothing: an export holds entries alone."""
        del unreadable
        nothing: tuple[Payment, ...] = ()
        for payment in nothing:
            yield payment

    async def leaves(self) -> AsyncIterator[Sequence[Leaf]]:
        """Give the log's leaves in order; whose they are only the entries say."""
        self._leaves.seek(0)
        at = 0
        while content := self._leaves.read(PAGE * HASH_BYTES):
            cut = [content[place : place + HASH_BYTES] for place in range(0, len(content), HASH_BYTES)]
            yield [Leaf(at + number, "log", at + number, digest) for number, digest in enumerate(cut)]
            at += len(cut)

    async def seals(self) -> AsyncIterator[Sequence[Seal]]:
        """Give nothing: the manifest's checkpoint is brought along as evidence."""
        nothing: tuple[Sequence[Seal], ...] = ()
        for seals in nothing:
            yield seals

    async def seal_of_size(self, size: int) -> Seal | None:
        """Give nothing: the manifest's checkpoint is brought along as evidence."""
        del size
        return None

    async def lives(self) -> Sequence[str]:
        """Give the database's lives at that moment."""
        return list(self._manifest.told["lives"])

    async def astray(self) -> Sequence[Leaf]:
        """Give the first leaf without an entry, if nothing should have been left out; asked after `entries`."""
        missing = self._manifest.told["leaves"] - self._placed
        return [Leaf(0, "log", 0, b"")] if self._manifest.whole and missing else []

    async def hashes(self, keys: Collection[tuple[str, int]]) -> Mapping[tuple[str, int], bytes]:
        """Give the hashes of those entries that are there; one pass over the file for each call."""
        self._entries.seek(0)
        wanted = set(keys)
        found = ((entry.chain_id, entry.seq, entry.hash) for entry, _ in read_entries(self._entries, "export"))
        return {(chain, seq): digest for chain, seq, digest in found if (chain, seq) in wanted}
