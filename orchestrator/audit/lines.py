"""
The lines of a sink: what is known of the trail off the database, written and read back.

Owns the format, lines of JSON, each one of

    {"entry": "<hash>", "chain": "<chain>", "seq": <number>}        an entry that was acknowledged
    {"leaf": <index>, "chain": ..., "seq": ..., "hash": "<hash>"}   its place in the log
    {"checkpoint": "<signed note>"}
    {"erased": "<payment>", "at": "<instant>"}                      a payer's data that must not come back

Pure but for reading a file that is given. Next: `sealer`.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO

from orchestrator.compliance import Leaf
from orchestrator.domain.entry import Entry, instant

LONGEST_LINE = 1 << 17
_HASH = re.compile(r"[0-9a-f]{64}")


def entry_line(entry: Entry) -> bytes:
    """Give the line of an entry that was acknowledged."""
    return _line({"entry": entry.hash.hex(), "chain": entry.chain_id, "seq": entry.seq})


def leaf_line(leaf: Leaf) -> bytes:
    """Give the line of a leaf."""
    return _line({"leaf": leaf.idx, "chain": leaf.chain_id, "seq": leaf.seq, "hash": leaf.hash.hex()})


def checkpoint_line(note: str) -> bytes:
    """Give the line of a checkpoint."""
    return _line({"checkpoint": note})


def erased_line(payment_id: str, at: datetime) -> bytes:
    """Give the line of an erasure, so that it outlives a database that is put back from an older copy."""
    return _line({"erased": payment_id, "at": instant(at)})


def _line(told: dict[str, Any]) -> bytes:
    return _encode(told).encode()


_encode = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class Told:
    """
    One line, read back.

    Attributes:
        number: Of the line, from 1.
        idx: The leaf's place; `None` for an entry that was only acknowledged, and for a checkpoint.
        chain: The entry's chain; empty for a checkpoint.
        seq: Its number there.
        hash: Its hash.
        note: The checkpoint's note; empty for the others.
        erased: The payment whose data was erased; empty for the others.
    """

    number: int
    idx: int | None = None
    chain: str = ""
    seq: int = 0
    hash: bytes = b""
    note: str = ""
    erased: str = ""


def read_lines(file: BinaryIO, size: int) -> Iterator[Told | int]:
    """
    Read a sink's file from its beginning; a line that is none of ours is given as its number.

    A line may be cut off where a writer died or a disk was full; the next one is whole again.

    Args:
        file: Opened in binary.
        size: How much of it is read, in bytes: what is appended meanwhile tells of what a snapshot does not hold.
    """
    file.seek(0)
    for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):
        size -= len(line)
        if size < 0:
            return
        told = _told(line, number)
        if told is not None:
            yield told
        elif line.strip():
            yield number


def _told(line: bytes, number: int) -> Told | None:
    start = line.find(b"{")  # a syslog server puts a head of its own before it
    try:
        found = json.loads(line[start:]) if start >= 0 else None
    except (ValueError, RecursionError):
        return None
    match found:
        case {"checkpoint": str(note)}:
            return Told(number, note=note)
        case {"erased": str(payment_id), "at": str()}:
            return Told(number, erased=payment_id)
        case {"leaf": int(idx), "chain": str(chain), "seq": int(seq), "hash": str(digest)}:
            return Told(number, idx, chain, seq, bytes.fromhex(digest)) if _HASH.fullmatch(digest) else None
        case {"entry": str(digest), "chain": str(chain), "seq": int(seq)}:
            return Told(number, None, chain, seq, bytes.fromhex(digest)) if _HASH.fullmatch(digest) else None
    return None
