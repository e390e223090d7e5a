"""Workers that share a database: hints between processes, none of them, and what one takes while others live."""

from pathlib import Path

import pytest

from orchestrator import Orchestrator, Settings
from orchestrator.claim import Claims, Rhythm
from orchestrator.clock import SystemClock
from orchestrator.privacy.secret import Secret
from orchestrator.sandbox import Sandbox
from tests.integration.flow.troubled import Fault, Troubled
from tests.integration.store.conftest import new_schema, postgresql_host, postgresql_url
from tests.support.flow import assert_clean, settings_for, submit

__all__ = ["postgresql_host"]
HARDLY_POLLS = {"poll_interval_s": 3000, "claim_trust_s": 50, "claim_life_s": 60}
KEY = Secret("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")


async def shared(sandbox: Sandbox, directory: Path, host: str, driver: str = "asyncpg") -> Settings:
    url = postgresql_url(host, await new_schema(host), driver)
    settings = settings_for(sandbox.base_url, directory, worker=HARDLY_POLLS)
    return settings.model_copy(update={"database_url": url, "sealing_key": KEY})


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_worker_that_hardly_polls_hears_of_what_another_process_submits(
    sandbox: Sandbox, tmp_path: Path, postgresql_host: str, driver: str
) -> None:
    settings = await shared(sandbox, tmp_path, postgresql_host, driver)
    async with Orchestrator(settings) as host, Orchestrator(settings) as other:
        other.on("handed_over", lambda _payment: None)
        async with other.worker():
            states = []
            for number, channel in enumerate(("digital", "phone", "digital")):
                payment = await submit(host, f"PAID-{number}", channel)
                states.append((await host.wait(payment.id, timeout=30)).state)
        await assert_clean(host)

    assert states == ["completed"] * 3


async def test_a_worker_without_hints_finds_the_same_by_polling(orchestrator: Orchestrator) -> None:
    troubled = Troubled(orchestrator.store, [Fault("listen", error=RuntimeError)])
    orchestrator.store = troubled  # type: ignore[assignment]
    async with orchestrator.worker():
        ended = await orchestrator.wait((await submit(orchestrator, "PAID-1", "phone")).id, timeout=30)

    assert ended.state == "completed"
    assert troubled.calls["listen"] == 1


@pytest.mark.parametrize(
    ("room", "others", "taken"),
    [(100, 0, 100), (100, 3, 25), (7, 3, 1), (1, 3, 1), (2, 1, 1), (0, 0, 0), (0, 3, 0), (-1, 3, 0)],
)
def test_a_worker_takes_its_share_of_the_room_and_at_least_one(room: int, others: int, taken: int) -> None:
    claims = Claims(None, SystemClock(), Rhythm(), accounts=(), new_id=str, origin="", version="")  # type: ignore[arg-type]
    claims.others = others

    assert claims.share(room) == taken


async def test_a_worker_learns_at_each_heartbeat_how_many_others_live(
    sandbox: Sandbox, orchestrator: Orchestrator
) -> None:
    store, clock = orchestrator.store, SystemClock()

    async def begun(name: str) -> Claims:
        claims = Claims(
            store, clock, Rhythm(), accounts=("test",), new_id=lambda: name, origin=name, version="1"
        )  # fmt: skip
        await claims.begin()
        return claims

    one, two, three = [await begun(name) for name in ("w1", "w2", "w3")]
    assert await one.beat()
    assert one.others == 2
    await two.end()
    await three.end()
    assert await one.beat()
    assert one.others == 0
