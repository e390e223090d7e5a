"""
From what happened on the wire to a verdict.

Owns the two tables of the design's section on verdicts that concern HTTP: causes
of exceptions, for either transport, and status codes. Pure. Must not know
operations, tokens or payments. Next: `budget`.

The exception names of httpx-aiohttp lie about what was sent: a POST that the
server has read before it hung up comes out as `httpx.ConnectTimeout`. So the
verdict is taken from the cause underneath. Read in aiohttp 3.14 `client.py` and
`connector.py`: `ConnectionTimeoutError` is raised only around `connector.connect`
(pool, DNS, TCP, TLS), `ClientConnectorError` and its kin only inside it, and both
before the request's first byte. Everything else, and everything that nobody
listed, may have been sent.
"""

import re
import socket
import ssl
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

import aiohttp
import httpx

from orchestrator.domain.verdict import Cause, Verdict, VerdictKind
from orchestrator.provider.message import message_in
from orchestrator.provider.transport import Answer, DeadlinePassed, PoolWait

MAX_RETRY_AFTER_S = 300.0

_UNSENT = {
    "httpx": (
        httpx.ConnectError,
        httpx.ConnectTimeout,
        httpx.PoolTimeout,
        httpx.UnsupportedProtocol,
        httpx.InvalidURL,
        # h11 refuses a malformed request before it writes any of it.
        httpx.LocalProtocolError,
    ),
    "aiohttp": (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL),
}
"""What proves that nothing left: exceptions of httpx by type, of aiohttp by the type of the cause."""

_IN_DOUBT = frozenset({408, 409, 423, 425})
"""Refusals that may come from something between us and the effect, or speak of an earlier try."""

_SECONDS = re.compile(r"[+-]?[0-9]+")


def of_exception(error: BaseException, transport: Literal["aiohttp", "httpx"]) -> Verdict:
    """
    Give the verdict on a call that ended in an exception.

    Args:
        error: What the transport raised.
        transport: The library under httpx, which decides how the exception is read.

    Returns:
        `not_sent` if the exception proves it, else `unknown`.
    """
    if isinstance(error, PoolWait):
        return Verdict(VerdictKind.NOT_SENT, reason="pool_wait")
    if isinstance(error, DeadlinePassed):
        return Verdict(VerdictKind.UNKNOWN, reason="deadline")
    evidence = error.__cause__ if transport == "aiohttp" and isinstance(error, httpx.HTTPError) else error
    if isinstance(evidence, _UNSENT[transport]):
        return Verdict(VerdictKind.NOT_SENT, reason=_why_unsent(error))
    return Verdict(VerdictKind.UNKNOWN, reason=_why_unknown(error, evidence))


def of_status(answer: Answer, *, account_texts: Iterable[str], now: datetime) -> Verdict | None:
    """
    Give the verdict that an answer's status alone decides.

    Args:
        answer: What came back.
        account_texts: Texts that put a refusal down to the account.
        now: For the date form of Retry-After.

    Returns:
        The verdict, its message still uncleaned; `None` for 2xx, where the body decides.
    """
    status = answer.status
    if 200 <= status < 300:
        return None
    kind, cause = _refusal(status, answer.body, account_texts)
    return Verdict(
        kind,
        reason=f"http_{status}",
        cause=cause,
        retry_after_s=retry_after(answer.headers.get("retry-after"), now=now) if status in (429, 503) else None,
        message=message_in(answer.body),
    )


def _refusal(status: int, body: bytes, account_texts: Iterable[str]) -> tuple[VerdictKind, Cause]:
    if status in _IN_DOUBT or not 300 <= status < 500:
        return VerdictKind.UNKNOWN, Cause.NONE
    if status == 429:
        return VerdictKind.REJECTED, Cause.THROTTLED
    if status == 401:
        return VerdictKind.REJECTED, Cause.UNAUTHORIZED
    if status == 403 or status < 400 or _blames_account(body, account_texts):
        return VerdictKind.REJECTED, Cause.ACCOUNT
    return VerdictKind.REJECTED, Cause.ABSENT if status in (404, 410) else Cause.INVALID


def _blames_account(body: bytes, texts: Iterable[str]) -> bool:
    said = body.decode("utf-8", "replace").casefold()
    return any(text.casefold() in said for text in texts)


def retry_after(value: str | None, *, now: datetime) -> float | None:
    """
    Read a Retry-After header.

    Args:
        value: Seconds or an HTTP-date (RFC 9110, section 10.2.3).
        now: The present, aware.

    Returns:
        Seconds from now, between 0 and 300: the past is 0, the absurd is 300. `None` for no
        header or one that is neither form.
    """
    text = (value or "").strip()
    if not text.isascii() or not text:
        return None
    if _SECONDS.fullmatch(text):
        seconds = float("inf") if len(text) > 18 else float(text)
        return 0.0 if text.startswith("-") else min(seconds, MAX_RETRY_AFTER_S)
    when = instant_of(text)
    return None if when is None else min(max(0.0, (when - now).total_seconds()), MAX_RETRY_AFTER_S)


def instant_of(value: str | None) -> datetime | None:
    """Read an HTTP-date (RFC 9110, section 5.6.7), leniently, as an aware instant; `None` for anything else."""
    try:
        when = parsedate_to_datetime(value or "")
        return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


_WHY_UNSENT: tuple[tuple[str, tuple[type[BaseException], ...]], ...] = (
    ("dns_failure", (socket.gaierror, aiohttp.ClientConnectorDNSError)),
    ("connect_timeout", (TimeoutError,)),  # before TLS: a handshake under way leaves its "want read" in the chain
    ("tls_failure", (ssl.SSLError, aiohttp.ClientSSLError)),
    ("connect_refused", (ConnectionRefusedError,)),
    ("request_unsendable", (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL, aiohttp.InvalidURL)),
)


def _why_unsent(error: BaseException) -> str:
    """Give a word for operators; it changes nothing."""
    causes = list(_causes(error))
    for reason, kinds in _WHY_UNSENT:
        if any(isinstance(cause, kinds) for cause in causes):
            return reason
    return "connect_failed"


def _why_unknown(error: BaseException, evidence: BaseException | None) -> str:
    if isinstance(evidence, httpx.TimeoutException | TimeoutError):
        return "timeout"
    if isinstance(error, httpx.TransportError | httpx.DecodingError | OSError | aiohttp.ClientError):
        return "connection_lost" if not isinstance(error, httpx.DecodingError) else "answer_unreadable"
    return f"unexpected_{type(error).__name__}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and everything under it, outermost first, groups included; each once."""
    seen: set[int] = set()
    left = [error]
    while left:
        here = left.pop(0)
        if id(here) in seen:
            continue
        seen.add(id(here))
        yield here
        inner = [here.__cause__, here.__context__, getattr(here, "os_error", None)]
        left += [each for each in inner if isinstance(each, BaseException)]
        if isinstance(here, BaseExceptionGroup):
            left += here.exceptions
