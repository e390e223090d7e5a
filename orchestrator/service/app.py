"""
The routes: webhooks in, health and metrics out.

Owns who may come in and what an error is answered with. Decides nothing: the
orchestrator does. No page describes the routes to whoever comes along, no answer
repeats what was sent, and what is logged are words, never a body. Next: `run`.
"""

import asyncio
import hmac
from collections.abc import Callable
from typing import Annotated, Protocol

from fastapi import FastAPI, Header, Request, Response
from fastapi.responses import JSONResponse

from orchestrator.domain.errors import ConfigurationError, Fenced, InvalidInput, Unavailable
from orchestrator.domain.hearing import MAX_BYTES
from orchestrator.health import Colour, Health
from orchestrator.service.denied import Denials
from orchestrator.telemetry import emit
from orchestrator.webhook import Heard

READ_S = 10
"""How long a body may take to come."""
RETRY_S = 60
"""What a sender is told to wait: the provider comes again every few minutes anyway."""


class Served(Protocol):
    """What is served; an `Orchestrator`."""

    async def webhook(self, account: str, body: bytes) -> Heard:
        """Take a webhook."""
        ...

    async def deny_access(self, door: str, sender: str, count: int) -> None:
        """Write down that somebody came without a valid token."""
        ...

    async def health(self) -> Health:
        """Sum up what a person should know."""
        ...


def create_app(served: Served, *, token: str, metrics: Callable[[], tuple[bytes, str]] | None = None) -> FastAPI:
    """
    Put the routes together.

    Args:
        served: Who does the work.
        token: What webhooks and metrics must carry as `Authorization: Bearer ...`.
        metrics: Gives the metrics' text and content type.

    Returns:
        An ASGI application with `POST /webhooks/{account}`, `GET /health` and `GET /metrics`; await its
        `state.denials.close()` at the end.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.denials = denials = Denials(served.deny_access)
    Authorization = Annotated[str | None, Header()]  # noqa: N806 - a type

    @app.post("/webhooks/{account}")
    async def webhook(account: str, request: Request, authorization: Authorization = None) -> Response:
        if not _admitted(authorization, token):
            emit("webhook.refused", reason="unauthorized", origin=_sender(request))
            return await _stranger(denials, "webhooks", request)
        body = await _body(request)
        return body if isinstance(body, Response) else await _taken(served, account, body)

    @app.get("/health")
    async def health() -> Response:
        found = await served.health()
        status = 503 if found.colour is Colour.RED else 200
        return JSONResponse(found.told(), status)

    @app.get("/metrics")
    async def scraped(request: Request, authorization: Authorization = None) -> Response:
        if not _admitted(authorization, token):
            emit("access.denied", reason="metrics", origin=_sender(request))
            return await _stranger(denials, "metrics", request)
        if metrics is None:
            return _told(404, "no metrics here")
        text, kind = metrics()
        return Response(text, media_type=kind)

    return app


def _admitted(authorization: str | None, token: str) -> bool:
    scheme, _, given = (authorization or "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


def _sender(request: Request) -> str:
    return request.client.host if request.client else "unknown"


async def _stranger(denials: Denials, door: str, request: Request) -> Response:
    """Refuse, and write it down: somebody tries to tell us that money moved, or to look."""
    await denials.deny(door, _sender(request))
    return _told(401, "no valid token", headers={"WWW-Authenticate": "Bearer"})


async def _body(request: Request) -> bytes | Response:
    """Read the body as far as it may go, however long it says it is; or give the refusal."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(READ_S):
            async for part in request.stream():
                size += len(part)
                if size > MAX_BYTES:
                    return _told(413, f"the body is longer than {MAX_BYTES} bytes")
                parts.append(part)
    except Exception:  # noqa: BLE001 - too slow, or the sender has gone, for which the framework has its own
        return _told(408, f"the body did not come within {READ_S} s", "send it again")
    return b"".join(parts)


async def _taken(served: Served, account: str, body: bytes) -> Response:
    try:
        heard = await served.webhook(account, body)
    except ConfigurationError:
        return _told(404, "no such account")
    except InvalidInput as error:
        return _told(400, f"{error.field}: {error.problem}", error.fix)
    except (Unavailable, Fenced):
        return _told(503, "not now", "send it again", {"Retry-After": str(RETRY_S)})
    except Exception as error:  # noqa: BLE001 - the last line of defence: the sender comes again, the log has no values
        emit("webhook.failed", account=account, error=error)
        return _told(500, "a defect of ours", "send it again", {"Retry-After": str(RETRY_S)})
    payment = heard.payment.id if heard.payment else None
    return JSONResponse({"result": heard.result.value, "payment": payment})


def _told(status: int, problem: str, fix: str = "", headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"problem": problem, "fix": fix}, status, headers)
