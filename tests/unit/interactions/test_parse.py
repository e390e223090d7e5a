"""What a document may look like, and where exactly it is wrong."""

import pytest

from orchestrator.domain.errors import DefinitionError
from orchestrator.interactions import Field, parse
from orchestrator.interactions.lex import read_source
from orchestrator.interactions.parse import examine
from tests.fixtures.definitions import document

GOOD = document(url="https://h.example/x?q=$(A)", body='{"a":"$(B)"}', headers=[("X-$(C)", "#(D)")])
LAUGHS = '<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'


def fault(text: str) -> DefinitionError:
    with pytest.raises(DefinitionError) as caught:
        parse(text, name="f.xml")
    assert caught.value.file == "f.xml"
    return caught.value


@pytest.mark.parametrize(
    ("text", "line", "element", "problem"),
    [
        ("", 1, "", "not well-formed XML: no element found"),
        ("<ApiInteraction>\n<Request>\n</ApiInteraction>", 3, "", "mismatched tag"),
        (GOOD.replace("<Method>", "<Method>&nbsp;"), 4, "", "undefined entity"),
        (LAUGHS + GOOD, 1, "", "DOCTYPE"),
        ("\n" + LAUGHS + GOOD.replace("POST", "&b;"), 2, "", "DOCTYPE"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd">' + GOOD, 1, "", "DOCTYPE"),
        ('<!DOCTYPE a PUBLIC "x" "http://192.0.2.1/x">' + GOOD, 1, "", "DOCTYPE"),
        ("<a>" * 65 + "</a>" * 65, 1, "", "nested deeper than 64"),
        ("\n".join(["<a>"] * 65), 65, "", "nested deeper than 64"),
        (GOOD.replace("</Body>", " " * 1024 * 1024 + "</Body>"), 1, "", "larger than 1048576 bytes"),
        (GOOD.replace("</Body>", "é" * 524_288 + "</Body>"), 1, "", "larger than 1048576 bytes"),
        (GOOD.replace("$(B)", "\ud800"), 1, "", "surrogate"),
        ("<Interaction/>", 1, "Interaction", "unknown document"),
        (GOOD.replace("<Request>", '<Request id="1">'), 2, "Request", "has attributes"),
        (GOOD.replace("<Url>", '<Url xml:space="preserve">'), 3, "Request/Url", "has attributes"),
        (GOOD.replace("<ApiInteraction>", '<ApiInteraction xmlns="urn:x">'), 1, "ApiInteraction", "has attributes"),
        (GOOD.replace("<Request>", '<Request xmlns:p="urn:x">'), 2, "Request", "has attributes"),
        (GOOD.replace("<Method>", "<Timeout>5</Timeout>\n<Method>"), 4, "Request/Timeout", "unknown element"),
        (GOOD.replace("POST", "<b>POST</b>"), 4, "Request/Method/b", "unknown element"),
        (GOOD.replace("<Request>", "<request/><Request>"), 2, "request", "unknown element"),
        (GOOD.replace("<Method>POST</Method>", ""), 2, "Request/Method", "is missing"),
        (GOOD.replace("<Type>JSON</Type>", ""), 8, "Response/Type", "is missing"),
        ("<ApiInteraction>\n</ApiInteraction>", 1, "Request", "is missing"),
        (GOOD.replace("<Method>", "<Method>GET</Method>\n<Method>"), 5, "Request/Method", "twice"),
        (GOOD.replace("<Method>", "POST <Method>"), 2, "Request", "has text between its elements"),
        (GOOD.replace("POST", "FETCH"), 4, "Request/Method", "not a method"),
        (GOOD.replace("POST", "$(M)"), 4, "Request/Method", "not a method"),
        (GOOD.replace(">JSON<", ">YAML<"), 9, "Response/Type", "not a response type"),
        (GOOD.replace(">Code<", ">a|b|c<"), 10, "Response/ResponseCodeDestination", "name"),
        (document(fields=[("a", "$(x)")]), 11, "Response/Fields/Field/Destination", "name"),
        (document(fields=[("a", "")]), 11, "Response/Fields/Field/Destination", "name"),
        (document(fields=[("a", "x" * 256)]), 11, "Response/Fields/Field/Destination", "name"),
        (document(fields=[("$.a[", "x")]), 11, "Response/Fields/Field/Locator", "not a JSON locator"),
        (document(fields=[("", "x")]), 11, "Response/Fields/Field/Locator", "empty locator"),
        (document(fields=[("a", "x")], response_type="XML"), 11, "Response/Fields/Field/Locator", "not an XML locator"),
        (
            document(fields=[("a", "x")]).replace("</Field>", "\n<DataType>Integer</DataType></Field>"),
            12,
            "Response/Fields/Field/DataType",
            "not a data type",
        ),
        (document(headers=[("Bad Name", "x")]), 5, "Request/Headers/Header/Key", "not a header's name"),
        (document(headers=[("", "x")]), 5, "Request/Headers/Header/Key", "not a header's name"),
        (document(headers=[("HOST", "evil")]), 5, "Request/Headers/Header/Key", "the transport sets"),
        (document(headers=[("X", "a\nb")]), 5, "Request/Headers/Header/Value", "control character"),
        (document(headers=[("X", "\u20ac")]), 5, "Request/Headers/Header/Value", "beyond LATIN-1"),
        (document(headers=[("Content-Type", "$(T)")]), 5, "Request/Headers/Header/Value", "with a placeholder"),
        (document(headers=[("Content-Type", "text/xml")] * 2), 5, "Request/Headers/Header/Value", "beside another"),
        (document(body="{}", headers=[("Content-Type", "text/plain")]), 6, "Request/Body", "can't be encoded"),
        (
            document(body="{}", headers=[("Content-Type", "application/json; charset=UTF-16")]),
            6,
            "Request/Body",
            "another character set",
        ),
        (document(body="\n\n{\n $(A:Upper)}"), 9, "Request/Body", "unknown formatter 'Upper'"),
        (document(body="a=1\n&b=$(A"), 7, "Request/Body", "never ends"),
        (document(body="a=$(A$(B))"), 6, "Request/Body", "inside a placeholder"),
        (document(body="a=$()"), 6, "Request/Body", "empty placeholder"),
        (document(body="a=#( )"), 6, "Request/Body", "empty placeholder"),
        (document(body="a=$(A|)"), 6, "Request/Body", "name"),
        (document(body="a=$( A)"), 6, "Request/Body", "name"),
        (document(body="a=$(A:)"), 6, "Request/Body", "unknown formatter ''"),
        (document(body="\na=~~~REPLACE~~~"), 7, "Request/Body", "still has ~~~REPLACE~~~"),
    ],
)
def test_a_fault_is_named_with_its_line_and_element(text, line, element, problem):
    error = fault(text)

    assert (error.line, error.element) == (line, element)
    assert problem in error.problem


def test_fault_texts_never_quote_literal_text():
    for text in (
        document(body="client_secret=hunter2\nx"),
        document(body='{"password":"hunter2"'),
        document(url="https://u:hunter2@h.example/"),
        document(headers=[("Authorization", "Basic hunter2\n")], method="hunter2"),
        document(body="<password>hunter2</passwd>"),
    ):
        assert "hunter2" not in str(fault(text))


@pytest.mark.parametrize("name", ["utf-8", "utf-16", "iso-8859-1", "nonsense"])
def test_a_declared_encoding_and_a_bom_mean_nothing_in_text(name):
    text = f'\ufeff<?xml version="1.0" encoding="{name}"?>' + document(body='{"a":"é"}')

    assert parse(text, name="f").body.parts == ('{"a":"é"}'.encode(),)


def test_a_nul_could_be_taken_for_a_placeholder_and_is_refused_wherever_it_comes_from():
    with pytest.raises(ValueError, match="NUL"):
        read_source("a\0b")
    assert "not well-formed" in fault(GOOD.replace("q=", "\0")).problem
    assert "not well-formed" in fault(GOOD.replace("q=", "&#0;")).problem


@pytest.mark.parametrize(
    "body",
    [
        '"' + '\\"' * 500_000,
        "[" + '"' * 999_999,
        "secret=a&" * 30_000 + "secret=$(A)",
        "a=$(A)" + "$(B)" * 50_000,
        "$(" * 500_000,
        "<a>" + "<b c='$(A)'/>" * 30_000 + "</a>",
        "<a>" + "<!--" * 140_000,
        "<a " + "b" * 1_000_000,
        "{" + ",".join(f'"k{n}":"$(A)"' for n in range(20_000)) + "}",
    ],
    ids=range(9),
)
def test_a_large_hostile_document_costs_no_more_than_its_length(body):
    # Quadratic work on these takes minutes; the suite's own time limit is the judge.
    examined = examine(document(body=body), name="f")

    assert (examined.definition is None) == bool(examined.faults)
    assert not any("larger than" in fault.problem for fault in examined.faults)


def test_cdata_and_escapes_say_the_same():
    escaped = document(body='a=&b"]]>=$(X)')
    inside = escaped[escaped.index("<Body>") : escaped.index("</Body>")]
    cdata = escaped.replace(inside, '<Body><![CDATA[a=&b"]]]]><![CDATA[>=$(X)]]>')

    assert parse(escaped, name="f").body.parts[0] == b'a=&b"]]>='
    assert parse(cdata, name="f") == parse(escaped, name="f")


def test_outer_blanks_are_trimmed_and_inner_ones_kept():
    text = document(
        url=" \n https://h.example/x\t", method=" post ", body='\n {\n\t"a": "$(A)"\r\n}\n ', code="\nCode\n"
    ).replace("\r", "&#13;")
    definition = parse(text, name="f")

    assert definition.url.parts == (b"https://h.example/x",)
    assert definition.method == "POST"
    assert definition.body.parts[0] == b'{\n\t"a": "'
    assert definition.body.parts[2] == b'"\r\n}'
    assert definition.response_code_destination == "Code"


def test_the_optional_elements_may_be_missing_or_empty():
    text = (
        "<ApiInteraction><Request><Url>https://h</Url><Method>GET</Method></Request><Response><Type>XML</Type>"
        "<ResponseCodeDestination/><Fields><Field><Locator>/a</Locator><Destination>A</Destination>"
        "</Field></Fields></Response></ApiInteraction>"
    )
    definition = parse(text, name="f")

    assert (definition.headers, definition.body.parts, definition.body_kind) == ((), (), "none")
    assert definition.response_code_destination is None
    assert definition.fields == (Field("/a", "A", "String"),)
    assert definition.destinations == ("A",)


def test_names_come_in_order_of_first_use_and_once():
    definition = parse(
        document(url="#(Base)/$(b)?q=$(S|a)", headers=[("X", "$(b)$(c:ToLowerCase)#(Key)")], body="a=$(d)&b=#(Base)"),
        name="f",
    )

    assert definition.data_names == ("b", "S|a", "c", "d")
    assert definition.config_names == ("Base", "Key")


def test_dollar_and_hash_signs_alone_are_literal():
    assert parse(document(body="a=$5&b=%23(1)&c=#4$"), name="f").body.parts == (b"a=$5&b=%23(1)&c=#4$",)


@pytest.mark.parametrize(
    "same", [GOOD.replace("\n", "\n\n  "), GOOD.replace("<Body>", "<!-- $(Z) --><Body>"), f"{GOOD} "]
)
def test_layout_and_comments_change_neither_text_nor_digest(same):
    assert parse(same, name="f").text == parse(GOOD, name="f").text
    assert parse(same, name="f").digest == parse(GOOD, name="g").digest


@pytest.mark.parametrize(
    "other",
    [
        GOOD.replace("POST", "PUT"),
        GOOD.replace("(B)", "(BB)"),
        GOOD.replace('{"a"', '{ "a"'),
        GOOD.replace("Code<", "Co<"),
    ],
)
def test_anything_that_is_sent_or_kept_changes_the_digest(other):
    assert parse(other, name="f").digest != parse(GOOD, name="f").digest


@pytest.mark.parametrize(
    "text", [GOOD, document(body="a=]]>&b=%3C<"), document(body="<a>&amp;\r$(X)</a>".replace("\r", "&#13;"))]
)
def test_the_stored_text_parses_to_itself(text):
    definition = parse(text, name="f")

    assert parse(definition.text, name="f") == definition
