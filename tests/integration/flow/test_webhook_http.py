"""The twin sends webhooks over real HTTP to the service, and sends them again until they are taken."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator import HoldReason, Orchestrator, Payment, State, Unavailable
from orchestrator.health import Health
from orchestrator.sandbox import Sandbox, SandboxOptions
from orchestrator.service import create_app, serve
from orchestrator.webhook import Heard
from tests.support.flow import assert_clean, settings_for, submit, triggers

TOKEN = "t0ken-of-the-providers-webhooks"
NEVER = {"poll_first_s": 5000.0, "poll_max_s": 5000.0, "poll_retry_s": 5000.0, "absent_grace_s": 0.0}


@dataclass
class Served:
    """The orchestrator behind the service, once there is one; until `error` is empty it fails with it."""

    host: Orchestrator | None = None
    error: Exception | None = None

    async def webhook(self, account: str, body: bytes) -> Heard:
        if self.error is not None:
            raise self.error
        assert self.host is not None
        return await self.host.webhook(account, body)

    async def deny_access(self, door: str, sender: str, count: int) -> None:
        assert self.host is not None
        await self.host.deny_access(door, sender, count)

    async def health(self) -> Health:
        assert self.host is not None
        return await self.host.health()


@dataclass
class World:
    host: Orchestrator
    sandbox: Sandbox
    served: Served
    url: str

    async def brought(self, reference: str) -> Payment:
        """Start a digital payment; nobody looks at it afterwards."""
        payment = await submit(self.host, reference, "digital")
        async with self.host.worker():
            await self.host.wait(payment.id, until="handed_over", timeout=20)
        return payment

    async def answered(self, count: int) -> dict[str, int]:
        await until(lambda: sum(self.sandbox.webhook_answers().values()) >= count)
        return self.sandbox.webhook_answers()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def opened(directory: Path, *, token: str = TOKEN, **policy: Any) -> AsyncIterator[World]:
    served, stop = Served(), asyncio.Event()
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    app = create_app(served, token=TOKEN)
    running = asyncio.create_task(
        serve(app, host="127.0.0.1", port=0, stop=stop, ready=lambda host, port: ready.set_result(f"{host}:{port}"))
    )
    url = f"http://{await ready}"
    options = SandboxOptions(speed=20, webhook_url=f"{url}/webhooks/test", webhook_token=token)
    terms = {"digital": NEVER | policy}
    async with (
        Sandbox(options) as sandbox,
        Orchestrator(settings_for(sandbox.base_url, directory, policy=terms)) as host,
    ):
        served.host = host
        yield World(host, sandbox, served, url)
        stop.set()
        await running


@pytest.mark.parametrize(
    ("reference", "times"), [("PAID-1", 1), ("TOLDTWICE-1", 2), ("OVERTAKEN-1", 2), ("DECLINED-1", 1)]
)
async def test_a_payment_ends_by_its_webhook_alone_however_it_comes(reference: str, times: int, tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        payment = await world.brought(reference)

        assert await world.answered(times) == {"200": times}

        ended = await world.host.get(payment.id)
        assert ended.outcome == ("declined" if reference == "DECLINED-1" else "paid")
        assert (await triggers(world.host, payment))[-1] in ("complete", "fail")
        await assert_clean(world.host)


@pytest.mark.parametrize("policy", ["hold", "trust"])
async def test_a_webhook_that_comes_too_late_to_be_confirmed_is_doubt_or_proof(policy: str, tmp_path: Path) -> None:
    async with opened(tmp_path, webhook_alone=policy) as world:
        payment = await world.brought("TOLDLATE-1")
        world.sandbox.advance(21 * 60)

        assert await world.answered(1) == {"200": 1}

        now = await world.host.get(payment.id)
        trusted = policy == "trust"
        assert now.state is (State.COMPLETED if trusted else State.AWAITING_PAYMENT)
        assert now.hold == (None if trusted else HoldReason.INDETERMINATE)
        await assert_clean(world.host)


@pytest.mark.parametrize(
    ("error", "status"), [(Unavailable("not now"), "503"), (RuntimeError("a defect"), "500")], ids=["trouble", "defect"]
)
async def test_what_is_not_taken_is_sent_again(error: Exception, status: str, tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        world.served.error = error
        payment = await world.brought("PAID-1")
        assert await world.answered(1) == {status: 1}
        version = (await world.host.get(payment.id)).version

        world.served.error = None
        world.sandbox.advance(180)

        assert await world.answered(2) == {status: 1, "200": 1}
        now = await world.host.get(payment.id)
        assert (now.state, now.version) == (State.COMPLETED, version + 1)


async def test_a_sender_with_a_wrong_token_is_told_nothing_and_noted_once(tmp_path: Path) -> None:
    async with opened(tmp_path, token="a-token-of-somebody-else") as world:
        payment = await world.brought("PAID-1")
        await world.answered(1)
        world.sandbox.advance(180)

        assert await world.answered(2) == {"401": 2}

        assert not (await world.host.get(payment.id)).ended
        notes = [each async for each in world.host.store.all_entries() if each.kind == "access.denied"]
        assert [(each.result, each.about) for each in notes] == [("failure", "webhooks")]
        assert '"sender":"127.0.0.1"' in notes[0].body
        await assert_clean(world.host)


async def test_a_body_that_does_not_come_to_its_end_leaves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        host, port = world.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /webhooks/test HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 50\r\n\r\n"
        writer.write(head.encode() + b'{"sessionGuid":')
        await writer.drain()
        writer.close()
        await reader.read()

        async with httpx.AsyncClient(trust_env=False) as client:
            health = await client.get(f"{world.url}/health")

        assert (health.status_code, health.json()) == (200, {"health": "green", "findings": []})
