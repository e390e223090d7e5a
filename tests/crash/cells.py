"""
The crash matrix's cells: which boundary, what the process does until it dies there, what must come of it.

`play` is the doomed process's whole life; `test_matrix` is what comes after it. A cell
says how its payment must end for each moment of death, and how many sessions the
provider may have made for it by then.
"""

import asyncio
import base64
import contextlib
import json
import os
import secrets
import signal
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator import Conflict, InvalidInput, Money, Orchestrator, Payment, Settings, State, load_settings
from orchestrator.domain.machine import Operation
from orchestrator.sandbox.script import Act, Fault, Gateway, Script, Step
from orchestrator.worker import Worker
from tests.crash.faultpoints import Bomb, Moment, Point, arm
from tests.support.flow import account, fields_of

SPEED = 20.0
"""Of the sandbox: its payers take 30 ms."""
WORKER = {
    "heartbeat_s": 0.2, "claim_trust_s": 1.8, "claim_life_s": 2.0, "poll_interval_s": 0.05, "concurrency": 20,
}  # fmt: skip
# The caller's patience outlasts any machine's load: how long a recovery takes is measured apart.
PATIENCE_S = 90
PHONE = {"poll_first_s": 0.05, "poll_max_s": 0.2, "poll_retry_s": 0.2, "start_s": 240, "hand_over_s": 240}
DIGITAL = {"poll_first_s": 0.05, "poll_max_s": 0.2, "poll_retry_s": 0.2}

_ACCEPT = Gateway("ACCEPT", ("100",))
_CREATED, _LATE = Step(0, "Created"), Step(40, "Finished")
_NEVER_ANSWERED = Fault(Act.WAIT, first=1, effect=True, wait_s=1e6)
SCRIPTS = (
    Script("STUCK", "the first start is never answered", "paid", (_CREATED, Step(0.6, "Finished")), gateway=_ACCEPT,
           start=_NEVER_ANSWERED),
    Script("SLOWLY", "the first start is answered after 20 s", "paid", (_CREATED, Step(0.6, "Finished")),
           gateway=_ACCEPT, start=replace(_NEVER_ANSWERED, wait_s=20)),
    Script("LATE", "the payer takes 40 s", "paid", (_CREATED, _LATE), gateway=_ACCEPT),
    Script("ODD", "a state that nobody knows, then paid", "paid", (_CREATED, Step(0.6, "Quantum"), _LATE),
           gateway=_ACCEPT),
)  # fmt: skip
"""What the sandbox knows besides its own table: nothing here depends on who is quicker."""


@dataclass(frozen=True)
class Cell:
    """
    One boundary, on one channel.

    `life`: what the process does until it runs into the point. `ends`: outcome or hold
    in the end, after a death before the point, and after it. `sessions`: how many the
    provider has made by then.
    """

    name: str
    point: Point
    channel: str
    reference: str = "PAID"
    ends: tuple[str, str] = ("paid", "paid")
    sessions: tuple[int, int] = (1, 1)
    life: str = "submit_and_work"
    first: "Cell | None" = None
    """Another cell whose dead process this one comes upon; it died after its point."""
    moments: tuple[Moment, ...] = (Moment.BEFORE, Moment.AFTER)
    word: Mapping[str, Any] = field(default_factory=dict)
    """What a person says to the hold."""

    def end(self, moment: Moment) -> tuple[str, int]:
        place = 0 if moment is Moment.BEFORE else 1
        return self.ends[place], self.sessions[place]


UNKNOWN = ("session_unknown", "session_unknown")
_START, _LOOK = Operation.START_SESSION, Operation.QUERY_STATUS


def record(trigger: str, **more: Any) -> Point:
    return Point("store.record", trigger=trigger, **more)


INTENT = Cell("intent", record("request"), "digital", ends=("paid", "session_unknown"), sessions=(1, 0))
INTENT_PHONE = Cell("intent", record("request"), "phone")
CLAIM = Cell("claim", Point("store.claim", full=True), "phone")

