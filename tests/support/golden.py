"""
A trail of everything that can become of a payment: `python -m tests.support.golden DIRECTORY` writes this release's.

The real flow on SQLite, step by step in one process under virtual time, against a
scripted provider: the same bytes at every run. Every end and every hold on every
channel that has it, and at the last moment payments of every kind in flight. What
a release has written is kept in `tests/fixtures/trails` and never made anew.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from orchestrator import Money, Orchestrator, composition, load_settings, orchestrator, telemetry
from orchestrator.audit.export import Exported, export
from orchestrator.claim import Claims, Rhythm
from orchestrator.domain.machine import Operation
from orchestrator.domain.operation import Next
from orchestrator.domain.payment import Payment
from orchestrator.domain.policy import DIGITAL
from orchestrator.domain.verdict import Verdict
from orchestrator.execute import Bench, Held, execute_step
from orchestrator.records import Query
from orchestrator.settings import Settings
from orchestrator.store import restored
from tests.support.flow import fields_of
from tests.support.golden_cases import CASES, END, HOUR, RESTORED, Act, Case, Said

T0 = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
NUMBERS = {reference: number for number, reference in enumerate(CASES, 1)}
FRUITLESS_CLAIMS = 22


class CrashError(BaseException):
    """The worker is gone between sending and recording."""


class VirtualClock:
    """Time stands until it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return T0 + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nobody waits {seconds} s here")


def patience(failures: int) -> float:
    """A back-off without chance, that needs few tries for three days."""
    return min(0.5 * 2.0 ** min(failures, 16), HOUR)


class Provider:
    """Says what the case says; requests are rendered from the real definitions."""

    def __init__(self, real: Any, payment: Payment, said: dict[tuple[str, Operation], int]) -> None:
        self._real, self._case, self._payment, self._said = real, CASES[payment.reference], payment, said

    def prepare(self, operation: Operation, payment: Payment, fields: Any) -> Any:
        return mock.Mock(operation=operation, digest=self._real.prepare(operation, payment, fields).digest)

    async def send(self, prepared: Any, **_: Any) -> Verdict:
        starting = prepared.operation is Operation.START_SESSION
        return self._say(prepared.operation, self._case.starts if starting else self._case.looks)

    async def authorize(self) -> Verdict:
        return self._say(Operation.AUTHORIZE, self._case.tokens)

    def _say(self, operation: Operation, words: Sequence[Said | None]) -> Verdict:
        key = self._case.reference, operation
        index = self._said[key] = self._said.get(key, -1) + 1
        word = words[min(index, len(words) - 1)]
        if word is None:
            raise CrashError
        return word if isinstance(word, Verdict) else word(self._payment)


class Stage:
    """The flow with its worker, driven step by step."""

    def __init__(self, host: Orchestrator, clock: VirtualClock) -> None:
        self.host, self.clock = host, clock
        self.claims = Claims(
            host.store, clock, Rhythm(),
            accounts=("emea",), new_id=lambda: "worker-golden", origin="host-1:1", version=orchestrator.VERSION,
        )  # fmt: skip
        self._said: dict[tuple[str, Operation], int] = {}
        providers = mock.Mock(of=lambda payment: Provider(host._providers.of(payment), payment, self._said))
        self.bench = Bench(host.store, providers, host._vault, host.accounts, clock, self.claims)
        self.held: dict[str, Held] = {}
        self.left: set[str] = set()
        self.acts: list[tuple[float, str, Act]] = []

    async def submit(self, case: Case) -> None:
        fields = fields_of(case.channel, NUMBERS[case.reference])
        if case.missing:
            del fields["cardholderPostCode"]
        payment = await self.host.submit(
            account="emea", channel=case.channel, reference=case.reference, amount=Money("12.40", "GBP"), fields=fields
        )
        if case.left:
            self.left.add(payment.id)
        self.acts += [(case.at + seconds, payment.id, act) for seconds, act in case.acts]

    async def poison(self, cases: Sequence[Case]) -> None:
        """Payments that take down whoever claims them."""
        for case in cases:
            await self.submit(case)
        store = self.host.store
        for number in range(FRUITLESS_CLAIMS):
            doomed, now = f"worker-doomed-{number:02}", self.clock.now()
            await store.register(doomed, origin="host-2:1", version="0", now=now)
            await store.claim(doomed, now=now, limit=len(cases), accounts=["emea"], machine_versions=[1])
            self.clock.seconds += 0.5
            now = self.clock.now()
            await store.reap(lapsed_before=now, now=now, jitter_s=0, limit=len(cases))

    async def play(self, births: list[Case]) -> None:
        """Go from one moment at which something is due to the next."""
        self.acts.append((RESTORED, "", lambda stage, _: put_back(stage)))
        while self.clock.seconds < END:
            for case in [case for case in births if case.at <= self.clock.seconds]:
                births.remove(case)
                await self.submit(case)
            for act in sorted((act for act in self.acts if act[0] <= self.clock.seconds), key=lambda act: act[:2]):
                self.acts.remove(act)
                await act[2](self, act[1])
                await self._look_after_claims()
            await self._turn()
            self.clock.seconds = max(await self._next(births), self.clock.seconds + 0.001)

    async def _look_after_claims(self) -> None:
        """Drop what a record from outside has taken from the worker."""
        now = {payment.id: payment for payment in await self.host.list(Query(limit=1000))}
        ours = self.claims.worker_id
        self.held = {id_: held for id_, held in self.held.items() if now[id_].claimed_by == ours}

    async def _turn(self) -> None:
        await self.claims.beat()
        while taken := await self.claims.take(100):
            self.held |= {payment.id: Held(payment) for payment in taken}
        now = self.clock.now()
        for payment_id in sorted(self.held):
            held = self.held[payment_id]
            if held.payment.due_at is None or held.payment.due_at <= now:
                await self._drive(held)

    async def _drive(self, held: Held) -> None:
        payment_id = held.payment.id
        while held.payment.claimed_by == self.claims.worker_id:
            try:
                planned = await execute_step(self.bench, held)
            except CrashError:
                if payment_id in self.left:
                    break
                # Claimed anew, as after the reaping.
                held.payment = await self.host.get(payment_id)
                continue
            if planned.next is Next.WAIT:
                if held.payment.due_at is not None and not held.payment.missing:
                    return
                await self.host.store.postpone(held.payment, held.payment.due_at, keep_claim=False)
                break
        self.held.pop(payment_id, None)

    async def _next(self, births: Sequence[Case]) -> float:
        waiting = [held.payment.due_at for held in self.held.values()]
        waiting += [one.due_at for one in await self.host.list(Query(limit=1000)) if one.claimed_by is None]
        due = [(at - T0).total_seconds() for at in waiting if at is not None]
        return min([*due, *(case.at for case in births), *(act[0] for act in self.acts), END])


