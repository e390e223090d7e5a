"""
Payer data under lock: authenticated encryption, keyed digests, the key file.

Owns the format of sealed bytes and of keys; `cryptography` has its home here.
Must not know what is sealed or where it is kept: whoever stores it names the
place, and bytes moved to another place don't open. Erasing is deleting the
sealed bytes; nothing else holds their content. Next: `settings`, for where a
key comes from.

A sealed value is `0x01 | length of key id | key id | nonce (12) | ciphertext and
tag`, AES-256-GCM (NIST SP 800-38D) with the bytes before the nonce and the place
as associated data. A nonce is 96 random bits, so a key is good for 2**32 values
(the same standard, section 8.3): about a thousand million payments.

A key is 32 bytes; what encrypts and what digests are two keys derived from it
by HKDF-SHA256 (RFC 5869), so that neither use weakens the other. A content digest
carries the id of its key and is compared under that key. It therefore survives
rotation as long as the retired key stays in the list, which the sealed bytes
need anyway.
"""

import base64
import binascii
import contextlib
import hmac
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from orchestrator.domain.errors import ConfigurationError, IntegrityViolated
from orchestrator.files import sync_directory
from orchestrator.privacy.secret import read_private

KEY_BYTES = 32
KEY_SETTING = "sealing_key"
"""The setting that every error about keys names."""

_VERSION = 1
VERSION_BYTE = bytes((_VERSION,))
"""How every sealed value begins, whatever its key."""
_NONCE_BYTES = 12
_TAG_BYTES = 16
_FIX = "give 32 random bytes in base64, one key a line, the current one last"


class Sealer:
    """
    Seals and opens values under a list of keys.

    Args:
        keys: 32-byte keys by their id, retired ones included. An id is 1 to 64 ASCII
            letters, digits, `.`, `_` or `-`.
        current: The id of the key that new values are sealed and digested with.
        random_bytes: Where nonces come from; tests give their own.

    Raises:
        ConfigurationError: A key has the wrong length, an id is malformed, or `current` is none of them.
    """

    def __init__(
        self, keys: Mapping[str, bytes], current: str, *, random_bytes: Callable[[int], bytes] = os.urandom
    ) -> None:
        for key_id, key in keys.items():
            _check_key(key_id, key)
        if current not in keys:
            raise ConfigurationError(KEY_SETTING, "the current key is not in the list of keys", _FIX)
        self.current = current
        self._random_bytes = random_bytes
        self._ciphers = {key_id: AESGCM(_derive(key, "seal")) for key_id, key in keys.items()}
        self._digest_keys = {key_id: _derive(key, "digest") for key_id, key in keys.items()}

    @classmethod
    def parse(cls, text: str, *, origin: str = KEY_SETTING) -> Self:
        """
        Read keys from the text of a key file or of a secret.

        Keys are base64, separated by white space or commas; `#` starts a comment; the
        last key is the current one. A key's id is derived from the key, so that two
        keys can't be mixed up under one name. To rotate, append a line.

        Args:
            text: The text.
            origin: What to call it in an error.

        Raises:
            ConfigurationError: There is no key, or one is malformed. The message never holds the text.
        """
        lines = (line.partition("#")[0] for line in text.splitlines())
        keys = [_decode(word, origin) for line in lines for word in line.replace(",", " ").split()]
        if not keys:
            raise ConfigurationError(KEY_SETTING, f"{origin} holds no key", _FIX)
        ids = [_derive(key, "key id").hex()[:16] for key in keys]
        return cls(dict(zip(ids, keys, strict=True)), ids[-1])

    def __repr__(self) -> str:
        return f"Sealer(current={self.current!r}, keys={len(self._ciphers)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Sealer is not pickled: the bytes would hold its keys")

    @property
    def key_ids(self) -> Sequence[str]:
        """The ids of all keys, the current one last."""
        return (*(key_id for key_id in self._ciphers if key_id != self.current), self.current)

    @staticmethod
    def header(key_id: str) -> bytes:
        """Give how every value begins that is sealed with this key, and no other does."""
        return bytes((_VERSION, len(key_id))) + key_id.encode()

    def seal(self, plaintext: bytes, *, bound_to: str) -> bytes:
        """
        Encrypt a value for one place.

        Args:
            plaintext: The value.
            bound_to: The name of the place, such as table, row and column. Opening asks for the same.

        Returns:
            Bytes that say which key opens them; never the same twice.
        """
        header = self.header(self.current)
        nonce = self._random_bytes(_NONCE_BYTES)
        return header + nonce + self._ciphers[self.current].encrypt(nonce, plaintext, header + bound_to.encode())

    def unseal(self, sealed: bytes, *, bound_to: str) -> bytes:
        """
        Decrypt a value.

        Args:
            sealed: What `seal` gave.
            bound_to: The place that it was sealed for.

        Raises:
            ConfigurationError: It was sealed with a key that is not in the list.
            IntegrityViolated: It was altered, cut short, or moved to another place.
        """
        head = 2 + sealed[1] if len(sealed) >= 2 else 0
        if not head or sealed[0] != _VERSION or len(sealed) < head + _NONCE_BYTES + _TAG_BYTES:
            raise IntegrityViolated(f"{bound_to}: the sealed value is malformed")
        cipher = self._ciphers.get(sealed[2:head].decode("ascii", "replace"))
        if cipher is None:
            raise _missing_key()
        body = head + _NONCE_BYTES
        try:
            return cipher.decrypt(sealed[head:body], sealed[body:], sealed[:head] + bound_to.encode())
        except InvalidTag:
            raise IntegrityViolated(f"{bound_to}: the sealed value was altered or belongs elsewhere") from None

    def digest(self, content: bytes) -> str:
        """
        Give a keyed digest of a content, for comparing contents that are sealed or erased.

        A plain hash of a name can be guessed; this one needs the key. Equal contents
        have equal digests under one key: put what makes them different places into
        the content.

        Returns:
            `<key id>:<HMAC-SHA256 in hexadecimal>`.
        """
        return self._digest(content, self.current)

    def same_content(self, content: bytes, digest: str) -> bool:
        """
        Tell whether a digest is that of this content, in constant time.

        Args:
            content: The content at hand.
            digest: What `digest` gave, under the current or a retired key.

        Raises:
            ConfigurationError: The digest's key is not in the list, so nobody can tell.
        """
        key_id, _, _ = digest.partition(":")
        if key_id not in self._digest_keys:
            raise _missing_key()
        return hmac.compare_digest(self._digest(content, key_id).encode(), digest.encode())

    def _digest(self, content: bytes, key_id: str) -> str:
        return f"{key_id}:{hmac.digest(self._digest_keys[key_id], content, 'sha256').hex()}"


