"""
A database in memory that keeps the promises of the SQL store.

Each verb is one moment: nothing else runs inside it. It keeps the fence, the
uniqueness, groups' all-or-nothing, claims, reaping and the outbox; that it
decides as the SQL store does is checked by `test_memory`. What the database's
triggers would refuse beyond that (a chain that doesn't extend itself, an ended
state that moves) is let through on purpose: finding it is the invariants' work.
"""

import asyncio
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from orchestrator.domain.decision import Decision, Notice
from orchestrator.domain.entry import NO_HASH, Context, Entry, sealed_entry
from orchestrator.domain.errors import Conflict, Fenced, NotFound
from orchestrator.domain.payment import Channel, Payment
from orchestrator.records import Birth, Holds, Notification, Pause, Query, Record


@dataclass(slots=True)
class Row:
    """One row of the outbox."""

    id: int
    payment_id: str
    notice: Notice
    due_at: datetime
    tries: int = 0
    taken_by: str | None = None
    done: bool = False


@dataclass
class Memory:
    """The rows, and the verbs of `ports.Store` on them; `true_now` is the database's own clock."""

    true_now: Callable[[], datetime]
    payments: dict[str, Payment] = field(default_factory=dict)
    chains: dict[str, list[Entry]] = field(default_factory=dict)
    fields: dict[str, bytes] = field(default_factory=dict)
    workers: dict[str, datetime] = field(default_factory=dict)
    outbox: dict[int, Row] = field(default_factory=dict)
    pauses: dict[str, Pause] = field(default_factory=dict)
    texts: dict[str, tuple[str, str]] = field(default_factory=dict)
    stirs: list[Callable[[], None]] = field(default_factory=list)

    # --- what a watcher sees, at once -----------------------------------------------------------

    def look(self, payment_id: str) -> Payment | None:
        return self.payments.get(payment_id)

    def chain(self, chain_id: str) -> Sequence[Entry]:
        return self.chains.get(chain_id, ())

    def everybody(self) -> Sequence[Payment]:
        return list(self.payments.values())

    # --- the one door ---------------------------------------------------------------------------

    async def submit(self, birth: Birth) -> Payment:
        new = birth.decision.payment
        if new.id in self.payments:
            return self.payments[new.id]
        for other in self.payments.values():
            live = not other.ended or other.hold is not None or other.watch_until is not None
            if live and (other.account, other.reference) == (new.account, new.reference):
                raise Conflict("reference", "is being paid already", "wait until it has ended")
        self._demand_free_call(new)
        self._write(new, birth.decision, birth.sealed)
        return new

    async def record(self, record: Record) -> Payment:
        after, entries = record.decision.payment, record.decision.entries
        stored = self.payments.get(after.id)
        if stored is None:
            raise NotFound("no such payment")
        if not self.fits(stored, record):
            if entries and entries[-1] in self.chains[after.id][entries[-1].seq - 1 : entries[-1].seq]:
                return replace(
                    after, claimed_by=stored.claimed_by, claim_no=stored.claim_no,
                    progress_claim=stored.progress_claim,
                )  # fmt: skip
            raise Fenced("the payment changed, or the claim was lost")
        written = replace(
            after,
            claimed_by=stored.claimed_by if record.keeps_claim else None,
            claim_no=stored.claim_no,
            progress_claim=stored.claim_no if entries else stored.progress_claim,
        )
        self._demand_free_call(written)
        self._write(written, record.decision, record.sealed)
        return written

    @staticmethod
    def fits(stored: Payment, record: Record) -> bool:
        """The fence."""
        before = record.decision.before
        same = (stored.version, stored.head) == (before.version, before.head)
        claim = (stored.claimed_by, stored.claim_no) == (before.claimed_by, before.claim_no)
        return same and (claim or not record.held_claim)

    def _demand_free_call(self, new: Payment) -> None:
        if new.channel is not Channel.PHONE or new.call_guid is None or new.ended:
            return
        for other in self.payments.values():
            taken = other.id != new.id and not other.ended and other.channel is Channel.PHONE
            if taken and (other.account, other.call_guid) == (new.account, new.call_guid):
                raise Conflict("CallGuid", "is in use by another payment", "wait until it has ended")

    def _write(self, written: Payment, decision: Decision, sealed: bytes | None) -> None:
        self.chains.setdefault(written.id, []).extend(decision.entries)
        self.payments[written.id] = written
        if sealed is not None:
            self.fields[written.id] = sealed
        for notice in decision.notices:
            number = len(self.outbox) + 1
            self.outbox[number] = Row(number, written.id, notice, decision.entries[-1].at)
        free = written.claimed_by is None and written.due_at is not None and bool(decision.entries)
        if decision.notices or (free and written.due_at <= decision.entries[-1].at):
            for stir in self.stirs:
                stir()

    # --- reads ----------------------------------------------------------------------------------

    async def get(self, payment_id: str) -> Payment | None:
        return self.payments.get(payment_id)

    async def of_reference(self, account: str, reference: str) -> Sequence[Payment]:
        found = [one for one in self.payments.values() if (one.account, one.reference) == (account, reference)]
        return sorted(found, key=lambda one: one.round)

    async def of_session(self, account: str, session_id: str) -> Sequence[Payment]:
        wanted = (account, session_id.lower())
        found = [one for one in self.payments.values() if (one.account, (one.session_id or "").lower()) == wanted]
        return sorted(found, key=lambda one: (one.created_at, one.id), reverse=True)

    async def held_before(self, at: datetime) -> Holds:
        held = [one.held_at for one in self.payments.values() if one.held_at is not None and one.held_at < at]
        return Holds(len(held), min(held, default=None))

    async def sealed(self, payment_id: str) -> bytes | None:
        return self.fields.get(payment_id)

    async def within(self, connection: object) -> "Memory":
        raise NotImplementedError("no host shares its transaction with memory")

    async def list(self, query: Query) -> Sequence[Payment]:
        found = [
            one
            for one in self.payments.values()
            if query.account in (None, one.account)
            and query.reference in (None, one.reference)
            and query.channel in (None, one.channel)
            and (query.held is None or query.held == (one.hold is not None))
            and (query.ended is None or query.ended == one.ended)
        ]
        return sorted(found, key=lambda one: (one.created_at, one.id))[: query.limit]

    async def entries(self, chain_id: str) -> Sequence[Entry]:
        return tuple(self.chains.get(chain_id, ()))

    async def unended(self) -> int:
        return sum(not one.ended and one.hold is None and not one.missing for one in self.payments.values())

    async def publish_definition(self, digest: str, name: str, text: str, *, context: Context) -> None:
        del context
        self.texts.setdefault(digest, (name, text))

    async def definition(self, digest: str) -> str | None:
        return self.texts[digest][1] if digest in self.texts else None

    async def definitions(self) -> dict[str, tuple[str, str]]:
        return dict(self.texts)

    # --- workers and claims ---------------------------------------------------------------------

    async def register(self, worker_id: str, *, origin: str, version: str, now: datetime) -> None:
        del origin, version
        self.workers.setdefault(worker_id, now)

    async def beat(self, worker_id: str, *, now: datetime) -> bool:
        if worker_id not in self.workers:
            return False
        self.workers[worker_id] = now
        return True

    async def living(self, *, since: datetime) -> int:
        return sum(beat >= since for beat in self.workers.values())

    async def lapsed(self, *, before: datetime) -> bool:
        return any(beat < before for beat in self.workers.values())

    async def retire(self, worker_id: str, *, now: datetime) -> None:
        del now
        for one in await self.claimed(worker_id):
            self.payments[one.id] = replace(one, claimed_by=None, progress_claim=one.claim_no)
        self.workers.pop(worker_id, None)

    async def claim(
        self, worker_id: str, *, now: datetime, limit: int, accounts: Collection[str],
        machine_versions: Collection[int],
    ) -> Sequence[Payment]:  # fmt: skip
        if worker_id not in self.workers:
            return ()
        due = [
            (one.due_at, one.id)
            for one in self.payments.values()
            if one.due_at is not None and one.due_at <= now and one.claimed_by is None
            and one.account in accounts and one.machine_version in machine_versions
        ]  # fmt: skip
        taken = []
        for _, id_ in sorted(due)[:limit]:
            one = self.payments[id_]
            self.payments[id_] = replace(one, claimed_by=worker_id, claim_no=one.claim_no + 1)
            taken.append(self.payments[id_])
        return taken

    async def claimed(self, worker_id: str) -> Sequence[Payment]:
        return [self.payments[id_] for id_ in sorted(self.payments) if self.payments[id_].claimed_by == worker_id]

    async def reap(self, *, lapsed_before: datetime, now: datetime, jitter_s: float, limit: int, **_: Any) -> int:
        for worker_id in [name for name, beat in self.workers.items() if beat < lapsed_before]:
            del self.workers[worker_id]
        freed = [
            self.payments[id_]
            for id_ in sorted(self.payments)
            if self.payments[id_].claimed_by not in (None, *self.workers)
        ][:limit]
        for one in freed:
            share = int.from_bytes(hashlib.sha256(one.id.encode()).digest()[:4], "big") / 2**32
            again = min(one.due_at or now + timedelta(seconds=jitter_s), now + timedelta(seconds=jitter_s * share))
            over = one.ended and one.watch_until is None
            self.payments[one.id] = replace(one, claimed_by=None, due_at=one.due_at if over else again)
        return len(freed)

    async def postpone(self, payment: Payment, due_at: datetime | None, *, keep_claim: bool) -> bool:
        stored = self.payments.get(payment.id)
        if stored is None or (stored.version, stored.claim_no) != (payment.version, payment.claim_no):
            return False
        claim = payment.claimed_by if keep_claim else None
        if stored.claimed_by != payment.claimed_by and (stored.claimed_by, stored.due_at) != (claim, due_at):
            return False
        self.payments[payment.id] = replace(
            stored, due_at=due_at, claimed_by=claim, progress_claim=stored.claim_no
        )  # fmt: skip
        return True

    # --- the outbox -----------------------------------------------------------------------------

    async def take_notifications(
        self, worker_id: str, *, events: Sequence[str], now: datetime, limit: int, accounts: Collection[str]
    ) -> Sequence[Notification]:
        if worker_id not in self.workers:
            return ()
        due = [
            row
            for row in self.outbox.values()
            if not row.done and row.due_at <= now and row.notice.event in events
            and (row.notice.expires_at is None or row.notice.expires_at > now)
            and (row.taken_by is None or row.taken_by not in self.workers)
            and self.payments[row.payment_id].account in accounts
        ]  # fmt: skip
        taken = sorted(due, key=lambda row: (row.due_at, row.id))[:limit]
        for row in taken:
            row.taken_by, row.tries = worker_id, row.tries + 1
        return [Notification(row.id, row.payment_id, row.notice, row.tries > 1, row.tries) for row in taken]

    async def lapsed_notifications(
        self, *, now: datetime, limit: int, accounts: Collection[str]
    ) -> Sequence[Notification]:
        late = [
            (row.notice.expires_at, row.id)
            for row in self.outbox.values()
            if not row.done and row.notice.expires_at is not None and row.notice.expires_at <= now
            and self.payments[row.payment_id].account in accounts
        ]  # fmt: skip
        rows = [self.outbox[number] for _, number in sorted(late)[:limit]]
        return [Notification(row.id, row.payment_id, row.notice, row.tries > 0, row.tries) for row in rows]

    async def settle_notification(self, notification_id: int, *, now: datetime, retry_at: datetime | None) -> None:
        del now
        row = self.outbox[notification_id]
        if not row.done:
            row.taken_by, row.done, row.due_at = None, retry_at is None, retry_at or row.due_at

    # --- people and clocks ----------------------------------------------------------------------

    async def paused_accounts(self) -> dict[str, Pause]:
        return dict(self.pauses)

    async def pause_account(self, account: str, *, reason: str, context: Context) -> bool:
        if account in self.pauses:
            return False
        self.pauses[account] = Pause(context.actor, reason, context.now)
        await self.note("account.paused", about=account, context=context)
        return True

    async def resume_account(self, account: str, *, reason: str, context: Context) -> bool:
        del reason
        if self.pauses.pop(account, None) is None:
            return False
        await self.note("account.resumed", about=account, context=context)
        return True

    async def note(
        self, kind: str, *, about: str, context: Context, details: Mapping[str, Any] = {}, result: str = "success",
    ) -> Entry | None:  # fmt: skip
        chain = self.chains.setdefault(f"admin-{context.now:%Y-%m-%d}", [])
        entry = sealed_entry(
            chain_id=f"admin-{context.now:%Y-%m-%d}", seq=len(chain) + 1,
            prev_hash=chain[-1].hash if chain else NO_HASH, trigger="note", from_state="open" if chain else "-",
            to_state="open", kind=kind, result=result, about=about, context=context, details=details,
        )  # fmt: skip
        chain.append(entry)
        return entry

    async def listen(self, stir: Callable[[], None]) -> None:
        self.stirs.append(stir)
        await asyncio.Event().wait()

    async def clock_offset(self, clock: Any) -> float:
        return float((clock.now() - self.true_now()).total_seconds())
