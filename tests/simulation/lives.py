"""
Processes that can be killed or stopped wherever they touch the outside, and the weather that does it.

A killed process never comes back from the touch that it died at: no clean-up of its
own runs, as after SIGKILL. A stopped one comes back later, as after SIGSTOP and
SIGCONT, with its monotonic clock run on. What a process computes between two touches
nobody else can see, so these are all the points at which a crash could matter.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

from tests.simulation.loop import SimLoop
from tests.support.virtual import START

GIVEN_UP_S = 11.0


@dataclass(frozen=True, slots=True)
class Weather:
    """
    How bad it is. Chances are per touch, per call or per payment.

    Attributes:
        kill, stop: A process dies, or is stopped for longer than its claims live.
        silent, lost: The database does not answer before it has done a verb, or after.
        fenced: It says that somebody else was faster.
        outages: How many times it is away for some seconds.
        sluggish: A verb takes long.
        stalls: The machine stands still just when somebody reads the clock, for up to 2 s.
        trouble: The provider answers a call with a row of the verdict table other than "answered".
        slow: It answers after longer than a worker trusts its claims.
        odd: It speaks of another reference, amount or currency than ours.
        hooks: Its webhooks arrive at all, sooner or later; some of them twice or late.
        astray: The payer ends up in a session whose answer was lost.
        jumps: How many times a wall clock jumps.
        cancels: The host cancels, or its caller hangs up.
        poison: A payment takes down whoever drives it.
        pauses: How many times a person pauses the account.
        persons: A person settles a hold when it is looked at.
    """

    kill: float = 0.0
    stop: float = 0.0
    silent: float = 0.0
    lost: float = 0.0
    fenced: float = 0.0
    outages: int = 0
    sluggish: float = 0.01
    stalls: float = 0.0
    trouble: float = 0.0
    slow: float = 0.0
    odd: float = 0.0
    hooks: bool = True
    astray: float = 0.0
    jumps: int = 0
    cancels: float = 0.2
    poison: float = 0.0
    pauses: int = 0
    persons: float = 0.5

    def calmed(self) -> "Weather":
        """Give the weather in which everything comes to rest: what has happened has happened."""
        return Weather(hooks=self.hooks, astray=self.astray, persons=self.persons, cancels=0)


FAIR = Weather()
DEADLY = Weather(kill=0.004, trouble=0.1, cancels=0.3)
FROZEN = Weather(stop=0.002, trouble=0.1, slow=0.1)
SILENT = Weather(silent=0.04, lost=0.04, fenced=0.01, outages=2, sluggish=0.05, trouble=0.05)
FICKLE = Weather(trouble=0.5, slow=0.05, odd=0.1, astray=0.3, pauses=1)
SKEWED = Weather(jumps=6, trouble=0.1, slow=0.1, kill=0.001)
POISONED = Weather(poison=0.3, kill=0.001)
STALLED = Weather(stalls=0.02, trouble=0.1, kill=0.001)
ALL = Weather(
    kill=0.002, stop=0.0007, silent=0.01, lost=0.015, fenced=0.003, outages=1, sluggish=0.02, trouble=0.25, slow=0.05,
    odd=0.05, astray=0.2, jumps=2, cancels=0.3, poison=0.03, pauses=1, stalls=0.001,
)  # fmt: skip
WEATHERS = (ALL, ALL, ALL, DEADLY, FROZEN, SILENT, FICKLE, SKEWED, POISONED, STALLED, FAIR)


def weather_of(random: Random) -> Weather:
    """Draw a seed's weather."""
    return replace(random.choice(WEATHERS), hooks=random.random() < 0.7)


class Life:
    """One process, from its start to its death."""

    def __init__(self, name: str, random: Random, weather: Weather, killed: Any) -> None:
        self.name = name
        self.weather = weather
        self.clock = LifeClock(self)
        self.dead = False
        self.died_at = float("inf")
        self.disturbed_at = float("-inf")
        """When it was stopped, or the database failed it, last."""
        self.worker_ids: set[str] = set()
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.random = random
        self._killed = killed
        self._going: asyncio.Future[None] | None = None
        self.closing = False
        self.given_up = False
        """Whether a supervisor takes it for dead when it stands still."""

    async def touch(self) -> None:
        """Pass a point at which the outside is touched; a dead process never does."""
        weather = self.weather
        if not self.dead and (weather.kill or weather.stop):
            drawn = self.random.random()
            if drawn < weather.kill:
                self.kill()
            elif drawn < weather.kill + weather.stop and self._going is None:
                self.stop(self.random.uniform(3, 30))
        await self.alive()

    async def alive(self) -> None:
        """Come back only while the process runs."""
        while self.dead or self._going is not None:
            if self.closing:
                raise asyncio.CancelledError
            if self.dead:
                await asyncio.get_running_loop().create_future()
            elif self._going is not None:
                await asyncio.shield(self._going)

    def kill(self) -> None:
        if self.dead:
            return
        self.dead = True
        self.died_at = asyncio.get_running_loop().time()
        self._killed(self)
        if not self.end.done():
            self.end.set_result(None)

    def stop(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        going = self._going = loop.create_future()
        self.disturbed_at = loop.time() + seconds
        loop.call_later(seconds, self._go_on, going)
        if self.given_up and seconds > GIVEN_UP_S and not self.end.done():
            loop.call_later(GIVEN_UP_S, self.end.cancel)

    def _go_on(self, going: "asyncio.Future[None]") -> None:
        self._going = None
        going.set_result(None)

    @property
    def stopped(self) -> bool:
        return self._going is not None


class LifeClock:
    """A process's clocks: `off_s` is by how much its wall clock is wrong."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._loop: SimLoop = asyncio.get_running_loop()  # type: ignore[assignment]
        self.off_s = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic() + self.off_s)

    def monotonic(self) -> float:
        """Give the loop's time; a machine may stand still between any two readings, for everybody on it."""
        stalls, random = self._life.weather.stalls, self._life.random
        if stalls and random.random() < stalls:
            self._loop.at += random.uniform(0, 2)
            self._loop.stood_still_at = self._loop.at
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if self._life.dead or self._life.stopped:
            await self._life.alive()
