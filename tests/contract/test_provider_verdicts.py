"""Every row of the design's table of verdicts, over a real socket, for each transport under httpx."""

import asyncio
import socket
from dataclasses import dataclass
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from orchestrator.domain.machine import Operation
from orchestrator.domain.outcome import Outcome
from orchestrator.domain.payment import Channel
from orchestrator.domain.verdict import Cause, Session, VerdictKind
from orchestrator.provider.connections import LaneShelf, SharedShelf
from tests.contract import raw_server as raw
from tests.contract.raw_server import RawServer, answer
from tests.support.provider import (
    DIGITAL_SESSION,
    NOW,
    PAID,
    PAYER,
    PHONE_SESSION,
    SECRET,
    TOKEN,
    FakeClock,
    account,
    payment,
    pool,
    send,
)  # fmt: skip
from tests.support.tls import self_signed

AUTH, PHONE, DIGITAL, STATUS = "/auth", "/globalpci/v1/self", "/globalpci/v1/digital", "/globalpci/v1/session/"
NOT_SENT, REJECTED, ANSWERED, UNKNOWN = VerdictKind
SHORT_S = 1.5
LIMIT = 4096

pytestmark = pytest.mark.parametrize("transport", ["aiohttp", "httpx"])


@dataclass
class Row:
    """What the server does, and what comes of it."""

    does: Any
    kind: VerdictKind
    cause: Cause = Cause.NONE
    retry_after_s: float | None = None
    reason: str | None = None
    message: str | None = None
    repeats: bool = False
    """Whether a status call is tried again within its burst."""


def http_date(seconds: float) -> str:
    return format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)


def throttled(value: str, seconds: float | None) -> Row:
    return Row(answer(429, headers={"Retry-After": value}), REJECTED, Cause.THROTTLED, seconds)


def refused(status: int, cause: Cause, message: str | None = None) -> Row:
    body = b"" if message is None else {"Message": message}
    return Row(answer(status, body), REJECTED, cause, reason=f"http_{status}", message=message)


def doubtful(status: int, **headers: str) -> Row:
    retry_after = float(headers["Retry_After"]) if headers else None
    step = answer(status, b"<html>busy</html>", {k.replace("_", "-"): v for k, v in headers.items()})
    return Row(step, UNKNOWN, retry_after_s=retry_after, reason=f"http_{status}", repeats=not headers)


ROWS = {
    "429 seconds": throttled("7", 7.0),
    "429 date": throttled(http_date(42), 42.0),
    "429 past": throttled(http_date(-60), 0.0),
    "429 negative": throttled("-5", 0.0),
    "429 absurd": throttled("9" * 30, 300.0),
    "429 absurd date": throttled(http_date(10**8), 300.0),
    "429 garbage": throttled("in a while", None),
    "400": refused(400, Cause.INVALID, "amount is mandatory"),
    "400 account": refused(400, Cause.ACCOUNT, "Provider's endpoint returned 'invalid_client_key'"),
    "400 account id": refused(400, Cause.ACCOUNT, "Account configuration does not exists for account: 7"),
    "403": refused(403, Cause.ACCOUNT),
    "404": refused(404, Cause.ABSENT),
    "410": refused(410, Cause.ABSENT),
    "404 account": refused(404, Cause.ACCOUNT, "account configuration DOES NOT exist"),
    "422": refused(422, Cause.INVALID),
    "451": refused(451, Cause.INVALID),
    "408": doubtful(408),
    "409": doubtful(409),
    "423": doubtful(423),
    "425": doubtful(425),
    "301": refused(301, Cause.ACCOUNT),
    "302": Row(answer(302, headers={"Location": "/auth"}), REJECTED, Cause.ACCOUNT),
    "307": Row(answer(307, headers={"Location": "/auth"}), REJECTED, Cause.ACCOUNT),
    "500": doubtful(500),
    "502": doubtful(502),
    "503": doubtful(503),
    "503 retry": doubtful(503, Retry_After="11"),
    "HTML": Row(answer(200, b"<html>hello</html>"), UNKNOWN, reason="answer_unreadable", repeats=True),
    "no content": Row(answer(204), UNKNOWN, reason="answer_unreadable", repeats=True),
    "no ids": Row(
        answer(200, {"sessionId": None, "Message": "gateway down"}), UNKNOWN,
        reason="answer_incomplete", message="gateway down", repeats=True,
    ),
    "a list": Row(answer(200, []), UNKNOWN, repeats=True),
    "too large": Row(answer(200, b" " * (LIMIT + 1)), UNKNOWN, reason="body_too_large", repeats=True),
    "too large 404": Row(answer(404, b" " * (LIMIT + 1)), REJECTED, Cause.ABSENT),
    "reset before body": Row(raw.reset_before_body, UNKNOWN, repeats=True),
    "reset after body": Row(raw.reset_after_body, UNKNOWN, repeats=True),
    "hang-up": Row(raw.hang_up_after_body, UNKNOWN, reason="connection_lost", repeats=True),
    "half a body": Row(raw.half_body, UNKNOWN, repeats=True),
    "not HTTP": Row(raw.garbage, UNKNOWN, repeats=True),
}  # fmt: skip

