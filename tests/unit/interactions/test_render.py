"""A value is encoded for the place it stands in, or refused by name."""

import hashlib
import hmac
import json

import pytest

from orchestrator.domain.errors import ConfigurationError, InvalidInput
from orchestrator.interactions import Rendered, digest_of, parse, render
from tests.fixtures.definitions import document

SETTINGS = {"Base": "https://h.example", "Key": "k"}


def rendered(data=None, config=SETTINGS, optional=frozenset(), **parts) -> Rendered:
    return render(parse(document(**parts), name="f"), data or {}, config, optional=optional)


def body(template: str, value: str, **parts) -> bytes:
    return rendered({"A": value}, body=template, **parts).body


@pytest.mark.parametrize(
    ("template", "value", "expected"),
    [
        ('{"a":"$(A)"}', 'q" b\\ é \u2028 \n\x00\x1f', '{"a":"q\\" b\\\\ é \u2028 \\n\\u0000\\u001f"}'),
        ('{"a":"x$(A)y"}', "", '{"a":"xy"}'),
        ('{"$(A)":1}', 'k"', '{"k\\"":1}'),
        ('{"a":"$(A:EscapeDoubleQuotes)"}', 'q"', '{"a":"q\\""}'),
        ('{"$(A:EscapeDoubleQuotes)":1}', 'q"', '{"q\\"":1}'),
        ('{"a":$(A)}', "-12.40e+3", '{"a":-12.40e+3}'),
        ('{"a":$(A)}', "null", '{"a":null}'),
        ('{"a":$(A:ToLowerCase:RemoveLeadingPlus)}', "+TRUE", '{"a":true}'),
        ("a=$(A)", "+44 7&=é%/~.-_*", "a=%2B44+7%26%3D%C3%A9%25%2F~.-_%2A"),
        ("$(A)=1", "k=&", "k%3D%26=1"),
        ("a=$(A:RemoveLeadingPlus)", "++44", "a=%2B44"),
        ("a=$(A:EscapeDoubleQuotes)", 'q"', "a=q%5C%22"),
        ("a=$(A:ToLowerCase)", "ÄB", "a=%C3%A4b"),
        ("<a>$(A)</a>", "<&>\"' \r\n\t]]>", "<a>&lt;&amp;&gt;&quot;&apos; &#13;&#10;&#9;]]&gt;</a>"),
        ("<a b='$(A)'/>", "'\n", "<a b='&apos;&#10;'/>"),
        ("<a>$(A:EscapeDoubleQuotes)</a>", '"', "<a>\\&quot;</a>"),
    ],
)
def test_body_values(template, value, expected):
    assert body(template, value).decode() == expected


@pytest.mark.parametrize(
    ("parts", "value"),
    [
        *(
            ({"body": '{"a":$(A)}'}, value)
            for value in (
                "",
                "x",
                "01",
                "+1",
                "1.",
                ".5",
                "1e",
                "0x1",
                "NaN",
                "True",
                '"a"',
                "1 ",
                "1\n",
                "1,2",
                "\u0661",
                "[]",
            )
        ),
        *(({"body": text}, "\ud800") for text in ('{"a":"$(A)"}', '{"$(A)":1}', "a=$(A)", "<a>$(A)</a>")),
        *(({"body": "<a>$(A)</a>"}, value) for value in ("\x00", "\x0b", "\x1b", "\ufffe", "\udfff")),
        *(({"url": "https://h/x/$(A)"}, value) for value in ("", ".", "..", "\ud800")),
        ({"url": "https://h/?q=$(A)"}, "\ud800"),
        *(
            ({"headers": [("X", "$(A)")]}, value)
            for value in ("a\r\nX: 1", "\n", "\x00", "\x1b", "\x7f", "\x85", "\u20ac", "\ud800")
        ),
        *(({"headers": [("X-$(A)", "v")]}, value) for value in ("a:b", "a b", "é", "\r\n")),
        *(
            ({"headers": [("$(A)", "v")]}, value)
            for value in ("", "Host", "transfer-encoding", "CONTENT-TYPE", "content-length")
        ),
    ],
)
def test_a_value_that_cannot_stand_there_is_refused_by_name(parts, value):
    with pytest.raises(InvalidInput) as caught:
        rendered({"A": value}, **parts)

    assert caught.value.field == "A"


