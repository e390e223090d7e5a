"""Sealing: only the key opens, only in its place, also after rotation."""

import base64
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator.domain.errors import ConfigurationError, IntegrityViolated
from orchestrator.privacy.sealed import KEY_BYTES, Sealer, load_or_create_key_file
from orchestrator.privacy.vault import FieldVault

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
OLD_TEXT, NEW_TEXT = base64.b64encode(OLD).decode(), base64.b64encode(NEW).decode()


@pytest.fixture
def sealer():
    return Sealer({"k1": OLD, "k2": NEW}, "k2")


def test_sealed_bytes_have_the_documented_layout(sealer):
    fixed = Sealer({"k1": OLD}, "k1", random_bytes=lambda count: b"\x07" * count)
    sealed = fixed.seal(b"A. Payer", bound_to="payer_data/pay-1")
    assert sealed[:4] == b"\x01\x02k1"
    assert sealed[4:16] == b"\x07" * 12
    assert len(sealed) == 16 + len(b"A. Payer") + 16
    assert b"Payer" not in sealed
    assert sealer.unseal(sealed, bound_to="payer_data/pay-1") == b"A. Payer"


def test_the_same_value_is_never_sealed_to_the_same_bytes(sealer):
    assert len({sealer.seal(b"x", bound_to="p") for _ in range(50)}) == 50


@pytest.mark.parametrize("at", [0, 1, 2, 4, 10, 16, 20, -1])
def test_an_altered_byte_never_opens(sealer, at):
    sealed = bytearray(sealer.seal(b"A. Payer", bound_to="p"))
    sealed[at] ^= 1
    with pytest.raises((IntegrityViolated, ConfigurationError)) as caught:
        sealer.unseal(bytes(sealed), bound_to="p")
    assert "Payer" not in str(caught.value)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 15, 16, 31, 39])
def test_a_value_cut_short_never_opens(sealer, length):
    with pytest.raises((IntegrityViolated, ConfigurationError)):
        sealer.unseal(sealer.seal(b"A. Payer", bound_to="p")[:length], bound_to="p")


def test_a_value_moved_to_another_place_does_not_open(sealer):
    with pytest.raises(IntegrityViolated, match="pay-2"):
        sealer.unseal(sealer.seal(b"x", bound_to="pay-1"), bound_to="pay-2")


def test_a_swapped_key_id_does_not_open():
    both = Sealer({"k1": OLD, "k2": OLD}, "k1")
    sealed = both.seal(b"x", bound_to="p")
    with pytest.raises(IntegrityViolated):
        both.unseal(sealed.replace(b"k1", b"k2", 1), bound_to="p")


def test_rotation_keeps_old_values_and_digests_readable():
    before = Sealer.parse(OLD_TEXT)
    after = Sealer.parse(f"{OLD_TEXT}\n{NEW_TEXT}\n")
    sealed, digest = before.seal(b"x", bound_to="p"), before.digest(b"content")
    assert after.unseal(sealed, bound_to="p") == b"x"
    assert after.same_content(b"content", digest)
    assert not after.same_content(b"other", digest)
    assert after.digest(b"content") != digest
    assert after.same_content(b"content", after.digest(b"content"))
    with pytest.raises(ConfigurationError, match=r"sealing_key.*needs a key.*retired key"):
        before.unseal(after.seal(b"x", bound_to="p"), bound_to="p")
    with pytest.raises(ConfigurationError, match="sealing_key"):
        before.same_content(b"content", after.digest(b"content"))


@pytest.mark.parametrize("digest", ["", "k9:00", "00" * 32])
def test_a_digest_of_no_known_key_is_an_error_and_not_a_difference(sealer, digest):
    with pytest.raises(ConfigurationError):
        sealer.same_content(b"x", digest)


@pytest.mark.parametrize("digest", ["k1:", "k1:00", "k1:\u00e4", "k1"])
def test_a_malformed_digest_is_no_match(sealer, digest):
    assert not sealer.same_content(b"x", digest)


def test_digests_need_the_key_and_differ_from_the_sealing_key(sealer):
    other = Sealer({"k2": OLD}, "k2")
    assert sealer.digest(b"x") != other.digest(b"x")
    assert sealer.digest(b"x") == Sealer({"k2": NEW}, "k2").digest(b"x")


