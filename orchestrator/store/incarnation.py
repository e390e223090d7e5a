"""
Whether the database is still the one that this process knows, or went back in time.

Owns what this process remembers of it: the life (incarnation) it was in, the newest
entry whose commit was acknowledged, and on SQLite which file it was. Every
transaction that writes looks first whether that is still so; a copy that was put
back doesn't hold the entry, and then nothing is written, no intent of a start either,
until a person has said `orchestrator db restored`. Whoever notices leaves word in the
database, for those who know too little to notice. A life that the database itself
names as a former one has been settled by a person: then the present one is taken up.
Next: `restored`.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import (
    Connection,
    Integer,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.domain.entry import Context, Entry
from orchestrator.domain.errors import ConfigurationError, WentBack
from orchestrator.mark import Mark, MarkFile
from orchestrator.store.engines import file_identity
from orchestrator.store.faults import Silent
from orchestrator.store.prepared import Prepared
from orchestrator.store.registers import control_failure, incarnation
from orchestrator.store.schema import audit_entry, notification

CONTROL = "incarnation"
"""What the register of failed controls calls this one."""
_OPEN = (control_failure.c.control == CONTROL, control_failure.c.ended_at.is_(None))

_NEWEST_LIFE = select(incarnation.c.number, incarnation.c.id).order_by(incarnation.c.number.desc()).limit(1)
LIFE = _NEWEST_LIFE.with_only_columns(incarnation.c.id)
"""The database's present life."""
# One statement, looks at indexes' ends and into a register of a few rows: every transaction that writes asks it.
_LOOK = Prepared(select(
    LIFE.scalar_subquery().label("life"),
    select(audit_entry.c.hash)
    .where(audit_entry.c.chain_id == bindparam("chain"), audit_entry.c.seq == bindparam("seq"))
    .scalar_subquery()
    .label("hash"),
    select(control_failure.c.cause).where(*_OPEN).limit(1).scalar_subquery().label("word"),
))  # fmt: skip
_mine = audit_entry.alias()
# What the host was told is numbered in the order of its writing; entries of all chains together are not.
_NEWEST = (
    select(audit_entry.c.chain_id, audit_entry.c.seq, audit_entry.c.hash)
    .join_from(notification, audit_entry, and_(*(
        notification.c.payment_id == audit_entry.c.chain_id, notification.c.seq == audit_entry.c.seq,
    )))
    .where(
        # A copy that was put back meanwhile must not teach us what is newest.
        LIFE.scalar_subquery() == bindparam("life"),
        or_(
            bindparam("at_seq", type_=Integer) == 0,
            exists().where(_mine.c.chain_id == bindparam("at_chain"), _mine.c.seq == bindparam("at_seq", type_=Integer),
                           _mine.c.hash == bindparam("at_hash")),
        ),
    )
    .order_by(notification.c.id.desc())
    .limit(1)
)  # fmt: skip
_REPLICA = text("select pg_is_in_recovery()")
_NOW = {
    "sqlite": literal_column("strftime('%Y-%m-%dT%H:%M:%f', 'now') || '000Z'"), "postgresql": func.now(),
}  # fmt: skip
_FORMER = select(incarnation.c.number).where(incarnation.c.id == bindparam("life"))

UNSET = "mark_file is not set"
OTHERS = "somebody has noticed: "

Told = Callable[[str, str], None]
"""Called with a log event's name and a reason."""


@dataclass(frozen=True, slots=True)
class Standing:
    """
    How the database stands in time, as this process sees it.

    Attributes:
        went_back: What shows that it went back; empty while nothing does.
        marked: Whether a mark is kept outside the database.
        trouble: Why the mark could not be kept; empty if it could.
    """

    went_back: str = ""
    marked: bool = False
    trouble: str = ""


