"""
The database refuses a lie, told through a plain driver connection.

SQLite hears each one with foreign keys on, with them off, and with CHECK constraints
off too; PostgreSQL hears those that its language can say. After each the database
is what it was before.
"""

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import asyncpg
import pytest

from orchestrator.domain.entry import NO_HASH, Entry, body_hash, canonical, instant
from orchestrator.domain.outcome import Outcome
from orchestrator.domain.payment import Payment, State
from orchestrator.store import SqlStore
from orchestrator.store.rows import row_of, row_of_entry
from tests.integration.store.makers import PAID, T0, at, birth, context, forged, notes, outside, walk

Statements = Sequence[tuple[str, Sequence[Any]]]


@dataclass
class Scene:
    """A live payment (authorized), a completed one, and both chains."""

    live: Payment
    done: Payment
    chain: Sequence[Entry]

    @property
    def next(self) -> Entry:
        return walk(self.live, "start_session").due(None).entries[0]


async def set_scene(store: SqlStore) -> Scene:
    live = await store.record(outside((await store.submit(birth("LIVE"))), "authorize", due=at(9)))
    done = await store.record(outside((await store.submit(birth("DONE"))), *PAID))
    await store.publish_definition("d1", "authorize.xml", "<x/>", context=context())
    return Scene(live, done, await store.entries(live.id))


def insert(table: str, row: dict[str, Any], verb: str = "insert", tail: str = "") -> tuple[str, Sequence[Any]]:
    marks = ", ".join("?" * len(row))
    return f"{verb} into {table} ({', '.join(row)}) values ({marks}) {tail}", list(row.values())


def entry(made: Entry, verb: str = "insert", tail: str = "", **wrong: Any) -> Statements:
    return [insert("audit_entry", row_of_entry(made) | wrong, verb, tail)]


def payment(made: Payment, verb: str = "insert", tail: str = "", **wrong: Any) -> Statements:
    return [insert("payment", row_of(made) | wrong, verb, tail)]


def born(reference: str, **facts: Any) -> tuple[Entry, Payment]:
    decision = birth(reference, **facts).decision
    return decision.entries[0], decision.payment


def move(made: Payment, **columns: Any) -> Statements:
    return [(f"update payment set {', '.join(f'{c} = ?' for c in columns)} where id = ?", [*columns.values(), made.id])]


def moved(made: Payment, to: Entry) -> Statements:
    return move(made, version=to.seq, state=to.to_state, head_hash=to.hash)


def without(made: Entry, member: str) -> Entry:
    body = canonical({key: value for key, value in json.loads(made.body).items() if key != member})
    return replace(made, body=body, hash=body_hash(body))


def birth_with(reference: str, **wrong: Any) -> Statements:
    first, new = born(reference)
    return [*entry(first), *payment(new, **wrong)]


def nobodys_second(_: Scene) -> Statements:
    first, new = born("NEW")
    return [*entry(first), *entry(walk(new, "authorize").due(None).entries[0])]


def born_completed(_: Scene) -> Statements:
    first, new = born("NEW")
    done = walk(new, *PAID).due(None)
    lies = [statement for made in (first, *done.entries) for statement in entry(made)]
    return [*lies, *payment(done.payment)]


def ended_again(s: Scene) -> Statements:
    lie = forged(s.done, "fail", "completed", "failed")
    return [*entry(lie), *moved(s.done, lie)]


def ended_reopened(s: Scene) -> Statements:
    # The edge is legal where it stands, but it isn't where the payment stands.
    lie = forged(s.done, "observe", "awaiting_payment", "awaiting_payment")
    return [*entry(lie), *moved(s.done, lie)]


def live_twice(s: Scene) -> Statements:
    first, new = born("LIVE", round=2)
    return [*entry(first), *payment(new)]


def live_replaced(s: Scene) -> Statements:
    first, new = born("LIVE", round=2)
    return [*entry(first), *payment(new, "insert or replace")]


def round_replaced(s: Scene) -> Statements:
    first, new = born("DONE", key="another")
    return [*entry(first), *payment(new, "insert or replace")]


