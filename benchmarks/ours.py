"""The orchestrator as the benchmarks run it: embedded, everything on, its log written."""

import asyncio
import contextlib
import time
import zlib
from typing import Any

from sqlalchemy import event

from benchmarks.harness import SECRETS, WAIT_S, Measured, Place, Window
from orchestrator import Money, Orchestrator, Payment, load_settings, telemetry
from orchestrator.audit import verify
from orchestrator.cli import loop
from orchestrator.store import migrate

RUN = f"{time.monotonic_ns():x}"
_FIRST_S = WAIT_S / 10
"""Of the wait before the first look, which the floor does without; polls slow down by no more than ten times."""


def settings(place: Place, url: str, **changes: Any) -> Any:
    """Give settings as an operator would leave them: the log at its level, the trail sealed and carried away."""
    policy = {"poll_first_s": _FIRST_S, "poll_factor": WAIT_S / _FIRST_S, "poll_max_s": WAIT_S}
    account = {
        "base_url": url, "client_id": "env:BENCH_CLIENT_ID", "client_secret": "env:BENCH_CLIENT_SECRET",
        "account_configuration_id": "4242", "dial_prefixes": ["+44"], "requests_per_second": 0,
        "policy": {"digital": policy, "phone": policy},
    }  # fmt: skip
    worker = {"concurrency": 400, "claim_batch": 400}
    worker |= changes.pop("worker", {})
    return load_settings(
        environ=SECRETS,
        cwd=place.directory,
        overrides={
            "database_url": place.url, "sealing_key": "env:BENCH_SEALING_KEY",
            "mark_file": str(place.directory / "mark"),
            "seal": {
                "signing_key": "env:BENCH_SIGNING_KEY", "sink": str(place.directory / "sink"), "verify_every_s": 0,
            },
            "worker": worker,
            "accounts": {"bench": account}, "log_format": "json",
        } | changes,
    )  # fmt: skip


def prepare(place: Place) -> None:
    """Bring the database to its schema."""
    asyncio.run(migrate.upgrade(place.url))


def fields_of(number: int | str, channel: str) -> dict[str, str]:
    """Give a payer's fields; no two payers are alike, so that nothing is compiled or known by chance."""
    digits = f"{zlib.crc32(str(number).encode()) % 1000000:06d}"
    fields = {
        "cardholderName": f"A. Payer {digits}", "cardholderPostCode": f"RG1 {digits[:3]}",
        "cardholderAddress": f"{digits} High Street",
    }  # fmt: skip
    if channel == "phone":
        return fields | {"CallGuid": f"call-{RUN}-{number}"}
    return fields | {"CustomerPhoneNumber": f"+447700{digits}"}


async def submit(orchestrator: Orchestrator, number: int | str, channel: str = "digital") -> Payment:
    return await orchestrator.submit(
        account="bench", channel=channel, reference=f"PAID-{RUN}-{number}", amount=Money("12.40", "GBP"),
        fields=fields_of(number, channel),
    )  # fmt: skip


def count_commits(orchestrator: Orchestrator, measured: Measured) -> None:
    """Count SQLite's commits that changed something, by the driver's own count; `bulk.written` does PostgreSQL's."""
    if orchestrator.store.dialect != "sqlite":
        return
    last = 0

    def committed(connection: Any) -> None:
        nonlocal last
        driver = connection.connection.driver_connection
        changes = getattr(driver, "total_changes", 0)
        measured.commits += changes != last
        last = changes

    event.listen(orchestrator.store.database.engines.write.engine, "commit", committed)


async def run(window: Window, place: Place, url: str, measured: Measured) -> None:
    """Keep the window full until all payments have ended."""
    telemetry.configure(level="info", fmt="json")
    begun: dict[str, float] = {}
    lanes: set[asyncio.Task[None]] = set()
    over = asyncio.Event()

    async with Orchestrator(settings(place, url)) as orchestrator:
        count_commits(orchestrator, measured)

        async def one(number: int) -> None:
            at = time.monotonic()
            payment = await submit(orchestrator, number)
            begun[payment.id] = at

        def next_one() -> None:
            number = window.next()
            if number is not None:
                task = asyncio.get_running_loop().create_task(one(number))
                lanes.add(task)
                task.add_done_callback(lanes.discard)

        def heard(name: str, told: Any) -> None:
            if name != "payment.ended":
                return
            window.end()
            if (at := begun.pop(told["payment_id"], None)) is not None:
                measured.latencies.append(time.monotonic() - at)
            next_one()
            if window.over:
                over.set()

        async with orchestrator.worker():
            await asyncio.sleep(0.3)
            loop.settle()  # as the worker's own command does
            window.go.wait()
            measured.start()
            with telemetry.listened(heard):
                for _ in range(window.in_flight // window.workers):
                    next_one()
                while not window.over:  # the last one may end elsewhere
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(over.wait(), 0.02)
            measured.stop()


def check(place: Place, url: str, payments: int) -> None:
    """Insist that every payment was paid, and that the trail proves it."""

    async def work() -> None:
        async with Orchestrator(settings(place, url)) as orchestrator:
            report = await verify(orchestrator.store)
            assert report.findings == (), report.findings[:3]
            assert report.counts["payments"] >= payments, report.counts
            paid = [0]
            async for payment in orchestrator.store.all_payments():
                paid[0] += payment.state.value == "completed"
            assert paid[0] >= payments, paid

    asyncio.run(work())


def unhurried(place: Place, url: str, policy: dict[str, float] | None = None, **changes: Any) -> Any:
    """Give the same settings with the default rhythm of looks, or with deviations from it, for both channels."""
    made = settings(place, url, **changes)
    account = made.accounts["bench"].model_copy(update={"policy": dict.fromkeys(("digital", "phone"), policy or {})})
    return made.model_copy(update={"accounts": {"bench": account}})
