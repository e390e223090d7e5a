"""Literal secrets are lifted out of every position that is known to carry one."""

import pickle

import pytest

from orchestrator.domain.errors import ConfigurationError
from orchestrator.interactions import Secret, parse, render
from tests.fixtures.definitions import document

PLAIN = "hunter2"


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ({"body": "a=1&client_secret=hunter2&b=2"}, "client_secret"),
        ({"body": "CLIENT-SECRET=hunter2"}, "CLIENT-SECRET"),
        ({"body": "client%5Fsecret=hunter2"}, "client_5Fsecret"),
        ({"body": "password=$(A)hunter2"}, "password"),
        ({"body": "client_assertion=hunter2"}, "client_assertion"),
        ({"body": '{"clientSecret":"hunter2"}'}, "clientSecret"),
        ({"body": '{"Access_Token" : "hunter2", "b":"$(A)"}'}, "Access_Token"),
        ({"body": '{"a":{"password":"hunter2"},"b":"$(A)"}'}, "password"),
        ({"body": '{"credentials":{"value":["hunter2"]}}'}, "value"),
        ({"body": '{"pass\\u0077ord":"\\u0068unter2"}'}, "password"),
        ({"body": "<a><u>$(A)</u><s:password xmlns:s='u'>hunter2</s:password>$(A)</a>"}, "password"),
        ({"body": "<a password = 'hunter2'>x</a>"}, "password"),
        ({"url": "https://h/x?a=1&api_key=hunter2"}, "api_key"),
        ({"headers": [("Authorization", "hunter2")]}, "Authorization"),
        ({"headers": [("authorization", "Basic hunter2")]}, "authorization"),
        ({"headers": [("Proxy-Authorization", "Bearer hunter2")]}, "Proxy-Authorization"),
        ({"headers": [("X-Api-Key", "hunter2")]}, "X-Api-Key"),
        ({"headers": [("Cookie", "s=hunter2")]}, "Cookie"),
    ],
)
def test_a_literal_in_a_secret_position_is_sent_but_never_shown(parts, name):
    definition = parse(document(**parts), name="f")
    request = render(definition, {"A": "x"}, {})

    assert [key for key in definition.lifted if key != f"Lifted|{name}"] == []
    assert definition.config_names == (f"Lifted|{name}",)
    assert f"#(Lifted|{name})" in definition.text
    assert PLAIN in request.url + str(request.headers) + request.body.decode()
    for shown in (definition.text, repr(definition), f"{definition}", repr(dict(definition.lifted)), repr(request)):
        assert PLAIN not in shown


@pytest.mark.parametrize(
    "parts",
    [
        {"body": "client_id=x&scope=y&token_type=z&grant_type=password"},
        {"body": "client_secret=#(ClientSecret)&password=$(A)&token="},
        {"body": '{"password":null,"secret":true,"token":"","note":"password"}'},
        {"body": '{"password":"$(A)","secret":"$(A)-$(A)"}'},
        {"body": "<a><password>\n</password>text</a>"},
        {"headers": [("Authorization", "Bearer $(AccessToken)")]},
        {"headers": [("Authorization", "Basic #(Basic)"), ("X-Request-Id", "1"), ("X-$(A)", "v")]},
        {"url": "https://h/password?q=$(A)&client_id=1"},
    ],
)
def test_settings_fields_names_and_punctuation_are_no_literal_secrets(parts):
    definition = parse(document(**parts), name="f")

    assert dict(definition.lifted) == {}
    assert "Lifted" not in definition.text


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ("client_secret=a%2Bb+c/d", b"client_secret=a%2Bb+c%2Fd"),
        ('{"secret":"a\\"\\\\\\u00e9\\/"}', '{"secret":"a\\"\\\\é/"}'.encode()),
        ('{"password":1234,"a":[1]}', b'{"password":1234,"a":[1]}'),
        ("<a><secret>a&amp;b&#13;</secret></a>", b"<a><secret>a&amp;b&#13;</secret></a>"),
        ('<a secret="a&quot;b"/>', b'<a secret="a&quot;b"/>'),
        ("a=1&secret=x$(A)y&b=$(A)", b"a=1&secret=xvy&b=v"),
    ],
)
def test_what_is_sent_means_what_the_literal_meant(body, sent):
    assert render(parse(document(body=body), name="f"), {"A": "v"}, {}).body == sent


def test_rotating_a_secret_changes_neither_text_nor_digest():
    old, new = (parse(document(body=f"client_id=1&client_secret={secret}"), name="f") for secret in ("old", "newer"))

    assert (old.text, old.digest) == (new.text, new.digest)
    assert old != new
    assert old == parse(document(body="client_id=1&client_secret=old"), name="f")


def test_several_secrets_get_several_names_and_none_that_is_taken():
    text = document(body="secret=one&secret=two&a=#(Lifted|secret-2)", headers=[("X-Api-Key", "three")])
    definition = parse(text, name="f")

    assert {name: secret.reveal() for name, secret in definition.lifted.items()} == {
        "Lifted|X-Api-Key": "three",
        "Lifted|secret": "one",
        "Lifted|secret-3": "two",
    }
    assert render(definition, {}, {"Lifted|secret-2": "4"}).body == b"secret=one&secret=two&a=4"


def test_the_stored_text_asks_its_reader_for_the_secret():
    stored = parse(parse(document(body="client_secret=hunter2"), name="f").text, name="f")

    assert dict(stored.lifted) == {}
    with pytest.raises(ConfigurationError, match=r"Lifted\|client_secret"):
        render(stored, {}, {})
    assert render(stored, {}, {"Lifted|client_secret": "new"}).body == b"client_secret=new"


def test_what_was_lifted_cannot_be_changed_or_read_by_accident():
    definition = parse(document(body="secret=hunter2"), name="f")

    with pytest.raises(TypeError):
        definition.lifted["Lifted|secret"] = Secret("other")
    assert f"{definition.lifted['Lifted|secret']} {definition.lifted['Lifted|secret']!r}" == "Secret(***) Secret(***)"
    assert hash(definition) == hash(parse(definition.text, name="f"))
    with pytest.raises(TypeError):
        pickle.dumps(definition)


def test_a_secret_that_cannot_be_read_is_refused_without_being_quoted():
    with pytest.raises(ConfigurationError, match="percent-encoding is not UTF-8") as caught:
        parse(document(body="secret=hunter2%FF"), name="f")

    assert PLAIN not in str(caught.value)
