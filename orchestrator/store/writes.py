"""
The one door's writes: births and records, whole groups in one transaction.

Owns the fence and the order of statements: lock, compare, entries, payments,
constraints, COMMIT. Rows are locked in id order, because unordered groups of
several processes deadlock. Must not decide anything about a payment.
Next: `claims`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import bindparam, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.domain.decision import Decision
from orchestrator.domain.errors import Fenced, NotFound, OrchestratorError
from orchestrator.domain.payment import Payment
from orchestrator.records import Birth, Record
from orchestrator.store.access import Database
from orchestrator.store.faults import Refused, Silent, unavailable
from orchestrator.store.group import Group
from orchestrator.store.guards_postgresql import DEFERRED
from orchestrator.store.hints import hint
from orchestrator.store.rows import CHANGING, payment_of, row_of, row_of_entry
from orchestrator.store.schema import audit_entry, notification, payer_data, payment, unsealed

Item = Birth | Record
_UPDATE = (
    update(payment)
    .where(payment.c.id == bindparam("at_id"))
    .values({name: bindparam(f"to_{name}") for name in CHANGING})
)
_FENCE = select(
    payment.c.id, payment.c.version, payment.c.head_hash, payment.c.claimed_by, payment.c.claim_no,
    payment.c.progress_claim,
)  # fmt: skip
_SAME_BIRTH = ("pk_audit_entry", "uq_audit_entry_head", "pk_payment")


@dataclass(slots=True)
class _Rows:
    """What one group adds and changes."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    births: list[dict[str, Any]] = field(default_factory=list)
    moves: list[dict[str, Any]] = field(default_factory=list)
    notices: list[dict[str, Any]] = field(default_factory=list)
    sealed: list[dict[str, Any]] = field(default_factory=list)
    stirs: bool = False
    """Whether something is due now that any worker may take, or a notice waits."""

    def add(self, decision: Decision, sealed: bytes | None) -> None:
        self.entries += [row_of_entry(entry) for entry in decision.entries]
        self.stirs |= bool(decision.notices)
        self.notices += [
            {
                "payment_id": decision.payment.id, "seq": notice.seq, "event": notice.event, "tries": 0,
                "created_at": decision.entries[-1].at, "due_at": decision.entries[-1].at,
                "expires_at": notice.expires_at,
            }
            for notice in decision.notices
        ]  # fmt: skip
        if sealed is not None:
            at = decision.entries[-1].at
            self.sealed.append({"payment_id": decision.payment.id, "sealed": sealed, "updated_at": at})


class Writes:
    """The verbs that write payments and their trail."""

    def __init__(self, database: Database, *, group_limit: int = 64) -> None:
        self._database = database
        self._group: Group[Item, Payment] = Group(self._write, key=_key, limit=group_limit)

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
        return await self._group.put(birth)

    async def alone(self, birth: Birth) -> Payment:
        """Do as `submit` does, in this very task and without company: for a connection that is the caller's."""
        _check(birth.decision, birth.sealed)
        (result,) = await self._write([birth])
        if isinstance(result, Exception):
            raise result
        return result

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
        return await self._group.put(record)

    async def _write(self, items: Sequence[Item]) -> Sequence[Payment | Exception]:
        async def work(connection: AsyncConnection) -> Sequence[Payment | Exception]:
            return await self._together(connection, items)

        try:
            results = await self._database.transact(work)
        except Silent as silent:
            return [unavailable(silent) for _ in items]
        except Refused as refused:
            if len(items) > 1:
                # One bad payment can't fail others: each for itself.
                return [(await self._write([item]))[0] for item in items]
            return [await self._after_refusal(items[0], refused)]
        self._acknowledged(items, results)
        return results

    def _acknowledged(self, items: Sequence[Item], results: Sequence[Payment | Exception]) -> None:
        """Hear of what was committed, and told to be."""

    async def _after_refusal(self, item: Item, refused: Refused) -> Payment | Exception:
        if not isinstance(item, Birth) or refused.rule not in _SAME_BIRTH:
            return refused.told()
        # Another process was born this very payment between our look and our write.
        statement = select(payment).where(payment.c.id == item.decision.payment.id)
        try:
            row = await self._database.read(lambda connection: _first(connection, statement))
        except OrchestratorError as error:
            return error
        return payment_of(row) if row is not None else self._unseen(refused)

    def _unseen(self, refused: Refused) -> Exception:
        """Say what it means that a birth is there, as the refusal tells, and can't be seen."""
        return refused.told()

    async def _together(self, connection: AsyncConnection, items: Sequence[Item]) -> list[Payment | Exception]:
        births = [item for item in items if isinstance(item, Birth)]
        records = [item for item in items if isinstance(item, Record)]
        rows = _Rows()
        born = await _born(connection, births, rows)
        locked = await _locked(connection, [record.decision.payment.id for record in records])
        results: list[Payment | Exception] = []
        for item in items:
            stored = locked.get(item.decision.payment.id)
            if isinstance(item, Birth):
                results.append(born[item.decision.payment.id])
            elif stored is None:
                results.append(NotFound("no such payment"))
            else:
                results.append(await _applied(connection, item, stored, rows))
        await self._execute(connection, rows)
        return results

    async def _execute(self, connection: AsyncConnection, rows: _Rows) -> None:
        # Entries come first: on SQLite the triggers look for them at once. All in id
        # order, so that two processes wait for each other in one direction only.
        rows.births.sort(key=lambda row: str(row["id"]))
        rows.entries.sort(key=lambda row: (row["chain_id"], row["seq"]))
        if rows.entries:
            await connection.execute(insert(audit_entry), rows.entries)
            leaves = [{"chain_id": row["chain_id"], "seq": row["seq"]} for row in rows.entries]
            await connection.execute(insert(unsealed), leaves)
        if rows.births:
            await connection.execute(insert(payment), rows.births)
        if rows.moves:
            await connection.execute(_UPDATE, rows.moves)
        if rows.sealed:
            dialect: Any = sqlite if self._database.dialect == "sqlite" else postgresql
            add = dialect.insert(payer_data)
            anew = {"sealed": add.excluded.sealed, "updated_at": add.excluded.updated_at}
            await connection.execute(add.on_conflict_do_update(index_elements=["payment_id"], set_=anew), rows.sealed)
        if rows.notices:
            await connection.execute(insert(notification), rows.notices)
        if rows.stirs:
            await hint(connection)
        if self._database.dialect == "postgresql" and rows.entries:
            # Looked at here, where the group can still be split; deferred again for a host's transaction.
            for when in ("immediate", "deferred"):
                await connection.execute(text(f"set constraints {', '.join(DEFERRED)} {when}"))


