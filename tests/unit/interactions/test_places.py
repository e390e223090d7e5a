"""Which place a placeholder stands in, and where none may stand."""

import pytest

from orchestrator.domain.errors import DefinitionError
from orchestrator.interactions import BodyKind, Place, parse
from tests.fixtures.definitions import document

STRING, BARE, KEY = Place.JSON_STRING, Place.JSON_BARE, Place.JSON_KEY
TEXT, ATTRIBUTE, FORM = Place.XML_TEXT, Place.XML_ATTRIBUTE, Place.FORM


def places(body: str, content_type: str | None = None) -> list[Place]:
    headers = [] if content_type is None else [("content-type", content_type)]
    return [mark.place for mark in parse(document(body=body, headers=headers), name="f").body.placeholders()]


@pytest.mark.parametrize(
    ("body", "content_type", "kind"),
    [
        ("", "application/json", BodyKind.NONE),
        ('{"a":1}', None, BodyKind.JSON),
        ("[]", None, BodyKind.JSON),
        ("<a/>", None, BodyKind.XML),
        ("a=b", None, BodyKind.FORM),
        ('"text"', "application/json", BodyKind.JSON),
        ("{}", "APPLICATION/JSON ; Charset=UTF-8", BodyKind.JSON),
        ("{}", 'application/problem+json;charset="utf-8"', BodyKind.JSON),
        ("<a/>", "application/soap+xml", BodyKind.XML),
        ("<a/>", "text/xml", BodyKind.XML),
        ("[a]=b", "application/x-www-form-urlencoded", BodyKind.FORM),
    ],
)
def test_the_content_type_decides_the_kind_and_otherwise_the_first_character(body, content_type, kind):
    headers = [] if content_type is None else [("Content-Type", content_type)]

    assert parse(document(body=body, headers=headers), name="f").body_kind is kind


def test_only_a_form_without_a_content_type_gets_one():
    def names(**parts):
        return [key.parts[0] for key, _ in parse(document(**parts), name="f").headers]

    assert names(body="a=b", headers=[("X", "1")]) == [b"X", b"Content-Type"]
    assert names(body="a=b", headers=[("CONTENT-type", "application/x-www-form-urlencoded")]) == [b"CONTENT-type"]
    assert names(body="{}") == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"a":"$(A)"}', [STRING]),
        ('{"a":$(A)}', [BARE]),
        ('{"$(A)":1}', [KEY]),
        ('{"x$(A)y" : "x$(B)y$(C)"}', [KEY, STRING, STRING]),
        ('["$(A)",$(B), { "k" : [ $(C) ] }]', [STRING, BARE, BARE]),
        ('"$(A):"', [STRING]),
        ('["a:b", "$(A)", ":"]', [STRING]),
        (r'{"a\"":"\\$(A)", "b\\":$(B)}', [STRING, BARE]),
        ("$(A)", [BARE]),
        ("[" + "1" * 5000 + ",$(A)]", [BARE]),
        (' {"a":\n$(A)\n} ', [BARE]),
        ('{"$(A)":1,"$(B)":2}', [KEY, KEY]),
    ],
)
def test_json_places(body, expected):
    assert places(body, "application/json") == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<a>$(A)</a>", [TEXT]),
        ("<a b='$(A)' c = \"x$(B)'\">t$(C)<d/>$(D)</a>", [ATTRIBUTE, ATTRIBUTE, TEXT, TEXT]),
        ('<?xml version="1.0" encoding="UTF-8"?>\n<p:a xmlns:p="u"><!-- c --><![CDATA[<]]>$(A)</p:a>', [TEXT]),
        ("<a b='>'>$(A)</a>", [TEXT]),
    ],
)
def test_xml_places(body, expected):
    assert places(body) == expected