def row_taken(table: str) -> Callable[[Scene], Statements]:
    def lie(s: Scene) -> Statements:
        first, new = born("NEW")
        if table == "audit_entry":
            return entry(first, "insert or replace", rowid=1)
        return [*entry(first), *payment(new, "insert or replace", rowid=1)]

    return lie


def number_below_zero(_: Scene) -> Statements:
    return entry(born("NEW")[0], rowid=-1)


def retried(s: Scene, **wrong: Any) -> Statements:
    return entry(forged(s.live, "retry", "authorized", "authorized", **wrong))


def second(s: Scene, trigger: str = "authorize", target: str = "authorized") -> Entry:
    """Another entry for the place that the chain's second one has."""
    return forged(s.live, trigger, "collecting", target, seq=2, prev_hash=s.chain[0].hash)


OTHER_TEXT = {"digest": "d1", "name": "n", "text": "<y/>", "created_at": T0}
ENTRY_UPSERT = "on conflict (chain_id, seq) do update set body = excluded.body, hash = excluded.hash"
X32 = b"\x07" * 32
# What is said -> the rule that refuses it. `?` for the rule: whichever looks first.
LIES: dict[str, tuple[str, Callable[[Scene], Statements]]] = (
    {
        "a state without an entry": (
            "fk_payment_head",
            lambda s: move(s.live, state="failed", outcome="declined", version=3, head_hash=X32),
        ),
        "a state under the same version": ("?", lambda s: move(s.live, state="session_started")),
        "a head under the same version": ("?", lambda s: move(s.live, head_hash=X32)),
        "a fact without an entry": ("tr_payment_facts", lambda s: move(s.live, money="taken")),
        "a released hold without an entry": ("tr_payment_facts", lambda s: move(s.live, hold="review", held_at=None)),
        "an illegal edge": (
            "ck_audit_entry_edge",
            lambda s: entry(forged(s.live, "complete", "authorized", "completed")),
        ),
        "an unknown trigger": (
            "ck_audit_entry_edge",
            lambda s: entry(forged(s.live, "pay", "authorized", "authorized")),
        ),
        "a trigger of another kind of chain": ("ck_audit_entry_edge", lambda s: entry(notes("pay-x", 1)[0])),
        "a skipped number": ("fk_audit_entry_extends", lambda s: retried(s, seq=4)),
        "another predecessor": ("fk_audit_entry_extends", lambda s: retried(s, prev_hash=X32)),
        "a predecessor in another state": (
            "fk_audit_entry_extends",
            lambda s: entry(forged(s.live, "observe", "session_started", "session_started")),
        ),
        "a null predecessor": ("?", lambda s: entry(s.next, prev_hash=None)),
        "a null hash": ("?", lambda s: entry(s.next, hash=None)),
        "a second beginning": ("?", lambda s: entry(forged(s.live, "submit", "-", "collecting", prev_hash=NO_HASH))),
        "a beginning that extends something": (
            "ck_audit_entry_shape",
            lambda s: entry(forged(born("NEW")[1], "submit", "-", "collecting", seq=1, prev_hash=X32)),
        ),
        "number zero": (
            "?",
            lambda s: entry(forged(born("NEW")[1], "submit", "-", "collecting", seq=0, prev_hash=NO_HASH)),
        ),
        "an entry twice": ("pk_audit_entry", lambda s: entry(s.chain[1])),
        "another entry in its place": ("?", lambda s: entry(second(s, "retry", "collecting"))),
        "an entry of nobody's payment": ("tr_audit_entry_payment", nobodys_second),
        "an entry's UPDATE": ("tr_audit_entry_append_only", lambda s: [("update audit_entry set actor = 'x'", [])]),
        "an entry's DELETE": ("tr_audit_entry_append_only", lambda s: [("delete from audit_entry where seq = 2", [])]),
        "an entry's upsert": ("?", lambda s: entry(second(s), tail=ENTRY_UPSERT)),
        "a step back": ("tr_payment_back", lambda s: moved(s.live, s.chain[0])),
        "a terminal state that changes": ("?", ended_again),
        "an ended payment that is open again": ("?", ended_reopened),
        "an ended state without an entry": ("?", lambda s: move(s.done, state="failed", outcome="declined")),
        "a payment born completed": ("?", born_completed),
        "a payment born without an entry": ("fk_payment_head", lambda s: payment(born("NEW")[1])),
        "a payment born in another state": ("tr_payment_birth", lambda s: birth_with("NEW", state="authorized")),
        "a payment born at another version": ("tr_payment_birth", lambda s: birth_with("NEW", version=2)),
        "a payment's DELETE": ("?", lambda s: [("delete from payment where id = ?", [s.live.id])]),
        "a second live payment of a reference": ("uq_payment_live_reference", live_twice),
        "a payment that takes nothing": ("ck_payment_amount", lambda s: birth_with("NEW", amount_minor=0)),
        "a payment with an unknown channel": ("ck_payment_channel", lambda s: birth_with("NEW", channel="post")),
        "a payment held since never": ("ck_payment_held_since", lambda s: birth_with("NEW", hold="review")),
        "a definition's UPDATE": ("tr_definition_append_only", lambda s: [("update definition set text = 'x'", [])]),
        "a definition's DELETE": ("tr_definition_append_only", lambda s: [("delete from definition", [])]),
        "another text for a digest": ("pk_definition", lambda s: [insert("definition", OTHER_TEXT)]),
        "an entry that does not say who": ("ck_audit_entry_says", lambda s: entry(without(s.next, "actor"))),
        "an entry that does not say when": ("ck_audit_entry_says", lambda s: entry(without(s.next, "at"))),
        "an entry by nobody": ("ck_audit_entry_answers", lambda s: retried(s, about="")),
        "an entry with another result": ("ck_audit_entry_answers", lambda s: retried(s, result="maybe")),
        "an entry whose body is no JSON": ("?", lambda s: entry(s.next, body="{")),
        "a short hash": ("?", lambda s: entry(s.next, hash=b"\x07")),
    }
    | {
        f"a changed {column}": (
            "?" if column == "id" else "tr_payment_identity",
            lambda s, c=column, v=value: move(s.live, **{c: v}),
        )
        for column, value in {
            "id": "pay-x",
            "account": "apac",
            "channel": "phone",
            "reference": "X",
            "round": 9,
            "amount_minor": 1,
            "currency": "EUR",
            "created_at": at(1),
            "machine_version": 2,
            "content_digest": "x",
            "definitions": "{}",
        }.items()
    }
    | {
        f"a column that contradicts the body: {column}": (
            "ck_audit_entry_says",
            lambda s, c=column, v=value: entry(s.next, **{c: v}),
        )
        for column, value in {
            "at": at(99),
            "actor": "worker-2",
            "origin": "elsewhere",
            "kind": "payment.note",
            "result": "failure",
            "about": "another",
        }.items()
    }
    | {
        "a body about another chain": (
            "ck_audit_entry_says",
            lambda s: entry(replace(s.next, body=s.next.body.replace(s.live.id, s.done.id))),
        ),
        "a body with another number": (
            "ck_audit_entry_says",
            lambda s: entry(replace(s.next, body=s.next.body.replace('"seq":3', '"seq":5'))),
        ),
    }
)
ONLY_SQLITE: dict[str, tuple[str, Callable[[Scene], Statements]]] = {
    "an entry's INSERT OR REPLACE": ("pk_audit_entry", lambda s: entry(second(s), "insert or replace")),
    "an entry's UPDATE OR REPLACE": (
        "tr_audit_entry_append_only",
        lambda s: [("update or replace audit_entry set seq = 1 where seq = 2", [])],
    ),
    "an entry in another entry's row": ("pk_audit_entry", row_taken("audit_entry")),
    "an entry in a row below zero": ("tr_audit_entry_numbered", number_below_zero),
    "a hash that is text": ("ck_audit_entry_shape", lambda s: entry(s.next, hash="x" * 32)),
    "a payment's INSERT OR REPLACE": ("pk_payment", lambda s: payment(s.live, "insert or replace")),
    "a payment in another payment's row": ("pk_payment", row_taken("payment")),
    "a payment moved to another row": (
        "tr_payment_identity",
        lambda s: [("update or replace payment set rowid = 1 where rowid = 2", [])],
    ),
    "a live payment replaced by its like": ("uq_payment_live_reference", live_replaced),
    "a payment replaced by its round's like": ("uq_payment_account_reference_round", round_replaced),
    "a definition's INSERT OR REPLACE": (
        "pk_definition",
        lambda s: [insert("definition", OTHER_TEXT, "insert or replace")],
    ),
}
MODES = {
    "keys on": ("foreign_keys = on",),
    "keys off": ("foreign_keys = off",),
    "keys and checks off": ("foreign_keys = off", "ignore_check_constraints = on"),
}