CALLS = {
    "phone": (Operation.START_SESSION, Channel.PHONE, PHONE),
    "digital": (Operation.START_SESSION, Channel.DIGITAL, DIGITAL),
    "status": (Operation.QUERY_STATUS, Channel.PHONE, STATUS),
}


def served(path: str, step: Any) -> dict[str, Any]:
    return {AUTH: [answer(200, TOKEN)], path: [step]}


# The verdict does not know the channel; a second digital session is the costly one, so its doubtful rows run too.
GRID = [(row, call) for row in ROWS for call in CALLS if call != "digital" or ROWS[row].kind is UNKNOWN]


@pytest.mark.parametrize(("row", "call"), GRID)
async def test_what_the_server_does_decides_the_verdict_and_a_start_is_never_sent_twice(transport, row, call):
    operation, channel, path = CALLS[call]
    expected = ROWS[row]
    async with (
        RawServer(served(path, expected.does)) as server,
        pool(account(server.url, transport=transport, body_limit_bytes=LIMIT)) as providers,
    ):
        verdict = await send(providers, operation, channel)
    assert (verdict.kind, verdict.cause) == (expected.kind, expected.cause)
    assert verdict.retry_after_s == (
        expected.retry_after_s if expected.retry_after_s is None else pytest.approx(expected.retry_after_s)
    )
    assert expected.reason in (None, verdict.reason)
    assert expected.message in (None, verdict.message)
    sends = 3 if expected.repeats and operation is Operation.QUERY_STATUS else 1
    assert server.count(path) == verdict.exchange.sends == sends
    assert server.count(AUTH) == 1  # a redirect there would have made it two


@pytest.mark.parametrize("call", CALLS)
async def test_one_total_deadline_ends_every_kind_of_slowness_as_unknown(transport, call):
    operation, channel, path = CALLS[call]

    async def one(slow: Any) -> None:
        deadlines = {"start_deadline_s": SHORT_S, "call_deadline_s": SHORT_S}
        async with (
            RawServer(served(path, slow)) as server,
            pool(account(server.url, transport=transport, **deadlines)) as providers,
        ):
            verdict = await send(providers, operation, channel)
            assert server.count(path) == verdict.exchange.sends == 1
        assert verdict.kind is UNKNOWN
        assert verdict.reason in ("deadline", "timeout")

    await asyncio.gather(*(one(slow) for slow in (raw.stall, raw.drip_head, raw.drip_body)))


