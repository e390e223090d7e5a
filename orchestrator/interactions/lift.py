"""
Literal secrets, taken out before anything is stored.

Administrators paste definitions with the client secret written in. A literal in
a secret position (a form key, JSON key, element, query key or header known to
carry one) becomes `#(Lifted|name)`, and its value lives only in
`Definition.lifted`. Owns which positions are secret. A secret written elsewhere
can't be recognized. Must not know files or elements. Next: `grammar`.

What is lifted is the value that the literal stood for, so it is encoded again
when it is sent: a form's `a/b` goes out as `a%2Fb`, which means the same.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from urllib.parse import unquote_plus

from orchestrator.interactions.body import Scalar
from orchestrator.interactions.document import read_xml
from orchestrator.interactions.lex import MARK, Mark, Source
from orchestrator.interactions.model import LIFTED, Flaw, Place, Secret

# Lower case, without `_`, `-`, `.` and blanks. A client id is no secret.
SECRET_NAMES = frozenset(
    {"accesstoken", "apikey", "apisecret", "assertion", "authorization", "authtoken", "bearertoken", "clientassertion"}
    | {"clientsecret", "consumersecret", "credential", "credentials", "idtoken", "passphrase", "passwd", "password"}
    | {"privatekey", "pwd", "refreshtoken", "secret", "secretkey", "sharedsecret", "subscriptionkey", "token"}
)
_SECRET_HEADERS = SECRET_NAMES | {"proxyauthorization", "cookie", "ocpapimsubscriptionkey"}
_SCHEME = re.compile(r"(?i:basic|bearer|digest|token|apikey)\s+")
_RESERVED = re.compile(rf"#\(({re.escape(LIFTED)}[^():]+)")


class Lifter:
    """
    Takes the secrets out of one document, piece by piece.

    Args:
        text: The whole document; names that it already uses for lifted secrets are not given out again.

    Attributes:
        secrets: What was taken out, by placeholder name.
        names: The same names in the order taken out.
    """

    def __init__(self, text: str) -> None:
        self.secrets: dict[str, Secret] = {}
        self.names: list[str] = []
        self._counts: Counter[str] = Counter()
        self._reserved = set(_RESERVED.findall(text))

    def scalars(self, source: Source, scalars: Iterator[Scalar]) -> Source:
        """The body or target without the secrets in it."""
        spans: list[tuple[int, int, str]] = []
        for scalar in scalars:
            if any(_normal(owner) in SECRET_NAMES for owner in scalar.owners):
                spans += [
                    (start, end, self._keep(scalar.owners[-1], _decode(source.text[start:end], scalar.place)))
                    for start, end in _literals(source.text, scalar.start, scalar.end, scalar.place)
                ]
        return _replace(source, spans)

    def header(self, name: str, source: Source) -> Source:
        """The header's value without the secrets in it; a well-known scheme such as `Basic` stays."""
        if _normal(name).removeprefix("x") not in _SECRET_HEADERS:
            return source
        scheme = _SCHEME.match(source.text)
        literals = _literals(source.text, scheme.end() if scheme else 0, len(source.text), Place.HEADER_VALUE)
        return _replace(source, [(start, end, self._keep(name, source.text[start:end])) for start, end in literals])

    def _keep(self, owner: str, value: str) -> str:
        base = LIFTED + re.sub(r"[^A-Za-z0-9_.-]+", "_", owner)[:200]
        name = base
        while name in self.secrets or name in self._reserved:
            self._counts[base] += 1
            name = f"{base}-{self._counts[base] + 1}"
        self.secrets[name] = Secret(value)
        self.names.append(name)
        return name


def _normal(name: str) -> str:
    return re.sub(r"[-_.\s]", "", unquote_plus(name)).lower()


def _literals(text: str, start: int, end: int, place: Place) -> Iterator[tuple[int, int]]:
    """The literal runs that are values: beside placeholders, mere punctuation is none; `true` and `null` never are."""
    whole = MARK not in text[start:end]
    for run in re.compile(f"[^{MARK}]+").finditer(text, start, end):
        blank = not run[0].strip() or not (whole or any(map(str.isalnum, run[0])))
        if not blank and not (place is Place.JSON_BARE and run[0] in ("true", "false", "null")):
            yield run.span()


def _decode(literal: str, place: Place) -> str:
    """The value that a literal stands for, and that encoding for its place turns back into an equal literal."""
    if place is Place.JSON_STRING:
        return str(json.loads(f'"{literal}"'))
    if place in (Place.XML_TEXT, Place.XML_ATTRIBUTE):
        return read_xml(f"<a>{literal}</a>").own_text()
    if place in (Place.FORM, Place.QUERY):
        try:
            return unquote_plus(literal, errors="strict")
        except UnicodeDecodeError:
            raise Flaw("has a secret whose percent-encoding is not UTF-8") from None
    return literal


def _replace(source: Source, spans: list[tuple[int, int, str]]) -> Source:
    """Put a placeholder for the setting `name` over each `(start, end, name)`; spans come in order, without marks."""
    pieces: list[str] = []
    marks: list[Mark] = []
    at = used = 0
    for start, end, name in spans:
        before = source.text[at:start]
        upto = used + before.count(MARK)
        pieces += [before, MARK]
        marks += [*source.marks[used:upto], Mark(name, "config")]
        at, used = end, upto
    return Source("".join([*pieces, source.text[at:]]), (*marks, *source.marks[used:]))
