"""The same wish two hundred times at once, from two processes' point of view: one effect."""

import asyncio
import contextlib
import shutil
from pathlib import Path

import pytest

from orchestrator import Orchestrator, State
from orchestrator.sandbox import Sandbox, SandboxOptions, Script
from orchestrator.sandbox.script import Gateway, Step
from orchestrator.webhook import Result
from tests.crash.cells import settings_of, write_key
from tests.integration.store.conftest import new_schema, postgresql_url, sqlite_template
from tests.support.flow import assert_clean, submit, triggers
from tests.support.quality import row

__all__ = ["sqlite_template"]

MANY = 200
HOUR = Script("HOUR", "the payer takes an hour", "paid", (Step(0, "Created"), Step(3600, "Finished")),
              gateway=Gateway("ACCEPT", ("100",)))  # fmt: skip


async def brought(host: Orchestrator, sandbox: Sandbox) -> bytes:
    """Start a payment, and give the webhook of its end while nobody looks for it."""
    payment = await submit(host, "HOUR-2", "digital")
    async with host.worker():
        await host.wait(payment.id, until="handed_over", timeout=30)
    sandbox.advance(3600)
    return sandbox.webhooks("HOUR-2")[0]


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
async def test_two_hundred_equal_wishes_at_once_have_one_effect_each(
    dialect: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if dialect == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "orchestrator.db")
        url = f"sqlite:///{tmp_path / 'orchestrator.db'}"
    else:
        host = request.getfixturevalue("postgresql_host")
        url = postgresql_url(host, await new_schema(host), "asyncpg")
    write_key(tmp_path)
    async with contextlib.AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox(SandboxOptions(faults=(HOUR,), token_life_s=7200)))
        settings = settings_of(tmp_path, url, sandbox.base_url, ["test"])
        one, other = [await stack.enter_async_context(Orchestrator(settings)) for _ in range(2)]
        both = [one if number % 2 else other for number in range(MANY)]

        made = await asyncio.gather(*(submit(each, "NEVER-1", "phone") for each in both))
        payment = made[0]
        async with one.worker():
            await one.wait(payment.id, until="handed_over", timeout=30)
        acknowledged = await asyncio.gather(*(each.acknowledge(payment.id) for each in both))
        cancelled = await asyncio.gather(*(each.cancel(payment.id) for each in both))
        told = await brought(one, sandbox)
        heard = await asyncio.gather(*(each.webhook("test", told) for each in both))
        recorded = [each.result for each in heard].count(Result.RECORDED)
        async with one.worker():
            ended = await one.wait(payment.id, timeout=30)
        path = await triggers(one, payment)

        row(
            f"{MANY} equal submits, acknowledgements, cancels and webhooks at once, {dialect}", "one effect each",
            f"{path.count('submit')} birth, {path.count('acknowledge')} acknowledgement, {path.count('cancel')} cancel,"
            f" 1 session, {recorded} webhook",
        )  # fmt: skip
        assert {each.id for each in made} == {payment.id}
        assert all(each.acknowledged_at == acknowledged[0].acknowledged_at for each in acknowledged)
        assert all(each.cancel_requested for each in cancelled)
        assert path == ["submit", "authorize", "request", "start_session", "hand_over", "acknowledge", "cancel", "fail"]
        assert (ended.state, ended.outcome) == (State.FAILED, "cancelled_by_host")
        assert sandbox.stats()["session_calls"] == 2  # one of each payment
        assert recorded == 1
        await assert_clean(one)
