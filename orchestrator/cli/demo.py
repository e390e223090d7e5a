"""
The demo: payments of every kind, a worker killed in the middle, a trail that verifies.

Everything it needs it brings along: the provider's twin and two workers as
processes of its own, a new SQLite file, or the database of
ORCHESTRATOR_DATABASE_URL. It talks to the payments through the host API, like
any host. Its exit status is 0 only if every promise of `demo_check` was kept.
Next: `demo_view`.
"""

import asyncio
import base64
import os
import secrets
import signal
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator import composition, sealing, telemetry
from orchestrator.audit.verify import Report, verify
from orchestrator.cli.audit import evidence_of, print_report
from orchestrator.cli.children import Children, environment, sandbox_stats
from orchestrator.cli.demo_check import Told, promises, taken_over
from orchestrator.cli.demo_script import ACCOUNT, FEWEST, MOST, PARTS, Act, Cast, cast
from orchestrator.cli.demo_view import View, outcome_table
from orchestrator.cli.exits import FINDINGS
from orchestrator.cli.show import console, timeline_table
from orchestrator.clock import SystemClock
from orchestrator.domain.entry import Context
from orchestrator.domain.errors import ConfigurationError, InvalidInput
from orchestrator.domain.payment import Payment, State
from orchestrator.orchestrator import VERSION, Orchestrator
from orchestrator.privacy.signing import new_key_line
from orchestrator.records import Query
from orchestrator.sandbox import SandboxOptions
from orchestrator.sandbox.bodies import FALLBACK_NUMBER
from orchestrator.settings import load_settings
from orchestrator.upgrading import upgrade_database

TICK_S = 0.2
DEMO = "cli:demo"
PATIENCE_S = 50.0
"""After so long the demo stops waiting and says what is missing."""

ENDED_BEFORE_KILL, CLAIMED_AT_KILL = 3, 2

_SETTINGS = """\
# Made by `orchestrator demo`; `orchestrator --config THIS list` looks at what it left.
database_url = "sqlite:///{database}"
sealing_key = "file:sealing-key"

[seal]
signing_key = "file:signing-key"
sink = "trail.seal"
every_s = 2

[worker]
handlers = "orchestrator.cli.demo_handlers:register"
# Shorter than a real worker's, so that the second one needn't wait long for the claims of the first.
heartbeat_s = 0.3
claim_trust_s = 2.5
claim_life_s = 3.0
poll_interval_s = 0.1

[accounts.{account}]
base_url = "{url}"
client_id = "{client_id}"
client_secret = "file:client-secret"
account_configuration_id = "{configuration}"
dial_prefixes = ["{prefix}"]
start_deadline_s = 2.0
requests_per_second = 0

[accounts.{account}.policy.phone]
start_s = 60
hand_over_s = 60
poll_first_s = 0.3
poll_max_s = 1.0
poll_retry_s = 1.0

[accounts.{account}.policy.digital]
collecting_s = 3
poll_first_s = 0.3
poll_max_s = 1.0
poll_retry_s = 1.0
"""


def demo(
    payments: Annotated[
        int, typer.Option(help=f"How many, {FEWEST} to {MOST}; every kind once by default.")
    ] = len(PARTS),
    seed: Annotated[int, typer.Option(help="Chooses amounts and the sandbox's ids; 0 draws new ids.")] = 0,
) -> None:  # fmt: skip
    """
    Run payments of every kind, kill a worker, verify.

    Submits payments to the provider's sandbox, kills the worker in the middle
    with SIGKILL, lets another one finish, and verifies the audit trail.
    Uses the database of ORCHESTRATOR_DATABASE_URL if that is set, else a new
    SQLite file whose path is printed. Exit status 0 only if every promise was kept.

    Crash: the payments go on with any worker that has the printed settings.
    """
    if not FEWEST <= payments <= MOST:
        raise InvalidInput("--payments", "is out of range", f"give {FEWEST} to {MOST}")
    telemetry.configure(level="error")
    if not asyncio.run(_stopped_by_signals(_demo(payments, seed))):
        raise typer.Exit(FINDINGS)