def _key(item: Item) -> str | None:
    # Equal births are one birth; two records of one payment can't both hold.
    return item.decision.payment.id if isinstance(item, Record) else None


def _check(decision: Decision, sealed: bytes | None) -> None:
    if not decision.entries and (decision.notices or sealed is not None):
        raise ValueError("notices and fields need the entry that made them so")


async def _first(connection: AsyncConnection, statement: Any) -> Any:
    return (await connection.execute(statement)).mappings().first()


async def _born(connection: AsyncConnection, births: Sequence[Birth], rows: _Rows) -> dict[str, Payment]:
    """Give the payment of each birth: the one that is there, or the new one, added to the rows."""
    if not births:
        return {}
    wanted = {birth.decision.payment.id for birth in births}
    found = (await connection.execute(select(payment).where(payment.c.id.in_(wanted)))).mappings()
    born = {row["id"]: payment_of(row) for row in found}
    for birth in births:
        new = birth.decision.payment
        if new.id not in born:
            born[new.id] = new
            rows.births.append(row_of(new))
            rows.add(birth.decision, birth.sealed)
            rows.stirs |= _free_now(new, birth.decision)
    return born


async def _locked(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, Any]:
    if not ids:
        return {}
    statement = _FENCE.where(payment.c.id.in_(ids)).order_by(payment.c.id).with_for_update()
    return {row.id: row for row in await connection.execute(statement)}


async def _applied(connection: AsyncConnection, record: Record, stored: Any, rows: _Rows) -> Payment | Exception:
    """Compare one record with its locked row and add what it writes to the rows."""
    before, after = record.decision.before, record.decision.payment
    entries = record.decision.entries
    current = stored.version == before.version and bytes(stored.head_hash) == before.head
    if current and record.held_claim:
        current = (stored.claimed_by, stored.claim_no) == (before.claimed_by, before.claim_no)
    if not current:
        # A try whose COMMIT went through, though its answer was lost, left our very entry.
        if entries and await _is_there(connection, entries[-1]):
            return replace(
                after, claimed_by=stored.claimed_by, claim_no=stored.claim_no, progress_claim=stored.progress_claim
            )
        return Fenced("the payment changed, or the claim was lost")
    written = replace(
        after,
        claimed_by=stored.claimed_by if record.keeps_claim else None,
        # The stored one: a record from outside may have looked before the last claim.
        claim_no=stored.claim_no,
        progress_claim=stored.claim_no if entries else stored.progress_claim,
    )
    row = row_of(written)
    rows.moves.append({"at_id": written.id, **{f"to_{name}": row[name] for name in CHANGING}})
    rows.add(record.decision, record.sealed)
    rows.stirs |= _free_now(written, record.decision)
    return written


def _free_now(written: Payment, decision: Decision) -> bool:
    # Without an entry nothing says what time it is; then the poll is early enough.
    now = decision.entries[-1].at if decision.entries else None
    return written.claimed_by is None and written.due_at is not None and now is not None and written.due_at <= now


async def _is_there(connection: AsyncConnection, entry: Any) -> bool:
    statement = select(audit_entry.c.hash).where(
        audit_entry.c.chain_id == entry.chain_id, audit_entry.c.seq == entry.seq
    )
    found = (await connection.execute(statement)).scalar()
    return found is not None and bytes(found) == entry.hash
