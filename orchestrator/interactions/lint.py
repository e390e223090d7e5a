"""
Everything there is to say about a document, for the person who wrote it.

Owns the warnings; what is an error is `parse`'s business. Findings never quote
literal text. Must not know accounts: what is supplied is an argument.
Next: the bundled documents in `bundled`.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from orchestrator.interactions.lex import MARK
from orchestrator.interactions.model import BodyKind, Definition
from orchestrator.interactions.parse import Examined, examine


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One thing to mend or to know.

    Attributes:
        line: From 1.
        element: Such as `Request/Url`; empty for the document.
        severity: `error`: it can't run like this. `warning`: it runs.
        message: What and how to mend it.
    """

    line: int
    element: str
    severity: Literal["error", "warning"]
    message: str


def lint(text: str, *, name: str, supplied: Collection[str] | None = None) -> list[Finding]:
    """
    Check a document and report all that is found.

    Args:
        text: The document.
        name: Its file, for the reader; findings don't repeat it.
        supplied: The fields that somebody supplies; `None` leaves out that check.

    Returns:
        The findings by line, errors first in a line; none for a clean document.
    """
    examined = examine(text, name=name)
    findings = [
        Finding(fault.line, fault.element, "error", fault.problem + (f"; {fault.fix}" if fault.fix else ""))
        for fault in examined.faults
    ]
    findings += _unsupplied(examined, supplied) if supplied is not None else ()
    findings += _secrets(examined)
    findings += _unencrypted(examined)
    if examined.definition is not None:
        findings += _doubtful(examined, examined.definition)
    return sorted(findings, key=lambda finding: (finding.line, finding.severity, finding.element))


def _unsupplied(examined: Examined, supplied: Collection[str]) -> Iterator[Finding]:
    seen = set(supplied)
    for leaf, source in examined.sources:
        at = -1
        for mark in source.marks:
            at = source.text.index(MARK, at + 1)
            if mark.source == "data" and mark.name not in seen:
                seen.add(mark.name)
                message = f"nobody supplies {mark.name}; supply the field, or let an earlier step produce it"
                yield Finding(leaf.line + source.line(at), leaf.path, "error", message)


def _secrets(examined: Examined) -> Iterator[Finding]:
    for leaf, name in examined.lifted:
        message = f"a literal secret outside #(..) ({name.partition('|')[2]}); keep it in a setting and write #(Key)"
        yield Finding(leaf.line, leaf.path, "warning", message)


def _unencrypted(examined: Examined) -> Iterator[Finding]:
    leaf = examined.leaves.get("Request/Url")
    if leaf is not None and re.match("http://", leaf.text, re.IGNORECASE):
        yield Finding(leaf.line, leaf.path, "warning", "the host is reached over http://, unencrypted; use https://")


def _doubtful(examined: Examined, definition: Definition) -> Iterator[Finding]:
    def warning(path: str, message: str) -> Finding:
        return Finding(examined.leaves[path].line, path, "warning", message)

    if definition.method == "GET" and definition.body_kind is not BodyKind.NONE:
        yield warning("Request/Body", "a GET with a body; many servers refuse or ignore it")
    if definition.body_kind in (BodyKind.JSON, BodyKind.XML) and not _has_content_type(definition):
        yield warning("Request/Body", "no Content-Type header; only a form sets its own")
    counts = Counter(field.destination for field in definition.fields)
    counts.update(filter(None, [definition.response_code_destination]))
    for destination, count in counts.items():
        if count > 1:
            yield warning("Response/Fields/Field/Destination", f"{destination} is the destination of {count} values")


def _has_content_type(definition: Definition) -> bool:
    return any(len(key.parts) == 1 and _lower(key.parts[0]) == b"content-type" for key, _ in definition.headers)


def _lower(part: object) -> object:
    return part.lower() if isinstance(part, bytes) else part
