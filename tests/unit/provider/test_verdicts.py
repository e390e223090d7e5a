"""Exceptions, statuses and headers, without a wire."""

import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random
from typing import Any
from unittest.mock import Mock

import aiohttp
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.discreet import REMOVED
from orchestrator.domain.verdict import Cause, VerdictKind
from orchestrator.provider.backoff import MAX_S, backoff
from orchestrator.provider.connections import Cut
from orchestrator.provider.message import MAX_MESSAGE, Cleaner, message_in
from orchestrator.provider.transport import Answer, DeadlinePassed, PoolWait
from orchestrator.provider.verdicts import MAX_RETRY_AFTER_S, of_exception, of_status, retry_after

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
NOT_SENT, REJECTED, _, UNKNOWN = VerdictKind
KEY: Any = Mock(host="h", port=1, ssl=True)


def because(outer: Exception, cause: Exception) -> Exception:
    outer.__cause__ = cause
    return outer


UNSENT_HTTPX = [
    httpx.ConnectError("x"), httpx.ConnectTimeout("x"), httpx.PoolTimeout("x"), httpx.UnsupportedProtocol("x"),
    httpx.LocalProtocolError("x"), httpx.InvalidURL("x"), PoolWait(),
]  # fmt: skip
UNKNOWN_HTTPX = [
    httpx.WriteError("x"), httpx.WriteTimeout("x"), httpx.ReadError("x"), httpx.ReadTimeout("x"),
    httpx.RemoteProtocolError("x"), httpx.CloseError("x"), httpx.ProxyError("x"), httpx.DecodingError("x"),
    httpx.TooManyRedirects("x"), DeadlinePassed(), OSError("x"), TimeoutError(), RuntimeError("x"), KeyError("x"),
    ssl.SSLError("x"), aiohttp.ClientConnectorError(KEY, OSError(1, "x")),
]  # fmt: skip
UNSENT_AIOHTTP = [
    because(httpx.ConnectError("x"), aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "x"))),
    because(httpx.ConnectError("x"), aiohttp.ClientConnectorDNSError(KEY, OSError(-2, "x"))),
    because(httpx.ConnectError("x"), aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "x"))),
    because(httpx.ConnectError("x"), aiohttp.ClientConnectorCertificateError(KEY, ssl.CertificateError("x"))),
    because(httpx.ConnectTimeout("x"), aiohttp.ConnectionTimeoutError("x")),
    because(httpx.UnsupportedProtocol("x"), aiohttp.InvalidURL("x")),
    aiohttp.InvalidURL("x"),
    PoolWait(),
]
UNKNOWN_AIOHTTP = [
    # The names say "never connected"; the causes know better.
    because(httpx.ConnectTimeout("x"), aiohttp.ServerDisconnectedError()),
    because(httpx.ConnectTimeout("x"), aiohttp.ClientOSError(104, "x")),
    because(httpx.ConnectTimeout("x"), aiohttp.ClientConnectionResetError("x")),
    because(httpx.ConnectTimeout("x"), aiohttp.ClientConnectionError("x")),
    because(httpx.ReadTimeout("x"), aiohttp.SocketTimeoutError()),
    because(httpx.TimeoutException("x"), aiohttp.ServerTimeoutError()),
    because(httpx.ReadError("x"), aiohttp.ClientPayloadError()),
    httpx.ConnectTimeout("without a cause"), httpx.ConnectError("without a cause"), httpx.PoolTimeout("x"),
    Cut("x"), DeadlinePassed(), aiohttp.ClientError(), TimeoutError(), OSError(), ZeroDivisionError(),
]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "transport", "kind"),
    [
        *((error, "httpx", NOT_SENT) for error in UNSENT_HTTPX),
        *((error, "httpx", UNKNOWN) for error in UNKNOWN_HTTPX),
        *((error, "aiohttp", NOT_SENT) for error in UNSENT_AIOHTTP),
        *((error, "aiohttp", UNKNOWN) for error in UNKNOWN_AIOHTTP),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_only_a_cause_that_proves_it_says_not_sent(error, transport, kind):
    verdict = of_exception(error, transport)
    assert (verdict.kind, verdict.cause) == (kind, Cause.NONE)
    assert verdict.reason.replace("_", "").isalnum()
    assert verdict.message is None


@pytest.mark.parametrize("transport", ["aiohttp", "httpx"])
@pytest.mark.parametrize("base", [Exception, httpx.HTTPError, httpx.TransportError, aiohttp.ClientError, OSError])
def test_an_exception_that_comes_with_a_future_library_is_unknown(base, transport):
    unheard: Any = type("Unheard", (base,), {})
    assert of_exception(unheard("x"), transport).kind is UNKNOWN
    assert of_exception(because(httpx.ConnectError("x"), unheard("x")), "aiohttp").kind is UNKNOWN


def test_every_status_has_a_verdict_and_only_2xx_leaves_it_to_the_body():
    causes = {429: Cause.THROTTLED, 401: Cause.UNAUTHORIZED, 403: Cause.ACCOUNT, 404: Cause.ABSENT, 410: Cause.ABSENT}
    for status in range(100, 700):
        verdict = of_status(Answer(status), account_texts=(), now=NOW)
        rejected = 300 <= status < 500 and status not in (408, 409, 423, 425)
        other = Cause.ACCOUNT if status < 400 else Cause.INVALID
        if 200 <= status < 300:
            assert verdict is None, status
        else:
            assert verdict is not None, status
            assert verdict.kind is (REJECTED if rejected else UNKNOWN), status
            assert verdict.cause is (causes.get(status, other) if rejected else Cause.NONE), status


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (400, Cause.ACCOUNT), (404, Cause.ACCOUNT), (429, Cause.THROTTLED), (401, Cause.UNAUTHORIZED),
        (408, Cause.NONE), (500, Cause.NONE),
    ],
)  # fmt: skip
def test_a_listed_text_blames_the_account_only_where_the_status_leaves_it_open(status, cause):
    answer = Answer(status, body=b'{"Message": "... INVALID_CLIENT_KEY ..."}')
    verdict = of_status(answer, account_texts=["invalid_client_key"], now=NOW)
    assert verdict is not None
    assert verdict.cause is cause


