"""What a text from outside may be made of."""

import pytest

from orchestrator.domain.errors import InvalidInput
from orchestrator.privacy.text import MAX_BYTES, checked_text


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "NoneType"),
        (b"bytes", "bytes"),
        (12, "int"),
        ("x" * (MAX_BYTES + 1), "longer than 4096 bytes"),
        ("\u20ac" * 1366, "longer than 4096 bytes"),  # 4098 bytes
        ("\ufb1d" * 1365, "longer than 4096 bytes"),  # grows when normalised
        ("a\x00b", "control character"),
        ("a\nb", "control character"),
        ("a\tb", "control character"),
        ("a\x1bb", "control character"),
        ("a\x7fb", "control character"),
        ("a\x85b", "control character"),
        ("a\ud800b", "surrogate"),
        ("a\udfff", "surrogate"),
        ("a\u2028b", "line separator"),
        ("a\u2029b", "paragraph separator"),
        *((f"a{chr(code)}b", "reorders") for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))),
        ("4111 1111 1111 1111", "card number"),
        ("cvv 123", "security code"),
    ],
)
def test_a_text_is_refused_with_field_and_reason_but_not_its_value(value, problem):
    with pytest.raises(InvalidInput, match=problem) as caught:
        checked_text("note", value)
    assert caught.value.field == "note"
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "value", ["", "A. Payer", "Zo\u00eb", "\u05e9\u05dc\u05d5\u05dd", "x" * MAX_BYTES, "\u20ac" * 1365]
)
def test_a_plain_text_comes_back_as_it_is(value):
    assert checked_text("note", value) == value


def test_a_text_is_normalised_to_form_c():
    assert checked_text("note", "Zoe\u0308") == "Zo\u00eb"


def test_digits_that_normalisation_joins_are_checked_after_it():
    with pytest.raises(InvalidInput, match="card number"):
        checked_text("note", "4111\u20001111\u20001111\u20001111")  # U+2000 becomes U+2002


def test_the_limit_can_be_narrower():
    assert checked_text("note", "12345678", max_bytes=8) == "12345678"
    with pytest.raises(InvalidInput, match="longer than 8 bytes"):
        checked_text("note", "123456789", max_bytes=8)
