"""Whatever the value: the request keeps its shape, and the value arrives intact."""

import json
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit
from xml.etree import ElementTree as ET

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from orchestrator.interactions import parse, render
from tests.fixtures.definitions import document

# A busy machine is no counterexample.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Text that is out to break something: syntax of every place, placeholders, and anything else.
HOSTILE = st.lists(
    st.one_of(
        st.sampled_from(
            ["$(A)", "#(Key)", "$(", ")", '"', "\\", "\\u0041", "&", "=", "+", "%", "%41", "<", "]]>", "<!--"]
        )
        | st.sampled_from(["/", "..", "?", "#", "@", ":", " ", "{}", "[", ",", "\u2028", "é", "\U0001f600", "'"]),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    ),
    max_size=6,
).map("".join)
XML_TEXT = HOSTILE.map(lambda text: "".join(c for c in text if c in "\t\n\r" or (c >= " " and c not in "\ufffe\uffff")))
JSON_HEAD = [("Content-Type", "application/json")]
CONFIG = {"Key": "setting", "Base": "https://h.example/p"}


def compiled(**parts):
    return parse(document(**parts), name="f")


JSON_BODY = compiled(headers=JSON_HEAD, body='{"$(A)k": ["x$(A)y", "$(B)", {"z":"$(A)$(B)"}], "n": 1.50}')
FORM_BODY = compiled(body="first=1&x$(A)=y$(B)z&last=$(A)")
XML_BODY = compiled(body="<r a='x$(A)y' b=\"$(B)\"><t>$(A)</t>$(B)<u>-$(A)$(B)-</u></r>")
TARGET = compiled(url="#(Base)/v1/a$(A)/$(B)z?q=$(A)&$(B)k=1&last=2")
HEADER = compiled(headers=[("X", "<$(A)>")])


@unhurried
@given(HOSTILE, HOSTILE)
def test_json_keeps_its_structure_and_values(a, b):
    body = render(JSON_BODY, {"A": a, "B": b}, CONFIG).body

    assert json.loads(body) == {a + "k": [f"x{a}y", b, {"z": a + b}], "n": 1.5}


@unhurried
@given(HOSTILE, HOSTILE)
def test_a_form_keeps_its_pairs_and_values(a, b):
    body = render(FORM_BODY, {"A": a, "B": b}, CONFIG).body.decode("ascii")

    assert parse_qsl(body, keep_blank_values=True, strict_parsing=True) == [
        ("first", "1"),
        (f"x{a}", f"y{b}z"),
        ("last", a),
    ]


@unhurried
@given(XML_TEXT, XML_TEXT)
def test_xml_keeps_its_structure_and_values(a, b):
    root = ET.fromstring(render(XML_BODY, {"A": a, "B": b}, CONFIG).body)

    assert root.attrib == {"a": f"x{a}y", "b": b}
    assert [(child.tag, child.text or "", child.tail or "") for child in root] == [("t", a, b), ("u", f"-{a}{b}-", "")]


@unhurried
@given(HOSTILE, HOSTILE)
def test_a_url_keeps_its_host_path_and_query(a, b):
    assume(a not in ("", ".", "..") and b not in ("", ".", ".."))
    url = urlsplit(render(TARGET, {"A": a, "B": b}, CONFIG).url)

    assert (url.scheme, url.netloc, url.fragment) == ("https", "h.example", "")
    assert [unquote(segment) for segment in url.path.split("/")] == ["", "p", "v1", f"a{a}", f"{b}z"]
    assert parse_qsl(url.query, strict_parsing=True) == [("q", a), (f"{b}k", "1"), ("last", "2")]


@unhurried
@given(st.text(st.characters(codec="latin-1", exclude_categories=["Cc"])))
def test_a_header_keeps_its_value(a):
    assert render(HEADER, {"A": a}, CONFIG).headers == (("X", f"<{a}>"),)


@unhurried
@given(HOSTILE)
def test_literal_bytes_are_sent_unchanged(a):
    for definition in (JSON_BODY, FORM_BODY):
        body = render(definition, {"A": a, "B": a}, CONFIG).body
        at = 0
        for literal in (part for part in definition.body.parts if isinstance(part, bytes)):
            at = body.index(literal, at) + len(literal)
        assert body.startswith(definition.body.parts[0])


def with_password(kind: str, value: str) -> str:
    if kind == "form":
        return urlencode({"a": 1, "password": value})
    if kind == "json":
        return json.dumps({"password": value, "a": "$(A)"})
    return ET.tostring(ET.Element("a", password=value), encoding="unicode")


OTHER = {kind: compiled(body=with_password(kind, "other")).digest for kind in ("form", "json", "xml")}
READERS = {
    "form": lambda sent: dict(parse_qsl(sent)),
    "json": json.loads,
    "xml": lambda sent: ET.fromstring(sent).attrib,
}


@unhurried
@given(st.from_regex(r"[a-z0-9&=%+/\"\\<é]{1,20}", fullmatch=True), st.sampled_from(sorted(READERS)))
def test_a_lifted_secret_arrives_intact_and_shows_nowhere(value, kind):
    definition = compiled(body=with_password(kind, f"hunter2{value}"))
    sent = render(definition, {"A": "x"}, {}).body.decode()

    assert READERS[kind](sent)["password"] == f"hunter2{value}"
    assert definition.digest == OTHER[kind]
    assert "hunter2" not in definition.text + repr(definition)
