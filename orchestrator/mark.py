"""
The high-water mark: what this host knows of the database, kept outside it.

A database that is put back from an old copy can't know that it is old; somebody
else must remember. Owns the mark's file alone: what is in it, and that it is always
a whole one. Every process of a host writes the same file without a lock: each mark
names an entry that was acknowledged, so whichever comes last is a true one, at most
one heartbeat older than the best. Must not know how entries are looked up.
Next: `store.incarnation`.
"""

import contextlib
import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.domain.errors import ConfigurationError
from orchestrator.files import sync_directory

KEY = "mark_file"
_LIFE, _HASH = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{64}")
_LONGEST = 4096
_ONE_AT_A_TIME = threading.Lock()
"""The file that becomes the mark is named by its process alone."""


@dataclass(frozen=True, slots=True)
class Mark:
    """
    What was known of the database.

    Attributes:
        incarnation: The life it was in: 32 hexadecimal digits.
        entries: How many entries this host has been acknowledged in it, at least.
        chain: The chain of the newest of them; empty before the first.
        seq: Its number there; 0 before the first.
        hash: Its hash, 64 hexadecimal digits; empty before the first.
    """

    incarnation: str
    entries: int = 0
    chain: str = ""
    seq: int = 0
    hash: str = ""


class MarkFile:
    """
    A mark in a file.

    Args:
        path: Where; on other storage than the database, or both are put back together.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Mark | None:
        """
        Give the mark; `None` if there never was one.

        Raises:
            ConfigurationError: The file can't be read, or holds no mark of ours; its directory
                is missing, as when the storage is not mounted: that must not look like a first start.
        """
        if not self.path.parent.is_dir():
            raise ConfigurationError(KEY, "names a file in a directory that does not exist", "make or mount it")
        try:
            with self.path.open("rb") as file:
                text = file.read(_LONGEST)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigurationError(KEY, f"can't be read ({type(error).__name__})", "let this user read it") from None
        try:
            return _mark(json.loads(text))
        except (ValueError, TypeError, KeyError, RecursionError):
            fix = "move it away if the database has not gone back in time, else run `orchestrator db restored`"
            raise ConfigurationError(KEY, "holds no mark", fix) from None

    def demand_writable(self) -> None:
        """
        Make sure that a mark can be written; leaves nothing behind.

        Raises:
            ConfigurationError: It can't.
        """
        try:
            if self.path.is_dir():
                raise IsADirectoryError
            partial = self._partial()
            with _ONE_AT_A_TIME, _cleared(partial):
                partial.touch(mode=0o600)
                partial.unlink()
        except OSError as error:
            raise _unwritable(error) from None

    def write(self, mark: Mark) -> None:
        """
        Replace the mark; only its owner can read it (0600).

        Raises:
            ConfigurationError: The file can't be written; the former mark is still there.

        Crash: the former mark or this one is there, whole; a file `.NAME.PID.tmp` may be
        left beside it, which the next process of that number replaces.
        """
        partial = self._partial()
        told = {"v": 1, **{name: getattr(mark, name) for name in Mark.__slots__}}
        try:
            with _ONE_AT_A_TIME, _cleared(partial):
                descriptor = os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(json.dumps(told, sort_keys=True).encode() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(self.path)
            sync_directory(self.path.parent)
        except OSError as error:
            raise _unwritable(error) from None

    def _partial(self) -> Path:
        return self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")


def _unwritable(error: OSError) -> ConfigurationError:
    problem = f"can't be written ({type(error).__name__})"
    return ConfigurationError(KEY, problem, "make room, and let this user write there")


@contextlib.contextmanager
def _cleared(partial: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _mark(found: Any) -> Mark:
    mark = Mark(found["incarnation"], found["entries"], found["chain"], found["seq"], found["hash"])
    texts, numbers = (mark.incarnation, mark.chain, mark.hash), (mark.entries, mark.seq)
    if not (all(isinstance(text, str) for text in texts) and all(type(number) is int for number in numbers)):
        raise ValueError("no mark")
    first = (mark.chain, mark.seq, mark.hash) == ("", 0, "")
    named = mark.chain != "" and mark.seq > 0 and _HASH.fullmatch(mark.hash)
    if found["v"] != 1 or not _LIFE.fullmatch(mark.incarnation) or mark.entries < 0 or not (first or named):
        raise ValueError("no mark")
    return mark