class LoadedKey(NamedTuple):
    """A sealer, and whether its key was made just now (then say so to whoever runs this)."""

    sealer: Sealer
    created: bool


def load_or_create_key_file(
    path: Path, *, may_create: bool = True, random_bytes: Callable[[int], bytes] = secrets.token_bytes
) -> LoadedKey:
    """
    Read the key file, or make one with a new key, for its owner alone (0600).

    Any number of processes may call this at once; they all get the same key.

    Args:
        path: The file; its directory must exist.
        may_create: Whether a missing file is made. Say no where sealed values exist
            already: a new key can't open them.
        random_bytes: Where a new key comes from.

    Raises:
        ConfigurationError: The file is missing and may not be made, can't be made, is
            malformed, or can be read by others.

    Crash:
        Before the link nothing but a temporary file beside it is left, which nobody
        reads. After it the key is complete and on disk.
    """
    created = False
    try:
        text = read_private(path, KEY_SETTING, forbidden=0o077)
    except FileNotFoundError:
        if not may_create:
            problem = f"there is no key file {path}, and a new key can't open what is sealed already"
            raise ConfigurationError(KEY_SETTING, problem, "restore the file from its backup") from None
        created = create_private(path, base64.b64encode(random_bytes(KEY_BYTES)) + b"\n", KEY_SETTING)
        text = read_private(path, KEY_SETTING, forbidden=0o077)
    return LoadedKey(Sealer.parse(text, origin=str(path)), created)


def create_private(path: Path, content: bytes, setting: str) -> bool:
    """
    Put a complete file for its owner alone in place, unless there is one.

    Args:
        path: The file; its directory must exist.
        content: All of it.
        setting: The setting that an error names.

    Returns:
        Whether it was us.

    Raises:
        ConfigurationError: It can't be made.

    Crash: there is a whole file or none, at most a temporary one beside it, which nobody reads.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.link(temporary, path)  # unlike a rename it never replaces: of two processes one wins
        sync_directory(path.parent)
    except FileExistsError:
        return False
    except OSError as error:
        problem = f"the key file {path} can't be created ({type(error).__name__})"
        fix = f"make its directory writable, or set {setting} to env:NAME or file:PATH"
        raise ConfigurationError(setting, problem, fix) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return True


def _derive(key: bytes, use: str) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=f"payment-orchestrator {use} v1".encode()).derive(key)


def _check_key(key_id: str, key: bytes) -> None:
    plain = key_id.isascii() and key_id.replace(".", "").replace("_", "").replace("-", "").isalnum()
    if not plain or len(key_id) > 64:
        raise ConfigurationError(KEY_SETTING, "a key id is malformed", "use 1 to 64 ASCII letters, digits, . _ -")
    if len(key) != KEY_BYTES:
        raise ConfigurationError(KEY_SETTING, f"a key has {len(key)} bytes instead of {KEY_BYTES}", _FIX)


def _decode(word: str, origin: str) -> bytes:
    with contextlib.suppress(binascii.Error, ValueError):
        key = base64.b64decode(word, validate=True)
        if len(key) == KEY_BYTES:
            return key
    raise ConfigurationError(KEY_SETTING, f"{origin} holds something that is not a 32-byte key", _FIX)


def _missing_key() -> ConfigurationError:
    return ConfigurationError(KEY_SETTING, "a stored value needs a key that is not given", "add the retired key")
