"""
A definition and values make a request.

Owns the encoding of a value for the place it stands in. A value is encoded once
and never read again, so `$(..)` inside it stays text. Must not know where values
come from or how the request is sent; it does no I/O. Next: `extract`.

Encodings: JSON strings RFC 8259 section 7, forms the WHATWG URL standard's
`application/x-www-form-urlencoded`, paths and queries RFC 3986 (all but the
unreserved characters), header values RFC 9110 section 5.5, XML 1.0 section 2.2.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring
from urllib.parse import quote, quote_plus

from orchestrator.domain.errors import ConfigurationError, InvalidInput
from orchestrator.interactions.lex import CONTROL, HEADER_NAME, TRANSPORT_HEADERS
from orchestrator.interactions.model import Definition, Flaw, Place, Placeholder, Template
from orchestrator.interactions.url import check_base

_FIXED_HEADERS = TRANSPORT_HEADERS | {"content-type"}  # the body was encoded for the literal one
_JSON_SCALAR = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null")
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_XML_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;", "\r": "&#13;", "\n": "&#10;", "\t": "&#9;"}
)


@dataclass(frozen=True, slots=True, repr=False)
class Rendered:
    """
    A request ready to be sent. Its `repr` shows sizes only.

    Attributes:
        method: In capitals.
        url: Absolute, ASCII. `http` or `https`: whether `http` is allowed is the caller's business.
        headers: Names and values in order; values are Latin-1.
        body: The bytes to send, empty for none.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def __repr__(self) -> str:
        return f"Rendered({self.method}, {len(self.headers)} headers, {len(self.body)} bytes)"


def render(
    definition: Definition,
    data: Mapping[str, str | None],
    config: Mapping[str, str],
    *,
    optional: Collection[str] = frozenset(),
    headers: tuple[tuple[str, str], ...] | None = None,
) -> Rendered:
    """
    Put the values in.

    Args:
        definition: From `parse`.
        data: The payment's fields by name, `Space|Key` included.
        config: The account's settings by key. Lifted secrets that the definition carries go before them.
        optional: Fields that may be missing or `None`: nothing, or `null` for a bare JSON value, stands in for them.
        headers: As `render_headers` gives them, if they are known already.

    Raises:
        InvalidInput: A field is missing or can't stand in its place; names the field, never the value.
        ConfigurationError: A setting is missing, empty or can't stand in its place; names the key, never the value.
    """
    fill = _filler(definition, data, config, optional)
    if headers is None:
        headers = render_headers(definition, data, config, optional=optional)
    return Rendered(definition.method, fill(definition.url).decode("ascii"), headers, fill(definition.body))


def render_headers(
    definition: Definition,
    data: Mapping[str, str | None],
    config: Mapping[str, str],
    *,
    optional: Collection[str] = frozenset(),
) -> tuple[tuple[str, str], ...]:
    """Put the values into the headers alone; as `render`."""
    fill = _filler(definition, data, config, optional)
    return tuple(
        (_header_name(key, fill(key)), fill(value).decode("latin-1").strip(" \t")) for key, value in definition.headers
    )


def _filler(
    definition: Definition, data: Mapping[str, str | None], config: Mapping[str, str], optional: Collection[str]
) -> Callable[[Template], bytes]:
    """Give what puts these values into a template."""

    def fill(template: Template) -> bytes:
        return b"".join(
            [
                part if isinstance(part, bytes) else _expand(part, definition, data, config, optional)
                for part in template.parts
            ]
        )

    return fill


def digest_of(rendered: Rendered, *, without_headers: Sequence[str] = ("authorization",), key: bytes = b"") -> str:
    """
    A digest that says whether two requests are the same.

    Args:
        rendered: The request.
        without_headers: Headers left out, whatever their case: a renewed token is no other request.
        key: With a key it is HMAC-SHA-256, so that nobody without the key can try out payer data against it.

    Returns:
        SHA-256 over method, URL, the other headers (names in lower case, sorted) and the body, in hex.
    """
    left_out = {name.lower() for name in without_headers}
    headers = sorted([name.lower(), value] for name, value in rendered.headers if name.lower() not in left_out)
    # JSON of the head contains no line break: head and body can't run into each other.
    head = json.dumps([rendered.method, rendered.url, headers]).encode()
    message = head + b"\n" + rendered.body
    return hmac.new(key, message, "sha256").hexdigest() if key else hashlib.sha256(message).hexdigest()


