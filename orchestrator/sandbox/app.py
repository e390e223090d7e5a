"""
The HTTP face of the twin: routes, answers, and connections broken on cue.

Owns everything that speaks `aiohttp.web`. Decides nothing: requests are judged
by `intake`, states and faults come from `sessions`. Knows neither sockets to
listen on nor signals. Next: `run`.
"""

import json
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from functools import partial
from typing import Any

from aiohttp import web

from orchestrator.sandbox import bodies
from orchestrator.sandbox.clock import SandboxClock
from orchestrator.sandbox.intake import Refused, check_token_request, read_advance, read_bearer, read_start
from orchestrator.sandbox.options import SandboxOptions
from orchestrator.sandbox.script import Act, Channel, Endpoint, Fault, RetryAfter
from orchestrator.sandbox.sessions import Twin
from orchestrator.sandbox.table import SCRIPTS
from orchestrator.sandbox.webhooks import Webhooks

MAX_BODY = 64 * 1024
"""Bytes of a request; more is answered with 413."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LINGER_NONE = struct.pack("ii", 1, 0)
"""`SO_LINGER` on, for 0 s: closing then sends RST instead of FIN."""


class _Severed(Exception):  # noqa: N818 - reads as what happened
    """The connection was broken on purpose; there is nobody to answer."""


def build_app(options: SandboxOptions, twin: Twin, clock: SandboxClock, webhooks: Webhooks) -> web.Application:
    """Put the routes together over one twin."""
    provider = _Provider(options, twin, clock, webhooks)
    phone, digital = partial(provider.start, Channel.PHONE), partial(provider.start, Channel.DIGITAL)
    app = web.Application(middlewares=[_json_errors], client_max_size=MAX_BODY)
    for path in ("/auth/connect/token", "/Auth/connect/token"):
        app.router.add_post(path, provider.counted(Endpoint.TOKEN, provider.token))
    for path, endpoint, handler in (
        ("/globalpci/v1/selfservicesession", Endpoint.START_PHONE, phone),
        ("/globalpci/v1/digitalselfservicesession", Endpoint.START_DIGITAL, digital),
    ):
        app.router.add_post(f"{path}/", provider.counted(endpoint, handler))
        app.router.add_get(path, _to_slash, allow_head=False)
        app.router.add_post(path, provider.counted(endpoint, _to_slash))
    status = provider.counted(Endpoint.STATUS, provider.status)
    app.router.add_get("/globalpci/v1/session/{id}", status, allow_head=False)
    app.router.add_get("/_sandbox/stats", provider.stats)
    app.router.add_get("/_sandbox/scripts", provider.scripts)
    app.router.add_get("/_sandbox/webhooks/{reference}", provider.webhooks)
    app.router.add_post("/_sandbox/reset", provider.reset)
    app.router.add_post("/_sandbox/advance", provider.advance)
    return app


class _Provider:
    def __init__(self, options: SandboxOptions, twin: Twin, clock: SandboxClock, webhooks: Webhooks) -> None:
        self._options = options
        self._twin = twin
        self._clock = clock
        self._webhooks = webhooks

    def counted(self, endpoint: Endpoint, handler: _Handler) -> _Handler:
        """Wrap a handler so that its calls and answers are counted, refusals and broken lines included."""

        async def handle(request: web.Request) -> web.StreamResponse:
            self._twin.arrived(endpoint)
            try:
                response = await handler(request)
            except Refused as refused:
                response = _refusal(refused)
            except web.HTTPException as error:
                response = _of_http(error)
            except _Severed:
                self._twin.answered(endpoint, "cut")
                return web.Response()  # goes nowhere: aiohttp finds the transport closed
            self._twin.answered(endpoint, str(response.status))
            return response

        return handle

    async def token(self, request: web.Request) -> web.Response:
        authorization = request.headers.get("Authorization")
        check_token_request(request.content_type, await request.read(), authorization, self._options)
        return _json(200, self._twin.issue_token(), {"Cache-Control": "no-store", "Pragma": "no-cache"})

    async def start(self, channel: Channel, request: web.Request) -> web.StreamResponse:
        token = read_bearer(request.headers.get("Authorization"))
        self._twin.check_token(token)
        start = read_start(request.content_type, await request.read(), channel, self._options)
        self._twin.check_token(token, start.reference)
        fault = self._twin.fault_of(Endpoint.start_of(channel), start.reference)
        if fault is not None and fault.act is Act.REFUSE_TOKEN:
            self._twin.refuse_token(token, start.reference)
            self._twin.check_token(token, start.reference)
        if fault is not None and not fault.effect:
            return await self._go_wrong(request, fault, {})
        session = self._twin.make_session(channel, start)
        self._webhooks.owe(session)
        body = bodies.started(session)
        return _json(200, body) if fault is None else await self._go_wrong(request, fault, body)

    async def status(self, request: web.Request) -> web.StreamResponse:
        self._twin.check_token(read_bearer(request.headers.get("Authorization")))
        found = self._twin.find(request.match_info["id"])
        if found is None:
            raise Refused(404, {"Message": "Session not found"})
        session, look = found
        body = self._twin.status_of(session, look)
        fault = self._twin.fault_of(Endpoint.STATUS, session.start.reference)
        return _json(200, body) if fault is None else await self._go_wrong(request, fault, body)

    async def stats(self, _request: web.Request) -> web.Response:
        return _json(200, self._twin.stats())

    async def webhooks(self, request: web.Request) -> web.Response:
        return _json(200, {"webhooks": self._twin.told(request.match_info["reference"])})

    async def scripts(self, _request: web.Request) -> web.Response:
        scripts = (*SCRIPTS, *self._options.faults)
        return _json(200, {"scripts": [{"prefix": s.prefix, "what": s.what, "ends": s.ends} for s in scripts]})

    async def reset(self, _request: web.Request) -> web.Response:
        self._twin.reset()
        return _json(200, {})

    async def advance(self, request: web.Request) -> web.Response:
        self._clock.advance(read_advance(request.content_type, await request.read()))
        return _json(200, {"now": self._clock.now()})

    async def _go_wrong(self, request: web.Request, fault: Fault, body: Mapping[str, Any]) -> web.StreamResponse:
        match fault.act:
            case Act.WAIT:
                await self._clock.sleep(fault.wait_s)
                return _json(200, body)
            case Act.ANSWER:
                headers = self._retry_after(fault.retry_after)
                text, kind = fault.body, fault.content_type
                return web.Response(status=fault.status, text=text, content_type=kind, headers=headers)
            case Act.HALF:
                await _send_half(request, body)
        raise _sever(request, reset=fault.act is Act.RESET)

    def _retry_after(self, form: RetryAfter | None) -> dict[str, str]:
        if form is RetryAfter.SECONDS:
            return {"Retry-After": "1"}  # whole seconds: can't follow the sandbox's speed
        if form is RetryAfter.DATE:
            # a date has whole seconds too: two ahead is at least one whole second of waiting
            return {"Retry-After": formatdate(int(self._clock.real_wall()) + 2, usegmt=True)}
        return {}


async def _send_half(request: web.Request, body: Mapping[str, Any]) -> None:
    content = json.dumps(body).encode()
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(content))})
    await response.prepare(request)
    await response.write(content[: len(content) // 2])


def _sever(request: web.Request, *, reset: bool) -> _Severed:
    transport = request.transport
    if transport is not None and reset:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
        transport.abort()
    elif transport is not None:
        transport.close()
    return _Severed()


async def _to_slash(request: web.Request) -> web.Response:
    return _json(301, {"Message": "Moved permanently"}, {"Location": f"{request.path}/"})


@web.middleware
async def _json_errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refused as refused:
        return _refusal(refused)
    except web.HTTPException as error:
        return _of_http(error)


def _json(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> web.Response:
    content = json.dumps(body).encode()
    return web.Response(status=status, body=content, content_type="application/json", charset="utf-8", headers=headers)


def _refusal(refused: Refused) -> web.Response:
    return _json(refused.status, refused.body, refused.headers)


def _of_http(error: web.HTTPException) -> web.Response:
    allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
    return _json(error.status, {"Message": error.reason}, allow)
