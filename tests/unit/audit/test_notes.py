"""Checkpoints as C2SP notes: a published example, both ways, and everything that is none."""

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.audit.notes import Checkpoint, read_note, signed_note
from orchestrator.domain.errors import InvalidInput
from orchestrator.privacy.signing import PublicKey, SigningKey
from tests.support.independent import read_checkpoint

OLD, NEW = SigningKey("example.com/log", bytes(range(32))), SigningKey("example.com/log", bytes(range(1, 33)))
HEAD = Checkpoint("example.com/log/0f0f", 20852163, bytes(range(32)))

# The example of https://c2sp.org/signed-note: a key and a note of the Go checksum database's format.
PUBLISHED_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PUBLISHED_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PUBLISHED_SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="


def test_a_published_note_is_verified_with_its_key_and_not_when_it_is_changed() -> None:
    key = PublicKey.parse(PUBLISHED_KEY, "key")
    decoded = base64.b64decode(PUBLISHED_SIGNATURE)

    assert str(key) == PUBLISHED_KEY
    assert decoded[:4] == key.key_id
    assert key.verifies(PUBLISHED_TEXT.encode(), decoded[4:])
    assert not key.verifies(PUBLISHED_TEXT.encode() + b"\n", decoded[4:])


def test_a_checkpoint_is_its_text_and_each_key_has_its_line() -> None:
    note = signed_note(HEAD, [OLD, NEW])

    assert note.text.startswith(f"example.com/log/0f0f\n20852163\n{base64.b64encode(HEAD.root).decode()}\n\n\u2014 ")
    assert read_note(note.text, "note") == note
    assert note.text.count("\u2014 example.com/log ") == 2
    for key in (OLD, NEW):
        assert read_checkpoint(note.text, str(key.public)) == (HEAD.origin, HEAD.size, HEAD.root)
    assert (HEAD.log, HEAD.life) == ("example.com/log", "0f0f")


def test_signatures_of_unknown_keys_are_passed_over_and_a_wrong_one_of_a_known_key_is_not() -> None:
    note = signed_note(HEAD, [OLD])

    assert note.signed_by([NEW.public]) == []
    assert note.signed_by([NEW.public, OLD.public]) == [OLD.public]
    changed = read_note(note.text.replace("20852163", "20852164"), "note")
    with pytest.raises(ValueError, match="does not fit"):
        changed.signed_by([OLD.public])


GOOD = signed_note(HEAD, [OLD]).text
BAD = {
    "nothing": "",
    "no signature": HEAD.text + "\n",
    "cut off": GOOD[:-1],
    "cut off in a signature": GOOD[:-30] + "\n",
    "no empty line": GOOD.replace("\n\n", "\n"),
    "no root": "origin\n5\n\n" + GOOD.partition("\n\n")[2],
    "a size with a zero before it": GOOD.replace("20852163", "020852163"),
    "a negative size": GOOD.replace("20852163", "-5"),
    "a huge size": GOOD.replace("20852163", "9" * 30),
    "a size in other digits": GOOD.replace("20852163", "\u0661"),
    "a root that is too short": HEAD.text.replace("AAEC", "") + "\n" + GOOD.partition("\n\n")[2],
    "a line more": HEAD.text + "more\n\n" + GOOD.partition("\n\n")[2],
    "a signature without a name": GOOD.replace("\u2014 example.com/log ", "\u2014 "),
    "a signature of four bytes": GOOD.partition("\n\n")[0] + "\n\n\u2014 x AAAAAA==\n",
    "another dash": GOOD.replace("\u2014", "-"),
    "far too long": GOOD + "\u2014 x AAAAAAAA\n" * 9000,
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_checkpoint_is_refused_by_the_name_it_was_given(what: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_note(BAD[what], "old.note")

    assert refused.value.field == "old.note"
    assert "give the text of a checkpoint" in refused.value.fix


@given(st.text(max_size=300))
def test_no_text_at_all_is_worse_than_refused(text: str) -> None:
    with suppress(InvalidInput):
        read_note(text, "note")
