"""
What is done to the system rather than to a payment: notes in the day's chain, paused accounts, new definitions.

Owns the chains `admin-<day>`: each note takes the next number under a lock and
carries its change with it in one transaction, so that nothing is changed without
its entry. Must not know who may do what. Next: `store`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, delete, insert, select, text
from sqlalchemy.dialects import postgresql

from orchestrator.domain.entry import NO_HASH, Context, Entry, sealed_entry
from orchestrator.domain.errors import IntegrityViolated, Unavailable
from orchestrator.domain.kinds import known
from orchestrator.domain.machine import START
from orchestrator.records import Pause
from orchestrator.store.access import Database
from orchestrator.store.faults import Refused, Silent, unavailable
from orchestrator.store.hints import hint
from orchestrator.store.prepared import Prepared
from orchestrator.store.registers import account_pause
from orchestrator.store.rows import ENTRY_COLUMNS, entry_of, row_of_entry
from orchestrator.store.schema import audit_entry, definition, unsealed

Change = Callable[[Connection], bool]
"""What a note is about, in the note's own transaction; `False` when there is nothing to change, and so to note."""

MOST_NOTES = 10_000
_PAUSES = tuple(account_pause.c[name] for name in ("account", "person", "reason", "paused_at"))
_PAUSED = Prepared(select(*_PAUSES).order_by(account_pause.c.account), _PAUSES)
_RACES = 20
_OPEN = "open"
_TAKEN = ("pk_audit_entry", "uq_audit_entry_head")
_NOTHING: Mapping[str, Any] = MappingProxyType({})


def chain_of(at: datetime) -> str:
    """Give the chain of the administrative entries of this day, UTC."""
    return f"admin-{at.astimezone(UTC):%Y-%m-%d}"


@dataclass(frozen=True, slots=True)
class _Note:
    """What an entry of the day's chain says, whatever its number."""

    kind: str
    about: str
    context: Context
    details: Mapping[str, Any]
    result: str

    def after(self, seq: int, head: bytes) -> Entry:
        """Give the entry that follows the chain's last one."""
        return sealed_entry(
            chain_id=chain_of(self.context.now), seq=seq + 1, prev_hash=head, trigger="note",
            from_state=_OPEN if seq else START, to_state=_OPEN, kind=self.kind, result=self.result, about=self.about,
            context=self.context, details=self.details,
        )  # fmt: skip


def noted_within(
    connection: Connection, kind: str, *, about: str, context: Context, details: Mapping[str, Any]
) -> Entry:
    """
    Write the next entry of the day's chain in a transaction that is the caller's.

    Raises:
        ValueError: The kind is unknown.

    Crash: part of the caller's transaction.
    """
    seq, head = _locked(connection, chain_of(context.now))
    entry = _Note(known(kind), about, context, details, "success").after(seq, head)
    _written(connection, entry)
    return entry


