"""
The target of a call: what may stand where in a URL.

The host is fixed by configuration: no placeholder in scheme, host, port or user,
and `#(Key)` in front only as the complete base. So no value of a payment can
send a request elsewhere. Owns the shape of a base URL for literal ones and
configured ones alike. Must not know files, elements or a payment's values.
Next: `lift`.

Which characters stand unescaped where: RFC 3986, sections 3.3 and 3.4.
"""

import re
from collections.abc import Iterator

from orchestrator.interactions.body import Scalar, form_scalars, places_of
from orchestrator.interactions.lex import MARK, Source
from orchestrator.interactions.model import Flaw, Place, Template

_PATH_CHARS = r"[A-Za-z0-9\-._~!$&'()*+,;=:@%/]"
_AUTHORITY = re.compile(r"(?i:https?)://(?:[A-Za-z0-9\-._]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?(?=[/?]|\Z)")
_PATH = re.compile(rf"(?:/{_PATH_CHARS}*)?")
_QUERY_CHARS = re.compile(rf"(?:{_PATH_CHARS}|\?)*")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_DOTS = re.compile(r"(?i:\.|%2e){1,2}")


def url_template(source: Source) -> Template:
    """
    A target, with a place for every placeholder.

    Raises:
        Flaw: A placeholder in scheme, host, port or user; a base that is not `http(s)://host[:port]`; a fragment,
            a dot segment, a blank or any other character that a URL can't have.
    """
    return source.template(places_of(source, url_scalars(source)), "ascii")


def url_scalars(source: Source) -> Iterator[Scalar]:
    """
    The base, path and query of a target; see `url_template`.

    Raises:
        Flaw: As `url_template`.
    """
    base = _end_of_base(source)
    text = source.text
    query = text.find("?", base)
    path_end = len(text) if query < 0 else query
    if text.startswith(MARK):
        yield Scalar(0, 1, Place.BASE_URL)
    check_path(text[base:path_end].replace(MARK, "x"))
    yield Scalar(base, path_end, Place.PATH)
    if query >= 0:
        if not _QUERY_CHARS.fullmatch(text[query + 1 :].replace(MARK, "x")):
            raise Flaw("has a character in its query that must be percent-encoded", "write a blank as %20")
        for scalar in form_scalars(Source(text[query + 1 :], ()), Place.QUERY):
            yield Scalar(scalar.start + query + 1, scalar.end + query + 1, Place.QUERY, scalar.owners)


def check_base(base: str) -> str:
    """
    Check a configured base URL.

    Args:
        base: `https://host[:port][/prefix]`, or with `http`; whether that is allowed is the caller's business.

    Returns:
        The base without slashes at its end.

    Raises:
        Flaw: It has a user, a query, a fragment, no host, or characters that a URL can't have.
    """
    end = _end_of_authority(base, "write https://host[:port][/prefix], without a user")
    check_path(base[end:])
    return base.rstrip("/")


def check_path(path: str) -> None:
    """
    Check a path: empty, or beginning with a slash.

    Raises:
        Flaw: Other characters than a path can have, or a segment `.` or `..`, which clients resolve away.
    """
    if not _PATH.fullmatch(path) or _BAD_PERCENT.search(path):
        raise Flaw("has a character in its path that must be percent-encoded", "write a blank as %20, no fragment")
    if any(_DOTS.fullmatch(segment) for segment in path.split("/")):
        raise Flaw("has a path segment . or ..", "write the path it stands for")


def _end_of_base(source: Source) -> int:
    if not source.text.startswith(MARK):
        return _end_of_authority(
            source.text, "write the host out or use #(BaseUrl)/path; no user and no placeholder before the path"
        )
    mark = source.marks[0]
    if mark.source == "data":
        raise Flaw(
            "begins with $(..): a payment's field can't choose the host", "begin with https://host or #(BaseUrl)"
        )
    if mark.formatters or (len(source.text) > 1 and source.text[1] not in "/?"):
        raise Flaw("begins with #(..) that is not the complete base", "write #(BaseUrl)/path, without formatters")
    return 1


def _end_of_authority(text: str, fix: str) -> int:
    match = _AUTHORITY.match(text)
    if match is None:
        raise Flaw("does not begin with a complete http(s)://host[:port]", fix)
    if match[1] and not 0 < int(match[1]) < 65536:
        raise Flaw("has a port outside 1 to 65535")
    return match.end()
