"""Somebody with the database file in hand changes the trail; the verifier says what and where."""

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.audit import Report, verify
from orchestrator.audit.verify import MOST_FINDINGS
from orchestrator.domain import asking
from orchestrator.domain.entry import canonical
from orchestrator.domain.payment import Channel
from orchestrator.domain.starting import intend
from orchestrator.records import Birth, Record
from orchestrator.store import SqlStore
from orchestrator.store.reads import Snapshot
from tests.integration.store.conftest import outside_loop
from tests.integration.store.makers import notes
from tests.unit.audit.tales import Tale
from tests.unit.domain.story import ANSWERED, OPENED, POLICIES, UNKNOWN, authorize, ctx, fresh, look, paid, start

BORN, DOUBTED, PAID, WAITING = "pay-born", "pay-doubted", "pay-paid", "pay-waiting"
ADMIN = "admin-2026-11-24"
LAST = 6
"""The number of the paid payment's last entry: submit, authorize, request, start_session, hand_over, complete."""


def begun(name: str, channel: Channel = Channel.DIGITAL) -> Tale:
    payment = replace(fresh(channel), id=name, account=name)
    return Tale(payment).tell(asking.submit, ctx(), POLICIES[channel])


def intended(name: str, channel: Channel = Channel.DIGITAL) -> Tale:
    return begun(name, channel).tell(authorize, ANSWERED, 0).tell(intend, ctx(), request_digest="r1")


async def record(store: SqlStore, tale: Tale) -> None:
    birth, *later = tale.decisions
    payment = await store.submit(Birth(birth, b"sealed"))
    for decision in later:
        payment = await store.record(Record(decision, held_claim=False))
    assert payment.head == tale.payment.head


async def told(path: Path) -> None:
    async with SqlStore(f"sqlite:///{path}") as store:
        await record(store, begun(BORN))
        await record(store, intended(DOUBTED).tell(start, UNKNOWN))
        await record(store, intended(PAID, Channel.PHONE).tell(start, OPENED).tell(look, paid()))
        await record(store, intended(WAITING).tell(start, OPENED))
        await store.append(notes(ADMIN, 3))