def fields_to_collect(definitions_in_order: Sequence[Definition], *, supplied: Collection[str]) -> tuple[str, ...]:
    """
    The fields that the host has to supply.

    Args:
        definitions_in_order: As they will be carried out.
        supplied: Names that something else supplies, such as the amount and the reference.

    Returns:
        Names used by `$(..)` and produced by no earlier definition, in order of first use.
    """
    known = set(supplied)
    wanted: dict[str, None] = {}
    for definition in definitions_in_order:
        wanted |= dict.fromkeys(name for name in definition.data_names if name not in known)
        known.update(definition.destinations)
    return tuple(wanted)


def _expand(
    mark: Placeholder,
    definition: Definition,
    data: Mapping[str, str | None],
    config: Mapping[str, str],
    optional: Collection[str],
) -> bytes:
    if mark.source == "config":
        secret = definition.lifted.get(mark.name)
        value = secret.reveal() if secret is not None else config.get(mark.name)
        if not value:
            raise ConfigurationError(mark.name, "is missing or empty", f"the definition {definition.name} uses it")
    else:
        value = data.get(mark.name)
        if value is None:
            if mark.name not in optional:
                raise InvalidInput(mark.name, "is missing", "supply it, or declare the field optional")
            value = "null" if mark.place is Place.JSON_BARE else ""
    try:
        return _ENCODERS[mark.place](_formatted(value, mark))
    except UnicodeEncodeError:
        raise _refused(mark, "has characters that can't be encoded here") from None
    except Flaw as flaw:
        raise _refused(mark, flaw.problem, flaw.fix) from None


def _refused(mark: Placeholder, problem: str, fix: str = "") -> InvalidInput | ConfigurationError:
    kind = ConfigurationError if mark.source == "config" else InvalidInput
    return kind(mark.name, f"{problem} ({mark.place})", fix)


def _formatted(value: str, mark: Placeholder) -> str:
    for formatter in mark.formatters:
        if formatter == "RemoveLeadingPlus":
            value = value.removeprefix("+")
        elif formatter == "ToLowerCase":
            value = value.lower()
        elif mark.place not in (Place.JSON_STRING, Place.JSON_KEY):  # there the encoding escapes quotes already
            value = value.replace('"', '\\"')
    return value


def _header_name(template: Template, name: bytes) -> str:
    text = name.decode("latin-1")
    mark = next(template.placeholders(), None)
    if mark is not None and (not HEADER_NAME.fullmatch(text) or text.lower() in _FIXED_HEADERS):
        raise _refused(mark, "makes a header name that can't be sent", "use letters, digits and -")
    return text


def _json_string(value: str) -> bytes:
    return encode_basestring(value)[1:-1].encode()


def _json_bare(value: str) -> bytes:
    if not _JSON_SCALAR.fullmatch(value):
        raise Flaw("is not a JSON number, true, false or null")
    return value.encode()


def _form(value: str) -> bytes:
    return quote_plus(value, safe="").encode()


def _query(value: str) -> bytes:
    return quote(value, safe="").encode()


def _path(value: str) -> bytes:
    if value in ("", ".", ".."):
        raise Flaw("is empty, . or .., which changes the path")
    return quote(value, safe="").encode()


def _header(value: str) -> bytes:
    if "\0" in value or CONTROL.search(value):
        raise Flaw("has a line break or another control character")
    return value.encode("latin-1")


def _xml(value: str) -> bytes:
    if _NOT_XML.search(value):
        raise Flaw("has a character that XML can't contain")
    return value.translate(_XML_ESCAPES).encode()


@lru_cache(maxsize=256)
def _base(value: str) -> bytes:
    return check_base(value).encode("ascii")


_ENCODERS: dict[Place, Callable[[str], bytes]] = {
    Place.JSON_STRING: _json_string,
    Place.JSON_BARE: _json_bare,
    Place.JSON_KEY: _json_string,
    Place.FORM: _form,
    Place.QUERY: _query,
    Place.PATH: _path,
    Place.HEADER_NAME: _header,
    Place.HEADER_VALUE: _header,
    Place.XML_TEXT: _xml,
    Place.XML_ATTRIBUTE: _xml,
    Place.BASE_URL: _base,
}