def plain(url: str, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    for pragma in MODES[mode]:
        connection.execute(f"pragma {pragma}")
    return connection


def told(connection: sqlite3.Connection, statements: Statements) -> None:
    for sql, values in statements:
        connection.execute(sql, [instant(value) if isinstance(value, datetime) else value for value in values])
    connection.commit()


@pytest.mark.parametrize("mode", MODES)
async def test_sqlite_refuses_every_lie_whatever_the_client_has_switched_off(sqlite_url: str, mode: str) -> None:
    async with SqlStore(sqlite_url) as store:
        scene = await set_scene(store)
    accepted, unnamed = [], []
    with plain(sqlite_url, mode) as connection:
        before = list(connection.iterdump())
        for name, (rule, lie) in (LIES | ONLY_SQLITE).items():
            try:
                told(connection, lie(scene))
                accepted.append(name)
            except (sqlite3.IntegrityError, sqlite3.OperationalError) as refusal:
                # Triggers are asked first, so the rule is named in every mode.
                if rule != "?" and rule not in str(refusal):
                    unnamed.append((name, rule, str(refusal)))
            connection.rollback()
        assert (accepted, unnamed) == ([], [])
        assert list(connection.iterdump()) == before
    connection.close()


@pytest.mark.parametrize("mode", MODES)
async def test_sqlite_takes_the_truth_over_the_same_connections(sqlite_url: str, mode: str) -> None:
    async with SqlStore(sqlite_url) as store:
        scene = await set_scene(store)
        first, new = born("NEW")
        with plain(sqlite_url, mode) as connection:
            told(connection, [*entry(first), *payment(new), *entry(scene.next), *moved(scene.live, scene.next)])
        connection.close()
        read = await store.get(scene.live.id)
        assert read is not None
        assert (read.state, read.version, read.head) == (State.SESSION_STARTED, 3, scene.next.hash)
        assert await store.get(new.id) == new


async def test_postgresql_refuses_every_lie(liar: tuple[Scene, asyncpg.Connection]) -> None:
    scene, connection = liar
    accepted, unnamed = [], []
    for name, (rule, lie) in LIES.items():
        transaction = connection.transaction()
        await transaction.start()
        try:
            await _said(connection, lie(scene))
            accepted.append(name)
        except asyncpg.IntegrityConstraintViolationError as refusal:
            # Constraints are looked at in the order of their names: another may speak first.
            if rule not in ("?", "ck_audit_entry_says", "fk_payment_head") and rule not in str(refusal):
                unnamed.append((name, rule, str(refusal)))
        except asyncpg.DataError:
            assert name == "an entry whose body is no JSON"  # it can't even be read as a body
        await transaction.rollback()
    assert (accepted, unnamed) == ([], [])


async def _said(connection: asyncpg.Connection, statements: Statements) -> None:
    for sql, values in statements:
        parts = sql.split("?")
        numbered = "".join(f"{part}${number}" for number, part in enumerate(parts[:-1], 1)) + parts[-1]
        await connection.execute(numbered, *values)
    await connection.execute("set constraints all immediate")


@pytest.fixture(scope="module")
def liar_loop_data() -> dict[str, Any]:
    return {}


@pytest.fixture
async def liar(postgresql_host: str, liar_loop_data: dict[str, Any]) -> Any:
    """One scene for all lies of this module: each is rolled back."""
    from tests.integration.store.conftest import new_schema, postgresql_url

    if not liar_loop_data:
        name = await new_schema(postgresql_host)
        async with SqlStore(postgresql_url(postgresql_host, name)) as store:
            liar_loop_data.update(name=name, scene=await set_scene(store))
    connection = await asyncpg.connect(host=postgresql_host, user=liar_loop_data["name"], database="postgres")
    yield liar_loop_data["scene"], connection
    await connection.close()


async def test_postgresql_takes_the_truth(liar: tuple[Scene, asyncpg.Connection]) -> None:
    scene, connection = liar
    transaction = connection.transaction()
    await transaction.start()
    await _said(connection, [*entry(scene.next), *moved(scene.live, scene.next)])
    assert await connection.fetchval("select state from payment where id = $1", scene.live.id) == "session_started"
    await transaction.rollback()


@pytest.mark.parametrize(
    "lie",
    [
        "truncate audit_entry cascade",
        "truncate payment cascade",
        "truncate checkpoint",
        "update audit_entry set actor = 'x'",
        "delete from audit_entry",
        "delete from payment",
    ],
)
async def test_postgresql_refuses_even_in_the_replica_role(liar: tuple[Scene, asyncpg.Connection], lie: str) -> None:
    _, connection = liar
    await connection.execute("set session_replication_role = replica")
    with pytest.raises(asyncpg.RestrictViolationError, match="append_only"):
        await connection.execute(lie)


async def test_postgresql_refuses_a_hash_that_is_not_the_bodys(liar: tuple[Scene, asyncpg.Connection]) -> None:
    scene, connection = liar
    with pytest.raises(asyncpg.CheckViolationError, match="ck_audit_entry_hash"):
        await _said(connection, entry(scene.next, hash=X32))


async def test_postgresql_refuses_an_entry_that_its_payment_does_not_know(
    liar: tuple[Scene, asyncpg.Connection],
) -> None:
    scene, connection = liar
    transaction = connection.transaction()
    await transaction.start()
    with pytest.raises(asyncpg.CheckViolationError, match="tr_audit_entry_payment"):
        await _said(connection, entry(scene.next))
    await transaction.rollback()


async def test_the_sealed_log_is_append_only_too(sqlite_url: str) -> None:
    async with SqlStore(sqlite_url) as store:
        scene = await set_scene(store)
    first = asdict(scene.chain[0])
    with plain(sqlite_url, "keys off") as connection:
        leaf = {"idx": 0, "chain_id": first["chain_id"], "seq": 1, "hash": first["hash"]}
        seal = {"size": 1, "root": X32, "nodes": X32, "note": "signed", "created_at": T0}
        second = leaf | {"seq": 2, "hash": scene.chain[1].hash}
        told(connection, [insert("log_leaf", leaf), insert("checkpoint", seal)])
        for lie in (
            [("update log_leaf set hash = ?", [X32])],
            [("delete from log_leaf", [])],
            [insert("log_leaf", leaf | {"hash": X32}, "insert or replace")],
            [insert("log_leaf", leaf | {"idx": 1}, "insert or replace")],
            [insert("log_leaf", second | {"idx": 2})],
            [insert("log_leaf", second | {"idx": 1, "hash": X32})],
            [insert("checkpoint", seal | {"size": 2})],
            [("update unsealed set seq = 7", [])],
            [("delete from unsealed where seq = 2", [])],
            [("update checkpoint set note = 'x'", [])],
            [("delete from checkpoint", [])],
            [insert("checkpoint", seal | {"note": "other"}, "insert or replace")],
            [insert("checkpoint", seal | {"note": "other"}, tail="on conflict (size) do update set note = 'x'")],
        ):
            with pytest.raises(sqlite3.IntegrityError):
                told(connection, lie)
            connection.rollback()
        assert connection.execute("select note from checkpoint").fetchall() == [("signed",)]
    connection.close()


async def test_completed_means_paid(store: SqlStore) -> None:
    payment_ = await store.submit(birth())
    paid = walk(payment_, *PAID)
    lie = replace(paid.due(None), payment=replace(paid.payment, outcome=Outcome.DECLINED))
    from orchestrator.domain.errors import IntegrityViolated
    from orchestrator.records import Record

    with pytest.raises(IntegrityViolated, match="ck_payment_end"):
        await store.record(Record(lie, held_claim=False))
    assert await store.get(payment_.id) == payment_
