"""
Credentials that no repr, log, pickle or traceback shows, and where they come from.

Owns the reference language `env:NAME` and `file:PATH`. PCI DSS 8.6.2 forbids
passwords in configuration files, so a literal is never accepted where a secret
is asked for. Must not know which secrets there are. Next: `sealed`.
"""

import hmac
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, Self

from orchestrator.domain.errors import ConfigurationError

MAX_BYTES = 64 * 1024
"""The largest file that is read as a secret; anything longer is a mistaken path."""

_FIX = "give a reference: env:NAME or file:PATH"


class Secret:
    """
    A credential, readable through `reveal` alone.

    Args:
        value: The credential itself.
        origin: The reference it came from, such as `env:CLIENT_SECRET`; may be shown.
    """

    __slots__ = ("_value", "origin")

    def __init__(self, value: str, origin: str = "") -> None:
        self._value = value
        self.origin = origin

    def reveal(self) -> str:
        """Give the credential. Call it where it is sent, and keep the result nowhere."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        """Compare in constant time; the origin doesn't matter."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_bytes(self._value), _bytes(other._value))

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: the bytes would hold it")


def is_reference(text: str) -> bool:
    """Tell whether a text has the form of a reference, whether or not it leads anywhere."""
    return text.startswith(("env:", "file:"))


def resolve_secret(reference: str, *, key: str, environ: Mapping[str, str], base_dir: Path) -> Secret:
    """
    Follow a reference to its secret.

    Args:
        reference: `env:NAME` or `file:PATH`; one trailing line end of a file is not part of the secret.
        key: The full name of the setting that holds the reference, for the error.
        environ: The environment to look up `NAME` in.
        base_dir: What a relative `PATH` is relative to.

    Returns:
        The secret, knowing its reference.

    Raises:
        ConfigurationError: The text is no reference, leads nowhere, or the file is
            readable by everybody. The message holds names and paths, never the content.
    """
    kind, _, name = reference.partition(":")
    if kind == "env" and name:
        value = environ.get(name)
        if not value:
            raise ConfigurationError(key, f"the environment variable {name} is not set", f"set {name}")
        return Secret(value, reference)
    if kind == "file" and name:
        return Secret(_read(base_dir / Path(name).expanduser(), key), reference)
    raise ConfigurationError(key, "is not a reference to a secret", _FIX)


def read_private(path: Path, key: str, *, forbidden: int) -> str:
    """
    Read a small text file that only its owner's side may read.

    Args:
        path: The file.
        key: The setting that names it, for the error.
        forbidden: The permission bits that must not be set; not looked at where files have none.

    Raises:
        FileNotFoundError: There is no such file.
        ConfigurationError: It is no file, unreadable, too large, not UTF-8, or too widely readable.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())  # of the open file: nobody can swap it between look and read
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigurationError(key, f"{path} can't be read ({type(error).__name__})", "check the path") from None
    if os.name == "posix" and stat.S_IMODE(status.st_mode) & forbidden:
        raise ConfigurationError(key, f"{path} can be read by others", f"chmod 600 {path}")
    if len(content) > MAX_BYTES:
        raise ConfigurationError(key, f"{path} is longer than {MAX_BYTES} bytes", "check the path")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        problem = f"{path} is not UTF-8 text"
    raise ConfigurationError(key, problem, "check the path")  # outside: a decode error carries the content


def _read(path: Path, key: str) -> str:
    try:
        content = read_private(path, key, forbidden=stat.S_IROTH | stat.S_IWOTH)
    except FileNotFoundError:
        raise ConfigurationError(key, f"there is no file {path}", "create it, or mend the path") from None
    value = content.removesuffix("\n").removesuffix("\r")
    if not value:
        raise ConfigurationError(key, f"the file {path} is empty", "put the secret into it")
    return value


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")