CELLS = (
    Cell("submit", Point("store.submit"), "digital"),
    Cell("collect", record("collect"), "digital", life="collect"),
    Cell("register", Point("store.register"), "digital"),
    CLAIM,
    Cell("token", Point("provider.authorize"), "digital"),
    INTENT,
    INTENT_PHONE,
    Cell("start sent", Point("provider.send", operation=_START), "digital", ends=UNKNOWN, sessions=(0, 1)),
    Cell("start sent", Point("provider.send", operation=_START), "phone", sessions=(1, 2)),
    Cell("start in flight", Point("provider.send", operation=_START), "digital", "STUCK", ends=UNKNOWN,
         moments=(Moment.AMID,)),
    Cell("start in flight", Point("provider.send", operation=_START), "phone", "STUCK", sessions=(2, 2),
         moments=(Moment.AMID,)),
    Cell("start recorded", record("start_session"), "digital", ends=("session_unknown", "paid")),
    Cell("start recorded", record("start_session"), "phone", sessions=(2, 1)),
    Cell("start refused", record("retry"), "digital", "THROTTLED", ends=("session_unknown", "paid"), sessions=(0, 1)),
    Cell("start superseded", record("supersede"), "phone", "LOSTANSWER", sessions=(2, 2)),
    Cell("start in doubt", record("hold"), "digital", "LOSTANSWER", ends=UNKNOWN),
    Cell("notice taken", Point("store.take_notifications", full=True, needs="hand_over"), "phone", "LATE"),
    Cell("delivery", Point("notifier.deliver"), "phone", "LATE"),
    Cell("hand-over recorded", record("acknowledge"), "phone", "LATE"),
    Cell("notice settled", Point("store.settle_notification"), "phone", "LATE"),
    Cell("acknowledged by call", record("acknowledge"), "phone", "LATE", life="acknowledge"),
    Cell("look", Point("provider.send", operation=_LOOK), "digital"),
    Cell("look recorded", record("observe"), "digital", "ODD"),
    Cell("completed", record("complete"), "phone"),
    Cell("told by webhook", record("complete"), "digital", "LATE", life="webhook"),
    Cell("failed", record("fail"), "digital", "DECLINED", ends=("declined", "declined")),
    Cell("held", record("hold"), "phone", "REVIEW", ends=("review", "review")),
    Cell("cancelled at once", record("fail"), "digital", life="cancel_at_once",
         ends=("cancelled_by_host", "cancelled_by_host"), sessions=(0, 0)),
    Cell("cancel asked", record("cancel"), "phone", "NEVER", life="cancel",
         ends=("cancelled_by_host", "cancelled_by_host")),
    Cell("cancelled", record("fail"), "phone", "NEVER", life="cancel",
         ends=("cancelled_by_host", "cancelled_by_host")),
    Cell("late result", record("late_result"), "phone", "LATE", life="cancel", ends=("late_money", "late_money")),
    Cell("hang-up asked", record("cancel"), "phone", "NEVER", life="cancel", word={"hung_up": True},
         ends=("hung_up", "hung_up")),
    Cell("resolved by outcome", record("release"), "phone", "REVIEW", life="resolve", word={"outcome": "declined"},
         ends=("declined", "declined")),
    Cell("resolved by retry", record("release"), "digital", "ERRORBEFORE", life="resolve", word={"retry": True}),
    Cell("beat", Point("store.beat", needs="hand_over"), "digital", "LATE"),
    Cell("retired", Point("store.retire"), "digital", "LATE", life="drain"),
    Cell("reaped", Point("store.reap", full=True), "phone", life="work", first=CLAIM),
    Cell("rescued", record("hold"), "digital", life="work", first=INTENT, ends=UNKNOWN, sessions=(0, 0)),
    Cell("rescued", record("supersede"), "phone", life="work", first=INTENT_PHONE),
)  # fmt: skip


def name_of(cell: Cell, moment: Moment) -> str:
    return f"{cell.name}, {cell.channel}, {moment}"


def _stops(name: str, point: Point, moment: Moment, *ends: tuple[str, int], reference: str = "PAID") -> list[Cell]:
    """Give a zombie's stop on both channels."""
    return [
        Cell(name, point, channel, reference, (end, end), (sessions, sessions), moments=(moment,))
        for channel, (end, sessions) in zip(("digital", "phone"), ends, strict=True)
    ]


