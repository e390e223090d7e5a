"""Is the population complete, and is a sample of it the one that the rule says: on both databases, page by page."""

from datetime import timedelta

import pytest

from orchestrator.audit.completeness import Completeness, completeness
from orchestrator.audit.periods import Period
from orchestrator.audit.sample import ENTRIES, PAYMENTS, draw, population_of
from orchestrator.store import SqlStore
from tests.integration.audit.books import DAY, MIDNIGHT, TRUSTED, Paged, cut, read_only, seal, stories, url
from tests.integration.store.conftest import postgresql_host, sqlite_template, store
from tests.integration.store.makers import T0, at, birth, notes, outside

__all__ = ["postgresql_host", "sqlite_template", "store", "url"]

ALWAYS = Period()


async def counted(store: SqlStore, period: Period = ALWAYS) -> Completeness:
    return await completeness(Paged(store), period, TRUSTED)


def kinds(found: Completeness) -> list[tuple[str, str]]:
    return [(gap.kind, gap.about) for gap in found.gaps]


async def test_a_whole_trail_has_no_gap_and_its_counts_add_up(store: SqlStore) -> None:
    await stories(store)
    await store.append(notes("admin-2026-11-24", 3))
    await seal(store)
    await store.append(notes("admin-2026-11-25", 2))

    found = await counted(store)

    stored = [entry async for entry in store.all_entries()]
    assert found.gaps == []
    assert found.signed_by == ["tests"]
    assert (found.entries, found.chains, found.payments) == (len(stored), 7, 5)
    assert (found.leaves, found.unsealed) == (len(stored) - 2, 2)
    assert found.totals == {
        "entries": len(stored), "payments_created": 5, "payments_begun": 5, "sessions_asked": 4,
        "sessions_resolved": 3, "sessions_open": 1,
    }  # fmt: skip
    assert list(found.days) == ["2026-11-24"]


async def test_a_period_counts_what_is_in_it_and_looks_for_gaps_everywhere(store: SqlStore, url: str) -> None:
    await stories(store)
    await seal(store)

    found = await counted(store, Period(MIDNIGHT + DAY))

    assert (found.days, found.gaps) == ({}, [])
    await store.close()
    await cut(url, "delete from audit_entry where chain_id = 'pay-paid' and seq = 3")
    assert kinds(await _read(url, Period(MIDNIGHT + DAY))) == [("chain", "pay-paid"), ("count", "log")]


async def test_what_is_not_sealed_is_no_proof(store: SqlStore) -> None:
    assert kinds(await counted(store)) == [], "nothing is there, and nothing is missing"
    await store.submit(birth())

    assert kinds(await counted(store)) == [("checkpoint", "log")]


async def test_a_checkpoint_of_a_key_that_nobody_trusts_is_no_proof(store: SqlStore) -> None:
    await stories(store)
    await seal(store)

    found = await completeness(store, ALWAYS, [])

    assert kinds(found) == [("signature", "log")]


@pytest.mark.parametrize(
    ("lies", "gaps"),
    [
        (
            ["delete from audit_entry where chain_id = 'pay-paid' and seq = 3"],
            [("chain", "pay-paid"), ("count", "log")],
        ),
        (["delete from audit_entry where chain_id = 'pay-born'"], [("payment", "pay-born"), ("count", "log")]),
        (["delete from payment where id = 'pay-born'"], [("payment", "pay-born")]),
        (
            ["delete from payment where id = 'pay-born'", "delete from audit_entry where chain_id = 'pay-born'"],
            [("count", "log")],
        ),
        (["delete from log_leaf where idx = 4"], [("leaf", "log"), ("checkpoint", "log"), ("count", "log")]),
        (["delete from log_leaf where idx = 0"], [("leaf", "log"), ("checkpoint", "log"), ("count", "log")]),
        (["delete from checkpoint"], [("checkpoint", "log")]),
        (["update checkpoint set size = 2"], [("checkpoint", "log"), ("checkpoint", "log")]),
        (["update payment set open_attempt = null where id = 'pay-asked'"], [("session", "pay-asked")]),
        (["update payment set created_at = '2026-11-23T00:00:00.000000Z' where id = 'pay-born'"],
         [("payment", "pay-born")]),
    ],
    ids=["an entry", "a chain", "a payment", "a payment with its chain", "a leaf", "the first leaf", "the checkpoint",
         "a checkpoint's size", "an attempt", "a payment's time"],
)  # fmt: skip
async def test_what_is_taken_away_is_missed(
    store: SqlStore, url: str, lies: list[str], gaps: list[tuple[str, str]]
) -> None:
    await stories(store)
    await seal(store)
    await store.close()
    await cut(url, *lies)

    found = await _read(url)

    assert sorted(kinds(found)) == sorted(gaps)


async def _read(url: str, period: Period = ALWAYS) -> Completeness:
    store = await read_only(url)
    try:
        return await counted(store, period)
    finally:
        await store.close()


async def test_a_sample_is_of_the_sealed_payments_of_the_period(store: SqlStore) -> None:
    for number in range(7):
        await store.submit(birth(f"INV-{number}"))
    await seal(store)
    await store.submit(birth("INV-LATE"))

    async with Paged(store).ledger() as ledger:
        newest = await ledger.newest()
        assert newest is not None
        drawn = await draw(population_of(ledger, Period(T0, at(1)), newest.size, PAYMENTS), newest.root, "n", 99)
        none = await draw(population_of(ledger, Period(at(1)), newest.size, PAYMENTS), newest.root, "n", 99)

    assert (drawn.population, len(drawn.items), none.population) == (7, 7, 0)
    late = await store.of_reference("emea", "INV-LATE")
    assert late[0].id not in {item.chain_id for item in drawn.items}
    for item in drawn.items:
        leaf = await store.leaf_of(item.chain_id, 1)
        assert leaf is not None
        assert leaf.idx == item.leaf


async def test_a_sample_of_entries_is_of_every_sealed_entry(store: SqlStore) -> None:
    await stories(store)
    await seal(store)
    (born,) = [payment async for payment in store.all_payments() if payment.id == "pay-born"]
    await store.record(outside(born, "authorize"))

    async with Paged(store).ledger() as ledger:
        newest = await ledger.newest()
        assert newest is not None
        drawn = await draw(population_of(ledger, Period(), newest.size, ENTRIES), newest.root, "", 1000)
        later = Period(T0 + timedelta(seconds=5))
        few = await draw(population_of(ledger, later, newest.size, ENTRIES), newest.root, "", 1000)

    stored = [entry async for entry in store.all_entries()]
    assert drawn.population == newest.size == len(stored) - 1
    assert {(item.chain_id, item.seq) for item in few.items} == {
        (entry.chain_id, entry.seq) for entry in stored if entry.at >= at(5)
    }