async def put_back(stage: Stage) -> None:
    """Say that the database was put back: the command's holds and its note, but for its random ids."""
    held = await restored._hold_all(stage.host.store, stage.claims.context, DIGITAL.session_life_s)
    details = {"previous": "0" * 32, "reason": "the disk was lost", "held": held}
    await stage.host.store.note("database.restored", about="1" * 32, context=stage.claims.context(), details=details)


def settings_in(directory: Path) -> Settings:
    """The settings that the trail is made under: the defaults, but for slow looks, which leave no entry."""
    return load_settings(
        environ={"KEY": "ERERERERERERERERERERERERERERERERERERERERERE="},
        cwd=directory,
        overrides={
            "database_url": f"sqlite:///{directory / 'golden.db'}",
            "sealing_key": "env:KEY",
            "accounts": {"emea": {
                "base_url": "https://provider.example", "client_id": "client-1", "client_secret": "env:KEY",
                "account_configuration_id": "4242", "dial_prefixes": ["+44"],
                "policy": {
                    "phone": {"poll_max_s": 300, "poll_retry_s": 300},
                    "digital": {"poll_max_s": 4 * HOUR, "poll_retry_s": 4 * HOUR},
                },
            }},
        },
    )  # fmt: skip


async def make(directory: Path, file: Path) -> dict[str, list[str]]:
    """Write the trail to the file; gives the definitions that its payments are pinned to, by digest."""
    clock = VirtualClock()

    async def told(_: Exported) -> None:
        return

    with (
        mock.patch.object(composition, "origin", return_value="host-1:1"),
        mock.patch.object(composition, "new_worker_id", return_value="worker-golden"),
        mock.patch.object(composition, "backoff", return_value=patience),
    ):
        async with Orchestrator(settings_in(directory), clock=clock) as host:
            stage = Stage(host, clock)
            cases = sorted(CASES.values(), key=lambda case: (case.at, case.reference))
            await stage.poison([case for case in cases if not case.at])
            await stage.claims.begin()
            await host.store.pause_account("emea", reason="a rehearsal", context=stage.claims.context())
            await host.store.resume_account("emea", reason="it is over", context=stage.claims.context())
            await stage.play([case for case in cases if case.at])
            await stage.claims.end()
            await export(host.store, file, told)
            return {digest: list(named) for digest, named in (await host.store.definitions()).items()}


def main(place: Path) -> None:
    telemetry.configure(level="error")
    file = place / f"{orchestrator.VERSION}.jsonl"
    with tempfile.TemporaryDirectory() as directory:
        definitions = asyncio.run(make(Path(directory), file))
    texts = json.dumps(definitions, indent=1, sort_keys=True)
    file.with_suffix(".definitions.json").write_text(texts + "\n", encoding="utf-8")
    file.chmod(0o644)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
