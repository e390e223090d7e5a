"""
The sealer: appends what waits to the log, signs a checkpoint, and carries both off the database.

Owns when to seal, what goes into a sink, and that nothing is sealed in a database that does
not hold what a sink has been told. Knows Protocols, no database, no key and no file.
Next: `verify`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from orchestrator.audit.lines import checkpoint_line, leaf_line
from orchestrator.audit.merkle import Log
from orchestrator.audit.notes import Checkpoint, Note, Signer, read_note, signed_note
from orchestrator.compliance import Lag, Leaf, Seal
from orchestrator.domain.entry import Context
from orchestrator.domain.errors import ControlFailed, InvalidInput, Unavailable
from orchestrator.ports import Clock
from orchestrator.telemetry import emit

LOG, EXPORT = "seal", "export"
"""What the register of failed controls calls the two halves of the seal."""


class Sealed(Protocol):
    """What a sealer asks of the database."""

    async def lag(self) -> Lag:
        """Tell how much waits, since when, and when was sealed last."""
        ...

    async def seal(self, close: Callable[[str, Seal | None, Sequence[bytes]], Seal]) -> Seal | None:
        """Append what waits and put a checkpoint over it; `None` when nothing waits."""
        ...

    async def seals(self, after: int = 0) -> Sequence[Seal]:
        """Give a page of seals of more than `after` leaves, the smallest first."""
        ...

    def leaves(self, begin: int, end: int) -> AsyncIterator[Sequence[Leaf]]:
        """Give leaves in order, page by page."""
        ...

    async def lives(self) -> Sequence[str]:
        """Give the database's lives, the present one last."""
        ...

    async def note(self, kind: str, *, about: str, context: Context, details: Mapping[str, Any]) -> object:
        """Write the next administrative entry."""
        ...


class Sink(Protocol):
    """A place off the database; its verbs block, and are called in a thread."""

    @property
    def name(self) -> str:
        """What errors call it."""
        ...

    def reached(self) -> str | None:
        """Give the note of the newest checkpoint that it holds; `None` for none, or if it can't tell."""
        ...

    def write(self, lines: Sequence[bytes]) -> None:
        """Append lines, durably; raises `OSError`."""
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """
    When to seal.

    Attributes:
        every_s: Seconds after which whatever waits is sealed.
        entries: How many waiting entries are sealed at once, whatever the time.
    """

    every_s: float = 30.0
    entries: int = 500

    @property
    def late_s(self) -> float:
        """Seconds after which an entry that still waits is a control that has failed."""
        return max(4 * self.every_s, 60.0)


