"""
The one door's writes: births and records, whole groups in one transaction.

Owns the fence and the order of statements: lock, compare, entries, payments,
COMMIT, which looks at the deferred rules. Rows are locked in id order, because unordered groups of
several processes deadlock. Must not decide anything about a payment.
Next: `claims`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Generic

from sqlalchemy import Connection, select

from orchestrator.domain.decision import Decision
from orchestrator.domain.errors import Fenced, NotFound, OrchestratorError
from orchestrator.domain.payment import Payment, evolved
from orchestrator.records import Birth, Record
from orchestrator.store.access import Database
from orchestrator.store.bulk import Bulk, Row, carry_out
from orchestrator.store.faults import Refused, Silent, unavailable
from orchestrator.store.group import Group
from orchestrator.store.hints import hint
from orchestrator.store.prepared import Prepared, within
from orchestrator.store.rows import (
    CHANGING,
    COLUMNS,
    ENTRY_COLUMNS,
    entry_values,
    made_of,
    moved_values_of,
    values_of,
)
from orchestrator.store.schema import audit_entry, notification, payer_data, payment, unsealed
from orchestrator.store.ways import Result, Work

GATHER_S = 0.008
"""A busy group's transactions begin no closer together, in seconds; an idle one's wait for nobody."""


@dataclass(frozen=True, slots=True)
class Act(Generic[Result]):
    """
    Something else to write that is happy to share a transaction.

    Attributes:
        work: Writes it; done anew when the transaction is tried again.
        again: Whether it may be: otherwise its caller is told that nobody knows.
    """

    work: Work[Result]
    again: bool = True


Item = Birth | Record | Act[Any]
_ENTRIES = Bulk(audit_entry, ENTRY_COLUMNS)
_LEAVES = Bulk(unsealed, ("chain_id", "seq"))
_BIRTHS = Bulk(payment, COLUMNS)
_MOVES = Bulk(payment, ("id", *CHANGING))
_SEALED = Bulk(payer_data, ("payment_id", "sealed", "updated_at"))
_NOTICES = Bulk(notification, ("payment_id", "seq", "event", "tries", "created_at", "due_at", "expires_at"))
_FENCE = Prepared(lambda dialect: (
    select(
        payment.c.id, payment.c.version, payment.c.head_hash, payment.c.claimed_by, payment.c.claim_no,
        payment.c.progress_claim,
    ).where(within(payment.c.id, "ids", dialect)).order_by(payment.c.id).with_for_update()
))  # fmt: skip
_THERE = Prepared(lambda dialect: select(payment).where(within(payment.c.id, "ids", dialect)), payment.columns)
_SAME_BIRTH = ("pk_audit_entry", "uq_audit_entry_head", "pk_payment")


@dataclass(slots=True)
class _Rows:
    """What one group adds and changes."""

    entries: list[Row] = field(default_factory=list)
    births: list[Row] = field(default_factory=list)
    moves: list[Row] = field(default_factory=list)
    notices: list[Row] = field(default_factory=list)
    sealed: list[Row] = field(default_factory=list)
    stirs: bool = False
    """Whether something is due now that any worker may take, or a notice waits."""

    def add(self, decision: Decision, sealed: bytes | None) -> None:
        self.entries += map(entry_values, decision.entries)
        if not decision.notices and sealed is None:
            return
        self.stirs |= bool(decision.notices)
        payment_id, at = decision.payment.id, decision.entries[-1].at
        self.notices += [
            (payment_id, notice.seq, notice.event, 0, at, at, notice.expires_at) for notice in decision.notices
        ]
        if sealed is not None:
            self.sealed.append((payment_id, sealed, at))


class Writes:
    """The verbs that write payments and their trail."""

    def __init__(self, database: Database, *, group_limit: int = 128, gather_s: float = GATHER_S) -> None:
        self._database = database
        self._group: Group[Item, Any] = Group(self._write, key=_key, limit=group_limit, gather_s=gather_s)

    async def submit(self, birth: Birth) -> Payment:
        """
        Record a birth, or give the payment that already has this id.

        Args:
            birth: The payment with its one entry, and its sealed fields.

        Raises:
            Conflict: A live payment has the same (account, reference), or a live phone
                session the same (account, CallGuid).
            Unavailable: The database does not answer; the same call again is safe.

        Crash: before the COMMIT there is no payment, after it there is; the same call
        again gives it.
        """
        _check(birth.decision, birth.sealed)
        born: Payment = await self._group.put(birth)
        return born

    async def alone(self, birth: Birth) -> Payment:
        """Do as `submit` does, in this very task and without company: for a connection that is the caller's."""
        _check(birth.decision, birth.sealed)
        (result,) = await self._write([birth])
        if isinstance(result, Exception):
            raise result
        born: Payment = result
        return born

    async def record(self, record: Record) -> Payment:
        """
        Write one decision; concurrent calls share a transaction.

        A decision without entries writes only the due time and the claim.

        Returns:
            The payment as it is stored, the claim included.

        Raises:
            Fenced: Version or claim is not what `decision.before` says. Nothing was written.
            NotFound: There is no such payment.
            Conflict: A unique rule of the database refuses it. Nothing was written.
            IntegrityViolated: Another rule of the database refuses it. Nothing was written.
            Unavailable: The database does not answer; whether it was written is unknown,
                and the same call again is safe.

        Crash: entries, payment, notices and fields are written together or not at all.
        When the COMMIT's answer is lost, the stored head tells whether it happened.
        """
        _check(record.decision, record.sealed)
        recorded: Payment = await self._group.put(record)
        return recorded

    async def act(self, work: Work[Result], *, again: bool = True) -> Result:
        """
        Do one more thing in whatever transaction is next; otherwise as `Database.write`.

        Args:
            work: Writes; a rule that it breaks costs the others of its group a transaction each.
            again: Whether it may be done again when nobody knows whether it was done.
        """
        done: Result = await self._group.put(Act(work, again))
        return done

    async def _write(self, items: Sequence[Item]) -> Sequence[Any]:
        tries = 0

        def work(connection: Connection) -> Sequence[Any]:
            nonlocal tries
            tries += 1
            return self._together(connection, items, first=tries == 1)

        # What must not be done twice is not tried twice, unless others must be: then nobody knows about it.
        again = any(not isinstance(item, Act) or item.again for item in items)
        try:
            results = await self._database.transact(work, again=again)
        except Silent as silent:
            return [unavailable(silent) for _ in items]
        except Refused as refused:
            if len(items) > 1:
                # One bad payment can't fail others: each for itself.
                return [(await self._write([item]))[0] for item in items]
            return [await self._after_refusal(items[0], refused)]
        self._acknowledged(items, results)
        return results

    def _acknowledged(self, items: Sequence[Item], results: Sequence[Any]) -> None:
        """Hear of what was committed, and told to be."""

    async def _after_refusal(self, item: Item, refused: Refused) -> Payment | Exception:
        if not isinstance(item, Birth) or refused.rule not in _SAME_BIRTH:
            return refused.told()
        # Another process was born this very payment between our look and our write.
        ids = [item.decision.payment.id]
        try:
            rows = await self._database.read(lambda connection: _THERE.rows(connection, ids=ids))
        except OrchestratorError as error:
            return error
        return made_of(rows[0]) if rows else self._unseen(refused)

    def _unseen(self, refused: Refused) -> Exception:
        """Say what it means that a birth is there, as the refusal tells, and can't be seen."""
        return refused.told()

    def _together(self, connection: Connection, items: Sequence[Item], *, first: bool) -> list[Any]:
        rows = _Rows()
        born = _born(connection, [item for item in items if isinstance(item, Birth)], rows)
        locked = _locked(connection, [item.decision.payment.id for item in items if isinstance(item, Record)])
        results: list[Any] = []
        for item in items:
            if isinstance(item, Act):
                results.append(None)
            elif isinstance(item, Birth):
                results.append(born[item.decision.payment.id])
            elif (stored := locked.get(item.decision.payment.id)) is None:
                results.append(NotFound("no such payment"))
            else:
                results.append(_applied(connection, item, stored, rows))
        self._execute(connection, rows)
        for at, item in enumerate(items):  # last, so that they see what the group has made due
            if isinstance(item, Act):
                results[at] = item.work(connection) if first or item.again else unavailable(Silent("no answer"))
        return results

    @staticmethod
    def _execute(connection: Connection, rows: _Rows) -> None:
        # Entries come first: on SQLite the triggers look for them at once. All in id
        # order, so that two processes wait for each other in one direction only.
        rows.births.sort(key=_first_column)
        rows.entries.sort(key=_first_two_columns)
        carry_out(connection, (
            _ENTRIES.insert(rows.entries), _LEAVES.insert([row[:2] for row in rows.entries]),
            _BIRTHS.insert(rows.births), _MOVES.update(rows.moves), _SEALED.upsert(rows.sealed),
            _NOTICES.insert(rows.notices),
        ))  # fmt: skip
        if rows.stirs:
            hint(connection)


