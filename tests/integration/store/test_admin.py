"""Notes in the day's chain, and paused accounts: nothing is changed without its entry, nothing is noted twice."""

import asyncio
import json
from datetime import timedelta, timezone
from typing import Any

import pytest

from orchestrator.audit import verify
from orchestrator.domain.entry import NO_HASH, Context
from orchestrator.domain.errors import IntegrityViolated, Unavailable
from orchestrator.records import Pause
from orchestrator.store import SqlStore
from orchestrator.store.admin import chain_of
from tests.integration.store.makers import T0, at, context, notes
from tests.integration.store.test_record import lost_commits

DAY = "admin-2026-11-24"


async def test_an_account_is_paused_once_and_resumed_once_each_with_its_entry(store: SqlStore, other: SqlStore) -> None:
    ada, ben = context(1, actor="ada"), context(2, actor="ben")
    assert await store.paused_accounts() == {}
    assert await store.pause_account("emea", reason="provider maintenance", context=ada)
    assert not await other.pause_account("emea", reason="another reason", context=ben)
    assert await other.pause_account("apac", reason="keys changed", context=ben)
    assert await store.paused_accounts() == {
        "apac": Pause("ben", "keys changed", at(2)), "emea": Pause("ada", "provider maintenance", at(1)),
    }  # fmt: skip
    assert await other.resume_account("emea", reason="over", context=context(3, actor="ada"))
    assert not await store.resume_account("emea", reason="over", context=context(4))
    assert list(await store.paused_accounts()) == ["apac"]
    chain = await store.entries(DAY)
    assert [(entry.seq, entry.kind, entry.about, entry.actor) for entry in chain] == [
        (1, "account.paused", "emea", "ada"), (2, "account.paused", "apac", "ben"),
        (3, "account.resumed", "emea", "ada"),
    ]  # fmt: skip
    assert [json.loads(entry.body)["reason"] for entry in chain] == ["provider maintenance", "keys changed", "over"]
    assert (await verify(store)).clean


@pytest.mark.parametrize("empty", ["account", "actor", "reason"])
async def test_a_pause_without_name_person_or_reason_is_refused_whole(store: SqlStore, empty: str) -> None:
    told: dict[str, Any] = {"account": "emea", "actor": "ada", "reason": "why"} | {empty: ""}
    with pytest.raises(IntegrityViolated, match="ck_"):
        await store.pause_account(told["account"], reason=told["reason"], context=context(actor=told["actor"]))
    assert await store.paused_accounts() == {}
    assert await store.entries(DAY) == []


@pytest.mark.parametrize("effect", [True, False], ids=["written", "not written"])
async def test_a_lost_answer_notes_once(store: SqlStore, effect: bool) -> None:
    with lost_commits(store, 1, effect=effect):
        assert await store.pause_account("emea", reason="why", context=context())
    with lost_commits(store, 1, effect=effect):
        assert await store.resume_account("emea", reason="why", context=context())
    with lost_commits(store, 1, effect=effect):
        entry = await store.note("key.rotated", about="k1", context=context(), details={"count": 3}, result="failure")
    assert entry is not None
    assert [each.kind for each in await store.entries(DAY)] == ["account.paused", "account.resumed", "key.rotated"]
    assert (await store.entries(DAY))[-1] == entry
    assert (json.loads(entry.body)["count"], entry.result) == (3, "failure")
    assert await store.paused_accounts() == {}


async def test_silence_leaves_neither_row_nor_entry(store: SqlStore) -> None:
    with lost_commits(store, 5, effect=False), pytest.raises(Unavailable):
        await store.pause_account("emea", reason="why", context=context())
    assert (await store.paused_accounts(), await store.entries(DAY)) == ({}, [])


async def test_many_notes_at_once_are_one_chain(store: SqlStore, other: SqlStore) -> None:
    writers = (store, other)
    made = await asyncio.gather(
        *(
            writers[number % 2].note("control.failed", about=f"n{number}", context=context(number))
            for number in range(40)
        )
    )
    chain = await store.entries(DAY)
    assert [entry.seq for entry in chain] == list(range(1, 41))
    assert {entry.hash for entry in chain} == {entry.hash for entry in made if entry is not None}
    assert (await verify(store)).clean


async def test_a_note_that_loses_its_number_to_one_without_the_lock_takes_the_next(
    store: SqlStore, other: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.store import admin

    stale = [(0, NO_HASH), (0, NO_HASH)]
    real = admin._locked

    def late(connection: Any, chain_id: str) -> tuple[int, bytes]:
        return stale.pop() if stale else real(connection, chain_id)

    await other.append(notes(DAY, 1))
    monkeypatch.setattr(admin, "_locked", late)
    entry = await store.note("control.failed", about="x", context=context())
    assert entry is not None
    assert (entry.seq, stale) == (2, [])


async def test_a_chain_that_is_always_taken_is_unavailable_and_changes_nothing(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.store import admin

    def stale(_connection: Any, _chain_id: str) -> tuple[int, bytes]:
        return 0, NO_HASH

    await store.append(notes(DAY, 1))
    monkeypatch.setattr(admin, "_locked", stale)
    with pytest.raises(Unavailable, match="too busy"):
        await store.pause_account("emea", reason="why", context=context())
    assert await store.paused_accounts() == {}


def test_the_day_is_that_of_the_entry_in_utc() -> None:
    assert chain_of(T0) == DAY
    night = T0.replace(hour=2).astimezone(timezone(timedelta(hours=-8)))
    assert (night.day, chain_of(night)) == (23, DAY)


async def test_each_day_begins_a_chain(store: SqlStore) -> None:
    for day in (0, 1):
        told = Context(now=T0 + timedelta(days=day), actor="ada", origin="h")
        entry = await store.note("control.failed", about="x", context=told)
        assert entry is not None
        assert (entry.seq, entry.prev_hash, entry.from_state) == (1, NO_HASH, "-")
    assert await store.chains(None, 9) == [DAY, "admin-2026-11-25"]
