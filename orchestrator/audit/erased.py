"""
Which payments' data was erased, as told by a sink's file or by an exported trail.

Owns the reading of both: lines `{"erased": ...}` among a sink's others, or an export's lines
`{"hash": ..., "body": ...}`, whose hashes must hold. Pure but for reading a file that is given.
Next: `lines`.
"""

import json
import os
from collections.abc import Iterable
from typing import Any, BinaryIO

from orchestrator.audit.lines import LONGEST_LINE, Told, read_lines
from orchestrator.domain.entry import body_hash
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.fields import is_payment_id

ERASED = "subject.erased"
_FIX = "give a sink's file, or what `orchestrator audit export` wrote"


def erased_in(file: BinaryIO, name: str = "--replay") -> list[str]:
    """
    Give the payments that the file says were erased, each once, in its order.

    Args:
        file: Opened for reading bytes, and seekable.
        name: What an error calls it.

    Raises:
        InvalidInput: It is neither form, or damaged. A sink's line may be cut where a writer
            died: such a one is passed over, since the sealer's lines come again.
    """
    first = file.readline(LONGEST_LINE)
    file.seek(0)
    exported = _document(first)
    found = _of_export(file, name) if exported is not None and "body" in exported else _of_sink(file, name)
    odd = next((each for each in found if not is_payment_id(each)), None)
    if odd is not None:
        raise InvalidInput(name, "names something as erased that is no payment", _FIX)
    return list(dict.fromkeys(found))


def _of_sink(file: BinaryIO, name: str) -> list[str]:
    lines = list(read_lines(file, file.seek(0, os.SEEK_END)))
    if not any(isinstance(line, Told) for line in lines):
        raise InvalidInput(name, "holds no line of ours", _FIX)
    return [line.erased for line in lines if isinstance(line, Told) and line.erased]


def _of_export(file: Iterable[bytes], name: str) -> list[str]:
    found = []
    for number, line in enumerate(file, 1):
        match _document(line):
            case {"hash": str(digest), "body": str(body)} if body_hash(body).hex() == digest:
                entry = _document(body)
            case _:
                raise InvalidInput(name, f"line {number} is damaged: it is not what its hash was made of", _FIX)
        if entry is not None and entry.get("kind") == ERASED:
            found.append(str(entry.get("about")))
    return found


def _document(text: bytes | str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