@pytest.mark.parametrize("call", CALLS)
async def test_an_answer_with_what_was_asked_for_is_answered(transport, call):
    operation, channel, path = CALLS[call]
    body = {"phone": PHONE_SESSION, "digital": DIGITAL_SESSION, "status": PAID}[call]
    async with (
        RawServer(served(path, answer(200, body))) as server,
        pool(account(server.url, transport=transport)) as providers,
    ):
        verdict = await send(providers, operation, channel)
    assert verdict.kind is ANSWERED
    assert (verdict.exchange.status, verdict.exchange.sends, server.count(path)) == (200, 1, 1)
    if call == "phone":
        assert verdict.session == Session("s-1", "+442079460000", "0097")
    elif call == "digital":
        assert verdict.session == Session("s-2")
    else:
        assert verdict.observation.outcome is Outcome.PAID
        assert verdict.observation.amount_minor == 1240
        assert dict(verdict.observation.codes) == {"decision": "ACCEPT", "reasonCode": "100", "requestID": "5305"}
        assert "Canary" not in repr(verdict)


@pytest.mark.parametrize(("call", "body"), [
    ("phone", PHONE_SESSION | {"dtmfLinkId": None}), ("phone", PHONE_SESSION | {"dtmfFallbackNumber": ""}),
    ("phone", PHONE_SESSION | {"sessionId": "x" * 129}), ("digital", {"sessionId": " "}),
    ("digital", {"sessionId": "a\nb"}), ("digital", {"sessionId": None, "Message": "no"}),
])  # fmt: skip
async def test_a_session_without_every_id_is_unknown(transport, call, body):
    operation, channel, path = CALLS[call]
    async with (
        RawServer(served(path, answer(200, body))) as server,
        pool(account(server.url, transport=transport)) as providers,
    ):
        verdict = await send(providers, operation, channel)
    assert (verdict.kind, verdict.reason, verdict.message) == (UNKNOWN, "answer_incomplete", body.get("Message"))
    assert server.count(path) == 1


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("where", "reason"), [("closed port", "connect_refused"), ("no such name", "dns_failure")])
async def test_what_never_left_is_not_sent_and_tried_again_within_the_burst(transport, where, reason, call):
    operation, channel, path = CALLS[call]
    async with RawServer(served(path, answer(200))) as server:
        lost = "http://nowhere.invalid" if where == "no such name" else closed_port()
        clock = FakeClock()
        definitions = rebased(path, lost)
        async with pool(account(server.url, transport=transport, **definitions), clock) as providers:
            verdict = await send(providers, operation, channel)
    assert (verdict.kind, verdict.cause, verdict.reason) == (NOT_SENT, Cause.NONE, reason)
    assert (verdict.exchange.sends, verdict.exchange.method) == (0, "")
    assert len(clock.slept) == 2
    assert all(0 <= slept <= 0.5 * 2**n for n, slept in enumerate(clock.slept))


@pytest.mark.parametrize("call", CALLS)
async def test_a_certificate_that_nobody_vouches_for_is_not_sent(transport, call):
    operation, channel, path = CALLS[call]
    async with (
        RawServer(served(path, answer(200)), context=self_signed()[0]) as server,
        RawServer(served(path, answer(200))) as plain,
        pool(account(plain.url, transport=transport, **rebased(path, server.url))) as providers,
    ):
        verdict = await send(providers, operation, channel)
    assert (verdict.kind, verdict.reason) == (NOT_SENT, "tls_failure")
    assert server.seen == []


async def test_a_certificate_that_the_account_trusts_is_fine(transport):
    server_side, client_side = self_signed()
    async with (
        RawServer(served(PHONE, answer(200, PHONE_SESSION)), context=server_side) as server,
        pool(account(server.url, transport=transport, verify=client_side)) as providers,
    ):
        verdict = await send(providers, Operation.START_SESSION)
    assert verdict.kind is ANSWERED


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["closes", "speaks no TLS"])
async def test_a_tls_handshake_that_fails_is_not_sent(transport, says, call):
    operation, channel, path = CALLS[call]

    async def cut(reader: Any, writer: Any) -> None:
        await reader.read(1)
        writer.write(says)
        writer.close()

    async with await asyncio.start_server(cut, "127.0.0.1", 0) as server, RawServer(served(path, answer(200))) as plain:
        lost = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with pool(account(plain.url, transport=transport, **rebased(path, lost))) as providers:
            verdict = await send(providers, operation, channel)
    assert verdict.kind is NOT_SENT
    assert verdict.reason in ("tls_failure", "connect_failed")