async def _stopped_by_signals(work: Coroutine[Any, Any, bool]) -> bool:
    """Run the demo; SIGTERM ends it like Ctrl-C does, children included."""
    task, terminated = asyncio.ensure_future(work), asyncio.Event()

    def terminate() -> None:
        terminated.set()
        task.cancel()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await task
    except asyncio.CancelledError:
        if terminated.is_set():
            raise typer.Exit(128 + signal.SIGTERM) from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


@dataclass(slots=True)
class _Stage:
    """What the phases of a demo share."""

    orchestrator: Orchestrator
    view: View
    members: Sequence[Cast]
    since: datetime
    elapsed: Callable[[], float]
    config: Path

    async def look(self) -> list[Payment]:
        """Read the payments of this run, in their order, and show them."""
        query = Query(account=ACCOUNT, created_from=self.since, limit=1000)
        ours = {member.reference for member in self.members}
        found = [payment for payment in await self.orchestrator.list(query) if payment.reference in ours]
        self.view.show(found)
        return found

    @property
    def patient(self) -> bool:
        """Whether there is time left."""
        return self.elapsed() < PATIENCE_S


async def _demo(payments: int, seed: int) -> bool:
    began = time.monotonic()
    environ = environment()
    directory = Path(tempfile.mkdtemp(prefix="orchestrator-demo-"))
    view = View(console(), lambda: time.monotonic() - began)
    async with Children(directory, environ) as children:
        url = await children.sandbox(seed)
        view.say(f"the provider's sandbox listens on {url}")
        config = write_settings(directory, url)
        settings = load_settings(config, environ)
        await upgrade_database(settings.database_url, actor=DEMO)
        view.say(f"database {settings.describe()['database_url']}")
        async with Orchestrator(settings, actor=DEMO) as orchestrator:
            await _refuse_strangers(orchestrator)
            members = list(cast(payments, run=secrets.token_hex(2).upper(), seed=seed))
            stage = _Stage(
                orchestrator, view, members, SystemClock().now(), lambda: time.monotonic() - began, config
            )  # fmt: skip
            with view:
                first, second = await _drive(stage, children)
            return await _tell(stage, url, first, second)


def write_settings(directory: Path, url: str) -> Path:
    """Write the demo's settings and secrets into its directory."""
    defaults = SandboxOptions()
    _write_private(directory / "client-secret", defaults.client_secret)
    _write_private(directory / "sealing-key", base64.b64encode(secrets.token_bytes(32)).decode())
    _write_private(directory / "signing-key", new_key_line("demo"))
    text = _SETTINGS.format(
        database=directory / "orchestrator.db", account=ACCOUNT, url=url, client_id=defaults.client_id,
        configuration=defaults.account_configuration_id, prefix=FALLBACK_NUMBER[:3],
    )  # fmt: skip
    config = directory / "orchestrator.toml"
    config.write_text(text, encoding="utf-8")
    return config


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(text)


async def _refuse_strangers(orchestrator: Orchestrator) -> None:
    """
    Refuse a database where somebody else's payments are under way: the demo's workers would take them.

    Raises:
        ConfigurationError: There are such payments. Nothing was submitted.
    """
    for state in State:
        if state in (State.COMPLETED, State.FAILED):
            continue
        for payment in await orchestrator.list(Query(state=state, limit=1000)):
            if payment.account != ACCOUNT or payment.hold is None:
                problem = "holds payments that have not ended"
                raise ConfigurationError("database_url", problem, "give the demo a database of its own")


