"""
What may be written of a value in a log line.

Every text passes through the card guard, control characters are written as escapes, a
`Secret` as stars, an object of an unknown class as the name of its class, an exception as class names and
our own frames: its text and its locals could hold anything. Pure. Next: `privacy.guard`.
"""

import math
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import TracebackType
from typing import Any
from uuid import UUID

from orchestrator.privacy.guard import redact_card_data
from orchestrator.privacy.secret import Secret

LONGEST_TEXT = 1000
DEEPEST = 4
MOST_FRAMES = 12
_ESCAPED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_PACKAGE = "orchestrator."


def shown(value: Any, depth: int = 0) -> Any:
    """Give what may be written of a value."""
    if type(value) is str:  # nearly always
        return text(value)
    match value:
        case None | bool():
            return value
        case float():
            return value if math.isfinite(value) else str(value)  # JSON has no other numbers
        case Enum():
            return shown(value.value, depth)
        case str():
            return text(value)
        case int():
            return (
                text(str(value)) if abs(value) >= 10**12 and redact_card_data(str(value)) != str(value) else int(value)
            )
        case Secret():
            return repr(value)
        case Decimal() | UUID() | date() | PurePath():
            return text(str(value))
    if depth < DEEPEST:
        if isinstance(value, Mapping):
            return {text(str(name)): shown(member, depth + 1) for name, member in value.items()}
        if isinstance(value, Sequence | AbstractSet) and not isinstance(value, bytes | bytearray | memoryview):
            return [shown(member, depth + 1) for member in value]
    return f"<{type(value).__name__}>"


_SOUND: set[str] = set()
"""Short texts that passed: words of ours, ids. They come again and again."""
_MOST_SOUND, _LONGEST_SOUND = 8192, 64
_DIGEST = re.compile(r"[0-9a-f]*[a-f][0-9a-f]*")


def text(given: str) -> str:
    """Give what may be written of a text."""
    if given in _SOUND or (len(given) == 64 and _DIGEST.fullmatch(given)):
        return given
    plain = _checked(given)
    if plain == given and len(given) < _LONGEST_SOUND:
        if len(_SOUND) >= _MOST_SOUND:
            _SOUND.clear()
        _SOUND.add(given)
    return plain


def _checked(given: str) -> str:
    plain = redact_card_data(given[: 2 * LONGEST_TEXT])
    if len(plain) > LONGEST_TEXT:
        plain = f"{plain[:LONGEST_TEXT]}..."
    return plain if plain.isascii() and plain.isprintable() else "".join(map(_escaped, plain))


def _escaped(character: str) -> str:
    if character in _REORDERING or unicodedata.category(character) in _ESCAPED_CATEGORIES:
        return character.encode("unicode_escape").decode("ascii")
    return character


def exception(error: BaseException | None) -> dict[str, Any]:
    """Give the classes of an exception and its causes, and where in our code it went by."""
    names: list[str] = []
    frames: list[str] = []
    while error is not None and len(names) < MOST_FRAMES:
        names.append(type(error).__name__)
        frames += _frames(error.__traceback__)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return {"error": names[0] if names else None, "causes": names[1:], "frames": frames[-MOST_FRAMES:]}


def _frames(traceback: TracebackType | None) -> Iterator[str]:
    while traceback is not None:
        frame = traceback.tb_frame
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith(_PACKAGE):
            yield f"{module}:{traceback.tb_lineno} {frame.f_code.co_name}"
        traceback = traceback.tb_next


def raised(exc_info: Any) -> BaseException | None:
    """Give the exception that `exc_info` of the standard library stands for."""
    if isinstance(exc_info, BaseException):
        return exc_info
    return exc_info[1] if isinstance(exc_info, tuple) else sys.exc_info()[1]
