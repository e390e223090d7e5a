"""
What stands where in a body: the scanners of JSON, forms and XML.

Each scanner checks that the body is of its kind whatever the values will be,
and yields the scalars in it. `body_template` asks for their places, `lift` for
their owners. Must not know values, files or elements. Next: `url`.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from orchestrator.interactions.document import read_xml
from orchestrator.interactions.lex import CONTROL, MARK, Source
from orchestrator.interactions.model import BodyKind, Flaw, Place, Template

_JSON_BLANKS = " \t\r\n"
_JSON_TOKEN = re.compile(r'[ \t\r\n]*(?:"((?:[^"\\]|\\.)*)"|([{}\[\]:,])|([^ \t\r\n{}\[\]:,"]+))', re.DOTALL)
_XML_TOKEN = re.compile(
    r"<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>|<(/?)([^\s>/]+)(?:\"[^\"]*\"|'[^']*'|[^>\"'])*>|([^<]+)", re.DOTALL
)
_XML_ATTRIBUTE = re.compile(r"([^\s=\"']+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_XML_ENCODING = re.compile(r"<\?xml[^>]*\bencoding\s*=\s*[\"'](?!utf-?8[\"'])", re.IGNORECASE)
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_MEDIA = {
    "application/json": BodyKind.JSON,
    "text/json": BodyKind.JSON,
    "application/xml": BodyKind.XML,
    "text/xml": BodyKind.XML,
    "application/x-www-form-urlencoded": BodyKind.FORM,
}


@dataclass(frozen=True, slots=True)
class Scalar:
    """
    One key, name or value in a body.

    Attributes:
        start: Where it begins in the source's text, quotes left out.
        end: Where it ends.
        place: The place that a placeholder in it has.
        owners: The keys, elements or the attribute that a value belongs to, outermost first; none for a key.
    """

    start: int
    end: int
    place: Place
    owners: tuple[str, ...] = ()


def body_kind(body: str, content_type: str | None) -> BodyKind:
    """
    The kind of a body.

    Args:
        body: Its text, outer white space removed.
        content_type: The value of the Content-Type header; it decides. Without one the first character does.

    Raises:
        Flaw: A media type or character set for which no encoding of values is known.
    """
    if not body:
        return BodyKind.NONE
    if content_type is None:
        return {"{": BodyKind.JSON, "[": BodyKind.JSON, "<": BodyKind.XML}.get(body[0], BodyKind.FORM)
    media, _, parameters = content_type.lower().partition(";")
    media = media.strip()
    kind = _MEDIA.get(media) or {"+json": BodyKind.JSON, "+xml": BodyKind.XML}.get(f"+{media.rpartition('+')[2]}")
    if kind is None:
        raise Flaw("has a Content-Type whose values can't be encoded", f"use one of {', '.join(_MEDIA)}")
    charset = re.search(r"charset\s*=\s*\"?([^\s;\"]+)", parameters)
    if charset and charset[1] not in ("utf-8", "utf8"):
        raise Flaw("has a Content-Type with another character set than UTF-8", "use charset=utf-8 or leave it out")
    return kind


def body_template(source: Source, kind: BodyKind) -> Template:
    """
    A body, with a place for every placeholder.

    Raises:
        Flaw: The body is not of this kind, or a placeholder stands where no value can be encoded.
    """
    if kind is BodyKind.NONE:
        return Template(())
    places = places_of(source, SCANNERS[kind](source))
    return source.template(places)


def places_of(source: Source, scalars: Iterator[Scalar]) -> list[Place]:
    """
    The place of each placeholder, from the scalars around them.

    Raises:
        Flaw: One stands in no scalar: in a comment, an element's name, beside a quoted string.
    """
    found = {mark: scalar.place for scalar in scalars for mark in _marks(source.text, scalar.start, scalar.end)}
    every = list(_marks(source.text, 0, len(source.text)))
    if lost := [mark for mark in every if mark not in found]:
        line = source.line(lost[0])
        raise Flaw("has a placeholder where no value can be encoded", "use it in a value or a key", line)
    return [found[mark] for mark in every]


def json_scalars(source: Source) -> Iterator[Scalar]:
    """
    Keys, strings and bare values of a JSON body.

    Raises:
        Flaw: It would not be JSON whatever the values are, or has a key twice.
    """
    tokens = _json_tokens(source)
    _check_json(source, tokens)
    owners: list[tuple[str, ...]] = [()]
    key: tuple[str, ...] = ()
    for token, following in zip(tokens, [*(token[2] for token in tokens[1:]), None], strict=True):
        if token[2] is not None and token[2] in "{[":
            owners.append(owners[-1] + key)
            key = ()
        elif token[2] is not None:
            if token[2] in "}]":
                owners.pop()
            key = key if token[2] == ":" else ()
        elif following == ":":
            key = (_plain_key(token[1]),)
            yield Scalar(*token.span(1), Place.JSON_KEY)
        elif token[1] is not None:
            yield Scalar(*token.span(1), Place.JSON_STRING, owners[-1] + key)
        else:
            yield Scalar(*token.span(3), Place.JSON_BARE, owners[-1] + key)


def form_scalars(source: Source, place: Place = Place.FORM) -> Iterator[Scalar]:
    """
    Keys and values of a form body, or of a URL's query.

    Raises:
        Flaw: Not `key=value` pairs joined by `&`, a control character, or a `%` that escapes nothing.
    """
    text = source.text
    if bad := CONTROL.search(text):
        raise Flaw("is a form with a line break or another control character", line=source.line(bad.start()))
    if _BAD_PERCENT.search(text):
        raise Flaw("has a % that is not followed by two hexadecimal digits", "write %25 for a percent sign")
    for pair in re.finditer("[^&]+", text):
        key, equals, _ = pair[0].partition("=")
        if place is Place.FORM and not (key and equals):
            raise Flaw("is neither JSON nor XML nor a form", "write a form as key=value&key=value")
        middle = pair.start() + len(key)
        yield Scalar(pair.start(), middle, place)
        yield Scalar(middle + len(equals), pair.end(), place, (key,))


def xml_scalars(source: Source) -> Iterator[Scalar]:
    """
    Texts and attribute values of an XML body. Comments, CDATA, names and instructions have no scalars.

    Raises:
        Flaw: Not well-formed, with a DOCTYPE, or declared in another encoding than UTF-8.
    """
    read_xml(source.text.replace(MARK, "x"))
    if _XML_ENCODING.match(source.text):
        raise Flaw("is XML declared in another encoding than UTF-8", "it is sent as UTF-8; say so or say nothing")
    owners: list[str] = []
    for token in _XML_TOKEN.finditer(source.text):
        closes, name, text = token.groups()
        if text is not None:
            yield Scalar(*token.span(3), Place.XML_TEXT, tuple(owners))
        elif closes:
            owners.pop()
        elif name:
            for value in _XML_ATTRIBUTE.finditer(source.text, token.end(2), token.end()):
                yield Scalar(*value.span(value.lastindex or 2), Place.XML_ATTRIBUTE, (_local(value[1]),))
            owners += [] if token[0].endswith("/>") else [_local(name)]


SCANNERS: dict[BodyKind, Callable[[Source], Iterator[Scalar]]] = {
    BodyKind.JSON: json_scalars,
    BodyKind.FORM: form_scalars,
    BodyKind.XML: xml_scalars,
}


def _json_tokens(source: Source) -> list[re.Match[str]]:
    """The tokens one after the other, up to the first thing that is none: a search beyond it would be quadratic."""
    tokens: list[re.Match[str]] = []
    at, end = 0, len(source.text.rstrip(_JSON_BLANKS))
    while at < end:
        match = _JSON_TOKEN.match(source.text, at)
        if match is None:
            rest = source.text[at:]
            raise Flaw(
                "is not JSON: a string never ends", line=source.line(at + len(rest) - len(rest.lstrip(_JSON_BLANKS)))
            )
        tokens.append(match)
        at = match.end()
    return tokens


def _check_json(source: Source, tokens: list[re.Match[str]]) -> None:
    """Read the body with a stand-in for every value, so that what is wrong is wrong for every value."""
    numbers = count()
    pieces: list[str] = []
    for token in tokens:
        if token[3] is not None and MARK in token[3] and token[3] != MARK:
            raise Flaw(
                "has a placeholder outside quotes that is only a part of a value",
                "let it be the whole number, true, false or null, or put quotes around",
                source.line(token.start(3)),
            )
        pieces.append(_stand_in(token, numbers))
    try:
        # Digits stay text: converting a very long number to an int raises, and its value doesn't matter here.
        json.loads("".join(pieces), object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_int=str)
    except json.JSONDecodeError as error:
        raise Flaw(f"is not JSON: {error.msg}", line=error.lineno - 1) from None
    except RecursionError:
        raise Flaw("is JSON nested too deeply") from None


def _stand_in(token: re.Match[str], numbers: Iterator[int]) -> str:
    """`0` for a bare value; in a string a text that no escape can begin with, another one each time."""
    if token[3] == MARK:
        return token[0].replace(MARK, "0")
    return re.sub(MARK, lambda _: f"x\ufffd{next(numbers)}", token[0])


def _plain_key(escaped: str) -> str:
    return escaped if MARK in escaped else str(json.loads(f'"{escaped}"'))


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Flaw("is JSON with one key twice in an object", "remove one: receivers differ in which they take")
    return found


def _refuse_constant(_: str) -> None:
    raise Flaw("is not JSON: NaN and Infinity are no JSON numbers")


def _marks(text: str, start: int, end: int) -> Iterator[int]:
    while (start := text.find(MARK, start, end)) >= 0:
        yield start
        start += 1


def _local(name: str) -> str:
    return name.rpartition(":")[2]