@pytest.mark.parametrize(
    "parts",
    [{"body": '{"a":$(A)}'}, {"body": "<a>$(A)</a>"}, {"headers": [("X", "$(A)")]}, {"headers": [("X$(A)", "")]}],
)
def test_a_refusal_never_shows_the_value(parts):
    with pytest.raises(InvalidInput) as caught:
        rendered({"A": "hunter2\x1b"}, **parts)

    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "value", "expected"),
    [
        ("https://h.example/x/$(A)", "a/b?c#d%2e é;=+~", "https://h.example/x/a%2Fb%3Fc%23d%252e%20%C3%A9%3B%3D%2B~"),
        ("https://h.example/.$(A)", "..a", "https://h.example/...a"),
        ("#(Base)/x/$(A)", "@evil.example", "https://h.example/x/%40evil.example"),
        ("#(Base)?q=$(A)&r=$(A)", "a&b=c d+", "https://h.example?q=a%26b%3Dc%20d%2B&r=a%26b%3Dc%20d%2B"),
        ("HTTPS://H.example:8443/p;v=1/%41?x=a/b?", "unused", "HTTPS://H.example:8443/p;v=1/%41?x=a/b?"),
    ],
)
def test_url_values(url, value, expected):
    assert rendered({"A": value}, url=url).url == expected


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("https://h.example", "https://h.example/x"),
        ("https://h.example/", "https://h.example/x"),
        ("http://127.0.0.1:8080/proxy/v1//", "http://127.0.0.1:8080/proxy/v1/x"),
        ("https://[::1]:8443", "https://[::1]:8443/x"),
    ],
)
def test_a_configured_base_comes_before_the_path(base, expected):
    assert rendered(config={"Base": base}, url="#(Base)/x").url == expected


@pytest.mark.parametrize(
    "base",
    [
        *("h.example", "ftp://h", "//h", "https://", "https://u:p@h", "https://h?a=1", "https://h/a?", "https://h#f"),
        *(
            "https://h/..",
            "https://h/a%2",
            "https://h:99999",
            "https://h:0",
            "https://h ",
            "https://h\n",
            "https://h/ü",
        ),
        *("https://h\\x", "javascript:alert(1)", "https://h\x00", "https://evil@h/"),
    ],
)
def test_a_base_that_is_not_a_plain_host_and_prefix_is_a_configuration_error(base):
    with pytest.raises(ConfigurationError) as caught:
        rendered(config={"Base": base}, url="#(Base)/x")

    assert caught.value.key == "Base"
    assert "evil" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "data", "expected"),
    [
        (("Authorization", "Bearer $(A)"), {"A": "tok"}, ("Authorization", "Bearer tok")),
        (("X-$(A)", " $(A)é "), {"A": "n"}, ("X-n", "né")),
        (("X", "$(A)"), {"A": " a\u00a0 "}, ("X", "a\u00a0")),
        (("X", "$(A:ToLowerCase)$(A:EscapeDoubleQuotes)"), {"A": 'A"'}, ("X", 'a"A\\"')),
        (("X", "Bearer $(A)"), {}, ("X", "Bearer")),
    ],
)
def test_header_values(header, data, expected):
    assert rendered(data, headers=[header], optional={"A"}).headers == (expected,)


@pytest.mark.parametrize("data", [{}, {"A": None}])
def test_a_missing_field_is_refused_unless_it_is_optional(data):
    with pytest.raises(InvalidInput, match="A: is missing"):
        rendered(data, body='{"a":"$(A)"}', optional={"B"})


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ('{"a":"x$(A)"}', b'{"a":"x"}'),
        ('{"a":$(A)}', b'{"a":null}'),
        ("a=$(A)&b=1", b"a=&b=1"),
        ("<a>$(A)</a>", b"<a></a>"),
    ],
)
@pytest.mark.parametrize("data", [{}, {"A": None}])
def test_a_missing_optional_field_leaves_nothing_or_null(template, expected, data):
    assert rendered(data, body=template, optional={"A"}).body == expected