@dataclass(slots=True)
class Sealer:
    """
    One process's sealer; any number may run, and one of them seals at a time.

    Attributes:
        store: The database.
        keys: Every key signs.
        name: The log's name, the same in every process.
        sinks: Where leaves and checkpoints go.
        clock: Time.
        context: Gives who acts, when, from where.
        terms: When to seal.
    """

    store: Sealed
    keys: Sequence[Signer]
    name: str
    sinks: Sequence[Sink]
    clock: Clock
    context: Callable[[], Context]
    terms: Terms = Terms()
    _reached: dict[str, int] = field(default_factory=dict)

    async def turn(self) -> bool:
        """
        Seal if it is time, and export what is not exported.

        Returns:
            Whether something was sealed.

        Raises:
            ControlFailed: Sealing or exporting has failed; which, and why.
            WentBack: The database is an older copy of itself.
            Unavailable: The database does not answer.

        Crash: as `seal`.
        """
        lag = await self.store.lag()
        waited = self.clock.now() - lag.since if lag.since is not None else timedelta()
        emit("seal.measured", waiting=lag.waiting, since_s=round(waited.total_seconds(), 3))
        if lag.waiting and (lag.waiting >= self.terms.entries or self._old(lag)):
            return bool(await self.seal())
        await self._export()
        return False

    def _old(self, lag: Lag) -> bool:
        newest = lag.newest.created_at if lag.newest is not None else lag.since
        return newest is None or newest <= self.clock.now() - timedelta(seconds=self.terms.every_s)

    async def seal(self) -> Seal | None:
        """
        Seal everything that waits now, and export it.

        Returns:
            The newest seal of this call; `None` if nothing waited.

        Raises:
            ControlFailed: As `turn`.

        Crash: whatever is sealed is in the database, and the next call of anybody exports it.
        """
        await self._compare()
        lag = await self.store.lag()
        if lag.waiting:
            await self._tell_keys(lag.newest)
        made = None
        while (sealed := await self.store.seal(self._close)) is not None:
            made = sealed
            emit("seal.made", size=sealed.size)
            if (await self.store.lag()).waiting < self.terms.entries:
                break
        await self._export()
        return made

    def _close(self, life: str, before: Seal | None, hashes: Sequence[bytes]) -> Seal:
        log = Log() if before is None else _log_of(before)
        log.extend(hashes)
        note = signed_note(Checkpoint(f"{self.name}/{life}", log.size, log.root), self.keys)
        return Seal(log.size, log.root, log.packed, note.text, self.clock.now())

    async def _tell_keys(self, before: Seal | None) -> None:
        """Write down that a key begins to sign, so that the trail itself says which keys have."""
        signed = read_note(before.note, "note").signatures if before is not None else ()
        known = {(line.name, line.key_id) for line in signed}
        for key in self.keys:
            if (key.name, key.key_id) not in known:
                details = {"log": self.name, "key": str(key.public)}
                await self.store.note("key.used", about=key.name, context=self.context(), details=details)

    async def _compare(self) -> None:
        """
        Make sure that the database holds what each sink was told.

        Raises:
            ControlFailed: A sink knows a checkpoint that the database does not: it went back in time, or was changed.
        """
        lives = await self.store.lives()
        for sink in self.sinks:
            note = await self._newest_in(sink)
            if note is None or note.checkpoint.life != lives[-1]:
                if note is not None and note.checkpoint.life not in lives:
                    raise ControlFailed(LOG, f"{sink.name} belongs to another database")
                continue
            here = await self.store.seals(note.checkpoint.size - 1)
            if not here or (here[0].size, here[0].root) != (note.checkpoint.size, note.checkpoint.root):
                why = f"the database does not hold the checkpoint of {note.checkpoint.size} that is in {sink.name}"
                raise ControlFailed(LOG, why)

    async def _newest_in(self, sink: Sink) -> Note | None:
        try:
            text = await asyncio.to_thread(sink.reached)
        except OSError as error:
            raise ControlFailed(EXPORT, f"{sink.name} can't be read ({type(error).__name__})") from None
        return None if text is None else read_note(text, sink.name)

    async def _export(self) -> None:
        life = (await self.store.lives())[-1] if self.sinks else ""
        for sink in self.sinks:
            if sink.name not in self._reached:
                note = await self._newest_in(sink)
                ours = note is not None and note.checkpoint.life == life
                self._reached[sink.name] = note.checkpoint.size if note is not None and ours else 0
            await self._export_to(sink, life)

    async def _export_to(self, sink: Sink, life: str) -> None:
        while seals := await self.store.seals(self._reached[sink.name]):
            for seal in seals:
                if read_note(seal.note, "note").checkpoint.life == life:
                    await self._carry(sink, seal)
                self._reached[sink.name] = seal.size

    async def _carry(self, sink: Sink, seal: Seal) -> None:
        lines = []
        async for page in self.store.leaves(self._reached[sink.name], seal.size):
            lines += [leaf_line(leaf) for leaf in page]
        try:
            await asyncio.to_thread(sink.write, [*lines, checkpoint_line(seal.note)])
        except OSError as error:
            raise ControlFailed(EXPORT, f"{sink.name} can't be written to ({type(error).__name__})") from None

    async def failing(self) -> str:
        """Tell why the seal is late, or nothing."""
        try:
            lag = await self.store.lag()
        except Unavailable:
            return ""
        return late(lag, self.clock.now(), self.terms)


@dataclass(frozen=True, slots=True)
class SealWatch:
    """
    Minds that somebody else seals in time, where this process has no key to do so.

    Attributes:
        store: The database.
        clock: Time.
        terms: How late is too late.
    """

    store: Sealed
    clock: Clock
    terms: Terms

    async def turn(self) -> bool:
        """Do nothing."""
        return False

    async def failing(self) -> str:
        """Tell why the seal is late, once there has been one; whether there ever was one, health tells."""
        lag = await self.store.lag()
        return "" if lag.newest is None else late(lag, self.clock.now(), self.terms)


def _log_of(seal: Seal) -> Log:
    """Give the log as its newest checkpoint left it."""
    with contextlib.suppress(ValueError, InvalidInput):
        log = Log.unpacked(seal.size, seal.nodes)
        if log.root == seal.root == read_note(seal.note, "note").checkpoint.root:
            return log
    raise ControlFailed(LOG, "the newest checkpoint does not hold together; see `orchestrator audit verify`")


def late(lag: Lag, now: datetime, terms: Terms) -> str:
    """Tell since when entries wait for their seal, if that is too long."""
    if lag.since is None or lag.since > now - timedelta(seconds=terms.late_s):
        return ""
    return f"entries have waited for their seal since {lag.since:%Y-%m-%d %H:%M:%S} UTC"