_PAID = ("paid", 1)
_TWICE = ("paid", 2)
"""A superseded phone session, with its entry."""
ZOMBIES = (
    *_stops("intent", record("request"), Moment.BEFORE, _PAID, _PAID),
    *_stops("intent", record("request"), Moment.AFTER, ("session_unknown", 0), _PAID),
    *_stops("start sent", Point("provider.send", operation=_START), Moment.BEFORE, _PAID, _TWICE),
    *_stops("start in flight", Point("provider.send", operation=_START), Moment.AMID, ("session_unknown", 1), _TWICE,
            reference="SLOWLY"),
    *_stops("start sent", Point("provider.send", operation=_START), Moment.AFTER, _PAID, _TWICE),
    *_stops("start recorded", record("start_session"), Moment.BEFORE, _PAID, _TWICE),
    *_stops("start recorded", record("start_session"), Moment.AFTER, _PAID, _PAID),
    *_stops("look", Point("provider.send", operation=_LOOK), Moment.AFTER, _PAID, _PAID),
    *_stops("completed", record("complete"), Moment.BEFORE, _PAID, _PAID),
    *_stops("beat", Point("store.beat", needs="hand_over"), Moment.BEFORE, _PAID, _PAID, reference="LATE"),
)  # fmt: skip
"""Where a process stops past its claim, and wakes when another has gone on without it."""
GRIDS = {"matrix": CELLS, "zombies": ZOMBIES}


def settings_of(directory: Path, database_url: str, base_url: str, accounts: list[str]) -> Settings:
    """Give the settings of a process that knows these accounts."""
    policy = {"phone": dict(PHONE), "digital": dict(DIGITAL)}
    one = account(base_url, policy=policy, start_deadline_s=1.7, call_deadline_s=60)
    return load_settings(
        environ={"SANDBOX_CLIENT_ID": "sandbox-client", "SANDBOX_CLIENT_SECRET": "sandbox-secret"},
        cwd=directory,
        overrides={
            "database_url": database_url,
            "sealing_key": f"file:{directory / 'sealing-key'}",
            "worker": WORKER,
            "accounts": dict.fromkeys(accounts, one),
        },
    )


def write_key(directory: Path) -> None:
    """Make the sealing key that every process of a database shares."""
    path = directory / "sealing-key"
    path.touch(mode=0o600)
    path.write_text(base64.b64encode(secrets.token_bytes(32)).decode())


# --- what a process does until it dies -----------------------------------------------------------


@dataclass
class Host:
    """What a cell's host asks for, in the process that dies, and again after it."""

    orchestrator: Orchestrator
    cell: Cell
    account: str

    async def submit(self) -> Payment:
        fields = {} if self.cell.life == "collect" else fields_of(self.cell.channel)
        return await self.orchestrator.submit(
            account=self.account, channel=self.cell.channel, reference=f"{self.cell.reference}-{self.account}",
            amount=Money("12.40", "GBP"), fields=fields,
        )  # fmt: skip

    async def collect(self, payment: Payment) -> None:
        await self.orchestrator.collect(payment.id, fields_of(self.cell.channel))

    async def resolve(self, payment: Payment) -> None:
        await self.orchestrator.resolve(payment.id, person="ada", reason="seen at the gateway", **self.cell.word)

    async def say_it_again(self) -> None:
        """Do what a host does that has heard no answer: the same once more, which must change nothing that is done."""
        payment = await self.submit()
        match self.cell.life:
            case "collect" if payment.missing:
                await self.collect(payment)
            case "cancel" | "cancel_at_once":
                await self.orchestrator.cancel(payment.id, **self.cell.word)
            case "resolve":
                with contextlib.suppress(Conflict, InvalidInput):  # it is not held any more: said and done
                    await self.resolve(payment)
            case "acknowledge":
                await self.orchestrator.acknowledge(payment.id)
            case "webhook" if body := await self.told():
                await self.orchestrator.webhook(self.account, body)

    async def told(self) -> bytes | None:
        """Give the provider's webhook, if the payment's session is over."""
        base_url = self.orchestrator.settings.accounts[self.account].base_url
        found = await _asked(f"{base_url}/_sandbox/webhooks/{self.cell.reference}-{self.account}")
        over = [each for each in found["webhooks"] if each["sessionState"] == "Finished"]
        return json.dumps(over[0]).encode() if over else None

    async def until(self, payment: Payment, condition: Callable[[Payment], object]) -> None:
        while not condition(await self.orchestrator.get(payment.id)):
            await asyncio.sleep(0.01)

    @contextlib.asynccontextmanager
    async def working(self, *, handler: bool = True) -> AsyncIterator[Worker]:
        if handler:
            self.orchestrator.on("handed_over", lambda _: None)
        async with self.orchestrator.worker() as worker:
            yield worker
            await asyncio.Event().wait()


