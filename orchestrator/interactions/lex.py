"""
Text into literals and placeholders.

A source is text in which every placeholder has become one NUL, a character that
XML can't contain. So the scanners that look for places are plain regular
expressions, and no value can ever be taken for syntax: values don't exist yet.
Owns the placeholder syntax. Must not know places, files or elements: it raises
`Flaw`. Next: `body` and `url`, which give the placeholders their places.

Syntax from the vendor's Data Connector pages: `$(Name)`, `$(Space|Key)`,
`#(Key)`, with formatters after colons. There is no escape for a literal `$(`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.interactions.model import FORMATTERS, Flaw, Place, Placeholder, Template

MARK = "\0"
MAX_NAME = 255  # the vendor's limit for the name of a data source
CONTROL = re.compile(r"[\x01-\x1f\x7f-\x9f]")  # all but the mark
# What the transport itself sets, or what would name another host than the URL does.
TRANSPORT_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "expect"}
)
HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2

_OPEN = re.compile(r"([$#])\(")
_NAME = re.compile(r"[^\s|():\x00-\x1f\x7f](?:[^|():\x00-\x1f\x7f]*[^\s|():\x00-\x1f\x7f])?")


@dataclass(frozen=True, slots=True)
class Mark:
    """A placeholder before its place is known; as text, it is what the definition says."""

    name: str
    source: Literal["data", "config"]
    formatters: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{'$' if self.source == 'data' else '#'}({':'.join((self.name, *self.formatters))})"


@dataclass(frozen=True, slots=True)
class Source:
    """Text with a NUL for every placeholder, and the placeholders in order; as text, what the definition says."""

    text: str
    marks: tuple[Mark, ...]

    def __str__(self) -> str:
        marks = iter(self.marks)
        return re.sub(MARK, lambda _: str(next(marks)), self.text)

    def line(self, at: int) -> int:
        """How many lines below the beginning an index of `text` lies. Placeholders contain no line break."""
        return self.text.count("\n", 0, at)

    def template(self, places: Sequence[Place], encoding: str = "utf-8") -> Template:
        """
        The template, with one place for each placeholder.

        Raises:
            Flaw: Literal text that the encoding lacks.
        """
        parts: list[bytes | Placeholder] = []
        marks = iter(zip(self.marks, places, strict=True))
        for number, literal in enumerate(self.text.split(MARK)):
            if number:
                mark, place = next(marks)
                parts.append(Placeholder(mark.name, mark.source, mark.formatters, place))
            if literal:
                parts.append(_encode(literal, encoding))
        return Template(tuple(parts))


def read_source(text: str) -> Source:
    """
    Find the placeholders.

    Raises:
        Flaw: A placeholder that is unterminated, empty, nested or has an unknown formatter; a NUL.
    """
    if MARK in text:
        raise Flaw("has a NUL character")
    literals: list[str] = []
    marks: list[Mark] = []
    at = 0
    while match := _OPEN.search(text, at):
        end = text.find(")", match.end())
        try:
            marks.append(_mark(match[1], text[match.end() : end] if end >= 0 else None))
        except Flaw as flaw:
            raise Flaw(flaw.problem, flaw.fix, text.count("\n", 0, match.start())) from None
        literals.append(text[at : match.start()])
        at = end + 1
    return Source(MARK.join([*literals, text[at:]]), tuple(marks))


def check_name(name: str) -> None:
    """
    Check a data source's name: `Name` or `Space|Key`.

    Raises:
        Flaw: Empty, too long, or with brackets, colons, control characters or outer blanks.
    """
    parts = name.split("|")
    if len(name) > MAX_NAME or len(parts) > 2 or not all(map(_NAME.fullmatch, parts)):
        raise Flaw("has a name that is not a data source's", f"write Name or Space|Key, at most {MAX_NAME} long")


def header_template(source: Source, place: Place) -> Template:
    """
    A header's name or value.

    Raises:
        Flaw: Literal text with control characters, or beyond Latin-1.
    """
    if CONTROL.search(source.text):
        raise Flaw("has a line break or another control character")
    return source.template([place] * len(source.marks), "latin-1")


def _mark(sigil: str, inside: str | None) -> Mark:
    if inside is None:
        raise Flaw(f"has a placeholder that begins with {sigil}( and never ends", "close it with )")
    if _OPEN.search(inside):
        raise Flaw("has a placeholder inside a placeholder, or one that never ends", "close each with )")
    if not inside.strip():
        raise Flaw("has an empty placeholder", "write $(Name) or #(Key)")
    name, *formatters = inside.split(":")
    check_name(name)
    if unknown := [formatter for formatter in formatters if formatter not in FORMATTERS]:
        raise Flaw(f"has the unknown formatter {unknown[0][:40]!r}", f"use {', '.join(FORMATTERS)}")
    return Mark(name, "data" if sigil == "$" else "config", tuple(formatters))


def _encode(literal: str, encoding: str) -> bytes:
    try:
        return literal.encode(encoding)
    except UnicodeEncodeError:
        raise Flaw(f"has characters beyond {encoding.upper()}") from None
