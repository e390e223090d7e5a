"""
What a definition is once it has been understood: values only.

Owns the nouns of the `<ApiInteraction>` language: a template is literal bytes
and placeholders, and every placeholder knows the place it stands in. Must not
know XML, how a value is encoded, or who carries the request out.
Next: `lex`, which makes these from text.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

FORMATTERS = ("RemoveLeadingPlus", "EscapeDoubleQuotes", "ToLowerCase")
LIFTED = "Lifted|"


class Place(StrEnum):
    """Where a placeholder stands; it alone decides how its value is encoded."""

    JSON_STRING = "json string"
    JSON_BARE = "json value"
    JSON_KEY = "json key"
    FORM = "form"
    QUERY = "query"
    PATH = "path"
    HEADER_NAME = "header name"
    HEADER_VALUE = "header value"
    XML_TEXT = "xml text"
    XML_ATTRIBUTE = "xml attribute"
    BASE_URL = "base url"


class BodyKind(StrEnum):
    """What a request body is made of."""

    JSON = "json"
    XML = "xml"
    FORM = "form"
    NONE = "none"


class Flaw(ValueError):  # noqa: N818 - becomes a DefinitionError once its place is known
    """
    What is wrong with one piece of text, before file, line and element are known.

    Args:
        problem: What is wrong; never quotes literal text, which may be a secret.
        fix: What would be accepted.
        line: How many lines below the beginning of the piece, from 0.
    """

    def __init__(self, problem: str, fix: str = "", line: int = 0) -> None:
        self.problem = problem
        self.fix = fix
        self.line = line
        super().__init__(problem)


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A literal that stood in a secret position. Shows itself only when told to."""

    _value: str

    def reveal(self) -> str:
        """The value, for the one place that sends it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class Placeholder:
    """
    A value to come.

    Attributes:
        name: `CallGuid`, or `Space|Key`.
        source: `data` for `$(..)`, a field of the payment; `config` for `#(..)`, a setting of the account.
        formatters: Applied in order, before the encoding.
        place: Where it stands.
    """

    name: str
    source: Literal["data", "config"]
    formatters: tuple[str, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Template:
    """Literal bytes, sent unchanged, and placeholders, expanded once and never looked at again."""

    parts: tuple[bytes | Placeholder, ...]

    def placeholders(self) -> Iterator[Placeholder]:
        """The placeholders in order."""
        return (part for part in self.parts if isinstance(part, Placeholder))


@dataclass(frozen=True, slots=True)
class Field:
    """
    One value to take from the response.

    Attributes:
        locator: Where it is (see `extract`).
        destination: The name it gets.
        data_type: `String`, the only type that the vendor's pages show.
    """

    locator: str
    destination: str
    data_type: str


@dataclass(frozen=True, slots=True)
class Definition:
    """
    One provider call as data, ready to be rendered any number of times.

    Attributes:
        name: The operation or the file it came from.
        url: The target; host, port and scheme are literal or one base URL from the configuration.
        method: In capitals.
        headers: Names and values in order, with the Content-Type that a form sets itself.
        body: Empty when `body_kind` is `none`.
        body_kind: Decides the places in the body.
        response_type: How the response is read.
        response_code_destination: The name that gets the HTTP status, if any.
        fields: What to take from the response.
        text: The document written anew in one fixed form, comments dropped, every lifted secret replaced by
            `#(Lifted|name)`. This is what may be stored; parsing it again gives the same text and digest.
        digest: SHA-256 of `text` in UTF-8, in hex. Layout and the value of a secret don't change it.
        lifted: The secrets taken out, by placeholder name. Empty when `text` was parsed: then the caller's
            configuration has to supply them.
        data_names: Every name that `$(..)` uses, in order of first use.
        config_names: Every name that `#(..)` uses, lifted secrets included, in order of first use.
    """

    name: str
    url: Template
    method: str
    headers: tuple[tuple[Template, Template], ...]
    body: Template
    body_kind: BodyKind
    response_type: Literal["JSON", "XML"]
    response_code_destination: str | None
    fields: tuple[Field, ...]
    text: str
    digest: str
    lifted: Mapping[str, Secret] = field(repr=False, hash=False)
    data_names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    config_names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _elsewhere: frozenset[str] = field(init=False, repr=False, compare=False)
    _in_headers: frozenset[tuple[str, str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        marks = [mark for template in (self.url, self.body) for mark in template.placeholders()]
        object.__setattr__(self, "_elsewhere", frozenset(mark.name for mark in marks if mark.source == "data"))
        held = [mark for pair in self.headers for template in pair for mark in template.placeholders()]
        object.__setattr__(self, "_in_headers", frozenset((mark.source, mark.name) for mark in held))
        for source in ("data", "config"):
            object.__setattr__(self, f"{source}_names", self._names(source))

    def __hash__(self) -> int:
        return hash(self.digest)

    def only_in_headers(self, name: str) -> bool:
        """Tell whether a name of `$(..)` is used neither in the URL nor in the body."""
        return name not in self._elsewhere

    def headers_need_only(self, name: str) -> bool:
        """Tell whether the headers use this name of `$(..)` and nothing else."""
        return self._in_headers <= {("data", name)}

    @property
    def destinations(self) -> tuple[str, ...]:
        """Every name that the response supplies, the response code's first."""
        code = (self.response_code_destination,) if self.response_code_destination else ()
        return tuple(dict.fromkeys((*code, *(field.destination for field in self.fields))))

    def _names(self, source: str) -> tuple[str, ...]:
        templates = (self.url, *(part for pair in self.headers for part in pair), self.body)
        found = (mark.name for template in templates for mark in template.placeholders() if mark.source == source)
        return tuple(dict.fromkeys(found))
