"""
What was carried off the database, against the database.

Owns how a sink's lines are compared with the trail: an entry that was acknowledged or sealed
must be there, and be the same. That finds what no row of the database can show: a tail
that was cut off or rewritten before it was sealed, and a log that was made anew. Next: `verify`.
"""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

from orchestrator.audit.chain import Finding
from orchestrator.audit.lines import Told, read_lines
from orchestrator.audit.notes import read_note
from orchestrator.domain.errors import InvalidInput

PAGE = 400
"""Entries asked for at a time; a database takes only so many parameters."""

Key = tuple[str, int]
Hashes = Callable[[Collection[Key]], Awaitable[Mapping[Key, bytes]]]
"""Gives the hashes of those entries that are there."""


@dataclass(frozen=True, slots=True)
class Carried:
    """
    A sink's file, as it was at one moment.

    Attributes:
        name: What findings call it.
        file: Opened in binary.
        size: How much of it was there.
    """

    name: str
    file: BinaryIO
    size: int

    def lines(self) -> Iterator[Told | int]:
        """Give its lines, from the first on."""
        return read_lines(self.file, self.size)

    def notes(self) -> Iterator[tuple[int, str]]:
        """Give its checkpoints, each with its line."""
        for line in self.lines():
            if isinstance(line, Told) and line.note:
                yield line.number, line.note

    def announced(self) -> Iterator[bytes]:
        """Give the hashes of the entries that our own processes told of when they had written them."""
        for line in self.lines():
            if isinstance(line, Told) and line.chain and line.idx is None:
                yield line.hash


@dataclass(slots=True)
class SinkCheck:
    """
    One walk over a sink's file.

    Attributes:
        carried: The file.
        lives: The database's lives, the present one last.
        lost: How many entries it tells of went with a former life of the database, as a person has declared.
    """

    carried: Carried
    lives: Sequence[str]
    lost: int = 0

    async def walk(self, hashes: Hashes) -> AsyncIterator[list[Finding]]:
        """Compare every line about an entry with what `hashes` finds."""
        born = self._born() if len(self.lives) > 1 else 0
        lines = self.carried.lines()
        while page := list(islice(lines, PAGE)):
            told = [line for line in page if isinstance(line, Told) and line.chain]
            there = await hashes({(line.chain, line.seq) for line in told})
            yield list(self._compared(told, there, born))

    def _born(self) -> int:
        """
        Give the line of the present life's first checkpoint: what was told before may have been lost with it.

        Without one that is everything: then this life has not been sealed yet.
        """
        begun = (number for number, note in self.carried.notes() if self._life(note) == self.lives[-1])
        return next(begun, sys.maxsize)

    def _life(self, note: str) -> str:
        try:
            return read_note(note, self.carried.name).checkpoint.life
        except InvalidInput:
            return ""

    def _compared(self, told: Sequence[Told], there: Mapping[Key, bytes], born: int) -> Iterator[Finding]:
        for line in told:
            found = there.get((line.chain, line.seq))
            if found == line.hash:
                continue
            if line.number < born:
                self.lost += 1
                continue
            what = "is not there" if found is None else "is another one there"
            yield Finding(
                "sink", line.chain, line.seq, f"the entry in line {line.number} of {self.carried.name} {what}"
            )
