"""An export is read back only if it is whole: the first line that doesn't fit is named, and nothing of it shown."""

import json
from collections.abc import Callable
from io import BytesIO

import pytest

from orchestrator.audit.chain import Story
from orchestrator.audit.export import line_of
from orchestrator.audit.exported import LONGEST_LINE, read_export
from orchestrator.compliance import Placed
from orchestrator.domain.entry import body_hash
from orchestrator.domain.errors import InvalidInput
from tests.unit.audit.tales import completed

CANARY = "Ada Canary"


def lines() -> list[bytes]:
    return [line_of(Placed.of(entry)) for entry in completed().entries]


def read(content: bytes) -> list[Story]:
    return list(read_export(BytesIO(content), "trail.jsonl"))


def rewritten(line: bytes, **changes: object) -> bytes:
    """Change a body, with a hash that fits."""
    body = json.loads(json.loads(line)["body"]) | changes
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return json.dumps({"hash": body_hash(text).hex(), "body": text}).encode() + b"\n"


def test_what_was_written_is_read_back() -> None:
    entries = completed().entries

    (story,) = read(b"".join(line_of(Placed.of(entry)) for entry in entries))

    assert (story.chain_id, story.seq, story.head) == (entries[-1].chain_id, len(entries), entries[-1].hash)
    assert list(story.hashes.values()) == [entry.hash for entry in entries]


DAMAGE: dict[str, tuple[Callable[[list[bytes]], list[bytes]], int, str]] = {
    "nothing": (lambda _: [], 1, "no entry at all"),
    "cut off": (lambda all_: [*all_[:-1], all_[-1][:-9]], 0, "is cut off"),
    "a line is gone": (lambda all_: [all_[0], *all_[2:]], 2, "is number 3 of its chain, after 1"),
    "two lines are swapped": (lambda all_: [all_[0], all_[2], all_[1], *all_[3:]], 2, "is number 3"),
    "a line is there twice": (lambda all_: [all_[0], all_[0], *all_[1:]], 2, "is number 1"),
    "another hash": (lambda all_: [all_[0], all_[1].replace(b'"hash": "', b'"hash": "0', 1), *all_[2:]], 2, "hash"),
    "another body": (lambda all_: [rewritten(all_[0], actor="nobody"), *all_[1:]], 2, "does not extend"),
    "another chain in between": (
        lambda all_: [all_[0], rewritten(all_[1], chain="pay-a-first"), *all_[2:]], 2, "chain",
    ),
    "not JSON": (lambda all_: [all_[0], b"Ada Canary\n", *all_[2:]], 2, "is not one of our entries"),
    "not UTF-8": (lambda all_: [all_[0], b'{"body": "\xff"}\n', *all_[2:]], 2, "is not one of our entries"),
    "no object": (lambda all_: [b"[]\n", *all_], 1, "is not an object"),
    "no body": (lambda all_: [b'{"hash": "00"}\n', *all_], 1, "is not an object"),
    "of another version": (lambda all_: [rewritten(all_[0], v=9), *all_[1:]], 1, "of another version"),
    "a number for a text": (lambda all_: [rewritten(all_[0], actor=7), *all_[1:]], 1, "lacks what every entry has"),
    "no instant": (lambda all_: [rewritten(all_[0], at="2026-11-24"), *all_[1:]], 1, "in another form"),
    "no predecessor": (lambda all_: [rewritten(all_[0], prev="00"), *all_[1:]], 1, "names no entry before it"),
    "too long": (lambda all_: [b" " * (LONGEST_LINE + 5) + b"\n", *all_], 1, "is too long"),
    "far too deep": (lambda all_: [b'{"body":' * 100_000 + b"\n", *all_], 1, "is not one of our entries"),
    "not as it is hashed": (
        lambda all_: [json.dumps({
            "hash": body_hash(text := json.dumps(json.loads(json.loads(all_[0])["body"]), indent=1)).hex(),
            "body": text,
        }).encode() + b"\n", *all_[1:]], 1, "is not canonical JSON",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_the_first_line_that_does_not_fit_is_named(name: str) -> None:
    damage, number, word = DAMAGE[name]
    damaged = damage(lines())
    number = number or len(damaged)

    with pytest.raises(InvalidInput) as refused:
        read(b"".join(damaged))

    assert refused.value.field == f"trail.jsonl, line {number}"
    assert word in refused.value.problem
    assert CANARY not in str(refused.value)
