"""
How long a caller waits for us: from `submit` to the host's handler of `handed_over`.

    python -m benchmarks.hand_over_latency --payments 200 --delay-ms 20

Phone payments, one after the other. Every answer of the provider takes so many milliseconds; the
one that a hand-over needs (Start Session; the token is cached by then) is subtracted, so that what
remains is ours. `load` is `idle`: the next is submitted when the one before has ended. Or it is
the number of digital payments that are kept in flight beside them in the same process: the next
is submitted when the one before was handed over. Each run has a new database and a process of its
own. One JSON line for each configuration; figures are medians. Percentiles are those of the phone
payments, all other figures count the digital ones, too.
"""

import argparse
import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from benchmarks import ours
from benchmarks.harness import (
    Measured,
    Place,
    Window,
    asked,
    median_of,
    parser_of,
    place,
    processes,
    servers,
    stub,
    summed_up,
    told,
    verified,
)
from orchestrator import Orchestrator, Payment, telemetry

LOAD = 100
LOOK_S = {"idle": 0.25, "load": 5.0}
"""
Until each of the two looks at a phone payment. A session of the stub is paid at the second look, whether there is a
caller or not: if that came first, the hand-over would be pointless and not be delivered.
"""
SETTLE_S = 1.0
"""Between the load's begin and the first measured payment."""
LIMIT_S = 60.0
"""For one payment to end; beyond it something is broken."""


class Phones:
    """
    Phone payments, one at a time, and when each was handed over.

    Args:
        orchestrator: Has no worker yet: what nobody handles is not delivered.
    """

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator
        self._handed_over: dict[str, float] = {}
        self._moved = asyncio.Event()
        self.ids: list[str] = []
        self.ended = 0
        orchestrator.on("handed_over", self._take)

    def _take(self, payment: Payment) -> None:
        self._handed_over.setdefault(payment.id, time.monotonic())
        self._moved.set()

    def end(self) -> None:
        """Take note that one has ended."""
        self.ended += 1
        self._moved.set()

    async def pay(self) -> float:
        """Submit one; give the seconds until it was handed over."""
        began = time.monotonic()
        payment = await ours.submit(self._orchestrator, f"phone-{len(self.ids)}", "phone")
        self.ids.append(payment.id)
        async with asyncio.timeout(LIMIT_S):
            while payment.id not in self._handed_over:
                assert self.ended < len(self.ids), "it ended before it was handed over: let LOOK_S be longer"
                await self._moved.wait()
                self._moved.clear()
        return self._handed_over[payment.id] - began

    async def all_ended(self) -> None:
        """Wait until each has ended."""
        async with asyncio.timeout(LIMIT_S):
            while self.ended < len(self.ids):
                await asyncio.sleep(0.005)

    async def check(self) -> None:
        """Insist that each was paid."""
        for payment_id in self.ids:
            payment = await self._orchestrator.get(payment_id)
            assert (payment.state.value, payment.outcome) == ("completed", "paid"), payment


class Background:
    """
    Digital payments, always as many in flight.

    Args:
        orchestrator: Has a worker.
        submits: Where the submits run; one that fails ends the run.
    """

    def __init__(self, orchestrator: Orchestrator, submits: asyncio.TaskGroup) -> None:
        self._orchestrator = orchestrator
        self._submits = submits
        self._stopped = False
        self.submitted = self.ended = 0

    def fill(self, in_flight: int) -> None:
        for _ in range(in_flight):
            self._next()

    def end(self) -> None:
        """Take note that one has ended; submit the next."""
        self.ended += 1
        self._next()

    def _next(self) -> None:
        if not self._stopped:
            self.submitted += 1
            self._submits.create_task(self._submit(self.submitted))

    async def _submit(self, number: int) -> None:
        await ours.submit(self._orchestrator, number)

    async def drain(self) -> None:
        """Submit no more; wait until all have ended."""
        self._stopped = True
        async with asyncio.timeout(LIMIT_S):
            while self.ended < self.submitted:
                await asyncio.sleep(0.01)


def settings(where: Place, url: str, look_s: float) -> Any:
    """Give the settings of all benchmarks, but for the rhythm of the looks at phone payments."""
    found = ours.settings(where, url)
    found.accounts["bench"].policy["phone"] |= {"poll_first_s": look_s, "poll_max_s": look_s}
    return found


async def run(window: Window, where: Place, url: str, measured: Measured, *, load: int, delay_s: float) -> None:
    """Time the phone payments of the window."""
    telemetry.configure(level="info", fmt="json")
    async with Orchestrator(settings(where, url, LOOK_S["load" if load else "idle"])) as orchestrator:
        phones = Phones(orchestrator)
        async with orchestrator.worker(), asyncio.TaskGroup() as submits:
            background = Background(orchestrator, submits)

            def heard(name: str, fields: Mapping[str, Any]) -> None:
                if name == "payment.ended" and fields["channel"] == "phone":
                    phones.end()
                elif name == "payment.ended":
                    background.end()

            with telemetry.listened(heard):
                await phones.pay()  # fetches the token
                await phones.all_ended()
                background.fill(load)
                await asyncio.sleep(SETTLE_S)
                window.go.wait()
                measured.start()
                already = background.ended
                for _ in range(window.payments):
                    measured.latencies.append(await phones.pay() - delay_s)
                    if not load:
                        await phones.all_ended()
                measured.stop()
                beside = background.ended - already
                await background.drain()
                await phones.all_ended()
        await phones.check()
    measured.more = {"in_all": len(phones.ids) + background.submitted, "beside": beside}


def run_ours(kind: str, server: Any, url: str, words: argparse.Namespace, load: int) -> dict[str, float]:
    with place(kind, server) as where:
        ours.prepare(where)
        before = asked(url)
        engine = partial(run, load=load, delay_s=words.delay_ms / 1000)
        found = processes(engine, where, url, payments=words.payments, in_flight=load or 1)
        more = found[0].more
        verified(before, asked(url), more["in_all"])
        ours.check(where, url, more["in_all"])
        figures = summed_up(found, words.payments + more["beside"])
        del figures["commits_per_payment"]  # the warm-up's would be among them
        return figures


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--payments", type=int, default=200)
    parser.add_argument("--delay-ms", type=float, default=20)
    parser.add_argument("--load", type=int, default=LOAD)
    words = parser.parse_args()
    with stub(delay_ms=words.delay_ms) as url, servers(words) as databases:
        for kind, server in databases:
            for load in (0, words.load):
                middle = median_of([run_ours(kind, server, url, words, load) for _ in range(words.runs)])
                more = {"load": load or "idle", "provider_ms": words.delay_ms}
                told("hand_over_latency", kind, load or 1, 1, middle, **more)


if __name__ == "__main__":
    main()