@pytest.fixture(scope="session")
def told_template(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("told") / "payments.db"
    shutil.copy(sqlite_template, path)
    outside_loop(told(path))
    return path


@pytest.fixture
def database(told_template: Path, tmp_path: Path) -> Path:
    """A file with five chains: four payments' and one administrative one."""
    return Path(shutil.copy(told_template, tmp_path / "payments.db"))


class Intruder:
    """A plain connection to the file, its guards taken off."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.sql = connection.execute

    def entry(self, seq: int, chain: str = PAID) -> dict[str, Any]:
        columns = "trigger, from_state, to_state, at, actor, origin, kind, result, about, prev_hash, hash, body"
        where = "where chain_id = ? and seq = ?"
        row = self.sql(f"select {columns} from audit_entry {where}", (chain, seq)).fetchone()
        return dict(zip(columns.split(", "), row, strict=True))

    def change(self, seq: int, chain: str = PAID, /, **columns: Any) -> None:
        names = ", ".join(f"{name} = ?" for name in columns)
        where = "where chain_id = ? and seq = ?"
        self.sql(f"update audit_entry set {names} {where}", (*columns.values(), chain, seq))

    def say(self, seq: int, chain: str = PAID, /, **members: Any) -> bytes:
        """Change members of a body and make the hash fit."""
        body = canonical(json.loads(self.entry(seq, chain)["body"]) | members)
        digest = hashlib.sha256(b"\0" + body.encode()).digest()
        self.change(seq, chain, body=body, hash=digest)
        return digest

    def relink(self, first: int, last: int = LAST, chain: str = PAID) -> bytes:
        """Make the entries from `first` on extend each other anew."""
        for seq in range(first, last + 1):
            prev = self.entry(seq - 1, chain)["hash"]
            self.change(seq, chain, prev_hash=prev)
            digest = self.say(seq, chain, prev=prev.hex())
        return digest

    def put(self, seq: int, chain: str = PAID, *, body: dict[str, Any] | None = None, **columns: Any) -> None:
        """Insert a copy of the entry before as number `seq`, in form."""
        entry = self.entry(seq - 1, chain)
        entry |= {"from_state": entry["to_state"], "prev_hash": entry["hash"]} | columns
        told = json.loads(entry["body"]) | {
            "seq": seq, "from": entry["from_state"], "to": entry["to_state"], "trigger": entry["trigger"],
            "prev": entry["prev_hash"].hex(), "facts": {},
        } | (body or {})  # fmt: skip
        entry["body"] = canonical(told)
        entry["hash"] = hashlib.sha256(b"\0" + entry["body"].encode()).digest()
        names = ", ".join(("chain_id", "seq", *entry))
        marks = ", ".join("?" * (len(entry) + 2))
        self.sql(f"insert into audit_entry ({names}) values ({marks})", (chain, seq, *entry.values()))
        self.sql("insert into unsealed values (?, ?)", (chain, seq))

    def payment(self, change: str, chain: str = PAID) -> None:
        self.sql(f"update payment set {change} where id = ?", (chain,))

    def head(self, seq: int, chain: str = PAID) -> None:
        state, digest = self.entry(seq, chain)["to_state"], self.entry(seq, chain)["hash"]
        self.sql("update payment set version = ?, state = ?, head_hash = ? where id = ?", (seq, state, digest, chain))


@pytest.fixture
def intruder(database: Path) -> Iterator[Intruder]:
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        guards = connection.execute("select name, sql from sqlite_master where type = 'trigger'").fetchall()
        for name, _ in guards:
            connection.execute(f"drop trigger {name}")
        connection.execute("pragma ignore_check_constraints = on")
        yield Intruder(connection)


async def audited(database: Path) -> Report:
    """Verify as it is done in production, but for the guards that the intruder took off: they are found, too."""
    store = SqlStore(f"sqlite:///{database}")
    try:
        return await verify(store)
    finally:
        await store.close()


def found_in(report: Report) -> set[tuple[str, str, int | None]]:
    return {(found.kind, found.chain_id, found.seq) for found in report.findings if found.kind != "schema"}


async def test_a_true_trail_has_no_finding_and_everything_is_counted(database: Path) -> None:
    report = await audited(database)

    assert report.clean
    assert report.counts == {
        "entries": 1 + 4 + 6 + 5 + 3, "chains": 5, "payments": 4, "findings": 0, "leaves": 0,
        "checkpoints": 0, "waiting": 19, "state.collecting": 1,
        "state.authorized": 1, "state.completed": 1, "state.awaiting_payment": 1, "hold.session_unknown": 1,
    }  # fmt: skip


def forged_end(intruder: Intruder) -> None:
    intruder.put(6, WAITING, trigger="fail", to_state="failed", body={"facts": {"outcome": "expired"}})
    intruder.payment("outcome = 'expired'", WAITING)
    intruder.head(6, WAITING)


def second_session(intruder: Intruder) -> None:
    told = {"operation": "start_session", "attempt": 1, "verdict": "answered"}
    intruder.put(6, WAITING, trigger="start_session", to_state="session_started", body=told)
    intruder.head(6, WAITING)


def start_without_intent(intruder: Intruder) -> None:
    intruder.change(3, WAITING, trigger="retry")
    intruder.say(3, WAITING, trigger="retry", operation="authorize")
    intruder.relink(4, 5, WAITING)
    intruder.head(5, WAITING)


def unproven_completion(intruder: Intruder) -> None:
    intruder.say(LAST, verdict="unknown")
    intruder.head(LAST)


def relinked_but_not_the_head(intruder: Intruder) -> None:
    intruder.say(3, software="9")
    intruder.relink(4)


def without_a_middle_entry(intruder: Intruder) -> None:
    intruder.sql("delete from audit_entry where chain_id = ? and seq = 4", (PAID,))


def swapped(intruder: Intruder) -> None:
    for seq, to in ((2, 99), (3, 2), (99, 3)):
        intruder.change(seq, seq=to)


def not_canonical(intruder: Intruder) -> None:
    body = intruder.entry(LAST)["body"].replace(",", ", ", 1)
    intruder.change(LAST, body=body, hash=hashlib.sha256(b"\0" + body.encode()).digest())
    intruder.head(LAST)


TAMPERED: dict[str, tuple[Callable[[Intruder], object], set[tuple[str, str, int | None]]]] = {
    "a column": (lambda it: it.change(3, actor="nobody"), {("column", PAID, 3)}),
    "a column of another chain": (lambda it: it.change(2, ADMIN, origin="mars"), {("column", ADMIN, 2)}),
    "a body": (
        lambda it: it.change(4, body=it.entry(4)["body"].replace('"v":1', '"v":2')), {("hash", PAID, 4)},
    ),
    "a body and its hash": (lambda it: it.say(4, software="9"), {("prev", PAID, 5)}),
    "a body, its hash, and all behind it, not the head": (relinked_but_not_the_head, {("head", PAID, None)}),
    "a middle entry deleted": (
        without_a_middle_entry, {("gap", PAID, 5), ("prev", PAID, 5), ("state", PAID, 5), ("fact", PAID, None)},
    ),
    "the tail deleted": (
        lambda it: it.sql("delete from audit_entry where chain_id = ? and seq = 6", (PAID,)),
        {("state", PAID, None), ("head", PAID, None), ("fact", PAID, None)},
    ),
    "the birth deleted": (
        lambda it: it.sql("delete from audit_entry where chain_id = ? and seq = 1", (PAID,)),
        {("gap", PAID, 2), ("prev", PAID, 2), ("state", PAID, 2), ("fact", PAID, None)},
    ),
    "two entries swapped": (
        swapped,
        {("prev", PAID, 2), ("state", PAID, 2), ("prev", PAID, 3), ("state", PAID, 3), ("column", PAID, 2),
         ("column", PAID, 3), ("prev", PAID, 4)},
    ),
    "an entry put behind the last": (
        lambda it: it.put(7, trigger="late_result"), {("head", PAID, None), ("twice", PAID, 7)},
    ),
    "an entry put behind the last of an administrative chain": (
        lambda it: it.put(4, ADMIN, trigger="note", actor="eve"), {("column", ADMIN, 4)},
    ),
    "an entry that isn't canonical": (not_canonical, {("body", PAID, 6)}),
    "an entry that is no JSON": (
        lambda it: it.change(3, ADMIN, body="{"), {("hash", ADMIN, 3), ("body", ADMIN, 3)},
    ),
    "payment.state": (
        lambda it: it.payment("state = 'failed', outcome = 'declined'"),
        {("state", PAID, None), ("fact", PAID, None)},
    ),
    "payment.amount_minor": (lambda it: it.payment("amount_minor = 1"), {("fact", PAID, None)}),
    "payment.reference": (lambda it: it.payment("reference = 'INV-9'"), {("fact", PAID, None)}),
    "payment.created_at": (
        lambda it: it.payment("created_at = '2026-10-24T15:46:40.000000Z'"), {("fact", PAID, None)},
    ),
    "payment.outcome": (
        lambda it: it.payment("outcome = 'review'"), {("fact", PAID, None), ("evidence", PAID, None)},
    ),
    "payment.hold": (
        lambda it: it.payment("hold = null, held_at = null, due_at = created_at", DOUBTED), {("fact", DOUBTED, None)},
    ),
    "payment.version": (lambda it: it.payment("version = 5"), {("head", PAID, None)}),
    "payment.head_hash": (lambda it: it.payment("head_hash = zeroblob(32)"), {("head", PAID, None)}),
    "payment.due_at gone": (lambda it: it.payment("due_at = null", WAITING), {("stuck", WAITING, None)}),
    "the whole chain deleted": (
        lambda it: it.sql("delete from audit_entry where chain_id = ?", (DOUBTED,)), {("missing_chain", DOUBTED, None)},
    ),
    "the last payment's chain deleted": (
        lambda it: it.sql("delete from audit_entry where chain_id = ?", (WAITING,)), {("missing_chain", WAITING, None)},
    ),
    "the payment deleted": (
        lambda it: it.sql("delete from payment where id = ?", (PAID,)), {("missing_payment", PAID, None)},
    ),
    "the payment deleted, its chain renamed": (
        lambda it: (
            it.sql("delete from payment where id = ?", (BORN,)),
            it.sql("update audit_entry set chain_id = 'other-born' where chain_id = ?", (BORN,)),
            it.say(1, "other-born", chain="other-born"),
        ),
        {("edge", "other-born", 1), ("unsealed", "other-born", 1)},
    ),
    "a second session": (second_session, {("edge", WAITING, 6), ("double_session", WAITING, 6)}),
    "a start without its intent": (start_without_intent, {("intent", WAITING, 4)}),
    "completed without evidence": (unproven_completion, {("evidence", PAID, 6)}),
    "failed without evidence": (forged_end, {("evidence", WAITING, 6)}),
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERED)
async def test_tampering_is_found_and_nothing_else_is(database: Path, intruder: Intruder, name: str) -> None:
    tamper, expected = TAMPERED[name]
    tamper(intruder)

    report = await audited(database)

    assert found_in(report) == expected
    assert not report.clean


UNREADABLE: dict[str, tuple[str, set[tuple[str, str, int | str | None]]]] = {
    "an instant": (
        f"update audit_entry set at = 'yesterday' where chain_id = '{PAID}' and seq = 6",
        {("column", PAID, 6)},
    ),
    "a body of bytes": (
        f"update audit_entry set body = cast(body as blob) where chain_id = '{PAID}' and seq = 6",
        {("unreadable", PAID, 6), ("state", PAID, None), ("head", PAID, None), ("fact", PAID, None)},
    ),
    "a body that is not UTF-8": (
        f"update audit_entry set body = cast(x'7bff7d' as text) where chain_id = '{ADMIN}' and seq = 3",
        {("unreadable", ADMIN, 3)},
    ),
    "a hash of text": (
        f"update audit_entry set hash = 'x' where chain_id = '{ADMIN}' and seq = 3", {("unreadable", ADMIN, 3)},
    ),
    "a number of text": (
        f"update audit_entry set seq = 'three' where chain_id = '{ADMIN}' and seq = 3",
        {("unreadable", ADMIN, "three")},
    ),
    "a payment's state": (f"update payment set state = 'gone' where id = '{PAID}'", {("unreadable", PAID, None)}),
    "a payment's amount": (f"update payment set amount_minor = -5 where id = '{PAID}'", {("unreadable", PAID, None)}),
    "a payment's codes": (f"update payment set codes = '[' where id = '{PAID}'", {("unreadable", PAID, None)}),
    "a payment's time": (f"update payment set due_at = 'soon' where id = '{WAITING}'", {("unreadable", WAITING, None)}),
    "every payment": (
        "update payment set currency = 'pounds'",
        {("unreadable", name, None) for name in (BORN, DOUBTED, PAID, WAITING)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("page", [2, 1000])
async def test_a_row_that_can_not_be_read_is_a_finding_and_never_stops_the_walk(
    database: Path, intruder: Intruder, name: str, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement, expected = UNREADABLE[name]
    intruder.sql(statement)
    monkeypatch.setattr(Snapshot.__init__, "__defaults__", (page,))
    monkeypatch.setattr(SqlStore.snapshot.__wrapped__, "__kwdefaults__", {"page": page})

    report = await audited(database)

    assert found_in(report) == expected


async def test_the_report_is_bounded_and_the_count_is_not(database: Path, intruder: Intruder) -> None:
    for seq in range(4, 4 + MOST_FINDINGS):
        intruder.put(seq, ADMIN)
    intruder.sql("update audit_entry set actor = 'eve' where chain_id = ?", (ADMIN,))

    report = await audited(database)

    assert len(report.findings) == MOST_FINDINGS
    assert report.counts["findings"] > MOST_FINDINGS
