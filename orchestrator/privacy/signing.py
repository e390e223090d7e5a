"""
Ed25519 keys that sign checkpoints, and their public halves.

Owns how keys are written down: a private key is `NAME SEED`, the seed 32 bytes in
base64; a public key is a C2SP verifier key, `NAME+HASH+KEY`
(https://c2sp.org/signed-note). Must not know what is signed. Next: `vault`.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from orchestrator.domain.errors import ConfigurationError, InvalidInput
from orchestrator.privacy.sealed import create_private
from orchestrator.privacy.secret import read_private

KEY_SETTING = "seal.signing_key"
_ED25519 = b"\x01"
"""The algorithm's number in the format."""
_NAME = re.compile(r"[!-*,-~]{1,200}")
"""No blank and no plus sign: they separate a key's parts."""
_FIX = "give `NAME SEED`, one key a line, the seed 32 random bytes in base64"
_PUBLIC_FIX = "give a verifier key, NAME+HASH+KEY, as `orchestrator audit keys` prints it"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """
    A key that checks signatures.

    Attributes:
        name: As in signature lines.
        key: 32 bytes.
    """

    name: str
    key: bytes

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell keys of one name apart."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.key).digest()[:4]

    def verifies(self, text: bytes, signature: bytes) -> bool:
        """Tell whether the signature over the bytes is this key's."""
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(signature, text)
        except InvalidSignature:
            return False
        return True

    def __str__(self) -> str:
        """Give the verifier key."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(_ED25519 + self.key).decode()}"

    @classmethod
    def parse(cls, text: str, name: str) -> "PublicKey":
        """
        Read a verifier key.

        Args:
            text: `NAME+HASH+KEY`.
            name: What an error calls it.

        Raises:
            InvalidInput: It is none, or not of Ed25519.
        """
        who, _, rest = text.strip().partition("+")
        hashed, _, coded = rest.partition("+")
        try:
            decoded = base64.b64decode(coded, validate=True)
        except (binascii.Error, ValueError):
            decoded = b""
        if not _NAME.fullmatch(who) or len(decoded) != 33 or decoded[:1] != _ED25519:
            raise InvalidInput(name, "is no Ed25519 verifier key", _PUBLIC_FIX)
        found = cls(who, decoded[1:])
        if hashed != found.key_id.hex():
            raise InvalidInput(name, "is a verifier key whose parts do not belong together", _PUBLIC_FIX)
        return found


class SigningKey:
    """
    A key that signs; its repr shows only its public half.

    Args:
        name: As in signature lines.
        seed: 32 secret bytes (RFC 8032 section 5.1.5).
    """

    def __init__(self, name: str, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = PublicKey(name, self._key.public_key().public_bytes_raw())

    @property
    def name(self) -> str:
        """As in signature lines."""
        return self.public.name

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell keys of one name apart."""
        return self.public.key_id

    def sign(self, text: bytes) -> bytes:
        """Give the signature over the bytes."""
        return self._key.sign(text)

    def __repr__(self) -> str:
        return f"SigningKey({self.public})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SigningKey is not pickled: the bytes would hold its seed")


def signing_keys(text: str, *, origin: str = KEY_SETTING) -> Sequence[SigningKey]:
    """
    Read keys from the text of a key file or of a secret.

    Every key in it signs: to rotate, append the new key's line, seal once, and take the old line away.

    Args:
        text: `NAME SEED`, one key a line; `#` starts a comment.
        origin: What to call it in an error.

    Raises:
        ConfigurationError: There is no key, or one is malformed. The message never holds the text.
    """
    found = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            name, coded = words
            seed = base64.b64decode(coded, validate=True)
        except (binascii.Error, ValueError):
            name, seed = "", b""
        if not _NAME.fullmatch(name) or len(seed) != 32:
            raise ConfigurationError(KEY_SETTING, f"{origin} holds something that is no signing key", _FIX)
        found.append(SigningKey(name, seed))
    if not found:
        raise ConfigurationError(KEY_SETTING, f"{origin} holds no key", _FIX)
    if len({(key.name, key.key_id) for key in found}) != len(found):
        raise ConfigurationError(KEY_SETTING, f"{origin} holds one key twice", _FIX)
    return found


def load_or_create_signing_key(path: Path, name: str) -> tuple[Sequence[SigningKey], bool]:
    """
    Read the key file, or make one with a new key, for its owner alone (0600).

    Returns:
        The keys, and whether the file was made just now.

    Raises:
        ConfigurationError: It can't be made, is malformed, or can be read by others.

    Crash: as `sealed.create_private`: there is a whole file or none.
    """
    created = False
    try:
        text = read_private(path, KEY_SETTING, forbidden=0o077)
    except FileNotFoundError:
        created = create_private(path, new_key_line(name).encode(), KEY_SETTING)
        text = read_private(path, KEY_SETTING, forbidden=0o077)
    return signing_keys(text, origin=str(path)), created


def new_key_line(name: str) -> str:
    """Give the line of a new random key."""
    return f"{name} {base64.b64encode(Ed25519PrivateKey.generate().private_bytes_raw()).decode()}\n"