async def _drive(stage: _Stage, children: Children) -> tuple[Process, Process]:
    """Start a worker, submit, kill it in the middle, let another one finish."""
    first = await children.worker("worker-1", stage.config)
    stage.view.say(f"worker {first.pid} started")
    for member in stage.members:
        later = member.part.act in (Act.COLLECT, Act.ABANDON)
        await stage.orchestrator.submit(
            account=ACCOUNT, channel=member.part.channel, reference=member.reference, amount=member.amount,
            fields={} if later else member.fields,
        )  # fmt: skip
    stage.view.say(f"{len(stage.members)} payments submitted")
    claimed = await _until_the_middle(stage, first)
    if first.returncode is None:
        first.kill()
    await first.wait()
    stage.view.say(f"worker {first.pid} killed with SIGKILL while it held {claimed} payments", "bold red")
    second = await children.worker("worker-2", stage.config, "--until-idle")
    stage.view.say(f"worker {second.pid} started; the claims of the first lapse, then it takes over")
    waiting = {member.reference: member for member in stage.members if member.part.act in (Act.CANCEL, Act.COLLECT)}
    while second.returncode is None and stage.patient:
        await _act(stage, await stage.look(), waiting)
        await asyncio.sleep(TICK_S)
    return first, second


async def _until_the_middle(stage: _Stage, worker: Process) -> int:
    """Wait until some payments have ended and others are held by the worker; give how many are."""
    claimed = 0
    while stage.patient and worker.returncode is None:
        payments = await stage.look()
        # A payment whose session runs is in the middle; one between two steps might be done a moment later.
        running = (State.SESSION_STARTED, State.AWAITING_PAYMENT)
        claimed = sum(payment.claimed_by is not None and payment.state in running for payment in payments)
        if claimed >= CLAIMED_AT_KILL and sum(payment.ended for payment in payments) >= ENDED_BEFORE_KILL:
            break
        await asyncio.sleep(TICK_S / 4)
    return claimed


async def _act(stage: _Stage, payments: Sequence[Payment], waiting: dict[str, Cast]) -> None:
    """Do what the parts ask for, once each: supply fields, cancel what can still be paid."""
    for payment in payments:
        member = waiting.get(payment.reference)
        if member is None:
            continue
        if member.part.act is Act.COLLECT:
            await stage.orchestrator.collect(payment.id, member.fields)
            stage.view.say(f"{payment.reference}: its fields supplied")
        elif payment.state is State.AWAITING_PAYMENT:
            await stage.orchestrator.cancel(payment.id, reason="shown by the demo")
            stage.view.say(f"{payment.reference}: cancelled while its link can be paid")
        else:
            continue
        del waiting[payment.reference]


async def _sealed(stage: _Stage) -> Report:
    """Seal what is left, and hold the trail against its checkpoints and what was carried elsewhere."""
    store, settings = stage.orchestrator.store, stage.orchestrator.settings
    clock = SystemClock()
    sealer = sealing.build_sealer(
        settings, store, clock, lambda: Context(clock.now(), DEMO, composition.origin(), version=VERSION)
    )
    if sealer is not None:
        await sealer.seal()
    return await verify(store, evidence=evidence_of(settings, (), (), None))


async def _tell(stage: _Stage, url: str, first: Process, second: Process) -> bool:
    """Show how it went; give whether every promise was kept."""
    payments = await stage.look()
    timelines = {payment.reference: await stage.orchestrator.timeline(payment.id) for payment in payments}
    report = await _sealed(stage)
    told = Told(
        stage.members, {payment.reference: payment for payment in payments}, timelines, await sandbox_stats(url),
        report, (first.pid, first.returncode), (second.pid, second.returncode),
    )  # fmt: skip
    out, say = console(), stage.view.say
    say("how they ended")
    out.print(outcome_table(payments))
    shown = next(iter(taken_over(told)), stage.members[0].reference)
    say(f"the timeline of {shown}: who did what and when, each entry chained to the one before")
    out.print(timeline_table(timelines.get(shown, ())))
    print_report(report, out)
    kept = promises(told)
    stage.view.promises(kept)
    say(f"database {stage.orchestrator.settings.describe()['database_url']}", "")
    say(f"look again: orchestrator --config {stage.config} list", "")
    return all(promise.kept for promise in kept)