_first_column = itemgetter(0)
_first_two_columns = itemgetter(0, 1)


def _key(item: Item) -> str | None:
    # Equal births are one birth; two records of one payment can't both hold.
    return item.decision.payment.id if isinstance(item, Record) else None


def _check(decision: Decision, sealed: bytes | None) -> None:
    if not decision.entries and (decision.notices or sealed is not None):
        raise ValueError("notices and fields need the entry that made them so")


def _born(connection: Connection, births: Sequence[Birth], rows: _Rows) -> dict[str, Payment]:
    """Give the payment of each birth: the one that is there, or the new one, added to the rows."""
    if not births:
        return {}
    wanted = {birth.decision.payment.id for birth in births}
    born = {made.id: made for made in map(made_of, _THERE.rows(connection, ids=sorted(wanted)))}
    for birth in births:
        new = birth.decision.payment
        if new.id not in born:
            born[new.id] = new
            rows.births.append(values_of(new))
            rows.add(birth.decision, birth.sealed)
            rows.stirs |= _free_now(new, birth.decision)
    return born


def _locked(connection: Connection, ids: Sequence[str]) -> dict[str, Any]:
    if not ids:
        return {}
    return {row.id: row for row in _FENCE.run(connection, ids=ids)}


def _applied(connection: Connection, record: Record, stored: Any, rows: _Rows) -> Payment | Exception:
    """Compare one record with its locked row and add what it writes to the rows."""
    before, after = record.decision.before, record.decision.payment
    entries = record.decision.entries
    current = stored.version == before.version and bytes(stored.head_hash) == before.head
    if current and record.held_claim:
        current = (stored.claimed_by, stored.claim_no) == (before.claimed_by, before.claim_no)
    if not current:
        # A try whose COMMIT went through, though its answer was lost, left our very entry.
        if entries and _is_there(connection, entries[-1]):
            return evolved(
                after, claimed_by=stored.claimed_by, claim_no=stored.claim_no, progress_claim=stored.progress_claim
            )
        return Fenced("the payment changed, or the claim was lost")
    claim = (
        stored.claimed_by if record.keeps_claim else None,
        # The stored one: a record from outside may have looked before the last claim.
        stored.claim_no,
        stored.claim_no if entries else stored.progress_claim,
    )
    written = after
    if (after.claimed_by, after.claim_no, after.progress_claim) != claim:
        written = evolved(after, claimed_by=claim[0], claim_no=claim[1], progress_claim=claim[2])
    rows.moves.append(moved_values_of(written))
    rows.add(record.decision, record.sealed)
    rows.stirs |= _free_now(written, record.decision)
    return written


def _free_now(written: Payment, decision: Decision) -> bool:
    # Without an entry nothing says what time it is; then the poll is early enough.
    now = decision.entries[-1].at if decision.entries else None
    return written.claimed_by is None and written.due_at is not None and now is not None and written.due_at <= now


def _is_there(connection: Connection, entry: Any) -> bool:
    statement = select(audit_entry.c.hash).where(
        audit_entry.c.chain_id == entry.chain_id, audit_entry.c.seq == entry.seq
    )
    found = connection.execute(statement).scalar()
    return found is not None and bytes(found) == entry.hash