async def test_a_peer_that_accepts_and_says_nothing_during_the_handshake_is_not_sent(transport):
    async def one(call: str, lost: str) -> None:
        operation, channel, path = CALLS[call]
        deadlines = {"start_deadline_s": 2, "call_deadline_s": 2}
        async with (
            RawServer(served(path, answer(200))) as server,
            pool(account(server.url, transport=transport, **deadlines, **rebased(path, lost))) as providers,
        ):
            verdict = await send(providers, operation, channel)
        assert (verdict.kind, verdict.exchange.sends) == (NOT_SENT, 0)
        assert verdict.reason in ("connect_timeout", "deadline")

    with socket.create_server(("127.0.0.1", 0)) as silent:
        lost = f"https://127.0.0.1:{silent.getsockname()[1]}"
        await asyncio.gather(*(one(call, lost) for call in CALLS))


@pytest.mark.parametrize("call", CALLS)
async def test_an_exception_that_nobody_listed_is_unknown(transport, call, monkeypatch):
    operation, channel, path = CALLS[call]
    async with (
        RawServer(served(path, answer(200))) as server,
        pool(account(server.url, transport=transport)) as providers,
    ):
        await providers.current("emea").authorize()

        class Broken:
            calls = 0

            async def handle_async_request(self, request: Any) -> Any:
                Broken.calls += 1
                raise ZeroDivisionError(SECRET)

            async def aclose(self) -> None:
                pass

        for shelf in (SharedShelf, LaneShelf):
            monkeypatch.setattr(shelf, "take", lambda self: Broken())
            monkeypatch.setattr(shelf, "give_back", lambda self, transport, *, sound: ())
        verdict = await send(providers, operation, channel)
    assert (verdict.kind, verdict.reason) == (UNKNOWN, "unexpected_ZeroDivisionError")
    assert SECRET not in repr(verdict)
    assert Broken.calls == (3 if operation is Operation.QUERY_STATUS else 1)


async def test_a_defect_in_reading_an_answer_is_unknown_and_not_sent_again(transport, monkeypatch):
    def broken(*_: Any, **__: Any) -> Any:
        raise KeyError(SECRET)

    monkeypatch.setattr("orchestrator.provider.account.session_of", broken)
    async with (
        RawServer(served(PHONE, answer(200, PHONE_SESSION))) as server,
        pool(account(server.url, transport=transport)) as providers,
    ):
        verdict = await send(providers, Operation.START_SESSION)
    assert (verdict.kind, verdict.reason, verdict.exchange.sends) == (UNKNOWN, "unexpected_KeyError", 1)
    assert server.count(PHONE) == 1


async def test_a_start_rides_a_fresh_connection_if_the_account_says_so_and_looks_share_a_kept_one(transport):
    scripts = served(PHONE, answer(200, PHONE_SESSION)) | {STATUS: [answer(200, PAID)]}
    async with (
        RawServer(scripts) as server,
        pool(account(server.url, transport=transport, start_idle_s=0)) as providers,
    ):
        for _ in range(3):
            await send(providers, Operation.START_SESSION)
            await send(providers, Operation.QUERY_STATUS)
    by_path = {path: {seen.connection for seen in server.seen if seen.path.startswith(path)} for path in scripts}
    assert len(by_path[PHONE]) == 3
    assert by_path[AUTH] == by_path[STATUS]
    assert len(by_path[STATUS]) == 1


async def test_a_start_may_ride_a_connection_that_was_idle_for_a_moment(transport):
    async with (
        RawServer(served(PHONE, answer(200, PHONE_SESSION))) as server,
        pool(account(server.url, transport=transport)) as providers,
    ):
        for _ in range(3):
            assert (await send(providers, Operation.START_SESSION)).kind is ANSWERED
    assert len({seen.connection for seen in server.seen if seen.path.startswith(PHONE)}) == 1


