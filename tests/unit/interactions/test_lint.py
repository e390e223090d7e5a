"""Lint says everything at once, and never repeats a secret."""

import pytest

from orchestrator.interactions import Finding, lint
from tests.fixtures.definitions import document, seed


def found(text: str, **options) -> list[tuple[int, str, str]]:
    return [(finding.line, finding.element, finding.severity) for finding in lint(text, name="f.xml", **options)]


def test_an_unfilled_text_gets_one_finding_an_element():
    text = seed("start_phone_session").replace("<Method>POST", "\n<Method>FETCH").replace("<Body>", "<Retry/>\n<Body>")

    assert found(text) == [
        (1, "Request/Url", "error"),
        (2, "Request/Method", "error"),
        (2, "Request/Retry", "error"),
        (3, "Request/Body", "error"),
    ]


def test_several_faults_are_all_reported_in_the_order_of_lines():
    text = document(
        url="https://$(Host)/",
        method="SEND",
        headers=[("a b", "x"), ("X", "$(")],
        body='{"a":1$(A)}',
        response_type="CSV",
        code="a|b|c",
        fields=[("a", "$(b)"), ("a", "b")],
    )

    assert [line for line, _, severity in found(text) if severity == "error"] == [3, 4, 5, 5, 6, 9, 10, 11]


def test_a_document_that_is_no_xml_is_one_finding():
    assert lint("<a>\n<b></a>", name="f") == [Finding(2, "", "error", "is not well-formed XML: mismatched tag")]


@pytest.mark.parametrize(
    ("parts", "line", "element", "words"),
    [
        ({"url": "HTTP://h.example/x"}, 3, "Request/Url", "unencrypted"),
        ({"body": "a=1", "method": "GET"}, 6, "Request/Body", "GET with a body"),
        ({"body": "{}"}, 6, "Request/Body", "no Content-Type"),
        ({"body": "{}", "headers": [("$(H)", "application/json")]}, 6, "Request/Body", "no Content-Type"),
        ({"body": "\n<a/>"}, 7, "Request/Body", "no Content-Type"),
        ({"body": "client_secret=hunter2"}, 6, "Request/Body", "(client_secret)"),
        ({"url": "https://h/?token=hunter2"}, 3, "Request/Url", "(token)"),
        ({"headers": [("Authorization", "Basic hunter2")]}, 5, "Request/Headers/Header/Value", "(Authorization)"),
        ({"fields": [("a", "X"), ("b", "X")]}, 11, "Response/Fields/Field/Destination", "X is the destination of 2"),
        ({"fields": [("a", "Code")]}, 11, "Response/Fields/Field/Destination", "Code is the destination of 2"),
    ],
)
def test_what_runs_but_is_doubtful_is_one_warning(parts, line, element, words):
    [finding] = lint(document(**parts), name="f")

    assert (finding.line, finding.element, finding.severity) == (line, element, "warning")
    assert words in finding.message
    assert "hunter2" not in finding.message


def test_names_that_nobody_supplies_are_errors_where_they_first_stand():
    text = document(url="https://h/$(A)", headers=[("X", "$(B)$(A)")], body="a=1&b=$(S|c)&d=$(S|c)&e=#(Key)")

    findings = lint(text, name="f", supplied={"B"})
    assert [(finding.line, finding.element) for finding in findings] == [(3, "Request/Url"), (6, "Request/Body")]
    assert "nobody supplies S|c" in findings[1].message
    assert lint(text, name="f", supplied=["A", "B", "S|c"]) == []
    assert lint(text, name="f") == []


def test_faults_do_not_hide_the_other_findings():
    text = document(url="http://h/$(A)", method="SEND", body="client_secret=hunter2")

    assert found(text, supplied=()) == [
        (3, "Request/Url", "error"),
        (3, "Request/Url", "warning"),
        (4, "Request/Method", "error"),
        (6, "Request/Body", "warning"),
    ]


def test_findings_quote_no_literal_whatever_is_wrong():
    text = document(
        url="https://u:hunter2@h/",
        method="hunter2",
        headers=[("Authorization", "hunter2\n")],
        body='{"password":"hunter2',
    )

    assert len(lint(text, name="f")) >= 4
    assert "hunter2" not in str(lint(text, name="f"))
