"""
Claims: a worker's exclusive right to drive payments, and how long it may trust it.

A worker lives while it beats; its claims live as long as it does. Others may
take them when its last beat is older than `life_s`; it stops trusting them
itself earlier, on the monotonic clock, which no change of the wall clock moves.
Its id is new at every boot and after every lapse, so that a returned zombie is
never taken for its successor. Next: `execute`.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from orchestrator.domain.entry import Context
from orchestrator.domain.errors import ConfigurationError, Unavailable
from orchestrator.domain.machine import VERSION
from orchestrator.domain.payment import Payment
from orchestrator.ports import Clock, Store
from orchestrator.telemetry import emit

MACHINE_VERSIONS = (VERSION,)
"""The machine versions whose payments this software can drive."""

DATABASE_TROUBLE = (Unavailable, ConfigurationError)
"""Silence, and what only a person can mend (rights, a file turned read-only): in mid-course both are waited out."""

SKEW_TOLD_S = 1.0
"""Seconds between our clock and the database's from which on the log says so."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """
    How claims live, in seconds. `trust_s` < `life_s`, with room for one call's deadline.

    Attributes:
        beat_s: Between two heartbeats.
        life_s: Others may take the claims when the last beat is older.
        trust_s: The worker itself trusts its claims for so long after its last beat.
        poll_s: Between two looks for due payments; wake-ups only hint.
        skew_s: A worker whose clock is further from the database's does not begin: it would
            reap others too early, or never be reaped.
    """

    beat_s: float = 2.0
    life_s: float = 8.0
    trust_s: float = 6.0
    poll_s: float = 0.25
    skew_s: float = 5.0


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
        self.worker_id = ""
        self.others = 0

    @property
    def trusted(self) -> bool:
        """Whether the claims are certainly still ours."""
        return self._clock.monotonic() - self._beaten_at < self.rhythm.trust_s

    def holds(self, payment: Payment) -> bool:
        """Whether this payment is certainly still ours to act upon."""
        return self.trusted and payment.claimed_by == self.worker_id

    def context(self) -> Context:
        """Give who decides here and now."""
        return Context(self._clock.now(), self.worker_id, self._origin, version=self._version)

    async def begin(self) -> None:
        """
        Take a new id and make it known, if our clock agrees with the database's.

        Raises:
            ConfigurationError: The clocks are more than `skew_s` apart. Nothing was written.
            Unavailable: The database does not answer.

        Crash: an id without claims is reaped like any other.
        """
        await self._check_clock()
        worker_id = self._new_id()
        beaten_at = self._clock.monotonic()
        await self._store.register(worker_id, origin=self._origin, version=self._version, now=self._clock.now())
        self.worker_id, self._beaten_at = worker_id, beaten_at
        emit("worker.started", worker_id=worker_id, version=self._version)

    async def _check_clock(self) -> None:
        offset = await self._store.clock_offset(self._clock)
        where = "ahead of" if offset > 0 else "behind"
        if abs(offset) > self.rhythm.skew_s:
            raise ConfigurationError(
                "clock", f"this machine's is {abs(offset):.1f} s {where} the database's",
                f"synchronize both with one time server (NTP) to within {self.rhythm.skew_s:g} s",
            )  # fmt: skip
        if abs(offset) > SKEW_TOLD_S:
            emit("clock.skewed", offset_s=round(offset, 3))

    async def beat(self) -> bool:
        """
        Beat once.

        Returns:
            `False` when the worker was reaped meanwhile: every claim is lost.
        """
        beaten_at = self._clock.monotonic()
        alive = await self._store.beat(self.worker_id, now=self._clock.now())
        if alive:
            # Counted from before the call: a slow commit must not lengthen the trust.
            self._beaten_at = beaten_at
            since = self._clock.now() - timedelta(seconds=self.rhythm.life_s)
            self.others = max(0, await self._store.living(since=since) - 1)
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

        Crash: claims not given back lapse with the last beat.
        """
        try:
            await self._store.retire(self.worker_id, now=self._clock.now())
        except DATABASE_TROUBLE as error:
            emit("database.unavailable", error=error, operation="retire")