@pytest.mark.parametrize(
    ("keys", "current", "problem"),
    [
        ({}, "k1", "current key is not in the list"),
        ({"k1": OLD}, "k2", "current key is not in the list"),
        ({"k1": b"short"}, "k1", "5 bytes instead of 32"),
        ({"": OLD}, "", "key id is malformed"),
        ({"k 1": OLD}, "k 1", "key id is malformed"),
        ({"\u00e4": OLD}, "\u00e4", "key id is malformed"),
        ({"x" * 65: OLD}, "x" * 65, "key id is malformed"),
    ],
)
def test_keys_that_make_no_sense_are_refused(keys, current, problem):
    with pytest.raises(ConfigurationError, match=problem):
        Sealer(keys, current)


@pytest.mark.parametrize(
    "text",
    [
        NEW_TEXT,
        f"# made for tests\n{OLD_TEXT}  # retired\n\n{NEW_TEXT}\n",
        f"{OLD_TEXT},{NEW_TEXT}",
        f"{OLD_TEXT} {NEW_TEXT}",
    ],
)
def test_the_last_key_of_a_list_is_the_current_one(text):
    assert Sealer.parse(text).current == Sealer.parse(NEW_TEXT).current
    assert NEW_TEXT not in repr(Sealer.parse(text))


@pytest.mark.parametrize(
    "text", ["", "# nothing", "not base64!", OLD_TEXT[:-4], f"{OLD_TEXT}\nGARBAGE", "A" * 44 + "A"]
)
def test_a_malformed_key_list_is_refused_without_repeating_it(text):
    with pytest.raises(ConfigurationError) as caught:
        Sealer.parse(text, origin="env:KEY")
    assert caught.value.key == "sealing_key"
    assert "env:KEY" in str(caught.value)
    assert OLD_TEXT[:10] not in str(caught.value)


def test_a_key_file_is_made_once_for_its_owner_alone(tmp_path):
    path = tmp_path / "orchestrator.key"
    first, created = load_or_create_key_file(path)
    again = load_or_create_key_file(path)
    assert created
    assert not again.created
    assert again.sealer.unseal(first.seal(b"x", bound_to="p"), bound_to="p") == b"x"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(base64.b64decode(path.read_text())) == KEY_BYTES
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_many_who_make_the_key_file_at_once_get_the_same_key(tmp_path):
    path = tmp_path / "orchestrator.key"
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(load_or_create_key_file, [path] * 24))
    assert len({key.sealer.current for key in loaded}) == 1
    assert sum(key.created for key in loaded) == 1
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_key_file_that_was_lost_is_not_made_anew_over_sealed_values(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no key file.*restore"):
        load_or_create_key_file(tmp_path / "orchestrator.key", may_create=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_a_key_file_that_others_can_read_is_refused(tmp_path, mode):
    path = tmp_path / "orchestrator.key"
    load_or_create_key_file(path)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=r"sealing_key: .*read by others; chmod 600"):
        load_or_create_key_file(path)


def test_a_malformed_key_file_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "orchestrator.key"
    path.touch(0o600)
    with pytest.raises(ConfigurationError, match=r"sealing_key: .*holds no key"):
        load_or_create_key_file(path)
    assert path.read_bytes() == b""


def test_a_key_file_that_cannot_be_made_says_what_to_do_instead(tmp_path):
    with pytest.raises(ConfigurationError, match=r"can't be created.*sealing_key to env:NAME"):
        load_or_create_key_file(tmp_path / "missing" / "orchestrator.key")


def test_a_vault_gives_a_payments_fields_back_to_that_payment_alone(sealer):
    vault = FieldVault(sealer)
    fields = {"cardholderName": "Zo\u00eb P\u00e4yer", "CallGuid": "g-1"}
    sealed = vault.seal(fields, payment_id="pay-1")
    assert vault.unseal(sealed, payment_id="pay-1") == fields
    assert "P\u00e4yer".encode() not in sealed
    with pytest.raises(IntegrityViolated):
        vault.unseal(sealed, payment_id="pay-2")
    with pytest.raises(IntegrityViolated, match="no fields"):
        vault.unseal(sealer.seal(b"[]", bound_to="payer_data/pay-1"), payment_id="pay-1")
    assert vault.same_content(b"x", vault.digest(b"x"))
