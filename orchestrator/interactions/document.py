"""
XML in and out: a defused reader that knows its lines.

Owns `defusedxml`. Serves definitions, XML bodies and XML responses alike, so it
must not know any grammar. DOCTYPE and with it every entity is refused; size and
depth are bounded before memory is spent. Next: `lex`.

What can go wrong with XML parsers: https://docs.python.org/3/library/xml.html#xml-vulnerabilities
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from xml.parsers.expat import ErrorString
from xml.sax.saxutils import escape

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, ParseError

from orchestrator.interactions.model import Flaw

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64


@dataclass(slots=True)
class Element:
    """
    An element with its line.

    Attributes:
        name: Local name, any namespace dropped.
        line: The line of its start tag, from 1.
        attributes: By local name; a namespace declaration counts as the attribute `xmlns`.
        content: Text and elements in document order.
    """

    name: str
    line: int
    attributes: dict[str, str]
    content: "list[str | Element]" = field(default_factory=list)

    def children(self) -> "Iterator[Element]":
        """The child elements in order."""
        return (item for item in self.content if isinstance(item, Element))

    def own_text(self) -> str:
        """The text directly inside, that of child elements left out."""
        return "".join(item for item in self.content if isinstance(item, str))

    def all_text(self) -> str:
        """The text of the element and everything below it: XPath's string value."""
        return "".join(item if isinstance(item, str) else item.all_text() for item in self.content)


class _Builder:
    """The parser's target: builds elements and counts depth. The root exists once the parser has closed."""

    root: Element

    def __init__(self) -> None:
        self.position: Callable[[], int] = lambda: 1
        self._open: list[Element] = []
        self._declared: dict[str, str] = {}

    def start_ns(self, _prefix: str, uri: str) -> None:
        self._declared["xmlns"] = uri

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise Flaw(f"is nested deeper than {MAX_DEPTH} elements", line=self.position() - 1)
        names = {_local(name): value for name, value in attributes.items()}
        element = Element(_local(tag), self.position(), names | self._declared)
        self._declared = {}
        if self._open:
            self._open[-1].content.append(element)
        else:
            self.root = element
        self._open.append(element)

    def data(self, text: str) -> None:
        self._open[-1].content.append(text)

    def end(self, _tag: str) -> None:
        self._open.pop()


def read_xml(text: str) -> Element:
    """
    Read a document.

    Args:
        text: The document; a declared encoding is ignored since it is text already, a BOM is dropped.

    Returns:
        Its root element.

    Raises:
        Flaw: Not well-formed, a DOCTYPE, larger than 1 MiB or deeper than 64 elements.
    """
    text = text.removeprefix("\ufeff")
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise Flaw(f"is larger than {MAX_BYTES} bytes")
    builder = _Builder()
    parser = DefusedXMLParser(target=builder, forbid_dtd=True)
    expat = parser.parser
    builder.position = lambda: expat.CurrentLineNumber
    try:
        parser.feed(text)
        parser.close()
    except ParseError as error:
        raise Flaw(f"is not well-formed XML: {ErrorString(error.code)}", line=error.position[0] - 1) from None
    except DefusedXmlException:
        raise Flaw("has a DOCTYPE", "remove it, entities are not supported", builder.position() - 1) from None
    except UnicodeEncodeError:
        raise Flaw("has a character that is half of a surrogate pair") from None
    return builder.root


def write_text(text: str) -> str:
    """Text as element content: CDATA where that reads better, escaped otherwise; reads back the same."""
    if ("<" in text or "&" in text) and "]]>" not in text and "\r" not in text:
        return f"<![CDATA[{text}]]>"
    return escape(text, {"\r": "&#13;"})


def _local(name: str) -> str:
    return name.rpartition("}")[2]
