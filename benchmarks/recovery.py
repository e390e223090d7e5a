"""
How long the payments of a killed worker stand still, and whether any is started twice.

    python -m benchmarks.recovery --in-flight 500 --in-flight 20000

Submits digital payments, lets a worker drive them, kills it (SIGKILL) when half of them have
started their sessions, and starts another one at once: then some wait for their payer, some are in
the midst of a start, and some have not been begun. Rhythm and claims are the defaults: claims of the
dead worker live for 8 s. What nobody had claimed has been due for longest and is driven first, so with
many of those the times tell the engine's speed, too; `--begun 0.95` leaves few. Measured from the kill:

- `reaped_s`: no payment is the dead worker's any more;

- `driven_again_s`: and the living worker has claimed every payment that can go on;
- `looked_again_s`: and it has looked at every session that was known then;
- `ended_s`: all have ended or are held, each after as many looks as its session takes.

`ratio` is that of `driven_again_s` to the claims' life and one second. Held for a person are the
payments whose start was cut in its midst, and no others: no session is started a second time. One
JSON line for each configuration; figures are medians of the runs, `most` the longest `driven_again_s`.
"""

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Any

from benchmarks import ours
from benchmarks.bulk import connected
from benchmarks.harness import Place, apart, asked, median_of, parser_of, place, servers, stub, told
from orchestrator import Orchestrator, telemetry
from orchestrator.audit import verify
from orchestrator.settings import WorkerSettings

LANES = 100
LIMIT_S = WorkerSettings().claim_life_s + 1
PATIENCE_S = 600
EVERY_S = 0.05
SETTLED_S = 0.3
"""What the dead worker has sent last is with database and provider by then, and its successor still begins."""
VERIFIED = 1000
"""Trails of more payments are not verified here: `benchmarks.verify` does, and it takes its time."""

_UNENDED = "state not in ('completed', 'failed') and hold is null"
"""The words of the index: asking must cost the worker little."""
_DEAD = "select exists (select 1 from payment where claimed_by = '{dead}')"
_FREE = f"select exists (select 1 from payment where {_UNENDED} and claimed_by is null)"
_SESSIONS = "select count(*) from payment where session_id is not null"
_OPEN = f"select exists (select 1 from payment where {_UNENDED})"


async def work(where: Place, url: str) -> None:
    """Be a worker until SIGTERM."""
    telemetry.configure(level="info", fmt="json")
    async with Orchestrator(ours.unhurried(where, url)) as orchestrator:
        worker = orchestrator.new_worker()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        await worker.run()


async def submitted(where: Place, url: str, payments: int) -> None:
    numbers = iter(range(payments))
    async with Orchestrator(ours.unhurried(where, url)) as orchestrator:

        async def lane() -> None:
            for number in numbers:
                await ours.submit(orchestrator, f"{where.directory.name}-{number}")

        await asyncio.gather(*(lane() for _ in range(LANES)))


def until(so: Callable[[], bool]) -> None:
    """Wait until it is so."""
    last = time.monotonic() + PATIENCE_S
    while not so():
        assert time.monotonic() < last, "it takes too long"
        time.sleep(EVERY_S)


def found(database: Any, question: str) -> Any:
    return database.execute(question).fetchone()[0]


def at_the_kill(database: Any, url: str, dead: str) -> dict[str, float]:
    """Tell in what phases the payments were; the provider tells from here on whom nobody has looked at since."""
    count = "select count(*) from payment where "
    starts = asked(f"{url}/mark")["starts"]
    return {
        "claimed": found(database, f"{count} claimed_by = '{dead}'"),
        "awaiting": found(database, f"{count} state = 'awaiting_payment'"),
        "open_intents": found(database, f"{count} open_attempt is not null"),
        "answers_lost": starts - found(database, _SESSIONS),
        "ended_before": found(database, f"{count} state in ('completed', 'failed')"),
    }


def recovered(where: Place, url: str, in_flight: int, begun: float) -> dict[str, float]:
    """Kill a worker when such a share has a session; measure until the next one is done with all of them."""
    ours.prepare(where)
    asyncio.run(submitted(where, url, in_flight))
    first = apart(work, where, url)
    with connected(where) as database:
        until(lambda: found(database, _SESSIONS) >= in_flight * begun)
        dead = found(database, "select id from worker")
        first.kill()
        killed = time.monotonic()
        second = apart(work, where, url)
        first.join()
        time.sleep(SETTLED_S)
        figures = at_the_kill(database, url, dead)
        for name, so in (
            ("reaped_s", lambda: not found(database, _DEAD.format(dead=dead))),
            ("driven_again_s", lambda: not found(database, _FREE)),
            ("looked_again_s", lambda: asked(url)["unlooked"] <= figures["answers_lost"]),
            ("ended_s", lambda: not found(database, _OPEN)),
        ):
            until(so)
            figures[name] = time.monotonic() - killed
        second.terminate()
        second.join()
        assert second.exitcode == 0, second.exitcode
        return figures | checked(database, where, url, in_flight, figures["open_intents"])


def checked(database: Any, where: Place, url: str, in_flight: int, open_intents: float) -> dict[str, float]:
    """Insist that nothing was started twice, and that nothing is held but what was cut in the midst of its start."""
    count, after = "select count(*) from payment where ", asked(url)
    paid = found(database, f"{count} state = 'completed' and hold is null")
    held = found(database, f"{count} state = 'authorized' and hold = 'session_unknown'")
    assert paid + held == in_flight, (paid, held)
    assert held <= open_intents, (held, open_intents)
    assert after["duplicates"] == 0, after
    assert paid <= after["starts"] <= in_flight, after
    if in_flight <= VERIFIED:
        asyncio.run(verified(where, url, in_flight))
    return {"held": held, "duplicate_digital_sessions": after["duplicates"]}


async def verified(where: Place, url: str, payments: int) -> None:
    async with Orchestrator(ours.unhurried(where, url)) as orchestrator:
        report = await verify(orchestrator.store)
        assert report.findings == (), report.findings[:3]
        assert report.counts["payments"] == payments, report.counts


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--in-flight", type=int, action="append")
    parser.add_argument("--begun", type=float, default=0.5, help="the share of payments with a session at the kill")
    parser.add_argument("--looks", type=int, default=4, help="a session is finished at this look")
    parser.add_argument("--delay-ms", type=float, default=20, help="what every answer of the provider takes")
    words = parser.parse_args()
    with servers(words) as databases:
        for kind, server in databases:
            for in_flight in words.in_flight or (500, 20_000):
                runs = []
                for _ in range(words.runs):
                    with stub(words.looks, words.delay_ms) as url, place(kind, server) as where:
                        runs.append(recovered(where, url, in_flight, words.begun))
                figures = median_of(runs)
                most = max(run["driven_again_s"] for run in runs)
                held = max(run["held"] for run in runs)
                told("recovery", kind, in_flight, 1, figures | {"held": held}, most=most,
                     ratio=figures["driven_again_s"] / LIMIT_S, to=f"{LIMIT_S:g} s")  # fmt: skip


if __name__ == "__main__":
    main()
