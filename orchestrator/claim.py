"""
Claims: a worker's exclusive right to drive payments, and how long it may trust it.

A worker lives while it beats; its claims live as long as it does. Others may
take them when its last beat is older than `life_s`; it stops trusting them
itself earlier, on the monotonic clock, which no change of the wall clock moves.
Its id is new at every boot and after every lapse, so that a returned zombie is
never taken for its successor. Next: `execute`.
"""

import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from orchestrator.domain.entry import Context, Looks
from orchestrator.domain.errors import ConfigurationError, DatabaseDamaged, Unavailable
from orchestrator.domain.machine import VERSION
from orchestrator.domain.payment import Payment
from orchestrator.ports import Clock, Store
from orchestrator.telemetry import emit

_NONE = Looks()
MACHINE_VERSIONS = (VERSION,)
"""The machine versions whose payments this software can drive."""

DATABASE_TROUBLE = (Unavailable, ConfigurationError, DatabaseDamaged)
"""Silence, and what only a person can mend (rights, a damaged file): in mid-course both are waited out."""

SKEW_REFUSED_S = 5.0
"""Seconds between the clocks beyond which a worker does nothing."""
SKEW_TOLD_S = 1.0
"""Seconds between our clock and the database's from which on the log says so."""
CLOCK_EVERY_S = 60.0
"""Between two comparisons of the clocks, unless the wall clock is seen to jump."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """
    How claims live, in seconds. `trust_s` < `life_s`, with room for one call's deadline.

    Attributes:
        beat_s: Between two heartbeats.
        life_s: Others may take the claims when the last beat is older.
        trust_s: The worker itself trusts its claims for so long after its last beat.
        poll_s: Between two looks for due payments; wake-ups only hint.
        skew_s: A worker whose clock is further from the database's does nothing: it would reap
            others too early, or never be reaped, and see deadlines that have not passed.
    """

    beat_s: float = 2.0
    life_s: float = 8.0
    trust_s: float = 6.0
    poll_s: float = 0.25
    skew_s: float = SKEW_REFUSED_S


class Claims:
    """One worker's identity, heartbeat and claims."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        rhythm: Rhythm,
        *,
        accounts: Collection[str],
        new_id: Callable[[], str],
        origin: str,
        version: str,
    ) -> None:
        self._store = store
        self._clock = clock
        self.rhythm = rhythm
        self._accounts = accounts
        self._new_id = new_id
        self._origin = origin
        self._version = version
        self._beaten_at = float("-inf")
        self._offset_s = 0.0
        self._told = 0
        self._untold = False
        self._compared_at = float("-inf")
        self._wall_ahead_s = 0.0
        """Wall clock less monotonic clock when the clocks were compared: it changes only when the wall clock jumps."""
        self.worker_id = ""
        self.others = 0

    @property
    def trusted(self) -> bool:
        """Whether the claims are certainly still ours, and our clock tells what is due."""
        return self.clock_agrees and self._clock.monotonic() - self._beaten_at < self.rhythm.trust_s

    @property
    def clock_agrees(self) -> bool:
        """Whether our clock agreed with the database's when last compared, and has not jumped since."""
        return self._agrees(self._ahead_s())

    def _agrees(self, ahead_s: float) -> bool:
        return abs(self._offset_s) <= self.rhythm.skew_s and not self._jumped(ahead_s)

    def _jumped(self, ahead_s: float) -> bool:
        jump = ahead_s - self._wall_ahead_s
        return self._compared_at > float("-inf") and abs(jump) > SKEW_TOLD_S

    def _ahead_s(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()

    def holds(self, payment: Payment) -> bool:
        """Whether this payment is certainly still ours to act upon."""
        return self.trusted and payment.claimed_by == self.worker_id

    def context(self, looks: Looks = _NONE) -> Context:
        """
        Give who decides here and now: a step under way when the wall clock jumps must still tell the time.

        Args:
            looks: The unwritten polls to sum up.
        """
        return Context(self.present(), self.worker_id, self._origin, version=self._version, looks=looks)

    def present(self) -> datetime:
        """Give the wall clock's time, less what is known to be wrong with it."""
        now = self._clock.now()
        ahead_s = now.timestamp() - self._clock.monotonic()
        if self._agrees(ahead_s):
            return now
        offset = self._offset_s if abs(self._offset_s) > self.rhythm.skew_s else 0.0
        return now - timedelta(seconds=ahead_s - self._wall_ahead_s + offset)

    async def begin(self) -> None:
        """
        Take a new id and make it known, if our clock agrees with the database's.

        Raises:
            ConfigurationError: The clocks are more than `skew_s` apart. Nothing was written.
            Unavailable: The database does not answer.

        Crash: an id without claims is reaped like any other, with its entry `worker.started` or without.
        """
        await self._check_clock()
        worker_id = self._new_id()
        self._untold = True
        # Before the first beat: what this costs while the database is in trouble must not count as its age.
        await self._tell_start(worker_id)
        beaten_at = self._clock.monotonic()
        # As the clock was found to be, whatever it has done since: a beat in the future would never lapse.
        await self._store.register(worker_id, origin=self._origin, version=self._version, now=self.present())
        self.worker_id, self._beaten_at = worker_id, beaten_at
        emit("worker.started", worker_id=worker_id, version=self._version)

    async def _tell_start(self, worker_id: str) -> None:
        """
        Write down that a writer of the trail began (PCI DSS v4.0.1, 10.2.1.6); with the next beat, if not now.

        While that entry can't be written no other can, and so nothing is driven.
        """
        if self._untold:
            with contextlib.suppress(*DATABASE_TROUBLE):
                here = replace(self.context(), actor=worker_id)
                await self._store.note("worker.started", about=worker_id, context=here)
                self._untold = False

    async def _check_clock(self) -> None:
        offset = await self._compare()
        where = "ahead of" if offset > 0 else "behind"
        if not self.clock_agrees:
            raise ConfigurationError(
                "clock", f"this machine's is {abs(offset):.1f} s {where} the database's",
                f"synchronize both with one time server (NTP) to within {self.rhythm.skew_s:g} s",
            )  # fmt: skip
        told, self._told = self._told, self._how_far(offset)
        if self._told > told:
            emit("clock.skewed", offset_s=round(offset, 3))

    async def watch_clock(self) -> bool:
        """
        Compare the clocks again, when a minute is over, ours has jumped, or they did not agree.

        Returns:
            Whether they agree. While they don't, the worker must do nothing that depends on time. A change
            is logged once; that they agree no more is an entry `clock.skew` of the administrative chain.

        Raises:
            Unavailable: The database does not answer. What was known before holds.

        Crash: the entry is there or not; the next worker compares for itself.
        """
        if self.clock_agrees and self._clock.monotonic() - self._compared_at < CLOCK_EVERY_S:
            return True
        jumped = self._jumped(self._ahead_s())
        offset = await self._compare()
        far = self._how_far(offset)
        if jumped and far < 2:
            # Both clocks went on together: by the new time our last beat is long ago, and we would be taken for gone.
            await self.beat()
        if far != self._told:
            emit("clock.skewed", offset_s=round(offset, 3), worker_id=self.worker_id)
            if far == 2:
                details = {"offset_ms": round(offset * 1000)}
                await self._store.note(
                    "clock.skew", about=self._origin, context=self.context(), details=details, result="failure"
                )
            self._told = far
        return far < 2

    async def _compare(self) -> float:
        while True:
            ahead_s = self._ahead_s()
            offset_s = await self._store.clock_offset(self._clock)
            if abs(self._ahead_s() - ahead_s) <= SKEW_TOLD_S:
                break  # else our clock has jumped meanwhile, and was compared with itself
        self._offset_s, self._wall_ahead_s, self._compared_at = offset_s, ahead_s, self._clock.monotonic()
        return offset_s

    def _how_far(self, offset: float) -> int:
        """Give 0 for clocks that agree, 1 for those the log speaks of, 2 for those that refuse."""
        return (abs(offset) > SKEW_TOLD_S) + (abs(offset) > self.rhythm.skew_s)

    async def beat(self) -> bool:
        """
        Beat once.

        Returns:
            `False` when the worker was reaped meanwhile: every claim is lost.
        """
        beaten_at = self._clock.monotonic()
        # Not by a wall clock that has just jumped: a beat in the future would keep the claims from ever lapsing.
        alive = await self._store.beat(self.worker_id, now=self.present())
        if alive:
            # Counted from before the call: a slow commit must not lengthen the trust.
            self._beaten_at = beaten_at
            since = self.present() - timedelta(seconds=self.rhythm.life_s)
            self.others = max(0, await self._store.living(since=since) - 1)
            await self._tell_start(self.worker_id)
        return alive

    def share(self, room: int) -> int:
        """Give how many payments to claim at once where there is room for so many: others want some, too."""
        return max(1, room // (1 + self.others)) if room > 0 else 0

    async def take(self, limit: int) -> Sequence[Payment]:
        """Claim up to so many due payments."""
        if limit <= 0 or not self.trusted:
            return ()
        taken = await self._store.claim(
            self.worker_id,
            now=self._clock.now(),
            limit=limit,
            accounts=self._accounts,
            machine_versions=MACHINE_VERSIONS,
        )
        if taken:
            emit("payment.claimed", worker_id=self.worker_id, count=len(taken))
        return taken

    async def end(self) -> None:
        """
        Give every claim back; nothing is lost if that fails, only later.

        Crash: claims not given back lapse with the last beat. Without its entry `worker.stopped` a worker
        was killed, or lapsed: the next one began with another id.
        """
        try:
            await self._store.retire(self.worker_id, now=self._clock.now())
            await self._store.note("worker.stopped", about=self.worker_id, context=self.context())
        except DATABASE_TROUBLE as error:
            emit("database.unavailable", error=error, operation="retire")