async def test_the_request_says_what_the_definition_says_and_nothing_else_of_ours(transport):
    async with (
        RawServer(served(PHONE, answer(200, PHONE_SESSION, {"Set-Cookie": "a=b"}))) as server,
        pool(account(server.url, transport=transport)) as providers,
    ):
        await send(providers, Operation.START_SESSION)
        await send(providers, Operation.START_SESSION)
    token, start, again = server.seen
    assert token.headers["content-type"] == "application/x-www-form-urlencoded"
    assert (
        token.body
        == f"grant_type=client_credentials&scope=globalpci&client_id=client-77&client_secret={SECRET}".encode()
    )
    assert (start.method, start.path) == ("POST", "/globalpci/v1/selfservicesession/")
    assert start.headers["authorization"] == "Bearer token-1"
    assert start.body.startswith(b'{"AccountConfigurationId":"4242", "CallGuid": "call-000001"')
    assert b'"merchantTxnRef":"INV-1", "amount":"12.40"' in start.body
    ours = {"authorization", "content-type", "accept", "accept-encoding", "user-agent"}
    assert set(start.headers) - {"host", "content-length", "connection"} == ours
    assert "cookie" not in again.headers


async def test_a_refusal_that_quotes_payer_secret_or_card_is_cleaned_before_it_is_kept(transport):
    said = f"bad 'ada CANARY' for {SECRET}, token-1, 447700900123, card 4111111111111111\x1b[31m, INV-1 " + "x" * 300
    async with (
        RawServer(served(DIGITAL, answer(400, {"Message": said}))) as server,
        pool(account(server.url, transport=transport)) as providers,
    ):
        verdict = await send(providers, Operation.START_SESSION, Channel.DIGITAL)
    assert verdict.message.startswith(
        f"bad '[removed]' for {SECRET}, [removed], [removed], card [card data removed] [31m, INV-1 xxx"
    )
    assert len(verdict.message) == 200


async def test_the_trail_gets_a_url_without_values_that_are_not_the_payments(transport):
    look = DEFINITION.format(
        url="#(BaseUrl)/look/$(GlobalPCI|SessionId)/$(cardholderName)?key=#(ClientSecret)&name=$(cardholderName)"
    )
    async with RawServer({AUTH: [answer(200, TOKEN)], "/look": [answer(200, PAID)]}) as server:
        config = account(server.url, transport=transport)
        config = account(
            server.url, transport=transport, definitions=config.definitions | {"session_status": compiled(look)}
        )
        async with pool(config) as providers:
            asked = payment()
            prepared = providers.of(asked).prepare(Operation.QUERY_STATUS, asked, PAYER)
            verdict = await providers.of(asked).send(prepared)
    assert verdict.exchange.url == f"{server.url}/look/s-1/[cardholderName]?key=&name="
    assert server.seen[1].path == f"/look/s-1/Ada%20Canary?key={SECRET}&name=Ada%20Canary"
    assert "Canary" not in repr((prepared, verdict))
    assert SECRET not in repr((prepared, verdict, config))


DEFINITION = """<ApiInteraction><Request><Url>{url}</Url><Method>GET</Method><Headers><Header><Key>Authorization</Key>
<Value>Bearer $(AccessToken)</Value></Header></Headers><Body></Body></Request><Response><Type>JSON</Type><Fields><Field>
<Locator>sessionState</Locator><Destination>GlobalPCI|SessionState</Destination><DataType>String</DataType></Field></Fields>
</Response></ApiInteraction>"""


def compiled(text: str) -> Any:
    from xml.sax.saxutils import escape

    from orchestrator.interactions import parse

    url = text[text.index("<Url>") + 5 : text.index("</Url>")]
    return parse(text.replace(url, escape(url)), name="test.xml")


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def rebased(path: str, base_url: str) -> dict[str, Any]:
    """Let the call under this path go to another base, while the token call works."""
    from orchestrator.interactions import bundled, parse
    from tests.support.provider import DEFINITIONS

    name = {PHONE: "start_phone_session", DIGITAL: "start_digital_session", STATUS: "session_status"}[path]
    other = parse(bundled(name).replace("#(BaseUrl)", "#(OtherUrl)"), name=name)
    return {"definitions": DEFINITIONS | {name: other}, "config": {"OtherUrl": base_url}}
