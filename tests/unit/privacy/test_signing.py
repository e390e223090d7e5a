"""Signing keys: read, made, rotated, and never shown."""

import pickle
from pathlib import Path

import pytest

from orchestrator.domain.errors import ConfigurationError, InvalidInput
from orchestrator.privacy.signing import (
    PublicKey,
    SigningKey,
    load_or_create_signing_key,
    new_key_line,
    signing_keys,
)
from tests.support.independent import signature_fits

LINE = "log AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def test_every_key_of_the_text_signs_and_comments_are_passed_over() -> None:
    first, second = signing_keys(f"# ours\n{LINE}\n\n{new_key_line('next')} # since today")

    assert (first.name, second.name) == ("log", "next")
    assert first.public.verifies(b"text", first.sign(b"text"))
    assert signature_fits(first.public.key, b"text", first.sign(b"text"))
    assert not first.public.verifies(b"other", first.sign(b"text"))
    assert PublicKey.parse(str(first.public), "key") == first.public


WRONG = {
    "nothing": "# only a comment",
    "one word": "log",
    "three words": f"{LINE} more",
    "a short seed": "log AAEC",
    "no base64": "log *" + "A" * 43,
    "a plus in the name": LINE.replace("log", "l+g"),
    "one key twice": f"{LINE}\n{LINE}",
}


@pytest.mark.parametrize("what", WRONG)
def test_a_malformed_key_is_one_clear_error_without_the_key(what: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        signing_keys(WRONG[what])

    assert refused.value.key == "seal.signing_key"
    assert "AAEC" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "x", "a+b+c", str(SigningKey("log", bytes(32)).public).replace("log", "lag")])
def test_a_malformed_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="verifier key"):
        PublicKey.parse(text, "--key")


def test_a_key_file_is_made_once_for_its_owner_alone_and_refused_when_others_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    made, created = load_or_create_signing_key(path, "log")
    again, anew = load_or_create_signing_key(path, "log")

    assert (created, anew) == (True, False)
    assert [key.public for key in again] == [key.public for key in made]
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match=r"seal\.signing_key"):
        load_or_create_signing_key(path, "log")


def test_a_key_does_not_print_nor_travel() -> None:
    key = SigningKey("log", bytes(range(32)))

    assert "AAEC" not in repr(key) + str(key) + f"{key!s}"
    assert str(key.public) in repr(key)
    with pytest.raises(TypeError):
        pickle.dumps(key)
