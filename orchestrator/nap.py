"""
To sleep on a clock, or until stirred: how every loop of a worker and of a budget waits.

Owns nothing else. Next: `rounds`.
"""

import asyncio

from orchestrator.ports import Clock


async def nap(clock: Clock, seconds: float, stir: asyncio.Event) -> None:
    """Sleep so long, or until the event is set; it is left as it is."""
    sleep = asyncio.ensure_future(clock.sleep(seconds))
    stirred = asyncio.ensure_future(stir.wait())
    try:
        await asyncio.wait({sleep, stirred}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        sleep.cancel()
        stirred.cancel()
