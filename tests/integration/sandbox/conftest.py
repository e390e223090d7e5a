"""A sandbox whose time stands still unless it is advanced, and a caller that speaks to it over loopback HTTP."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from orchestrator.sandbox import Sandbox, SandboxOptions

WALL = 1_800_000_000.0  # 2027-01-15T08:00:00Z
TOKEN_FORM = {
    "grant_type": "client_credentials",
    "scope": "globalpci",
    "client_id": "sandbox-client",
    "client_secret": "sandbox-secret",
}


class Caller:
    """What the orchestrator's side of the wire looks like, in a few words."""

    def __init__(self, sandbox: Sandbox, http: httpx.AsyncClient) -> None:
        self.sandbox = sandbox
        self.http = http

    async def authorize(self, **form: str) -> httpx.Response:
        response = await self.http.post("/auth/connect/token", data=TOKEN_FORM | form)
        if response.status_code == 200:
            self.http.headers["Authorization"] = f"Bearer {response.json()['access_token']}"
        return response

    async def start(self, reference: str, channel: str = "phone", **changes: Any) -> httpx.Response:
        path, body = start_request(reference, channel)
        return await self.http.post(path, json=body | changes)

    async def started(self, reference: str, channel: str = "phone") -> str:
        response = await self.start(reference, channel)
        assert response.status_code == 200, response.text
        return response.json()["sessionId"]

    async def status(self, session_id: str) -> httpx.Response:
        return await self.http.get(f"/globalpci/v1/session/{session_id}")

    async def until_made(self, reference: str) -> None:
        while self.sessions_of(reference) == 0:
            await asyncio.sleep(0)

    def sessions_of(self, reference: str) -> int:
        return self.sandbox.stats()["sessions_per_reference"].get(reference, 0)


def start_request(reference: str, channel: str = "phone") -> tuple[str, dict[str, Any]]:
    payment = {"cardholderName": "A. Payer", "merchantTxnRef": reference, "amount": "12.40"}
    if channel == "digital":
        payment = {"CustomerPhoneNumber": "+447700900123"} | payment
        return "/globalpci/v1/digitalselfservicesession/", {"AccountConfigurationId": "4242", "PaymentData": payment}
    return (
        "/globalpci/v1/selfservicesession/",
        {"AccountConfigurationId": "4242", "CallGuid": "call-1", "PaymentData": payment},
    )


Run = Callable[..., Any]


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    """Start sandboxes with further options; all stop at the end of the test."""
    async with AsyncExitStack() as stack:

        async def start(*, clock: Callable[[], float] = lambda: 0.0, **options: Any) -> Caller:
            sandbox = Sandbox(SandboxOptions(**options), clock=clock, wall=lambda: WALL)
            await stack.enter_async_context(sandbox)
            http = httpx.AsyncClient(base_url=sandbox.base_url, verify=False, trust_env=False, timeout=20)
            return Caller(sandbox, await stack.enter_async_context(http))

        yield start


@pytest.fixture
async def stranger(run: Run) -> Caller:
    """A caller without a token."""
    return await run()


@pytest.fixture
async def caller(stranger: Caller) -> Caller:
    """A caller with a good token."""
    assert (await stranger.authorize()).status_code == 200
    return stranger