async def submit_and_work(host: Host) -> None:
    await host.submit()
    await work(host)


async def work(host: Host) -> None:
    async with host.working():
        pass


async def collect(host: Host) -> None:
    await host.collect(await host.submit())


async def acknowledge(host: Host) -> None:
    payment = await host.submit()
    async with host.working(handler=False):
        await host.until(payment, lambda now: now.state is State.AWAITING_PAYMENT)
        await host.orchestrator.acknowledge(payment.id)


async def cancel_at_once(host: Host) -> None:
    await host.orchestrator.cancel((await host.submit()).id)


async def cancel(host: Host) -> None:
    payment = await host.submit()
    async with host.working():
        await host.until(payment, lambda now: now.acknowledged_at)
        await host.orchestrator.cancel(payment.id, **host.cell.word)


async def resolve(host: Host) -> None:
    payment = await host.submit()
    async with host.working():
        await host.until(payment, lambda now: now.hold)
        await host.resolve(payment)


async def webhook(host: Host) -> None:
    payment = await host.submit()
    async with host.orchestrator.worker():
        await host.until(payment, lambda now: now.state is State.AWAITING_PAYMENT)
    while (body := await host.told()) is None:
        await asyncio.sleep(0.05)
    await host.orchestrator.webhook(host.account, body)


async def drain(host: Host) -> None:
    payment = await host.submit()
    async with host.working() as worker:
        await host.until(payment, lambda now: now.state is State.AWAITING_PAYMENT)
        worker.stop()


LIVES: dict[str, Callable[[Host], Awaitable[None]]] = {
    life.__name__: life
    for life in (submit_and_work, work, collect, acknowledge, cancel_at_once, cancel, resolve, webhook, drain)
}


async def play(
    *,
    kind: str,
    number: int,
    first: bool,
    moment: str,
    account_name: str,
    database_url: str,
    base_url: str,
    directory: str,
) -> None:
    """Live a cell's last life, or that of the process before; whoever lives for long has missed its point."""
    cell = GRIDS[kind][number]
    dying = cell.first if first and cell.first else cell
    place = Path(directory)
    os.chdir(place)
    bomb = Bomb(dying.point, Moment.AFTER if first else Moment(moment))
    bomb.number = signal.SIGSTOP if kind == "zombies" else signal.SIGKILL
    bomb.done_amid = lambda: _made(base_url, f"{cell.reference}-{account_name}")
    async with Orchestrator(settings_of(place, database_url, base_url, [account_name])) as opened:
        arm(opened, bomb)
        # While a zombie is stopped, time goes on for it; whoever wakes it ends it.
        async with asyncio.timeout(None if kind == "zombies" else PATIENCE_S):
            await LIVES[dying.life](Host(opened, cell, account_name))
    raise AssertionError("alive after the point")


async def _made(base_url: str, reference: str) -> bool:
    """Whether the sandbox has made a session for the reference."""
    return reference in (await _asked(f"{base_url}/_sandbox/stats"))["sessions_per_reference"]


async def _asked(url: str) -> dict[str, Any]:
    def asked() -> dict[str, Any]:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return dict(json.load(answer))

    return await asyncio.to_thread(asked)