def test_even_an_optional_field_may_not_vanish_from_a_path():
    with pytest.raises(InvalidInput, match="A: is empty"):
        rendered({}, url="https://h/x/$(A)/y", optional={"A"})


@pytest.mark.parametrize("config", [{}, {"Key": ""}])
def test_a_missing_or_empty_setting_is_a_configuration_error(config):
    with pytest.raises(ConfigurationError, match="Key: is missing or empty"):
        rendered(config=config, body="a=#(Key)", optional={"Key"})


def test_a_setting_that_cannot_stand_there_is_a_configuration_error_without_its_value():
    with pytest.raises(ConfigurationError) as caught:
        rendered(config={"Key": "line\nbreak"}, headers=[("X", "#(Key)")])

    assert caught.value.key == "Key"
    assert "break " not in str(caught.value).replace("line break", "")


def test_a_field_and_a_setting_of_one_name_are_two_things():
    assert rendered({"Key": "field"}, body="a=$(Key)&b=#(Key)").body == b"a=field&b=k"


def test_values_are_never_expanded_again():
    data = {"A": "$(B)#(Key)$(A)", "B": "$(A)"}

    assert json.loads(rendered(data, body='{"a":"$(A)","b":"$(B)"}').body) == {"a": "$(B)#(Key)$(A)", "b": "$(A)"}


def test_a_rendered_request_shows_no_content():
    request = rendered({"A": "hunter2"}, url="https://h/$(A)", headers=[("X", "$(A)")], body="a=$(A)")

    assert "hunter2" in request.url
    assert "hunter2" not in repr(request)
    assert "hunter2" not in f"{request}"


class TestDigest:
    BASE = Rendered("POST", "https://h/x", (("Authorization", "Bearer 1"), ("A", "1"), ("B", "2")), b"body")

    @pytest.mark.parametrize(
        "same",
        [
            Rendered("POST", "https://h/x", (("AUTHORIZATION", "Bearer 2"), ("A", "1"), ("B", "2")), b"body"),
            Rendered("POST", "https://h/x", (("b", "2"), ("a", "1")), b"body"),
        ],
    )
    def test_a_renewed_token_and_the_order_of_headers_change_nothing(self, same):
        assert digest_of(same) == digest_of(self.BASE)

    @pytest.mark.parametrize(
        "other",
        [
            Rendered("PUT", "https://h/x", (("A", "1"), ("B", "2")), b"body"),
            Rendered("POST", "https://h/y", (("A", "1"), ("B", "2")), b"body"),
            Rendered("POST", "https://h/x", (("A", "1"), ("B", "3")), b"body"),
            Rendered("POST", "https://h/x", (("A", "1"),), b"body"),
            Rendered("POST", "https://h/x", (("A", "1"), ("B", "2")), b"body\n"),
            Rendered("POST", "https://h/x", (("A", "1"), ("B", '2"]]\nbody')), b""),
        ],
    )
    def test_anything_else_changes_it(self, other):
        assert digest_of(other) != digest_of(self.BASE)

    def test_which_headers_are_left_out_can_be_chosen(self):
        assert digest_of(self.BASE, without_headers=()) != digest_of(self.BASE)
        assert digest_of(self.BASE, without_headers=("authorization", "a")) == digest_of(
            Rendered("POST", "https://h/x", (("B", "2"),), b"body")
        )

    def test_it_is_a_plain_or_a_keyed_sha_256_of_a_documented_text(self):
        message = b'["POST", "https://h/x", [["a", "1"], ["b", "2"]]]\nbody'

        assert digest_of(self.BASE) == hashlib.sha256(message).hexdigest()
        assert digest_of(self.BASE, key=b"k") == hmac.new(b"k", message, "sha256").hexdigest()
