"""A payment that kills every process that drives it is held for a person, and all others go on."""

import signal
from pathlib import Path

import pytest

from orchestrator import HoldReason, Orchestrator, Query, State
from tests.crash.fleet import fleet, submit_all, until
from tests.crash.forks import Forks
from tests.crash.poison import POISON
from tests.support.flow import assert_clean, submit

MAX_CLAIMS = 5
# Lives are short: each ends with a claim that lapses.
BRIEF = {"heartbeat_s": 0.15, "claim_trust_s": 0.9, "claim_life_s": 1.2, "poll_interval_s": 0.05}


@pytest.mark.timeout(120)
async def test_a_poison_payment_is_held_after_so_many_claims_and_takes_nobody_along(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'orchestrator.db'}"
    async with fleet(tmp_path, url, speed=4, start_deadline_s=0.8, **BRIEF) as made:
        text = made.config.read_text().replace("orchestrator.cli.demo_handlers", "tests.crash.poison")
        made.config.write_text(text.replace("poll_first_s", f"max_claims = {MAX_CLAIMS}\npoll_first_s"))
        async with Orchestrator(made.settings) as orchestrator, Forks() as forks:
            # Sessions that outlive all of it: their looks write nothing that would count as progress.
            await submit_all(orchestrator, [f"NEVER-{number}" for number in range(12)])

            async def work():
                log = made.directory / "worker.log"
                return await forks.fork("tests.crash.forks:work", log, config=str(made.config))

            worker, lives = await work(), 1
            await until(lambda: made.count("select count(*) = 12 from payment where state = 'awaiting_payment'"))
            poison = await submit(orchestrator, POISON, "digital")
            last = await submit(orchestrator, "PAID-LAST", "phone", 99)
            while not await held_or_dead(orchestrator, poison.id, worker) or not worker.living:
                if not worker.living:
                    assert await worker.ended() == -signal.SIGKILL
                    worker = await work()
                    lives += 1
                    assert lives <= MAX_CLAIMS + 3
                await until(lambda worker=worker: held_or_dead(orchestrator, poison.id, worker))

            held = await orchestrator.get(poison.id)
            assert (held.hold, held.session_id, held.sessions) == (HoldReason.POISON, None, 0)
            assert MAX_CLAIMS <= lives - 1 <= MAX_CLAIMS + 1
            assert (await orchestrator.wait(last.id, timeout=30)).outcome in ("paid", "provider_unavailable")
            waiting = [one for one in await orchestrator.list(Query(limit=50)) if one.reference.startswith("NEVER")]
            assert {(one.state, one.hold) for one in waiting} == {(State.AWAITING_PAYMENT, None)}
            assert max(one.claim_no for one in waiting) > MAX_CLAIMS, "they were claimed as often as the poison was"
            vain = "select count(*) = 0 from payment where claim_no - progress_claim >= 3 and reference like 'NEVER%'"
            await until(lambda: made.count(vain), 30)
            worker.tell(signal.SIGTERM)
            assert await worker.ended() == 0
            await assert_clean(orchestrator)


async def held_or_dead(orchestrator: Orchestrator, payment_id: str, worker: object) -> bool:
    return not worker.living or (await orchestrator.get(payment_id)).hold is not None
