"""A worker in a process of its own, to be killed: `python worker_process.py BASE_URL DIRECTORY`."""

import asyncio
import sys
from pathlib import Path

from orchestrator import Orchestrator, Payment, Settings
from tests.support.flow import DIGITAL_POLICY, PHONE_POLICY, settings_for

QUICK = {"heartbeat_s": 0.1, "claim_trust_s": 1.5, "claim_life_s": 1.8, "poll_interval_s": 0.02, "concurrency": 8}


def settings(base_url: str, directory: Path) -> Settings:
    # The callers wait on the line for two minutes here: ten restarts take longer than the usual 20 s.
    policy = {"phone": PHONE_POLICY | {"start_s": 120}, "digital": DIGITAL_POLICY}
    return settings_for(base_url, directory, worker=QUICK, start_deadline_s=1.4, policy=policy)


async def main(base_url: str, directory: Path) -> None:
    async with Orchestrator(settings(base_url, directory)) as orchestrator:
        orchestrator.on("handed_over", take)
        await orchestrator.new_worker().run(until_idle=True)


async def take(payment: Payment) -> None:
    assert payment.number is not None


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
