"""A process that dies by SIGKILL loses nothing that it was told is written, and leaves no half of anything."""

import asyncio
import sys
from pathlib import Path

from orchestrator.domain.entry import body_hash
from orchestrator.store import SqlStore

ROOT = Path(__file__).parents[3]
WRITER = """
import asyncio, sys
from orchestrator.store import SqlStore
from tests.integration.store.makers import PAID, birth, outside

async def one(store, number):
    payment = await store.submit(birth(f"KILL-{number}"))
    for step in PAID:
        payment = await store.record(outside(payment, step))
        print(payment.id, payment.version, payment.head.hex(), flush=True)

async def main():
    async with SqlStore(sys.argv[1]) as store:
        await asyncio.gather(*(one(store, number) for number in range(400)))

asyncio.run(main())
"""


async def test_what_was_acknowledged_is_there_and_every_chain_is_whole(url: str) -> None:
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, url, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert writer.stdout is not None
    lines = [(await writer.stdout.readline()).decode() for _ in range(150)]
    writer.kill()
    lines += (await writer.stdout.read()).decode().splitlines(keepends=True)
    assert await writer.wait() == -9
    told = [line.split() for line in lines if line.endswith("\n")]
    assert len(told) >= 150
    async with SqlStore(url) as store:
        heads = {(entry.chain_id, entry.seq): entry async for entry in store.all_entries()}
        for payment_id, version, head in told:
            assert heads[payment_id, int(version)].hash.hex() == head
        payments = [payment async for payment in store.all_payments()]
        assert sum(payment.version for payment in payments) == len(heads)
        for payment in payments:
            newest = heads[payment.id, payment.version]
            assert (newest.hash, newest.to_state) == (payment.head, payment.state)
        assert all(body_hash(entry.body) == entry.hash for entry in heads.values())
