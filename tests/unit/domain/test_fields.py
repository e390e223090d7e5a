import hashlib
import re
from base64 import b32decode

import pytest

from orchestrator.domain import errors
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.fields import (
    checked_call_guid,
    checked_idempotency_key,
    checked_name,
    checked_reference,
    payment_id,
)

CHECKS = {
    "reference": (checked_reference, ["INV-1001", "a", "A1", "2026/11.24_x-9", "x" * 50]),
    "CallGuid": (checked_call_guid, ["0175f3c2-5a3f-4b1e-9c1d-000000000000", "0A{b}", "a:b.c_d", "x" * 64]),
    "fields": (checked_name, ["CallGuid", "cardholderName", "Payment Service|Access Token", "a_b.c-d", "x" * 64]),
    "idempotency_key": (checked_idempotency_key, ["k", "order:1001/attempt#2", "!~", "x" * 128]),
}
TOO_LONG = {"reference": 51, "CallGuid": 65, "fields": 65, "idempotency_key": 129}
REFUSED = ["", " ", "a\n", "\na", "a\tb", "a\x00b", "é", "\u0661", "a\u200bb", "\ud800", "a\N{NO-BREAK SPACE}b"]
ALSO_REFUSED = {
    "reference": ["-INV", "INV-", "INV 1", "INV#1", ".x", "x/", "/"],
    "CallGuid": ["-a", "a b", "a;b", "{"],
    "fields": ["1name", "_name", "a;b", "a$b", "$(a)"],
    "idempotency_key": ["a b"],
}


@pytest.mark.parametrize("field", CHECKS)
def test_good_texts_are_given_back_unchanged(field):
    check, good = CHECKS[field]
    assert [check(text) for text in good] == good


@pytest.mark.parametrize("field", CHECKS)
def test_bad_texts_are_refused_by_field_without_their_value(field):
    check, _ = CHECKS[field]
    for text in [*REFUSED, *ALSO_REFUSED[field], "x" * TOO_LONG[field], "x" * 5000]:
        with pytest.raises(InvalidInput) as refusal:
            check(text)
        assert (refusal.value.field, bool(refusal.value.fix)) == (field, True)
        assert len(text) < 3 or text not in str(refusal.value)
    with pytest.raises(InvalidInput, match="is missing"):
        check("")


@pytest.mark.parametrize("field", CHECKS)
@pytest.mark.parametrize("value", [None, 1001, b"INV", ["INV"]])
def test_what_is_not_text_is_refused_by_its_class(field, value):
    with pytest.raises(InvalidInput, match=f"is a {type(value).__name__}"):
        CHECKS[field][0](value)


def test_a_payment_id_is_derived_from_account_and_key_alone():
    digest = hashlib.sha256(b"4:emeaINV-1001").digest()[:16]
    found = payment_id("emea", "INV-1001")
    assert found == payment_id("emea", "INV-1001")
    assert b32decode(found.removeprefix("pay-").upper() + "=" * 6) == digest
    assert re.fullmatch(r"pay-[a-z2-7]{26}", found)


def test_account_and_key_can_not_be_shifted_into_each_other():
    pairs = [("ab", "c"), ("a", "bc"), ("1:a", "b"), ("", "abc"), ("abc", ""), ("a", "b"), ("b", "a"), ("A", "b")]
    assert len({payment_id(account, key) for account, key in pairs}) == len(pairs)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (errors.InvalidInput("amount", "is missing"), "amount: is missing"),
        (errors.Conflict("reference", "is taken", "use another"), "reference: is taken; use another"),
        (
            errors.ConfigurationError("accounts.emea.host", "is missing", "set it"),
            "accounts.emea.host: is missing; set it",
        ),
        (errors.DefinitionError("a.xml", 7, "Url", "is empty"), "a.xml:7 <Url>: is empty"),
        (errors.DefinitionError("a.xml", 0, "", "is no XML", "mend it"), "a.xml:0: is no XML; mend it"),
    ],
)
def test_an_error_says_where_what_and_how_to_mend_it(error, told):
    assert str(error) == told
    assert isinstance(error, errors.OrchestratorError)


def test_the_tree_of_errors_is_the_one_its_docstring_draws():
    drawn = re.findall(r"^ {4}([├└│ ─]*)([A-Z]\w+)", errors.__doc__, re.MULTILINE)
    path = []
    for indent, name in drawn:
        depth = len(indent) // 4
        path[depth:] = [name]
        parent = path[depth - 1] if depth else "Exception"
        assert getattr(errors, name).__bases__[0].__name__ == parent, name
    named = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert named == {name for _, name in drawn}
