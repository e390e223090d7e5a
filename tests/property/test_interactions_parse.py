"""Whatever the text: an answer or a named refusal, never another exception."""

import json
from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.interactions import Unreadable, lint, locate, parse, read_json
from orchestrator.interactions.parse import examine
from tests.fixtures.definitions import document

# A busy machine is no counterexample.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

PIECES = st.lists(
    st.sampled_from(
        ["$(A)", "#(K)", "$(", ")", '"', "\\", "{", "}", "[", "]", ":", ",", "a", "1", "=", "&", "<", ">", "/"]
    )
    | st.sampled_from(["'", "<a>", "</a>", "<!--", "-->", "password", "%", "\n", " ", "?", "https://h/", "true", "é"]),
    max_size=14,
).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.c", max_size=3), inner, max_size=3),
    max_leaves=8,
)


@unhurried
@given(PIECES, PIECES, PIECES)
def test_any_texts_parse_or_are_refused_and_what_parses_is_stable(url, value, body):
    text = document(url=f"https://h/{url}", headers=[("X", value), ("Authorization", value)], body=body)
    examined = examine(text, name="f")

    assert (examined.definition is None) == bool(examined.faults)
    assert all(0 < fault.line <= text.count("\n") + 1 for fault in examined.faults)
    if examined.definition is not None:
        once = examined.definition
        again = parse(once.text, name="f")
        assert (again.text, again.digest) == (once.text, once.digest)
        assert (again.url, again.headers, again.body) == (once.url, once.headers, once.body)


@unhurried
@given(st.text())
def test_any_document_parses_or_is_refused(text):
    assert [finding.severity for finding in lint(text, name="f")] == ["error"]


@unhurried
@given(st.binary() | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_json_or_unreadable(body):
    try:
        read = locate({"a": read_json(body)}, "a")
    except Unreadable:
        return
    assert read is None or isinstance(read, str)


@unhurried
@given(VALUES)
def test_an_object_or_array_comes_out_as_equal_json(value):
    found = locate(read_json(json.dumps({"a": [value]}).encode()), "a")

    assert json.loads(found) == [value]


@unhurried
@given(st.decimals(allow_nan=False, allow_infinity=False, places=2))
def test_a_number_keeps_its_digits(amount: Decimal):
    assert locate(read_json(f'{{"amount":{amount:f}}}'.encode()), "amount") == f"{amount:f}"