@pytest.mark.parametrize(
    ("body", "expected"), [("a=$(A)", [FORM]), ("$(A)=1&x$(B)y=$(C)=$(D)&e=", [FORM] * 4), ("a=1&&b=$(A)", [FORM])]
)
def test_form_places(body, expected):
    assert places(body) == expected


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('{"a":1$(A)}', "only a part of a value"),
        ('{"a":-$(A)}', "only a part of a value"),
        ("[$(A)$(B)]", "only a part of a value"),
        ("[$(A)true]", "only a part of a value"),
        ('["x"$(A)]', "not JSON"),
        ("{$(A):1}", "not JSON"),
        (r'["\$(A)"]', "not JSON"),
        (r'["\u00$(A)"]', "not JSON"),
        (r'["\u$(A)"]', "not JSON"),
        ('{"a":"$(A)}', "not JSON"),
        ('{"a":"$(A)",}', "not JSON"),
        ('{"a":"\t"}', "not JSON"),
        ("[NaN]", "NaN"),
        ("[1 $(A)]", "not JSON"),
        ('["a" "$(A)"]', "not JSON"),
        ("[\u00a01]", "not JSON"),
        ("[1]\u00a0", "not JSON"),
        ("[" + "1" * 5000 + ",]", "not JSON"),
        ("{'a':1}", "not JSON"),
        ("[" * 100_000, "JSON"),
        ('{"a":1,"b":{"a":1},"a":2}', "one key twice"),
        ('{"\\u0061":1,"a":2}', "one key twice"),
        ("<$(A)/>", "no value can be encoded"),
        ("<a $(A)='1'/>", "no value can be encoded"),
        ("<a><!-- $(A) --></a>", "no value can be encoded"),
        ("<a><![CDATA[$(A)]]></a>", "no value can be encoded"),
        ("<a><?pi $(A)?></a>", "no value can be encoded"),
        ("<a>$(A)", "not well-formed"),
        ("<!DOCTYPE a><a>$(A)</a>", "DOCTYPE"),
        ("<?xml version='1.0' encoding='latin1'?><a/>", "another encoding"),
        ("just text", "neither JSON nor XML nor a form"),
        ("$(Body)", "neither JSON nor XML nor a form"),
        ("=$(A)", "neither JSON nor XML nor a form"),
        ("a=1&b", "neither JSON nor XML nor a form"),
        ("a=1\n&b=2", "line break"),
        ("a=100%", "not followed by two hexadecimal digits"),
        ("a=%$(A)", "not followed by two hexadecimal digits"),
        ("a=%2$(A)", "not followed by two hexadecimal digits"),
    ],
)
def test_a_body_that_could_be_broken_by_a_value_is_refused(body, problem):
    with pytest.raises(DefinitionError) as caught:
        parse(document(body=body), name="f")

    assert caught.value.element == "Request/Body"
    assert problem in caught.value.problem


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ('{\n"a":\n1$(A)}', 8),
        ("<a>\n<!--\n$(A)--></a>", 8),
        ('{\n"a" 1}', 7),
        ('{\n"a":\n\n"$(A)}', 9),
        ("[\n$(A),\n1 1]", 8),
    ],
)
def test_a_fault_inside_a_body_is_named_with_its_own_line(body, line):
    with pytest.raises(DefinitionError) as caught:
        parse(document(body=body), name="f")

    assert caught.value.line == line


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h.example", []),
        ("HTTP://h:8080/$(A)/b-$(B).json?$(C)=x$(D)&e", [Place.PATH, Place.PATH, Place.QUERY, Place.QUERY]),
        ("#(Base)", [Place.BASE_URL]),
        ("#(Base)/v1/#(Key)?k=#(Key)", [Place.BASE_URL, Place.PATH, Place.QUERY]),
        ("#(Base)?a=$(A)", [Place.BASE_URL, Place.QUERY]),
        ("https://[::1]:1/$(A)", [Place.PATH]),
        ("https://h/a?b=/$(A)?c=", [Place.QUERY]),
    ],
)
def test_url_places(url, expected):
    assert [mark.place for mark in parse(document(url=url), name="f").url.placeholders()] == expected


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "complete http(s)://host"),
        ("/path", "complete http(s)://host"),
        ("ftp://h/", "complete http(s)://host"),
        ("h.example/x", "complete http(s)://host"),
        ("https://$(Host)/", "complete http(s)://host"),
        ("https://h$(Host)/", "complete http(s)://host"),
        ("https://h.$(Domain).example/", "complete http(s)://host"),
        ("https://h:$(Port)/", "complete http(s)://host"),
        ("https://h:80$(Port)/", "complete http(s)://host"),
        ("https://#(Host)/", "complete http(s)://host"),
        ("$(Scheme)://h/", "can't choose the host"),
        ("$(Base)/x", "can't choose the host"),
        ("#(Base)x/y", "not the complete base"),
        ("#(Base)$(A)", "not the complete base"),
        ("#(Base)@evil/", "not the complete base"),
        ("#(Base:ToLowerCase)/x", "not the complete base"),
        ("https://user@h/", "complete http(s)://host"),
        ("https://user:pw@h/", "complete http(s)://host"),
        ("https://$(User)@h/", "complete http(s)://host"),
        ("https://h\\@evil/", "complete http(s)://host"),
        ("https://bücher.example/", "complete http(s)://host"),
        ("https://h:0/", "port"),
        ("https://h:65536/", "port"),
        ("https://h/a b", "percent-encoded"),
        ("https://h/a\nb", "percent-encoded"),
        ("https://h/ü", "percent-encoded"),
        ("https://h/#top", "percent-encoded"),
        ("https://h/a%2", "percent-encoded"),
        ("https://h/%$(A)", "percent-encoded"),
        ("https://h/a?b=c d", "percent-encoded"),
        ("https://h/a?b=%$(A)", "hexadecimal"),
        ("https://h/a?b#c", "percent-encoded"),
        ("https://h/a/../b", "segment . or .."),
        ("https://h/./b", "segment . or .."),
        ("https://h/%2e%2E/b", "segment . or .."),
    ],
)
def test_a_url_whose_host_or_shape_a_value_could_change_is_refused(url, problem):
    with pytest.raises(DefinitionError) as caught:
        parse(document(url=url), name="f")

    assert caught.value.element == "Request/Url"
    assert problem in caught.value.problem