class Admin:
    """The verbs of administration."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(
        self,
        kind: str,
        *,
        about: str,
        context: Context,
        details: Mapping[str, Any] = _NOTHING,
        result: str = "success",
        change: Change | None = None,
    ) -> Entry | None:
        """
        Write the next entry of the day's chain, together with what it is about.

        Args:
            kind: What kind of event, one of `domain.kinds.ADMIN`.
            about: What it is about, such as the account's name.
            context: Who, when, from where; the day is taken from it.
            details: More for the body: ASCII keys, canonical JSON values; no payer data, no secret.
            result: `success`, `failure` or `unknown`.
            change: Writes, in the entry's own transaction, what the entry tells of. It is
                called again when the transaction is tried again.

        Returns:
            The entry; `None` if `change` found nothing to do: then nothing was written.

        Raises:
            ValueError: The kind is unknown.
            IntegrityViolated: The database refuses the entry or the change. Nothing was written.
            Unavailable: The database does not answer; whether it was written is unknown.

        Crash: entry and change are written together or not at all. When the COMMIT's
        answer is lost, this call finds its own entry and writes no second one.
        """
        tried: list[Entry] = []
        told = _Note(known(kind), about, context, details, result)

        def work(connection: Connection) -> Entry | None:
            seq, head = _locked(connection, chain_of(context.now))
            written = _already(connection, tried)
            if written is not None:
                return written
            if change is not None and not change(connection):
                return None
            tried.append(told.after(seq, head))
            _written(connection, tried[-1])
            return tried[-1]

        entry = await self._raced(work)
        if entry is not None:
            self._acknowledged_note(entry)
        return entry

    def _acknowledged_note(self, entry: Entry) -> None:
        """Hear of an entry that was committed, and told to be."""

    async def noted(self, kinds: Collection[str], *, since: datetime) -> Sequence[Entry]:
        """
        Give the notes of these kinds since then, in order; at most the 10,000 newest, and of two days.

        Raises:
            Unavailable: The database does not answer.
        """
        days = [chain_of(since + timedelta(days=number)) for number in range(2)]
        newest = (
            select(*(audit_entry.c[name] for name in ENTRY_COLUMNS))
            .where(audit_entry.c.chain_id.in_(days), audit_entry.c.at >= since, audit_entry.c.kind.in_(sorted(kinds)))
            .order_by(audit_entry.c.chain_id.desc(), audit_entry.c.seq.desc())
            .limit(MOST_NOTES)
        )

        def work(connection: Connection) -> Sequence[Entry]:
            return [entry_of(row) for row in reversed(connection.execute(newest).mappings().all())]

        return await self._database.read(work)

    async def paused_accounts(self) -> dict[str, Pause]:
        """
        Give the accounts that an operator has paused, by name.

        Raises:
            Unavailable: The database does not answer.
        """

        def work(connection: Connection) -> dict[str, Pause]:
            return {row[0]: Pause(row[1], row[2], row[3]) for row in _PAUSED.rows(connection)}

        return await self._database.read(work)

    async def pause_account(self, account: str, *, reason: str, context: Context) -> bool:
        """
        Pause an account, with an entry `account.paused`.

        Args:
            account: Its name.
            reason: Why; not empty, no payer data. Row and entry keep it.
            context: Who (`actor`), when, from where.

        Returns:
            `False` if it is paused already: nothing was written, the earlier reason stays.

        Raises:
            IntegrityViolated: Name, person or reason is empty. Nothing was written.
            Unavailable: The database does not answer; the same call again is safe.

        Crash: row and entry are written together or not at all.
        """
        row = {"account": account, "paused_at": context.now, "person": context.actor, "reason": reason}

        def change(connection: Connection) -> bool:
            if connection.scalar(select(account_pause.c.account).where(account_pause.c.account == account)):
                return False
            connection.execute(insert(account_pause), [row])
            return True

        return await self._noted("account.paused", account, reason, context, change)

    async def resume_account(self, account: str, *, reason: str, context: Context) -> bool:
        """
        End an account's pause, with an entry `account.resumed`.

        Args:
            account: Its name.
            reason: Why; only the entry keeps it. No payer data.
            context: Who, when, from where.

        Returns:
            `False` if it is not paused: nothing was written.

        Raises:
            Unavailable: The database does not answer; the same call again is safe.

        Crash: the row goes together with the entry's writing, or neither happens.
        """

        def change(connection: Connection) -> bool:
            done = connection.execute(delete(account_pause).where(account_pause.c.account == account))
            hint(connection)  # what was due meanwhile is due now
            return done.rowcount == 1

        return await self._noted("account.resumed", account, reason, context, change)

    async def publish_definition(self, digest: str, name: str, text: str, *, context: Context) -> None:
        """
        Keep a definition's masked text by its digest, with an entry `definition.published`; equal ones are one row.

        Raises:
            IntegrityViolated: The digest is there with another text.
            Unavailable: The database does not answer; the same call again is safe.

        Crash: row and entry are written together or not at all.
        """
        row = {"digest": digest, "name": name, "text": text, "created_at": context.now}
        kept = select(definition.c.text).where(definition.c.digest == digest)

        def look(connection: Connection) -> str | None:
            found: str | None = connection.scalar(kept)
            return found

        def change(connection: Connection) -> bool:
            if look(connection) is not None:
                return False
            # Two that publish at midnight write into two chains, and so don't wait for each other's lock.
            again = postgresql.insert(definition).on_conflict_do_nothing()
            done = connection.execute(again if self._database.dialect == "postgresql" else insert(definition), [row])
            return done.rowcount == 1

        # Looked at first without a lock: nearly always it is there.
        there = await self._database.read(look)
        if there is None:
            details = {"name": name, "digest": digest}
            await self.note("definition.published", about=name, context=context, details=details, change=change)
            there = await self._database.read(look)
        if there != text:
            raise IntegrityViolated("a definition's text is not the one that its digest was made of")

    async def _noted(self, kind: str, account: str, reason: str, context: Context, change: Change) -> bool:
        details = {"account": account, "reason": reason}
        return await self.note(kind, about=account, context=context, details=details, change=change) is not None

    async def _raced(self, work: Callable[[Connection], Entry | None]) -> Entry | None:
        # The lock makes losing rare; it can't be excluded, since `append` takes none.
        for _ in range(_RACES):
            try:
                return await self._database.transact(work)
            except Refused as refused:
                if refused.rule not in _TAKEN:
                    raise refused.told() from None
            except Silent as silent:
                raise unavailable(silent) from silent
        raise Unavailable("the day's chain of administrative entries is too busy; try again")


def _locked(connection: Connection, chain_id: str) -> tuple[int, bytes]:
    """Lock the chain until the transaction ends and give its last number and hash."""
    if connection.dialect.name == "postgresql":
        # Not the last row's lock: a writer of the trail has no right to update it. SQLite's writers queue anyway.
        lock = text("select pg_advisory_xact_lock(hashtextextended(:chain, 0))")
        connection.execute(lock, {"chain": chain_id})
    last = (
        select(audit_entry.c.seq, audit_entry.c.hash)
        .where(audit_entry.c.chain_id == chain_id)
        .order_by(audit_entry.c.seq.desc())
        .limit(1)
    )
    row = connection.execute(last).first()
    return (row.seq, bytes(row.hash)) if row is not None else (0, NO_HASH)


def _written(connection: Connection, entry: Entry) -> None:
    connection.execute(insert(audit_entry), [row_of_entry(entry)])
    connection.execute(insert(unsealed), [{"chain_id": entry.chain_id, "seq": entry.seq}])


def _already(connection: Connection, tried: list[Entry]) -> Entry | None:
    """Give the entry of an earlier try whose COMMIT went through though its answer was lost."""
    for entry in tried:
        here = (audit_entry.c.chain_id == entry.chain_id) & (audit_entry.c.seq == entry.seq)
        found = connection.scalar(select(audit_entry.c.hash).where(here))
        if found is not None and bytes(found) == entry.hash:
            return entry
    return None