def when(seconds: float) -> str:
    return format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None), ("", None), ("  ", None), ("0", 0.0), ("12", 12.0), (" 12 ", 12.0), ("-3", 0.0), ("300", 300.0),
        ("301", 300.0), ("9" * 5000, 300.0), ("-" + "9" * 5000, 0.0), (when(30), 30.0), (when(-30), 0.0),
        (when(1e6), 300.0), ("Sunday, 06-Nov-94 08:49:37 GMT", 0.0), ("Sun Nov  6 08:49:37 1994", 0.0),
        ("Tue, 24 Nov 2026 12:00:09 -0000", 9.0), ("Tue, 24 Nov 2026 13:00:09 +0100", 9.0), ("1.5", None),
        ("١٢", None), ("soon", None), ("12 seconds", None), ("Tue, 99 Nov 2026 12:00:00 GMT", None), ("nan", None),
    ],
)  # fmt: skip
def test_retry_after_is_read_in_both_forms_and_kept_within_bounds(header, seconds):
    assert retry_after(header, now=NOW) == seconds


@given(st.text(max_size=40) | st.from_regex(r"[+-]?[0-9]{1,30}", fullmatch=True) | st.datetimes().map(format_datetime))
def test_no_retry_after_raises_or_leaves_the_bounds(header):
    seconds = retry_after(header, now=NOW)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER_S


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"Message": "no such gateway"}', "no such gateway"),
        (b'{"message": " spaced "}', "spaced"),
        (b'{"error": "invalid_client"}', "invalid_client"),
        (b'{"error": "invalid_scope", "error_description": "Invalid scope"}', "Invalid scope"),
        (b'{"error": {"message": "nested"}}', "nested"),
        (b'{"Message": null, "title": "Bad Request"}', "Bad Request"),
        (b'"just text"', "just text"),
        (b"The access token is invalid or has expired", "The access token is invalid or has expired"),
        (b"\xef\xbb\xbfmarked", "marked"),
        (b"<html><body>busy</body></html>", None),
        (b"oops <br/> busy", None),
        (b'{"Message": "<b>busy</b>"}', None),
        (b'{"Message": 7}', None), (b'{"other": "x"}', None), (b"[]", None), (b"{cut", None), (b"", None), (b" ", None),
        (b"x" * 1001, None), (b"[" * 100_000, None),
    ],
)  # fmt: skip
def test_the_providers_text_is_found_leniently_and_markup_never(body, message):
    assert message_in(body) == message


def test_a_message_loses_what_was_sent_longest_first_and_is_cut_afterwards():
    clean = Cleaner(["Ada", "Ada Canary", "GB", ""], lambda text: text.replace("4111", "[card data removed]"))
    assert clean("for ADA CANARY and ada in GB: 4111\r\n\x1b[0m\u202ex") == (
        f"for {REMOVED} and {REMOVED} in GB: [card data removed] [0m x"
    )
    assert clean("x" * 500) == "x" * MAX_MESSAGE
    assert (clean(None), clean(" \n")) == (None, None)


PRIVATE = st.text(st.characters(exclude_characters=REMOVED + REMOVED.upper()), min_size=3, max_size=12).map(str.strip)


@given(
    st.lists(PRIVATE.filter(lambda value: len(value) >= 3)), st.text(max_size=300), st.randoms(use_true_random=False)
)
def test_no_private_value_survives_in_a_message(private, text, random):
    pieces = [text[:50], *private, text[50:]]
    random.shuffle(pieces)
    kept = Cleaner(private, str)("".join(pieces)) or ""
    assert len(kept) <= MAX_MESSAGE
    assert not any(value in kept for value in private)
    assert not any(ord(char) < 0x20 or 0x7F <= ord(char) <= 0x9F or 0x202A <= ord(char) <= 0x202E for char in kept)


def test_a_control_character_hides_no_private_value():
    assert Cleaner(["Ada Canary", "x\x00y"], str)("for Ada\x00Canary and x\ty") == f"for {REMOVED} and {REMOVED}"


def test_waits_are_jittered_in_a_window_that_doubles_up_to_a_minute():
    waits = backoff(Random(1))
    for failures in (*range(12), 10**6):
        window = min(MAX_S, 0.5 * 2 ** (min(max(failures, 1), 12) - 1))
        drawn = [waits(failures) for _ in range(200)]
        assert 0 <= min(drawn) < window / 4
        assert window * 3 / 4 < max(drawn) <= window


def test_the_same_seed_waits_the_same():
    first, second = backoff(Random(3)), backoff(Random(3))
    assert [first(n) for n in range(9)] == [second(n) for n in range(9)]
