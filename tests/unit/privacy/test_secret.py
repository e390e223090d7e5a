"""Secrets: shown nowhere, given by reference."""

import copy
import json
import os
import pickle

import pytest

from orchestrator.domain.errors import ConfigurationError
from orchestrator.privacy.secret import MAX_BYTES, Secret, is_reference, resolve_secret

CANARY = "s3cr3t-canary"


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{0!r}".format, lambda s: f"{[s]} { ({'k': s}) } {s!s:>20}"])
def test_no_way_of_printing_shows_a_secret(show):
    assert CANARY not in show(Secret(CANARY, "env:X"))
    assert "***" in show(Secret(CANARY))


@pytest.mark.parametrize("dump", [pickle.dumps, json.dumps, vars])
def test_a_secret_is_not_serialised(dump):
    with pytest.raises(TypeError):
        dump(Secret(CANARY))


def test_secrets_compare_by_content_and_copy_as_themselves():
    one = Secret(CANARY, "env:A")
    assert one == Secret(CANARY, "env:B")
    assert one != Secret("other")
    assert one != CANARY
    assert len({one, Secret(CANARY), Secret("\udc80")}) == 2
    assert copy.copy(one) is one
    assert copy.deepcopy([one])[0] is one
    assert one.reveal() == CANARY


def resolve(reference, tmp_path, **environ):
    return resolve_secret(reference, key="accounts.emea.client_secret", environ=environ, base_dir=tmp_path)


@pytest.mark.parametrize(
    ("content", "value"),
    [(CANARY, CANARY), (f"{CANARY}\n", CANARY), (f"{CANARY}\r\n", CANARY), (f" {CANARY}\n\n", f" {CANARY}\n")],
)
def test_a_file_holds_a_secret_and_one_line_end(tmp_path, content, value):
    (tmp_path / "key").write_bytes(content.encode())
    (tmp_path / "key").chmod(0o600)
    for reference in ("file:key", f"file:{tmp_path / 'key'}"):
        secret = resolve(reference, tmp_path)
        assert secret.reveal() == value
        assert secret.origin == reference


def test_a_variable_holds_a_secret(tmp_path):
    secret = resolve("env:CLIENT", tmp_path, CLIENT=CANARY)
    assert (secret.reveal(), secret.origin) == (CANARY, "env:CLIENT")


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        (CANARY, "is not a reference"),
        ("", "is not a reference"),
        ("env:", "is not a reference"),
        ("file:", "is not a reference"),
        ("ENV:CLIENT", "is not a reference"),
        (f"vault:{CANARY}", "is not a reference"),
        ("env:CLIENT", "variable CLIENT is not set"),
        ("env:EMPTY", "variable EMPTY is not set"),
        ("file:nowhere", "no file .*nowhere"),
        ("file:.", "can't be read"),
        ("file:empty", "is empty"),
        ("file:binary", "is not UTF-8"),
        ("file:huge", "longer than"),
    ],
)
def test_a_reference_that_leads_nowhere_names_the_setting_and_the_place(tmp_path, reference, problem):
    for name, content in {"empty": b"\n", "binary": b"\xff\xfe", "huge": b"x" * (MAX_BYTES + 1)}.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)
    with pytest.raises(ConfigurationError, match=problem) as caught:
        resolve(reference, tmp_path, EMPTY="")
    assert caught.value.key == "accounts.emea.client_secret"
    assert caught.value.fix
    assert CANARY not in str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
@pytest.mark.parametrize(("mode", "accepted"), [(0o600, True), (0o640, True), (0o644, False), (0o602, False)])
def test_a_secret_file_for_everybody_is_refused(tmp_path, mode, accepted):
    file = tmp_path / "key"
    file.write_text(CANARY)
    file.chmod(mode)
    if accepted:
        assert resolve("file:key", tmp_path).reveal() == CANARY
    else:
        with pytest.raises(ConfigurationError, match=r"read by others.*chmod 600"):
            resolve("file:key", tmp_path)


@pytest.mark.parametrize(("text", "verdict"), [("env:A", True), ("file:a", True), ("a", False), ("vault:a", False)])
def test_a_reference_is_known_by_its_form(text, verdict):
    assert is_reference(text) is verdict
