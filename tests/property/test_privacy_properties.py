"""Invariants of the guard, the text check, sealing and secrets."""

import re
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.errors import IntegrityViolated, InvalidInput
from orchestrator.privacy.cards import is_card_number
from orchestrator.privacy.guard import REMOVED, redact_card_data, refuse_card_data
from orchestrator.privacy.sealed import Sealer
from orchestrator.privacy.text import checked_text

ISSUERS = st.sampled_from(
    [
        *(("4", 16), ("51", 16), ("2221", 16), ("2720", 16), ("34", 15), ("37", 15), ("36", 14), ("6011", 16)),
        *(("65", 16), ("62", 19), ("4", 13), ("4", 19), ("6759", 18), ("50", 16), ("2200", 16), ("305", 14)),
        *(("649", 19), ("3528", 16)),
    ]
)
SEPARATORS = st.sampled_from(["", " ", "-", ".", "\u00a0", "\u2011", " - ", "\u200b", "+", "%20"])
ZEROS = st.sampled_from([0x30, 0x0660, 0x0966, 0xFF10, 0x1D7CE])
TEXTS = st.text(max_size=60)
CARDISH = st.text(alphabet="0123456789 -.=;:^%B\"'{}cvpanCN|&+", max_size=80)


@st.composite
def card_numbers(draw):
    """Give a number that every check takes for a card's."""
    prefix, length = draw(ISSUERS)
    body = prefix + draw(st.text("0123456789", min_size=length - len(prefix) - 1, max_size=length - len(prefix) - 1))
    return next(body + digit for digit in "0123456789" if is_card_number(body + digit))


def grouped(number, separator):
    """Group a number as its brand prints it, and in fours and a rest otherwise."""
    cuts = {14: (4, 10), 15: (4, 10)}.get(len(number), tuple(range(4, len(number), 4)))
    edges = (0, *cuts, len(number))
    return separator.join(number[low:high] for low, high in pairwise(edges))


@given(
    card_numbers(), SEPARATORS, ZEROS, st.text(alphabet="abc ,!\n\"'", max_size=10), st.text("xyz ,;\n\"'", max_size=10)
)
@settings(max_examples=150)
def test_every_card_number_in_every_grouping_and_script_is_found(number, separator, zero, before, after):
    written = grouped(number, separator)
    if separator != "%20":
        written = "".join(chr(zero + int(character)) if character.isdigit() else character for character in written)
    text = f"{before}{written}{after}"
    assert REMOVED in redact_card_data(text)
    assert not re.search(r"\d", redact_card_data(text))
    with pytest.raises(InvalidInput) as caught:
        refuse_card_data("note", text)
    assert written not in str(caught.value)


@given(st.one_of(TEXTS, CARDISH, st.lists(st.one_of(card_numbers(), CARDISH), max_size=4).map(" ".join)))
@settings(max_examples=150)
def test_what_was_redacted_stays_so_and_is_acceptable(text):
    redacted = redact_card_data(text)
    assert redact_card_data(redacted) == redacted
    refuse_card_data("note", redacted)


@given(st.one_of(TEXTS, CARDISH))
@settings(max_examples=100)
def test_redaction_and_refusal_agree(text):
    try:
        refuse_card_data("note", text)
    except InvalidInput:
        assert redact_card_data(text) != text
    else:
        assert redact_card_data(text) == text


@given(st.text(alphabet=st.characters(), max_size=40))
@settings(max_examples=100)
def test_an_accepted_text_is_normal_encodable_and_harmless(text):
    try:
        accepted = checked_text("note", text)
    except InvalidInput as error:
        assert len(str(error)) < 200  # noqa: PT017 - most texts are refused or accepted; both are checked
    else:
        assert accepted == unicodedata.normalize("NFC", text)
        assert checked_text("note", accepted) == accepted
        assert not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in accepted)
        assert len(accepted.encode()) <= 4096


@given(st.binary(max_size=200), st.text(max_size=20), st.text(max_size=20), st.binary(min_size=32, max_size=32))
def test_sealed_values_open_in_their_place_alone(plaintext, place, other, key):
    sealer = Sealer({"k": key}, "k")
    sealed = sealer.seal(plaintext, bound_to=place)
    assert sealer.unseal(sealed, bound_to=place) == plaintext
    if other != place:
        with pytest.raises(IntegrityViolated):
            sealer.unseal(sealed, bound_to=other)


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_a_digest_tells_contents_apart(one, other):
    sealer = Sealer({"k": bytes(32)}, "k")
    assert sealer.same_content(one, sealer.digest(other)) == (one == other)
