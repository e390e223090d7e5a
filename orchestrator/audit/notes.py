"""
Signed notes and checkpoints: what a log says of itself, in a text that anybody's tool can check.

Owns the two formats of C2SP (https://c2sp.org/signed-note and https://c2sp.org/tlog-checkpoint):
a note is a text, an empty line and signature lines; a checkpoint is a note whose text is the
log's origin, its size and its root. Keys are somebody else's: whoever signs or checks is
given. Next: `lines`.
"""

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.domain.errors import InvalidInput

LONGEST_NOTE = 1 << 16
_DASH = "\u2014 "
_FIX = "give the text of a checkpoint, signature lines included, as `orchestrator audit seal` prints it"


class Signer(Protocol):
    """A key that signs."""

    @property
    def name(self) -> str:
        """The key's name in signature lines."""
        ...

    @property
    def key_id(self) -> bytes:
        """Four bytes of the key's hash."""
        ...

    @property
    def public(self) -> object:
        """The public half; its text is the verifier key."""
        ...

    def sign(self, text: bytes) -> bytes:
        """Give the signature over the bytes."""
        ...


class Verifier(Protocol):
    """A key that checks signatures."""

    @property
    def name(self) -> str:
        """The key's name in signature lines."""
        ...

    @property
    def key_id(self) -> bytes:
        """Four bytes of the key's hash."""
        ...

    def verifies(self, text: bytes, signature: bytes) -> bool:
        """Tell whether the signature over the bytes is this key's."""
        ...


@dataclass(frozen=True, slots=True)
class Signature:
    """
    One signature line.

    Attributes:
        name: The key's name.
        key_id: Four bytes that tell keys of one name apart.
        signature: The signature itself.
    """

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """
    A log at one size.

    Attributes:
        origin: Which log; its last part is the database's life.
        size: How many leaves.
        root: Their root.
    """

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @property
    def life(self) -> str:
        """The database's life in which it was signed."""
        return self.origin.rpartition("/")[2]

    @property
    def log(self) -> str:
        """The log's name, whatever life."""
        return self.origin.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Note:
    """A checkpoint with its signatures, not checked yet."""

    checkpoint: Checkpoint
    signatures: tuple[Signature, ...]

    @property
    def text(self) -> str:
        """The note as a text."""
        return self.checkpoint.text + "\n" + "".join(map(_line, self.signatures))

    def signed_by(self, verifiers: Iterable[Verifier]) -> Sequence[Verifier]:
        """
        Give those of the keys that have signed it.

        Signatures of unknown keys are passed over, as the format asks for; one that names a known
        key and is not that key's makes the whole note invalid.

        Raises:
            ValueError: A known key's signature does not fit.
        """
        found, signed = [], self.checkpoint.text.encode()
        known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
        for line in self.signatures:
            verifier = known.get((line.name, line.key_id))
            if verifier is None:
                continue
            if not verifier.verifies(signed, line.signature):
                raise ValueError(f"the signature of {line.name} does not fit")
            found.append(verifier)
        return found


def signed_note(checkpoint: Checkpoint, signers: Iterable[Signer]) -> Note:
    """Sign a checkpoint with every key."""
    text = checkpoint.text.encode()
    return Note(checkpoint, tuple(Signature(key.name, key.key_id, key.sign(text)) for key in signers))


def _line(signature: Signature) -> str:
    told = base64.b64encode(signature.key_id + signature.signature).decode()
    return f"{_DASH}{signature.name} {told}\n"


def read_note(text: str, name: str) -> Note:
    """
    Read a checkpoint's note; no signature is checked.

    Args:
        text: The note.
        name: What errors call it.

    Raises:
        InvalidInput: It is none.
    """
    if len(text) > LONGEST_NOTE:
        raise InvalidInput(name, "is too long for a checkpoint", _FIX)
    signed, separator, lines = text.partition("\n\n")
    if not separator or not lines.endswith("\n"):
        raise InvalidInput(name, "is cut off, or no checkpoint", _FIX)
    signatures = tuple(_signature(line, name) for line in lines[:-1].split("\n"))
    return Note(_checkpoint(signed.split("\n"), name), signatures)


def _checkpoint(lines: Sequence[str], name: str) -> Checkpoint:
    if len(lines) < 3 or not lines[0] or not all(lines):
        raise InvalidInput(name, "has no origin, size and root", _FIX)
    if len(lines) > 3:
        raise InvalidInput(name, "has more lines than this version writes", _FIX)
    origin, size, root = lines
    digits = size.isascii() and size.isdecimal() and (size == "0" or not size.startswith("0")) and len(size) < 19
    decoded = _decoded(root)
    if not digits or decoded is None or len(decoded) != 32:
        raise InvalidInput(name, "has no size and root", _FIX)
    return Checkpoint(origin, int(size), decoded)


def _signature(line: str, name: str) -> Signature:
    who, separator, told = line.removeprefix(_DASH).partition(" ")
    decoded = _decoded(told)
    if not line.startswith(_DASH) or not who or not separator or decoded is None or len(decoded) <= 4:
        raise InvalidInput(name, "has a line that is no signature", _FIX)
    return Signature(who, decoded[:4], decoded[4:])


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
