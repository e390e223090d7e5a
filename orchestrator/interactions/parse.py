"""
A document becomes a definition, or a list of what is wrong with it.

Owns the way from XML to templates: structure, places, secrets, digest.
`examine` collects every fault, `parse` raises the first. Must not know values
or accounts. Next: `write` for the stored form, `render` for the request.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeVar

from orchestrator.domain.errors import DefinitionError
from orchestrator.interactions.body import SCANNERS, body_kind, body_template
from orchestrator.interactions.document import Element, read_xml
from orchestrator.interactions.extract import check_locator
from orchestrator.interactions.grammar import ROOT, check_grammar
from orchestrator.interactions.lex import (
    HEADER_NAME,
    MARK,
    TRANSPORT_HEADERS,
    Source,
    check_name,
    header_template,
    read_source,
)
from orchestrator.interactions.lift import Lifter
from orchestrator.interactions.model import BodyKind, Definition, Field, Flaw, Place, Template
from orchestrator.interactions.url import url_scalars, url_template
from orchestrator.interactions.write import write_definition

LEFTOVER = "~~~REPLACE~~~"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_BLANKS = " \t\r\n"
_FORM_HEADER = (Template((b"Content-Type",)), Template((b"application/x-www-form-urlencoded",)))

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Leaf:
    """An element's text without outer blanks, and where it begins."""

    path: str
    line: int
    text: str


@dataclass(slots=True)
class Examined:
    """
    Everything that is known of a document after looking at all of it.

    Attributes:
        definition: `None` when there are faults.
        faults: In the order found.
        sources: Each text with placeholders, as written, and its leaf.
        lifted: Names of the secrets taken out, and the leaf of each.
        leaves: Every text, by path; the last one where a path repeats.
    """

    definition: Definition | None = None
    faults: list[DefinitionError] = field(default_factory=list)
    sources: list[tuple[Leaf, Source]] = field(default_factory=list)
    lifted: list[tuple[Leaf, str]] = field(default_factory=list)
    leaves: dict[str, Leaf] = field(default_factory=dict)


def parse(text: str, *, name: str) -> Definition:
    """
    Understand a definition.

    Args:
        text: The `<ApiInteraction>` document.
        name: The operation or file; stands in errors.

    Returns:
        The definition, literal secrets lifted out.

    Raises:
        DefinitionError: The first fault, with file, line and element; never quotes literal text.
    """
    examined = examine(text, name=name)
    if examined.definition is None:
        raise examined.faults[0]
    return examined.definition


def examine(text: str, *, name: str) -> Examined:
    """Look at a whole document; arguments as for `parse`."""
    return _Reading(text, name).examine()


