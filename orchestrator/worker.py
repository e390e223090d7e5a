"""
The worker: claims due payments, drives each, times the waiting ones in memory.

A waiting payment costs a heap entry, not a task and not a write. On a stop it
drains: no new claims, the steps in flight end, the heart beats until the last
of them has, then the claims go back. Next: `notify`.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from orchestrator.claim import DATABASE_TROUBLE
from orchestrator.domain.errors import Unavailable
from orchestrator.domain.machine import Operation
from orchestrator.domain.operation import Next
from orchestrator.domain.payment import Payment
from orchestrator.domain.verdict import Verdict
from orchestrator.execute import Bench, ClaimLostError, Held, Learnt, execute_step
from orchestrator.notify import Deliveries
from orchestrator.ports import Notifier
from orchestrator.rescue import free_lapsed
from orchestrator.resolve import hand_in
from orchestrator.telemetry import emit

DATABASE_RETRY_S = 0.5
DEFECT_RETRY_S = 30.0
BREATH_S = 0.02
"""Between two full plates where other workers live, so that they get their share."""
HINT_S = 0.05
"""Between two hints that are heeded: with many payments they come in floods, to every worker."""


@dataclass(frozen=True, slots=True)
class Limits:
    """
    How much one worker does at once.

    Attributes:
        concurrency: Steps in flight.
        batch: Payments claimed in one statement.
        drain_s: How long a stop waits for steps in flight; their verdicts are worth it.
    """

    concurrency: int = 200
    batch: int = 100
    drain_s: float = 20.0


class Worker:
    """One worker; `run` it once."""

    def __init__(self, bench: Bench, notifier: Notifier, limits: Limits) -> None:
        self._may_be_due = asyncio.Event()
        self._may_be_told = asyncio.Event()
        self._timer_moved = asyncio.Event()
        self._stopping = asyncio.Event()
        self._hinted = asyncio.Event()
        self._paused: frozenset[str] = frozenset()
        self._bench = replace(bench, told=self._may_be_told.set, paused=lambda: self._paused)
        self._limits = limits
        self._deliveries = Deliveries(bench.store, bench.clock, notifier, self.hand_in, bench.accounts)
        self._held: dict[str, Held] = {}
        self._driving: dict[str, asyncio.Task[None]] = {}
        self._waiting: list[tuple[float, int, str]] = []
        self._order = count(1)
        self._in_doubt = False

    def stop(self) -> None:
        """Begin to drain; `run` returns when that is done. Safe to call from a signal handler."""
        self._stopping.set()
        for event in (self._may_be_due, self._may_be_told, self._timer_moved):
            event.set()

    def wake(self) -> None:
        """Hint that something may be due; polling stays the truth."""
        self._may_be_due.set()

    async def run(self, *, until_idle: bool = False, ready: Callable[[], None] = lambda: None) -> None:
        """
        Work until `stop`, or until nothing is left that could go on by itself.

        Args:
            until_idle: Whether to stop then.
            ready: Called once when the worker is known and begins to claim.

        Crash:
            At any moment: claims lapse, open attempts are decided as `unknown`,
            waiting payments are looked at again.
        """
        claims = self._bench.claims
        await claims.begin()
        ready()
        heart = asyncio.create_task(self._every(claims.rhythm.beat_s, self._beat, None))
        loops = [
            asyncio.create_task(self._every(claims.rhythm.poll_s, self._claim, self._may_be_due)),
            asyncio.create_task(self._every(claims.rhythm.poll_s, self._notify, self._may_be_told)),
            asyncio.create_task(self._every(claims.rhythm.beat_s, self._rescue, self._stopping)),
            asyncio.create_task(self._time()),
        ]
        if until_idle:
            loops.append(asyncio.create_task(self._every(claims.rhythm.poll_s, self._stop_when_idle, self._stopping)))
        stopped = asyncio.create_task(self._stopping.wait())
        listening, heeding = asyncio.create_task(self._listen()), asyncio.create_task(self._heed())
        try:
            await asyncio.wait([heart, stopped, *loops], return_when=asyncio.FIRST_COMPLETED)
        finally:
            listening.cancel()
            heeding.cancel()
            await self._drain(heart, [stopped, listening, heeding, *loops])

    async def _listen(self) -> None:
        """Take hints from other processes; without them the polls find the same, only later."""
        try:
            await self._bench.store.listen(self._hinted.set)
        except Exception as error:  # noqa: BLE001 - no trouble with hints may end a worker
            emit("hint.failed", error=error)

    async def _heed(self) -> None:
        """Look at once after a hint, but not at every one of a flood."""
        while True:
            await self._hinted.wait()
            self._hinted.clear()
            self._may_be_due.set()
            self._may_be_told.set()
            await self._bench.clock.sleep(HINT_S)

    async def hand_in(self, payment_id: str, operation: Operation, verdict: Verdict) -> None:
        """Decide what was learnt elsewhere: under our claim if we hold the payment, from outside otherwise."""
        held = self._held.get(payment_id)
        if held is not None and not self._stopping.is_set():
            learnt = Learnt(operation, verdict, asyncio.get_running_loop().create_future())
            held.inbox.append(learnt)
            self._drive(payment_id)
            await learnt.recorded
            return
        bench = self._bench
        await hand_in(bench.store, payment_id, (operation, None, verdict), bench.claims.context, bench.policy)

    async def _from_outside(self, held: Held) -> None:
        """Hand in what came while the claim was given up."""
        while held.inbox:
            learnt = held.inbox.pop(0)
            # Whoever waits for the record is told of a failure, and tries again.
            with suppress(Exception), learnt.settling():
                await self.hand_in(held.payment.id, learnt.operation, learnt.verdict)

    async def _every(self, seconds: float, turn: Callable[[], Awaitable[bool]], stir: asyncio.Event | None) -> None:
        """
        Take turns until the stop, or for ever without `stir`.

        A turn that found a full plate is followed by another at once; one that
        found no database, by another later.
        """
        while stir is None or not self._stopping.is_set():
            pause = seconds
            try:
                if await turn():
                    pause = 0.0
            except DATABASE_TROUBLE as error:
                emit("database.unavailable", error=error, operation=turn.__name__.strip("_"))
                pause = max(seconds, DATABASE_RETRY_S)
            if stir is None or pause == 0:
                await self._bench.clock.sleep(pause)
            else:
                await self._nap(pause, stir)

    async def _nap(self, seconds: float, stir: asyncio.Event) -> None:
        """Sleep on the clock, or until stirred."""
        sleep = asyncio.ensure_future(self._bench.clock.sleep(seconds))
        stirred = asyncio.ensure_future(stir.wait())
        try:
            await asyncio.wait({sleep, stirred}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            stirred.cancel()
        if not self._stopping.is_set():
            stir.clear()

    async def _beat(self) -> bool:
        claims = self._bench.claims
        if not await claims.beat():
            emit("worker.lapsed", worker_id=claims.worker_id, in_flight=len(self._driving))
            # Steps in flight end by the fence; what they learnt is handed in.
            self._held.clear()
            self._waiting.clear()
            await claims.begin()
        return False

    async def _claim(self) -> bool:
        # Before the claim: no payment is driven by a worker that has not asked yet.
        self._paused = frozenset(await self._bench.store.paused_accounts())
        claims = self._bench.claims
        room = claims.share(min(self._limits.batch, self._limits.concurrency - len(self._driving)))
        if self._in_doubt:
            await self._settle_doubt()
        try:
            taken = await claims.take(room)
        except DATABASE_TROUBLE:
            self._in_doubt = True  # nobody knows what was claimed
            raise
        self._hold(taken)
        full = room > 0 and len(taken) == room
        if full and claims.others:
            await self._bench.clock.sleep(BREATH_S)
        return full

    async def _settle_doubt(self) -> None:
        """Ask the database which claims are ours, and drive those that memory has lost."""
        self._in_doubt = False  # before the question: a claim lost meanwhile is a new doubt
        try:
            claimed = await self._bench.store.claimed(self._bench.claims.worker_id)
        except DATABASE_TROUBLE:
            self._in_doubt = True
            raise
        self._hold([payment for payment in claimed if payment.id not in self._held])

    def _hold(self, payments: Sequence[Payment]) -> None:
        for payment in payments:
            self._held[payment.id] = Held(payment)
            self._drive(payment.id)

    async def _notify(self) -> bool:
        return await self._deliveries.turn(self._bench.claims.worker_id) > 0

    async def _rescue(self) -> bool:
        await free_lapsed(self._bench.store, self._bench.clock, self._bench.claims)
        return False

    async def _stop_when_idle(self) -> bool:
        busy = self._driving or self._deliveries.busy
        if not busy and not await self._bench.store.unended() and not await self._notify():
            self.stop()
        return False

    def _drive(self, payment_id: str) -> None:
        """Start driving unless it is being driven: the running drive looks into the inbox itself."""
        if payment_id in self._driving or payment_id not in self._held:
            return
        task = asyncio.create_task(self._drive_until_waiting(self._held[payment_id]))
        self._driving[payment_id] = task

    async def _drive_until_waiting(self, held: Held) -> None:
        payment_id = held.payment.id
        keep = True
        try:
            while keep and not self._stopping.is_set():
                planned = await execute_step(self._bench, held)
                keep = held.payment.claimed_by == self._bench.claims.worker_id
                if planned.next is Next.WAIT:
                    keep = keep and await self._park(held)
                    break
        except ClaimLostError:
            # Usually it is; where it isn't, the next claiming turn finds it in the database.
            keep, self._in_doubt = False, True
        except Unavailable as error:
            emit("database.unavailable", error=error, operation="drive", payment_id=payment_id)
            self._push(DATABASE_RETRY_S, payment_id)
        except Exception as error:  # noqa: BLE001 - a defect or a missing setting stops one payment, not the fleet
            emit("drive.failed", error=error, payment_id=payment_id)
            self._push(DEFECT_RETRY_S, payment_id)
        finally:
            self._driving.pop(payment_id, None)
            current = self._held.get(payment_id)
            if not keep and current is held:
                del self._held[payment_id]
            # Claimed anew while the old step was in flight: nobody else would begin with it.
            anew = current is not None and current is not held
            if anew or (keep and held.inbox and not self._stopping.is_set()):
                self._drive(payment_id)
            if held.inbox and (anew or not keep or self._stopping.is_set()):
                await self._from_outside(held)

    async def _park(self, held: Held) -> bool:
        """Time a waiting payment in memory; give back one that only an event can move."""
        if held.inbox:
            return True
        due_at = held.payment.due_at
        if due_at is None or held.payment.missing:
            await self._bench.store.postpone(held.payment, due_at, keep_claim=False)
            return False
        self._push(max(0.0, (due_at - self._bench.clock.now()).total_seconds()), held.payment.id)
        return True

    def _push(self, delay_s: float, payment_id: str) -> None:
        held = self._held.get(payment_id)
        if held is None:
            return
        # Only the newest ticket counts: an older one would look too early, for ever.
        held.ticket = next(self._order)
        at = self._bench.clock.monotonic() + delay_s
        heapq.heappush(self._waiting, (at, held.ticket, payment_id))
        if self._waiting[0][0] == at:
            self._timer_moved.set()

    async def _time(self) -> None:
        """Drive each waiting payment when its time has come."""
        while not self._stopping.is_set():
            now = self._bench.clock.monotonic()
            room = self._limits.concurrency - len(self._driving)
            while self._waiting and self._waiting[0][0] <= now and room > 0:
                _, ticket, payment_id = heapq.heappop(self._waiting)
                held = self._held.get(payment_id)
                if held is not None and held.ticket == ticket:
                    self._drive(payment_id)
                    room -= 1
            wait = self._waiting[0][0] - now if self._waiting else self._bench.claims.rhythm.poll_s
            await self._nap(min(max(wait, 0.001), self._bench.claims.rhythm.poll_s), self._timer_moved)

    async def _drain(self, heart: asyncio.Task[None], others: list[asyncio.Task[Any]]) -> None:
        """
        Let the steps in flight end, then give the claims back; a loop's defect is raised after that.

        Crash: what was not given back lapses.
        """
        self.stop()
        claims = self._bench.claims
        emit("worker.draining", worker_id=claims.worker_id, in_flight=len(self._driving))
        # The loops first: a turn under way may still begin something.
        ended = await asyncio.gather(*others, return_exceptions=True)
        in_flight = {*self._driving.values(), *self._deliveries.tasks}
        if in_flight:
            _, late = await asyncio.wait(in_flight, timeout=self._limits.drain_s)
            for task in late:
                task.cancel()
        heart.cancel()
        beaten = await asyncio.gather(heart, *in_flight, return_exceptions=True)
        await claims.end()
        emit("worker.stopped", worker_id=claims.worker_id)
        for result in (*ended, *beaten):
            if isinstance(result, Exception):
                raise result
