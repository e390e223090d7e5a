"""Values out of answers that may say anything."""

import json

import pytest

from orchestrator.domain.errors import DefinitionError
from orchestrator.interactions import Unreadable, extract, locate, parse, read_json
from tests.fixtures.definitions import document

JSON = b"""{"sessionId":"s-1","amount":12.40,"big":1e400,"long":12345678901234567890123,"neg":-0.0,"yes":true,
 "no":false,
 "nothing":null,"empty":"","deep":{"a":[{"b":"c"},[1.50,"x"]],"q\\"":null,"e":{}},"cardholder Address":"1","0":"zero",
 "list":[],"\\u00e9":"\\u20ac"}"""


@pytest.mark.parametrize(
    ("locator", "expected"),
    [
        ("sessionId", "s-1"),
        ("SessionId", None),
        ("missing", None),
        ("nothing", None),
        ("empty", ""),
        ("amount", "12.40"),
        ("big", "1e400"),
        ("long", "12345678901234567890123"),
        ("neg", "-0.0"),
        ("yes", "true"),
        ("no", "false"),
        ("deep.a[0].b", "c"),
        ("deep.a[1][0]", "1.50"),
        ("deep.a[1]", '[1.50,"x"]'),
        ("deep", '{"a":[{"b":"c"},[1.50,"x"]],"q\\"":null,"e":{}}'),
        ("deep.a[2]", None),
        ("deep.a.b", None),
        ("deep[0]", None),
        ("sessionId.length", None),
        ("sessionId[0]", None),
        ("amount[0]", None),
        ("cardholder Address", "1"),
        ("0", "zero"),
        ("list", "[]"),
        ("é", "€"),
    ],
)
def test_json_locators(locator, expected):
    assert locate(read_json(JSON), locator) == expected


@pytest.mark.parametrize(
    ("body", "locator", "expected"),
    [
        ('[{"name":"n"}]', "[0].name", "n"),
        ("[[1,2]]", "[0][1]", "2"),
        ("[]", "[0]", None),
        ('"text"', "name", None),
        ("null", "name", None),
        ('{"a":1,"a":2}', "a", "2"),
        ('\ufeff{"a":"b"}', "a", "b"),
    ],
)
def test_json_locators_at_the_root(body, locator, expected):
    assert locate(read_json(body.encode()), locator) == expected


def test_plain_python_values_can_be_searched_too():
    assert locate({"a": [1, 1.5, True, {"b": None}]}, "a") == '[1,1.5,true,{"b":null}]'
    assert locate({"a": 1}, "a") == "1"


@pytest.mark.parametrize(
    "locator", ["", ".", "a.", ".a", "a..b", "a[", "a[]", "a[x]", "a[-1]", "a]b", "[0]a", "a[0]b", "a[1234567]"]
)
def test_malformed_json_locators_are_refused(locator):
    with pytest.raises(ValueError, match="locator"):
        locate({}, locator)


XML = """<?xml version="1.0"?><!-- c --><r:root xmlns:r="urn:r" id="7"><child>one<b>two</b></child><child a=""/>
<child><deep> x&amp;y </deep></child><empty/><c><![CDATA[<raw>]]></c></r:root>"""


@pytest.mark.parametrize(
    ("locator", "expected"),
    [
        ("/root/child", "onetwo"),
        ("/root/child/text()", "one"),
        ("/root/child/b", "two"),
        ("/root/child/deep", " x&y "),
        ("/root/child/@a", ""),
        ("/root/@id", "7"),
        ("/root/@other", None),
        ("/root/empty", ""),
        ("/root/empty/text()", None),
        ("/root/c", "<raw>"),
        ("/root/missing", None),
        ("/child", None),
        ("/other/child", None),
    ],
)
def test_xml_locators(locator, expected):
    definition = parse(document(fields=[(locator, "A")], response_type="XML"), name="f")

    assert extract(definition, XML.encode(), status=200)["A"] == expected


@pytest.mark.parametrize("locator", ["name", "", "/", "//a", "/a/", "/a[1]", "/r:a", "/a/@x/b", "/*", "/a b", "/a|/b"])
def test_xml_locators_beyond_the_subset_are_refused_when_the_definition_is_read(locator):
    with pytest.raises(DefinitionError, match="XML locator"):
        parse(document(fields=[(locator, "A")], response_type="XML"), name="f")


def test_the_destinations_get_their_values_and_the_status_its_own():
    fields = [("sessionId", "GlobalPCI|SessionId"), ("Message", "GlobalPCI|Message")]
    definition = parse(document(fields=fields, code="GlobalPCIResponseCode"), name="f")

    assert extract(definition, b'{"sessionId":"s"}', status=201) == {
        "GlobalPCIResponseCode": "201",
        "GlobalPCI|SessionId": "s",
        "GlobalPCI|Message": None,
    }


def test_without_a_destination_for_the_response_code_there_is_none():
    assert extract(parse(document(fields=[("a", "A")], code=""), name="f"), b'{"a":"b"}', status=200) == {"A": "b"}


def test_a_definition_without_fields_does_not_look_at_the_body():
    assert extract(parse(document(), name="f"), b"<html>", status=502) == {"Code": "502"}


@pytest.mark.parametrize("response_type", ["JSON", "XML"])
@pytest.mark.parametrize(
    "body",
    [
        *(b"", b" ", b"<html><p>502</html>", b"plain", b"\xff\xfe", b"\xef\xbb\xbf", b"{" * 2_000_000, b"[" * 100_000),
        *(b"[" * 65 + b"]" * 65, b"<a>" * 65 + b"</a>" * 65, b'{"a":NaN}', b"[-Infinity]", b"{'a':1}", b'{"a":1}x'),
        *(b'{"a":"\x00"}', b"<a>&x;</a>", b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'),
    ],
)
def test_a_body_that_is_not_what_it_should_be_is_unreadable(response_type, body):
    locator = "a" if response_type == "JSON" else "/a"
    definition = parse(document(fields=[(locator, "A")], response_type=response_type), name="f")

    with pytest.raises(Unreadable) as caught:
        extract(definition, body, status=200)
    assert caught.value.__cause__ is None


def test_a_wide_body_is_not_a_deep_one():
    body = json.dumps({"rows": [{"a": [i]} for i in range(500)], "x": "[" * 100}).encode()
    nested = b"[" * 64 + b"]" * 64

    assert locate(read_json(body), "rows[499].a[0]") == "499"
    assert locate(read_json(nested), "[0]") == "[" * 63 + "]" * 63


def test_what_no_database_stores_is_replaced():
    definition = parse(document(fields=[("a", "A")]), name="f")

    assert extract(definition, rb'{"a":"x\u0000\ud800y\ud83d\ude00"}', status=200)["A"] == "x\ufffd\ufffdy\U0001f600"
