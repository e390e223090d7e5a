"""
The sealed log against itself, its checkpoints, and what is known of it elsewhere.

Owns what leaves, roots and signatures must fulfil: leaves without a gap, every checkpoint's
root the one over the leaves, every checkpoint signed by a key that is trusted. Nothing in the
database is believed: the leaves are folded anew. Pure; rows are given. Next: `verify`.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.audit.chain import Finding
from orchestrator.audit.merkle import Log
from orchestrator.audit.notes import Note, Verifier, read_note
from orchestrator.compliance import Leaf, Seal
from orchestrator.domain.errors import InvalidInput

LOG = "log"
"""What a finding about the log names where others name a chain."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """
    What somebody brings along to verify a database with.

    Attributes:
        keys: The keys whose signatures count; without any, no signature is checked.
        notes: Old checkpoints, each with what to call it.
        sinks: Files that leaves and hashes were carried to.
        announced: Whether an entry that no process of ours has told of in a sink is a finding. One whose
            process died in that very moment is found, too.
        after: Only what came after this checkpoint is verified; a name for it, and the checkpoint.
    """

    keys: Sequence[Verifier] = ()
    notes: Sequence[tuple[str, Note]] = ()
    sinks: Sequence[Path] = ()
    announced: bool = False
    after: tuple[str, Note] | None = None


NO_EVIDENCE = Evidence()


@dataclass(slots=True)
class LogCheck:
    """
    One walk over the log: tell it lives and checkpoints, then the leaves in order, then ask for the end.

    Attributes:
        keys: The keys whose signatures count.
        lives: The database's lives, the present one last.
        log: The log as the leaves make it.
    """

    keys: Sequence[Verifier]
    lives: Sequence[str]
    log: Log = field(default_factory=Log)
    _wanted: dict[int, list[tuple[str, Note]]] = field(default_factory=dict)
    _broken: bool = False
    _base: int = 0

    def __post_init__(self) -> None:
        self._base = self.log.size

    def stored(self, seal: Seal) -> Iterable[Finding]:
        """Check a checkpoint of the database by itself, and remember its root."""
        try:
            note = read_note(seal.note, "note")
        except InvalidInput:
            yield Finding("checkpoint", LOG, seal.size, "the checkpoint's note can't be read")
            return
        told = note.checkpoint
        if (told.size, told.root) != (seal.size, seal.root):
            yield Finding("checkpoint", LOG, seal.size, "the checkpoint's row says something else than its note")
        try:
            folds = Log.unpacked(seal.size, seal.nodes).root == seal.root
        except ValueError:
            folds = False
        if not folds:
            yield Finding("checkpoint", LOG, seal.size, "the checkpoint's nodes are not those of its root")
        if told.life not in self.lives:
            yield Finding("checkpoint", LOG, seal.size, "the checkpoint is of another database")
        yield from self._signed(note, "the checkpoint")
        self._wanted.setdefault(told.size, []).append(("the checkpoint", note))

    def brought(self, name: str, note: Note) -> Iterable[Finding]:
        """
        Check a checkpoint from elsewhere, and remember its root.

        Raises:
            InvalidInput: It is another log's.
        """
        if note.checkpoint.life not in self.lives:
            problem = "is a checkpoint of another database"
            raise InvalidInput(name, problem, f"this one's lives are {', '.join(self.lives)[:200]}")
        yield from self._signed(note, name)
        if note.checkpoint.size > self._base:
            self._wanted.setdefault(note.checkpoint.size, []).append((name, note))

    def _signed(self, note: Note, name: str) -> Iterable[Finding]:
        try:
            if not self.keys or note.signed_by(self.keys):
                return
            what = f"{name} is signed by no key that is trusted here"
        except ValueError as error:
            what = f"{name}: {error}"
        yield Finding("signature", LOG, note.checkpoint.size, what)

    def leaves(self, page: Sequence[Leaf]) -> Iterable[Finding]:
        """Fold leaves into the log, and compare its root wherever a checkpoint was put over it."""
        log, wanted = self.log, self._wanted
        for leaf in page:
            if leaf.idx != log.size:
                yield Finding("log_gap", leaf.chain_id, leaf.seq, f"leaf {leaf.idx} follows leaf {log.size - 1}")
                log.size, log.nodes = 0, []  # what comes after a gap has no root that anybody knows
                self._broken = True
                return
            log.append(leaf.hash)
            if log.size in wanted:
                yield from self._compared(log.size)

    @property
    def broken(self) -> bool:
        """Whether the log has a gap: what lies behind it can't be compared."""
        return self._broken

    def _compared(self, size: int) -> Iterable[Finding]:
        root = self.log.root
        for name, note in self._wanted.pop(size):
            if note.checkpoint.root == root:
                continue
            if note.checkpoint.life != self.lives[-1]:
                what = f"{name} of {size} leaves is not over these leaves; its life of the database has ended"
            else:
                what = f"{name} of {size} leaves is over other leaves"
            yield Finding("root", LOG, size, what)

    def end(self) -> Iterable[Finding]:
        """Tell which checkpoints were never reached."""
        for size in sorted(self._wanted):
            for name, note in self._wanted[size]:
                ended = "" if note.checkpoint.life == self.lives[-1] else "; its life of the database has ended"
                have = "has a gap before that" if self._broken else f"has {self.log.size}"
                yield Finding("root", LOG, size, f"{name} is over {size} leaves, and the log {have}{ended}")


async def walk_log(
    check: LogCheck, seals: AsyncIterator[Sequence[Seal]], leaves: AsyncIterator[Sequence[Leaf]]
) -> AsyncIterator[list[Finding]]:
    """Check everything stored: checkpoints first, then the leaves under them."""
    async for page in seals:
        yield [finding for seal in page for finding in check.stored(seal)]
    async for leaf_page in leaves:
        yield list(check.leaves(leaf_page))
        if check.broken:
            break
    yield list(check.end())
