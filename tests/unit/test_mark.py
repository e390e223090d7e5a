"""The mark's file: always a whole one, and never a guess."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from orchestrator.domain.errors import ConfigurationError
from orchestrator.mark import Mark, MarkFile

LIFE = "0123456789abcdef" * 2
FIRST = Mark(LIFE)
MARK = Mark(LIFE, 7, "payment-1", 3, "ab" * 32)
WRITTEN = {"v": 1, "incarnation": LIFE, "entries": 7, "chain": "payment-1", "seq": 3, "hash": "ab" * 32}


@pytest.fixture
def sink(tmp_path: Path) -> MarkFile:
    return MarkFile(tmp_path / "the.mark")


def names_beside(sink: MarkFile) -> list[str]:
    return [path.name for path in sink.path.parent.iterdir()]


def refused(sink: MarkFile, verb: str = "read") -> str:
    with pytest.raises(ConfigurationError) as told:
        getattr(sink, verb)(*([MARK] if verb == "write" else []))
    assert told.value.key == "mark_file"
    assert told.value.fix
    assert LIFE not in str(told.value)
    return told.value.problem


@pytest.mark.parametrize("mark", [FIRST, MARK])
def test_what_was_written_is_read(sink: MarkFile, mark: Mark) -> None:
    sink.write(Mark(LIFE, 1, "other", 1, "cd" * 32))
    sink.write(mark)

    assert sink.read() == mark
    assert stat.S_IMODE(sink.path.stat().st_mode) == 0o600
    assert names_beside(sink) == ["the.mark"]


def test_no_file_is_no_mark_but_no_directory_is_trouble(tmp_path: Path) -> None:
    assert MarkFile(tmp_path / "the.mark").read() is None

    away = MarkFile(tmp_path / "not-mounted" / "the.mark")
    assert refused(away) == "names a file in a directory that does not exist"
    assert refused(away, "write") == refused(away, "demand_writable") == "can't be written (FileNotFoundError)"


def test_a_directory_in_its_place_is_neither_read_nor_written(sink: MarkFile) -> None:
    sink.path.mkdir()

    assert refused(sink) == "can't be read (IsADirectoryError)"
    assert refused(sink, "write") == refused(sink, "demand_writable") == "can't be written (IsADirectoryError)"
    assert names_beside(sink) == ["the.mark"]


DAMAGED: dict[str, Any] = {
    "empty": b"",
    "half": json.dumps(WRITTEN)[:60].encode(),
    "no JSON": b"\x00\xff" * 20,
    "deep": b"[" * 4000,
    "a list": b"[]",
    "null": b"null",
    "too long": json.dumps(WRITTEN | {"chain": "x" * 5000}).encode(),
    "another version": WRITTEN | {"v": 2},
    "without a hash": {name: value for name, value in WRITTEN.items() if name != "hash"},
    "a short life": WRITTEN | {"incarnation": LIFE[:-1]},
    "a life as long as a hash": WRITTEN | {"incarnation": LIFE * 2},
    "a hash as short as a life": WRITTEN | {"hash": LIFE},
    "a hash in capitals": WRITTEN | {"hash": "AB" * 32},
    "no number": WRITTEN | {"seq": "3"},
    "a fraction": WRITTEN | {"seq": 3.5},
    "true": WRITTEN | {"seq": True},
    "a negative number": WRITTEN | {"entries": -1},
    "an entry without its number": WRITTEN | {"seq": 0},
    "a number without its entry": WRITTEN | {"chain": "", "hash": ""},
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_mark_is_no_mark_and_is_left_as_it_is(sink: MarkFile, what: str) -> None:
    text = DAMAGED[what]
    sink.path.write_bytes(text if isinstance(text, bytes) else json.dumps(text).encode())
    before = sink.path.read_bytes()

    assert refused(sink) == "holds no mark"
    assert sink.path.read_bytes() == before


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_the_former_mark_and_nothing_else(
    sink: MarkFile, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    sink.write(FIRST)
    with monkeypatch.context() as patched:
        patched.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), full)
        assert refused(sink, "write") == "can't be written (OSError)"

    assert sink.read() == FIRST
    assert names_beside(sink) == ["the.mark"]


def test_looking_whether_it_can_be_written_leaves_the_mark_alone(sink: MarkFile) -> None:
    sink.demand_writable()
    assert not sink.path.exists()

    sink.write(MARK)
    sink.demand_writable()

    assert sink.read() == MARK
    assert names_beside(sink) == ["the.mark"]
