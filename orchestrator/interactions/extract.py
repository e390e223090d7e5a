"""
Values out of a response.

Owns the locators and the reading of untrusted answers: size and depth are
bounded, and numbers keep the very digits that were sent (`12.40` stays `12.40`,
money is not a float). Must not know requests or what the values mean.
Next: `lint`.

JSON locators as on the vendor's pages: property names joined by dots, `[n]` from
zero, also at the root; what is missing is `None`; an object or array is its JSON
text. Names match exactly; a name that contains `.` or `[` can't be written.
XML locators: `/root/child`, and at the end `@attribute` or `text()`; the first
match counts, prefixes are ignored, indexes and wildcards are not supported.
"""

import json
import re
from functools import lru_cache
from typing import Any, Literal

from orchestrator.interactions.document import MAX_BYTES, MAX_DEPTH, Element, read_xml
from orchestrator.interactions.model import Definition, Flaw

_JSON_STEP = re.compile(r"(?P<dot>\.?)(?P<name>[^.\[\]]+)|\[(?P<index>[0-9]{1,6})\]")
_XML_LOCATOR = re.compile(r"((?:/[\w\-][\w\-.]*)+)(?:/(@[\w\-][\w\-.]*|text\(\)))?")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class Unreadable(ValueError):  # noqa: N818 - reads as what happened
    """The body is not what the definition says it is: not JSON or XML, or beyond the bounds. Never quotes it."""


class Number(str):
    """A JSON number as it was sent."""

    __slots__ = ()


def extract(definition: Definition, body: bytes, *, status: int) -> dict[str, str | None]:
    """
    Read the definition's fields out of a response.

    Args:
        definition: Says what is where.
        body: The response's bytes, UTF-8. Not looked at when the definition has no fields.
        status: The HTTP status code.

    Returns:
        Destination to value; `None` for what is missing or null. The response code's destination gets the status.
        NUL and halves of surrogate pairs, which no database stores, become U+FFFD.

    Raises:
        Unreadable: The body is not JSON or XML, is larger than 1 MiB or nested deeper than 64.
    """
    found: dict[str, str | None] = {}
    if definition.response_code_destination:
        found[definition.response_code_destination] = str(status)
    if definition.fields:
        document = read_json(body) if definition.response_type == "JSON" else _read_xml(body)
        for field in definition.fields:
            value = locate(document, field.locator)
            found[field.destination] = value if value is None else _UNSTORABLE.sub("\ufffd", value)
    return found


def read_json(body: bytes) -> object:
    """
    Read an untrusted JSON body, numbers kept as `Number`.

    Raises:
        Unreadable: Not UTF-8, not JSON, `NaN` or `Infinity`, larger than 1 MiB or nested deeper than 64.
    """
    text = _decode(body)
    try:
        document = json.loads(text, parse_float=Number, parse_int=Number, parse_constant=_refuse_constant)
    except (json.JSONDecodeError, RecursionError):
        raise Unreadable("the body is not JSON, or nested too deeply") from None
    if text.count("{") + text.count("[") > MAX_DEPTH and _depth(document) > MAX_DEPTH:
        raise Unreadable(f"the body is nested deeper than {MAX_DEPTH}")
    return document


def locate(document: object, locator: str) -> str | None:
    """
    Find one value.

    Args:
        document: From `read_json`, or any value that `json.loads` returns; or an XML element.
        locator: See the module.

    Returns:
        The text, digits or JSON text of what is there, or `None`.

    Raises:
        Flaw: The locator is malformed; `parse` refuses such definitions.
    """
    if isinstance(document, Element):
        return _locate_xml(document, locator)
    here: Any = document
    for step in json_steps(locator):
        if isinstance(step, int):
            if not isinstance(here, list) or step >= len(here):
                return None
            here = here[step]
        else:
            if not isinstance(here, dict) or step not in here:
                return None
            here = here[step]
    return None if here is None else str(here) if isinstance(here, str) else _json_text(here)


@lru_cache(maxsize=1024)
def json_steps(locator: str) -> tuple[str | int, ...]:
    """
    The steps of a JSON locator.

    Raises:
        Flaw: It is not property names, dots and `[n]`.
    """
    steps: list[str | int] = []
    at = 0
    while at < len(locator):
        match = _JSON_STEP.match(locator, at)
        if match is None or (match["name"] is not None and bool(match["dot"]) is (at == 0)):
            raise Flaw("is not a JSON locator", "write names, dots and [n], such as items[0].name")
        steps.append(match["name"] if match["name"] is not None else int(match["index"]))
        at = match.end()
    if not steps:
        raise Flaw("is an empty locator", "write names, dots and [n], such as items[0].name")
    return tuple(steps)


@lru_cache(maxsize=1024)
def xml_steps(locator: str) -> tuple[tuple[str, ...], str]:
    """
    The element names of an XML locator, and the `@attribute` or `text()` at its end.

    Raises:
        Flaw: It is not an absolute path of names.
    """
    match = _XML_LOCATOR.fullmatch(locator)
    if match is None:
        raise Flaw("is not an XML locator", "write /root/child, /root/@attribute or /root/child/text()")
    return tuple(match[1].split("/")[1:]), match[2] or ""


def check_locator(locator: str, response_type: Literal["JSON", "XML"]) -> None:
    """
    Check a locator against the kind of response.

    Raises:
        Flaw: It is malformed.
    """
    if response_type == "JSON":
        json_steps(locator)
    else:
        xml_steps(locator)


def _locate_xml(root: Element, locator: str) -> str | None:
    (first, *rest), end = xml_steps(locator)
    here = [root] if root.name == first else []
    for name in rest:
        here = [child for element in here for child in element.children() if child.name == name]
    if end == "text()":
        return next((text for element in here if (text := element.own_text())), None)
    if end:
        return next((element.attributes[end[1:]] for element in here if end[1:] in element.attributes), None)
    return here[0].all_text() if here else None


def _json_text(value: object) -> str:
    """Compact JSON text, numbers as they were sent."""
    if isinstance(value, dict):
        return (
            "{"
            + ",".join(f"{json.dumps(key, ensure_ascii=False)}:{_json_text(item)}" for key, item in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join(map(_json_text, value)) + "]"
    return str(value) if isinstance(value, Number) else json.dumps(value, ensure_ascii=False)


def _depth(document: object) -> int:
    depth, level = 0, [document]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return depth


def _read_xml(body: bytes) -> Element:
    try:
        return read_xml(_decode(body))
    except Flaw as flaw:
        raise Unreadable(f"the body {flaw.problem}") from None


def _decode(body: bytes) -> str:
    if len(body) > MAX_BYTES:
        raise Unreadable(f"the body is larger than {MAX_BYTES} bytes")
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable("the body is not UTF-8") from None


def _refuse_constant(_: str) -> None:
    raise Unreadable("the body is not JSON: it has NaN or Infinity")
