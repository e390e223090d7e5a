"""
The worker: claims due payments, drives each, times the waiting ones in memory.

A waiting payment costs a heap entry, not a task and not a write; `waiting` says
whose turn it is. On a stop it drains: no new claims, the steps in flight end, the
heart beats until the last of them has, then the claims go back. It does the same
while its clock does not agree with the database's. Next: `notify`.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from orchestrator.claim import DATABASE_TROUBLE
from orchestrator.domain.errors import Unavailable
from orchestrator.domain.machine import Operation
from orchestrator.domain.operation import Next, lapse
from orchestrator.domain.payment import Payment
from orchestrator.domain.verdict import Verdict
from orchestrator.execute import Bench, ClaimLostError, Held, Learnt, execute_step
from orchestrator.notify import Deliveries
from orchestrator.ports import Notifier
from orchestrator.rescue import free_lapsed
from orchestrator.resolve import hand_in
from orchestrator.rounds import BREATH_S, DATABASE_RETRY_S, Limits, Rounds
from orchestrator.suspects import Suspects, is_suspect
from orchestrator.telemetry import emit
from orchestrator.traffic import Watch
from orchestrator.upkeep import Upkeep
from orchestrator.waiting import Waiting, evidence_until, is_look

DEFECT_RETRY_S = 30.0


class Worker:
    """One worker; `run` it once."""

    def __init__(self, bench: Bench, notifier: Notifier, limits: Limits, upkeep: Sequence[Upkeep] = ()) -> None:
        self._may_be_due = asyncio.Event()
        self._may_be_told = asyncio.Event()
        self._timer_moved = asyncio.Event()
        self._stopping = asyncio.Event()
        self._hinted = asyncio.Event()
        self._rounds = Rounds(bench.clock, self._stopping)
        self._paused: frozenset[str] = frozenset()
        self._bench = replace(bench, told=self._may_be_told.set, paused=lambda: self._paused)
        self._limits = limits
        self._upkeep = upkeep
        self._held: dict[str, Held] = {}
        self._deliveries = Deliveries(
            bench.store, bench.clock, notifier, self.hand_in, accounts=bench.accounts, known=self._known
        )
        self._driving: dict[str, asyncio.Task[None]] = {}
        self._waiting = Waiting(lambda account: bench.traffic.condition(account).per_second, limits.concurrency)
        self._suspects = Suspects()
        self._watch = Watch(
            bench.store, bench.clock, bench.traffic, bench.accounts, bench.claims.context, self._waiting.counts
        )
        self._in_doubt = False
        self._stepped_down = False

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
        bench, claims = self._bench, self._bench.claims
        await claims.begin()
        ready()
        every = self._rounds.every
        heart = asyncio.create_task(every(claims.rhythm.beat_s, self._beat, None))
        rounds = [
            every(claims.rhythm.poll_s, self._claim, self._may_be_due),
            every(claims.rhythm.poll_s, self._notify, self._may_be_told),
            every(claims.rhythm.beat_s, self._tend, self._stopping),
            every(claims.rhythm.poll_s, self._rescue, self._stopping),
            *(every(claims.rhythm.beat_s, each.turn, self._stopping) for each in self._upkeep),
            self._time(),
            *([every(claims.rhythm.poll_s, self._stop_when_idle, self._stopping)] if until_idle else []),
        ]
        loops = [asyncio.create_task(turns) for turns in rounds]
        stopped = asyncio.create_task(self._stopping.wait())
        listening = asyncio.create_task(self._rounds.hear(bench.store.listen, self._hinted))
        heeding = asyncio.create_task(self._rounds.heed(self._hinted, (self._may_be_due, self._may_be_told)))
        try:
            await asyncio.wait([heart, stopped, *loops], return_when=asyncio.FIRST_COMPLETED)
        finally:
            listening.cancel()
            heeding.cancel()
            await self._drain(heart, [stopped, listening, heeding, *loops])

    async def hand_in(self, payment_id: str, operation: Operation, verdict: Verdict) -> None:
        """Decide what was learnt elsewhere: under our claim if we hold the payment, from outside otherwise."""
        held = self._held.get(payment_id)
        if held is not None and self._able:
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

    def _known(self, payment_id: str) -> Payment | None:
        held = self._held.get(payment_id)
        return held.payment if held is not None and self._bench.claims.holds(held.payment) else None

    @property
    def _able(self) -> bool:
        """Whether a step may begin."""
        return self._bench.claims.clock_agrees and not self._stopping.is_set()

    async def _beat(self) -> bool:
        claims = self._bench.claims
        if self._stepped_down:
            return False
        if not await claims.beat():
            emit("worker.lapsed", worker_id=claims.worker_id, in_flight=len(self._driving))
            # Steps in flight end by the fence; what they learnt is handed in.
            self._forget_all()
            await claims.begin()
        self._bench.traffic.shared_by(claims.others + 1)
        return False

    def _forget_all(self) -> None:
        for each in (self._held, self._waiting, self._suspects):
            each.clear()

    async def _tend(self) -> bool:
        """Mind the clock, free what others have left, watch the traffic."""
        claims = self._bench.claims
        agrees = await claims.watch_clock()
        if not agrees and not self._stepped_down:
            await self._step_down()
        if agrees and self._stepped_down:
            await claims.begin()
            self._stepped_down = False
        if agrees:
            await free_lapsed(self._bench.store, claims, thorough=True)
            await self._watch.turn()
        return False

    async def _rescue(self) -> bool:
        """Free what a worker has left that lapsed a moment ago: its payers wait."""
        if self._bench.claims.clock_agrees and not self._stepped_down:
            await free_lapsed(self._bench.store, self._bench.claims, thorough=False)
        return False

    async def _step_down(self) -> None:
        """
        Give the claims back, because our clock tells wrong times: deadlines, and who lives, depend on it.

        Crash: what was not given back lapses.
        """
        claims = self._bench.claims
        emit("worker.draining", worker_id=claims.worker_id, in_flight=len(self._driving))
        if self._driving:
            await asyncio.wait([*self._driving.values()], timeout=self._limits.drain_s)
        self._stepped_down = True
        self._forget_all()
        await claims.end()

    async def _claim(self) -> bool:
        claims, asked = self._bench.claims, self._bench.store.paused_accounts
        room = claims.share(min(self._limits.batch, self._limits.concurrency - len(self._driving)))
        if self._in_doubt:
            self._paused = frozenset(await asked())
            await self._settle_doubt()
        try:  # no payment is driven by a worker that has not asked what is paused
            taken, paused = await asyncio.gather(claims.take(room), asked())
        except DATABASE_TROUBLE:
            self._in_doubt = True  # nobody knows what was claimed
            raise
        self._paused = frozenset(paused)
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
            if lapse(payment, self._bench.clock.now(), self._bench.policy(payment)) == "poison":
                self._suspects.hold_first(payment.id)
                self._drive(payment.id)
            elif is_suspect(payment):
                self._suspects.add(payment.id, self._bench.claims.worker_id)
                self._timer_moved.set()
            elif is_look(payment):
                # After a restart they come by the thousand: those that lose their evidence first go first.
                self._push(0.0, payment.id)
            else:
                self._drive(payment.id)

    async def _notify(self) -> bool:
        return self._able and await self._deliveries.turn(self._bench.claims.worker_id) > 0

    async def _stop_when_idle(self) -> bool:
        busy = self._driving or self._deliveries.busy
        if not busy and not await self._bench.store.unended() and not await self._notify():
            self.stop()
        return False

    def _drive(self, payment_id: str) -> None:
        """Start driving unless it is being driven: the running drive looks into the inbox itself."""
        if payment_id in self._driving or payment_id not in self._held:
            return
        self._waiting.forget(payment_id)
        self._driving[payment_id] = asyncio.create_task(self._drive_until_waiting(self._held[payment_id]))

    async def _drive_until_waiting(self, held: Held) -> None:
        payment_id = held.payment.id
        keep = True
        try:
            while keep and self._able:
                planned = await execute_step(self._bench, held)
                keep = held.payment.claimed_by == self._bench.claims.worker_id
                if planned.next is Next.WAIT:
                    keep = keep and await self._park(held, planned.again_at)
                    break
            else:
                self._push(DATABASE_RETRY_S, payment_id)  # if the clocks agree again by then
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
            if self._left(payment_id) or self._waiting.pressed:
                self._timer_moved.set()
            current = self._held.get(payment_id)
            if not keep and current is held:
                del self._held[payment_id]
            # Claimed anew while the old step was in flight: nobody else would begin with it.
            anew = current is not None and current is not held
            if anew or (keep and held.inbox and self._able):
                self._drive(payment_id)
            if held.inbox and (anew or not keep or not self._able):
                await self._from_outside(held)

    def _left(self, payment_id: str) -> bool:
        """Give its room back; tell whether it had some."""
        return self._suspects.done(payment_id) | self._waiting.looked(payment_id)

    async def _park(self, held: Held, again_at: datetime | None) -> bool:
        """Time a waiting payment in memory; give back one that only an event can move."""
        if held.inbox:
            return True
        if again_at is None or held.payment.missing:
            await self._bench.store.postpone(held.payment, again_at, keep_claim=False)
            return False
        if is_suspect(held.payment):  # it was driven, and we live
            await self._bench.store.postpone(held.payment, again_at, keep_claim=True)
            held.payment = replace(held.payment, progress_claim=held.payment.claim_no)
        self._push(max(0.0, (again_at - self._bench.clock.now()).total_seconds()), held.payment.id)
        return True

    def _push(self, delay_s: float, payment_id: str) -> None:
        held = self._held.get(payment_id)
        if held is None:
            return
        payment, at = held.payment, self._bench.clock.monotonic() + delay_s
        look = is_look(payment) and not held.inbox
        by = evidence_until(payment, held.answered_at, self._bench.policy(payment)) if look else None
        self._waiting.push(payment, at, by)
        if self._waiting.next_at() == at:
            self._timer_moved.set()

    async def _time(self) -> None:
        """Drive each waiting payment when its time has come."""
        while not self._stopping.is_set():
            now = self._bench.clock.monotonic()
            room = self._limits.concurrency - len(self._driving) if self._able else 0
            suspects = self._suspects.take(room)
            for payment_id in (*suspects, *self._waiting.take(now, room - len(suspects))):
                self._drive(payment_id)
                if payment_id not in self._driving:  # no longer ours
                    self._left(payment_id)
            at, most = self._waiting.next_at(), self._bench.claims.rhythm.poll_s
            await self._rounds.nap(most if at is None else min(max(at - now, 0.001), most), self._timer_moved)

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