class _Reading:
    """One document on its way; exists for one call of `examine`."""

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.name = name
        self.found = Examined()
        self.lifter = Lifter(text)

    def examine(self) -> Examined:
        try:
            root = read_xml(self.text)
        except Flaw as flaw:
            self.report(flaw.line + 1, "", flaw.problem, flaw.fix)
            return self.found
        check_grammar(root, self.report)
        if root.name == ROOT:
            definition = self.definition(root)
            self.found.faults.sort(key=lambda fault: fault.line)
            self.found.definition = None if self.found.faults else definition
        return self.found

    def report(self, line: int, element: str, problem: str, fix: str = "") -> None:
        self.found.faults.append(DefinitionError(self.name, line, element, problem, fix))

    def definition(self, root: Element) -> Definition | None:
        request, response = _child(root, "Request"), _child(root, "Response")
        url = self.guard(self.leaf(request, "Request/Url"), self.url)
        method = self.guard(self.leaf(request, "Request/Method"), _method)
        headers = [pair for pair in map(self.header, _children(request, "Headers")) if pair is not None]
        content_type = self.content_type(headers)
        body = self.guard(self.leaf(request, "Request/Body") or _NO_BODY, lambda leaf: self.body(leaf, content_type))
        response_type = self.guard(self.leaf(response, "Response/Type"), _response_type)
        code_leaf = self.leaf(response, "Response/ResponseCodeDestination")
        code = self.guard(code_leaf if code_leaf and code_leaf.text else None, _destination)
        fields = [self.field(element, response_type) for element in _children(response, "Fields")]
        if self.found.faults or url is None or method is None or body is None or response_type is None:
            return None
        kept = tuple(field for field in fields if field is not None)
        text = write_definition(
            url=str(url.source),
            method=method,
            headers=[(str(header.key.source), str(header.value.source)) for header in headers],
            body=str(body.source),
            response_type=response_type,
            code=code,
            fields=kept,
        )
        implied = (_FORM_HEADER,) if body.kind is BodyKind.FORM and content_type is None else ()
        return Definition(
            name=self.name,
            url=url.template,
            method=method,
            headers=(*((header.key.template, header.value.template) for header in headers), *implied),
            body=body.template,
            body_kind=body.kind,
            response_type=response_type,
            response_code_destination=code,
            fields=kept,
            text=text,
            digest=hashlib.sha256(text.encode()).hexdigest(),
            lifted=MappingProxyType(self.lifter.secrets),
        )

    def leaf(self, parent: Element | None, path: str) -> Leaf | None:
        """The text at a path, unless it is missing or still has something to fill in."""
        element = None if parent is None else _child(parent, path.rpartition("/")[2])
        if element is None:
            return None
        raw = element.own_text()
        text = raw.strip(_BLANKS)
        above = raw[: len(raw) - len(raw.lstrip(_BLANKS))].count("\n")
        leaf = self.found.leaves[path] = Leaf(path, element.line + above, text)
        if LEFTOVER not in text:
            return leaf
        line = leaf.line + text[: text.index(LEFTOVER)].count("\n")
        self.report(line, path, f"still has {LEFTOVER} in it", "fill in your own value, or #(Key) for a setting")
        return None

    def guard(self, leaf: Leaf | None, make: Callable[[Leaf], T]) -> T | None:
        """What is made of a text; a flaw in it is reported with its place."""
        if leaf is None:
            return None
        try:
            return make(leaf)
        except Flaw as flaw:
            self.report(leaf.line + flaw.line, leaf.path, flaw.problem, flaw.fix)
            return None

    def source(self, leaf: Leaf) -> Source:
        source = read_source(leaf.text)
        self.found.sources.append((leaf, source))
        return source

    def lift(self, leaf: Leaf, make: Callable[[], Source]) -> Source:
        before = len(self.lifter.names)
        source = make()
        self.found.lifted += [(leaf, name) for name in self.lifter.names[before:]]
        return source

    def url(self, leaf: Leaf) -> "_Text":
        source = self.source(leaf)
        source = self.lift(leaf, lambda: self.lifter.scalars(source, url_scalars(source)))
        return _Text(source, url_template(source))

    def header(self, element: Element) -> "_Header | None":
        path = "Request/Headers/Header"
        key_leaf, value_leaf = self.leaf(element, f"{path}/Key"), self.leaf(element, f"{path}/Value")
        key = self.guard(key_leaf, self.header_key)
        name = key.source.text if key is not None else ""
        value = self.guard(value_leaf, lambda leaf: self.header_value(leaf, name))
        return _Header(value_leaf, key, value) if key and value and value_leaf else None

    def header_key(self, leaf: Leaf) -> "_Text":
        source = self.source(leaf)
        if not HEADER_NAME.fullmatch(source.text.replace(MARK, "x")):
            raise Flaw("is not a header's name", "use letters, digits and -")
        if source.text.lower() in TRANSPORT_HEADERS:
            raise Flaw("is a header that the transport sets itself", "remove it")
        return _Text(source, header_template(source, Place.HEADER_NAME))

    def header_value(self, leaf: Leaf, name: str) -> "_Text":
        source = self.source(leaf)
        source = self.lift(leaf, lambda: self.lifter.header(name, source))
        return _Text(source, header_template(source, Place.HEADER_VALUE))

    def content_type(self, headers: "list[_Header]") -> str | None:
        """The Content-Type header's value; it decides how values are encoded, so there is one and it is literal."""
        found = [header for header in headers if header.key.source.text.lower() == "content-type"]
        for number, header in enumerate(found):
            if number or header.value.source.marks:
                self.report(
                    header.leaf.line,
                    header.leaf.path,
                    "is a Content-Type " + ("beside another one" if number else "with a placeholder"),
                    "write one Content-Type without placeholders",
                )
        return found[0].value.source.text if found and not found[0].value.source.marks else None

    def body(self, leaf: Leaf, content_type: str | None) -> "_Body":
        source = self.source(leaf)
        kind = body_kind(source.text, content_type)
        if kind is not BodyKind.NONE:
            source = self.lift(leaf, lambda: self.lifter.scalars(source, SCANNERS[kind](source)))
        return _Body(source, body_template(source, kind), kind)

    def field(self, element: Element, response_type: Literal["JSON", "XML"] | None) -> Field | None:
        path = "Response/Fields/Field"
        locator = self.guard(self.leaf(element, f"{path}/Locator"), lambda leaf: _locator(leaf, response_type))
        destination = self.guard(self.leaf(element, f"{path}/Destination"), _destination)
        data_type = self.guard(self.leaf(element, f"{path}/DataType") or _STRING, _data_type)
        return Field(locator, destination, data_type) if locator and destination and data_type else None


class _Text(NamedTuple):
    source: Source
    template: Template


class _Body(NamedTuple):
    source: Source
    template: Template
    kind: BodyKind


class _Header(NamedTuple):
    leaf: Leaf
    key: _Text
    value: _Text


_NO_BODY = Leaf("Request/Body", 0, "")
_STRING = Leaf("Response/Fields/Field/DataType", 0, "String")


def _child(parent: Element, name: str) -> Element | None:
    return next((child for child in parent.children() if child.name == name), None)


def _children(parent: Element | None, name: str) -> list[Element]:
    element = None if parent is None else _child(parent, name)
    return [] if element is None else [child for child in element.children() if child.name == name[:-1]]


def _method(leaf: Leaf) -> str:
    if leaf.text.upper() not in METHODS:
        raise Flaw("is not a method", f"use {', '.join(METHODS)}")
    return leaf.text.upper()


def _response_type(leaf: Leaf) -> Literal["JSON", "XML"]:
    if leaf.text == "JSON":
        return "JSON"
    if leaf.text == "XML":
        return "XML"
    raise Flaw("is not a response type", "use JSON or XML")


def _destination(leaf: Leaf) -> str:
    check_name(leaf.text)
    return leaf.text


def _locator(leaf: Leaf, response_type: Literal["JSON", "XML"] | None) -> str:
    if response_type is not None:
        check_locator(leaf.text, response_type)
    return leaf.text


def _data_type(leaf: Leaf) -> str:
    if leaf.text != "String":
        raise Flaw("is not a data type", "use String")
    return leaf.text
