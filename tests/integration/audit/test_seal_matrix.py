"""
Twenty-one ways to lie about the trail, on both databases, about sealed entries and the tail that is not yet.

Each is done with all rights, the guards taken off; the verifier must name the first bad row. What
only the provider can know (a forged entry in good form, by the worker's own rights) is for
`audit reconcile`.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from orchestrator.audit import Report, verify
from orchestrator.audit.lines import entry_line
from orchestrator.audit.log import Evidence
from orchestrator.audit.sealer import Sealer
from orchestrator.clock import SystemClock
from orchestrator.domain import asking
from orchestrator.domain.entry import Context
from orchestrator.domain.payment import Channel
from orchestrator.domain.starting import intend
from orchestrator.privacy.signing import SigningKey
from orchestrator.records import Birth, Record
from orchestrator.sinks import FileSink, HashLines
from orchestrator.store import SqlStore
from tests.integration.store.conftest import new_schema, postgresql_url
from tests.integration.store.makers import at
from tests.support.intruder import Intruder, intruder
from tests.unit.audit.tales import Tale
from tests.unit.domain.story import ANSWERED, OPENED, POLICIES, authorize, ctx, fresh, look, paid, start

SEALED, TAIL, OTHER = "pay-sealed", "pay-tail", "pay-other"
LAST = 6
"""Of a paid payment: submit, authorize, request, start_session, hand_over, complete."""
KEY = SigningKey("test-log", bytes(32))
STRANGER = SigningKey("test-log", bytes(31) + b"\1")


def tale(name: str) -> Tale:
    payment = replace(fresh(Channel.PHONE), id=name, account=name, call_guid=name)
    begun = Tale(payment).tell(asking.submit, ctx(), POLICIES[Channel.PHONE])
    asked = begun.tell(authorize, ANSWERED, 0).tell(intend, ctx(), request_digest="r1")
    return asked.tell(start, OPENED).tell(look, paid())


async def record(store: SqlStore, told: Tale) -> None:
    birth, *later = told.decisions
    await store.submit(Birth(birth, b"sealed"))
    for decision in later:
        await store.record(Record(decision, held_claim=False))


def context() -> Context:
    return Context(at(0), "ada", "host-1", version="1")


@dataclass
class Estate:
    """A database with a sealed payment and one whose entries wait, and what was carried elsewhere."""

    url: str
    sink: Path

    def store(self) -> SqlStore:
        lines = HashLines(FileSink(self.sink), entry_line, pytest.fail)
        return SqlStore(self.url, lines=lines)

    def sealer(self, store: SqlStore, key: SigningKey = KEY) -> Sealer:
        return Sealer(store, [key], "test-log", [FileSink(self.sink)], SystemClock(), context)

    async def verified(self, *, announced: bool = False) -> Report:
        store = SqlStore(self.url)
        try:
            return await verify(store, evidence=Evidence([KEY.public], (), [self.sink], announced=announced))
        finally:
            await store.close()


@pytest.fixture(params=["sqlite", "postgresql"])
async def estate(request: pytest.FixtureRequest, tmp_path: Path) -> Estate:
    if request.param == "sqlite":
        file = tmp_path / "payments.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), file)
        made = Estate(f"sqlite:///{file}", tmp_path / "sink")
    else:
        host = request.getfixturevalue("postgresql_host")
        made = Estate(postgresql_url(host, await new_schema(host), "asyncpg"), tmp_path / "sink")
    async with made.store() as store:
        await record(store, tale(SEALED))
        await record(store, tale(OTHER))
        await store.note("clock.skew", about="x", context=context())
        await made.sealer(store).seal()
        await record(store, tale(TAIL))
    return made


async def test_a_true_trail_has_no_finding(estate: Estate) -> None:
    report = await estate.verified(announced=True)

    assert report.findings == ()
    counted = {name: report.counts[name] for name in ("entries", "leaves", "waiting", "checkpoints")}
    assert counted == {"entries": 20, "leaves": 14, "waiting": 6, "checkpoints": 1}


def swapped(it: Intruder, chain: str) -> None:
    for old, new in ((2, 99), (3, 2), (99, 3)):
        it.sql("update audit_entry set seq = ? where chain_id = ? and seq = ?", (new, chain, old))


def deleted_and_relinked(it: Intruder, chain: str) -> None:
    it.sql("delete from audit_entry where chain_id = ? and seq = 4", (chain,))
    for seq in range(5, LAST + 1):
        it.sql("update audit_entry set seq = ? where chain_id = ? and seq = ?", (seq - 1, chain, seq))
        it.say(seq - 1, chain, seq=seq - 1)
    it.relink(4, chain)


def back_dated(it: Intruder, chain: str) -> None:
    for seq in range(LAST, 2, -1):
        it.sql("update audit_entry set seq = ? where chain_id = ? and seq = ?", (seq + 1, chain, seq))
        it.say(seq + 1, chain, seq=seq + 1)
    it.put(3, chain, trigger="retry", kind="payment.retry")
    it.relink(4, chain)


def truncated(it: Intruder, chain: str) -> None:
    it.forget(chain, LAST)
    it.sql("update payment set outcome = null, money = 'none' where id = ?", (chain,))
    it.head(chain)


def gone(it: Intruder, chain: str) -> None:
    for table, column in (("notification", "payment_id"), ("payer_data", "payment_id"), ("payment", "id")):
        it.sql(f"delete from {table} where {column} = ?", (chain,))
    it.forget(chain)


def rechained(it: Intruder, chain: str) -> None:
    it.say(3, chain, software="9")
    it.relink(4, chain)


Row = tuple[str, int | None]
"""The kind of a finding, and the entry that it names."""

ATTACKS: dict[str, tuple[Callable[[Intruder, str], object], Row, Row]] = {
    # what is done; then, for a sealed chain and for the tail: which kind names which row
    "1 a copied column": (
        lambda it, chain: it.change(3, chain, actor="nobody"), ("column", 3), ("column", 3),
    ),
    "2 a body": (
        lambda it, chain: it.change(4, chain, body=it.entry(4, chain)["body"].replace('"v":1', '"v":2')),
        ("hash", 4), ("hash", 4),
    ),
    "3 a body and its hash": (lambda it, chain: it.say(4, chain, software="9"), ("leaf", 4), ("prev", 5)),
    "4, 5 a body, and all behind it anew": (rechained, ("leaf", 3), ("sink", 3)),
    "6 a middle entry deleted": (
        lambda it, chain: it.sql("delete from audit_entry where chain_id = ? and seq = 4", (chain,)),
        ("gap", 5), ("gap", 5),
    ),
    "7 the same, and all behind it anew": (deleted_and_relinked, ("leaf", 4), ("sink", 4)),
    "8 two entries swapped": (swapped, ("prev", 2), ("prev", 2)),
    "9 an entry put in between, and all behind it anew": (back_dated, ("leaf", 3), ("sink", 3)),
    "10, 11, 12 the last entry cut off, in good form": (truncated, ("leaf", LAST), ("sink", LAST)),
    "13, 14 a whole payment": (gone, ("leaf", 1), ("sink", 1)),
    "18 a payment's state": (
        lambda it, chain: it.sql("update payment set state = 'failed' where id = ?", (chain,)),
        ("state", None), ("state", None),
    ),
}  # fmt: skip


@pytest.mark.parametrize("chain", [SEALED, TAIL])
@pytest.mark.parametrize("attack", ATTACKS)
async def test_what_is_changed_in_the_database_is_named(estate: Estate, attack: str, chain: str) -> None:
    tamper, sealed, tail = ATTACKS[attack]
    with intruder(estate.url) as it:
        tamper(it, chain)

    report = await estate.verified()

    kind, seq = sealed if chain == SEALED else tail
    assert (kind, chain, seq) in {(found.kind, found.chain_id, found.seq) for found in report.findings}


async def rewritten(estate: Estate, key: SigningKey, *, keep: bool) -> None:
    """Change an old entry, make everything behind it anew, the log too, and sign it."""
    with intruder(estate.url) as it:
        rechained(it, SEALED)
        it.sql("delete from checkpoint")
        it.sql("insert into unsealed select chain_id, seq from log_leaf")
        it.sql("delete from log_leaf")
    if keep:
        store = SqlStore(estate.url)
        sealer = replace(estate.sealer(store, key), sinks=())
        await sealer.seal()
        await store.close()


async def test_15_a_log_that_is_thrown_away_is_missed_elsewhere(estate: Estate) -> None:
    await rewritten(estate, KEY, keep=False)

    kinds = {(found.kind, found.chain_id, found.seq) for found in (await estate.verified()).findings}

    assert ("root", "log", 14) in kinds
    assert ("sink", SEALED, 3) in kinds


async def test_16_a_log_made_anew_under_another_key_has_no_signature_that_counts(estate: Estate) -> None:
    await rewritten(estate, STRANGER, keep=True)

    assert "signature" in {found.kind for found in (await estate.verified()).findings}


async def test_17_a_log_made_anew_with_the_very_key_is_another_one_than_elsewhere(estate: Estate) -> None:
    await rewritten(estate, KEY, keep=True)

    kinds = {(found.kind, found.chain_id, found.seq) for found in (await estate.verified()).findings}

    assert {kind for kind, _, _ in kinds} - {"schema"} == {"root", "sink"}
    assert ("root", "log", 14) in kinds
    assert ("sink", SEALED, 3) in kinds


async def test_20_a_valid_entry_by_plain_sql_was_never_announced(estate: Estate) -> None:
    """Whoever writes in good form by hand leaves no line: even when the sealer has carried the entry away."""
    with intruder(estate.url) as it:
        it.put(3, "admin-2026-11-24", trigger="note", kind="clock.skew")
        it.sql("insert into unsealed (chain_id, seq) values ('admin-2026-11-24', 3)")
    store = SqlStore(estate.url)
    await estate.sealer(store).seal()
    await store.close()

    assert {found.kind for found in (await estate.verified()).findings} == {"schema"}
    found = {(found.kind, found.chain_id, found.seq) for found in (await estate.verified(announced=True)).findings}
    assert ("unannounced", "admin-2026-11-24", 3) in found


async def test_21_an_older_copy_lacks_what_is_known_elsewhere(estate: Estate) -> None:
    with intruder(estate.url) as it:
        gone(it, TAIL)  # as if the copy were from before it

    found = {(found.kind, found.chain_id, found.seq) for found in (await estate.verified()).findings}

    assert ("sink", TAIL, 1) in found


@pytest.mark.parametrize("size", [2, 3])
async def test_a_leaf_that_was_changed_has_another_root(estate: Estate, size: int) -> None:
    with intruder(estate.url) as it:
        it.sql("update log_leaf set hash = ? where idx = ?", (bytes(32), size))

    found = {(found.kind, found.seq) for found in (await estate.verified()).findings if found.chain_id == "log"}

    assert found == {("root", 14)}


async def test_a_leaf_that_is_missing_is_a_gap(estate: Estate) -> None:
    with intruder(estate.url) as it:
        it.sql("delete from log_leaf where idx = 5")

    assert "log_gap" in {found.kind for found in (await estate.verified()).findings}


async def test_an_entry_that_is_kept_from_the_sealer_is_found(estate: Estate) -> None:
    with intruder(estate.url) as it:
        it.sql("delete from unsealed where chain_id = ? and seq = 2", (TAIL,))

    report = await estate.verified()

    assert [(f.kind, f.chain_id, f.seq) for f in report.findings if f.kind != "schema"] == [("unsealed", TAIL, 2)]