class Witness:
    """
    What one process remembers of the database.

    Args:
        sink: Where the mark is kept; `None` keeps none, and then only a process that
            runs meanwhile notices.
        file: The SQLite file; `None` on PostgreSQL.
        told: Hears of what changes.
    """

    def __init__(self, sink: MarkFile | None, file: Path | None, told: Told) -> None:
        self._sink = sink
        self._file = file
        self._told = told
        self._known: Mark | None = None
        self._kept: Mark | None = None
        self._fresh = False
        """Whether an entry of this process's own was acknowledged since the mark was kept last."""
        self._identity: tuple[int, int] | None = None
        self.standing = Standing(marked=sink is not None, trouble="" if sink is not None else UNSET)

    def begin(self, connection: Connection) -> None:
        """
        Take up the mark, and compare the database with it.

        Raises:
            ConfigurationError: The mark can't be read.
            WentBack: The database is older than the mark.

        Crash: nothing was written.
        """
        self._kept = self._sink.read() if self._sink is not None else None
        self._known = self._kept
        self._identity = file_identity(self._file)
        self.demand(connection)
        self.catch_up(connection)
        if self._sink is None:
            self._told("mark.missing", UNSET)
        elif self._kept is None and self._known is not None and self._known.seq:
            self._told("mark.missing", "there is none of this database yet")

    def demand(self, connection: Connection) -> None:
        """
        Insist that what this process knows of the database is still so.

        Raises:
            WentBack: It isn't, or somebody else has noticed.
            Silent: A replica was asked, which may lag behind.
        """
        why = self._found(connection)
        if why:
            raise self._noticed(why)
        if self.standing.went_back:
            self.standing = replace(self.standing, went_back="")
            self._told("database.recovered", "a new life was begun by a person")

    def refusal(self, connection: Connection) -> WentBack | None:
        """
        Tell why nothing may be written in this transaction, and leave word of it there for the others.

        Raises:
            Silent: A replica was asked, which may lag behind.

        Crash: the word is there or not; whoever looks next leaves it.
        """
        known = self._known  # as it is before the look: somebody else may learn of a new life meanwhile
        try:
            self.demand(connection)
        except WentBack as refusal:
            if not refusal.why.startswith(OTHERS):
                _leave_word(connection, refusal.why, known.incarnation if known else "")
            return refusal
        return None

    def _found(self, connection: Connection) -> str:
        """Tell why the database is not what it was, or nothing."""
        known = self._known or Mark("")
        row = _LOOK.run(connection, chain=known.chain, seq=known.seq).one()
        life, why = row.life or "", ""
        if self._known is None:
            self._known = Mark(life)
        elif life != known.incarnation:
            if connection.scalar(_FORMER, {"life": known.incarnation}) is None:
                why = "it does not know the life that it was in"
            else:
                self._known, self._fresh = Mark(life), False
                self._identity = file_identity(self._file)
        elif self._identity != file_identity(self._file):
            why = "its file was replaced while it was open"
        elif known.seq and (row.hash is None or bytes(row.hash).hex() != known.hash):
            why = "it has lost an entry that was acknowledged"
        if why and connection.dialect.name == "postgresql" and connection.scalar(_REPLICA):
            raise Silent("a replica answers, which may lag behind")
        return why or (OTHERS + row.word if row.word else "")

    def unmoved(self) -> bool:
        """Tell whether the file that was written to is still the one at its place; true on PostgreSQL."""
        return self._identity is None or self._identity == file_identity(self._file)

    def saw(self, entry: Entry, count: int = 1) -> None:
        """Remember an entry whose commit was acknowledged, the newest of so many."""
        if self._known is not None:
            self._remember(entry.chain_id, entry.seq, entry.hash, count)
            self._fresh = True

    def catch_up(self, connection: Connection) -> None:
        """Know of what others have written, if this process itself has written nothing lately."""
        known = self._known
        if known is None or self._fresh or self.standing.went_back:
            return
        there = {"life": known.incarnation, "at_chain": known.chain, "at_seq": known.seq}
        newest = connection.execute(_NEWEST, there | {"at_hash": bytes.fromhex(known.hash)}).first()
        if newest is not None and known is self._known:  # else something was acknowledged or noticed meanwhile
            self._remember(newest.chain_id, newest.seq, bytes(newest.hash), 0)

    def _remember(self, chain: str, seq: int, digest: bytes, count: int) -> None:
        known = self._known or Mark("")
        self._known = replace(known, entries=known.entries + count, chain=chain, seq=seq, hash=digest.hex())

    async def keep(self) -> None:
        """
        Keep the mark outside the database, if there is anything new; trouble with that is told, never raised.

        Crash: the former mark or the new one is there.
        """
        mark, self._fresh = self._known, False
        if self._sink is None or mark is None or mark == self._kept or self.standing.went_back:
            return
        try:
            await asyncio.to_thread(self._sink.write, mark)
        except ConfigurationError as error:
            if self.standing.trouble != error.problem:
                self._told("mark.failed", error.problem)
            self.standing = replace(self.standing, trouble=error.problem)
            return
        self._kept = mark
        self.standing = replace(self.standing, trouble="")

    def _noticed(self, why: str) -> WentBack:
        if self.standing.went_back != why:
            self.standing = replace(self.standing, went_back=why)
            self._told("database.rewound", why)
        return WentBack(why)


def _leave_word(connection: Connection, why: str, life: str) -> None:
    """
    Write down that the control has failed, once for each life that is missed.

    Not when a person has begun a new life since we looked: nobody would settle it. A user without
    the right to it says nothing.
    """
    unless = ~exists().where(*_OPEN, control_failure.c.issues == life)
    still = or_(LIFE.scalar_subquery() == life, ~exists().where(incarnation.c.id == life))
    row = select(literal(CONTROL), _NOW[connection.dialect.name], literal(why), literal(life)).where(unless, still)
    columns = ["control", "started_at", "cause", "issues"]
    with contextlib.suppress(SQLAlchemyError), connection.begin_nested():
        connection.execute(insert(control_failure).from_select(columns, row))


def lost_lives(connection: Connection, marked: str = "") -> Sequence[str]:
    """
    Give the lives that somebody knew and the database does not: a copy from before they began was put back.

    Args:
        connection: To the database.
        marked: The life that a mark names.
    """
    missed = set(connection.scalars(select(control_failure.c.issues).where(*_OPEN))) | {marked}
    known = set(connection.scalars(select(incarnation.c.id)))
    return sorted(life for life in missed - known if life)


def settle_failures(connection: Connection, context: Context, reason: str) -> None:
    """
    Write down that the control works again, since a person has begun a new life.

    Crash: part of the caller's transaction.
    """
    # Whose clock is behind may not end a failure before it began.
    begun = control_failure.c.started_at
    now = literal(context.now, begun.type)
    done = {"ended_at": case((begun > now, begun), else_=now), "resumed_at": case((begun > now, begun), else_=now)}
    said = {"further_action": "every payment that had not ended is held for a person", "prevention": "not said yet"}
    # The life that was missed stands there already; a failure without one is a copy's own.
    issues = func.coalesce(func.nullif(control_failure.c.issues, ""), "no life was missed")
    told = {"remediation": reason, "owner": context.actor, "issues": issues, **said}
    connection.execute(update(control_failure).where(*_OPEN).values(**done, **told))


def life_of(connection: Connection) -> tuple[int, str]:
    """Give number and id of the database's present life."""
    row = connection.execute(_NEWEST_LIFE).one()
    return row.number, row.id
