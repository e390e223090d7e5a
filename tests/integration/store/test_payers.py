"""Payer data on both databases: erased with its entry or not at all, sealed anew without losing a concurrent write."""

import base64
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from orchestrator.audit import verify
from orchestrator.domain.errors import ConfigurationError, Conflict, ControlFailed, NotFound
from orchestrator.domain.outcome import Outcome
from orchestrator.domain.payment import HoldReason, Payment
from orchestrator.erasure import Retention, erase, replay
from orchestrator.privacy import FieldVault, Sealer
from orchestrator.records import Record
from orchestrator.rotation import PAGE, rotate
from orchestrator.store import SqlStore
from tests.integration.store.makers import PAID, T0, at, birth, context, outside, walk

SUBJECT = "Ada Subject-of-Erasure"
FIRST, SECOND = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))


class Clock:
    """Stands still until a test moves it."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self.passed_s = 1.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self.passed_s

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(seconds)


def vault(*keys: str) -> FieldVault:
    return FieldVault(Sealer.parse("\n".join(keys)))


async def born(store: SqlStore, reference: str, under: FieldVault | None = None, **changes: Any) -> Payment:
    plain = birth(reference, **changes)
    sealed = SUBJECT.encode()
    if under is not None:
        sealed = under.seal({"cardholderName": SUBJECT}, payment_id=plain.decision.payment.id)
    return await store.submit(replace(plain, sealed=sealed))


async def ended(store: SqlStore, reference: str, **changes: Any) -> Payment:
    return await store.record(outside(await born(store, reference, **changes), *PAID))


async def erasures(store: SqlStore) -> list[tuple[str, str, dict[str, Any]]]:
    found = [entry async for entry in store.all_entries() if entry.kind == "subject.erased"]
    return [(entry.about, entry.actor, json.loads(entry.body)) for entry in found]


async def assert_clean(store: SqlStore) -> None:
    # These payments end without a provider's answer, which is all that may be wrong with them.
    assert {finding.invariant for finding in (await verify(store)).findings} <= {"I9"}


async def test_an_ended_payments_data_goes_with_its_entry_and_once(store: SqlStore) -> None:
    payment = await ended(store, "PAID-1")
    kept = await ended(store, "PAID-2")
    told: list[str] = []

    def tell(payment_id: str, _: Any) -> None:
        told.append(payment_id)

    ada = context(9, actor="ada")
    assert await store.erase(payment.id, reason="asked to", context=ada, told=tell)
    assert not await store.erase(payment.id, reason="asked to", context=ada, told=tell)

    assert (await store.sealed(payment.id), await store.sealed(kept.id)) == (None, SUBJECT.encode())
    ((about, actor, body),) = await erasures(store)
    assert (about, actor, body["reason"], told) == (payment.id, "ada", "asked to", [payment.id])
    assert "Subject" not in json.dumps(body)
    await assert_clean(store)


async def test_what_is_still_needed_is_not_erased(store: SqlStore) -> None:
    still_open = await born(store, "OPEN-1")
    held = await ended(store, "HELD-1")
    held = await store.record(Record(walk(held, seconds=5).hold(HoldReason.LATE_MONEY).due(None), held_claim=False))
    walked = walk(await born(store, "WATCHED-1"), *PAID[:3])
    walked.step("fail", outcome=Outcome.CANCELLED_BY_HOST, reason="cancelled", watch_until=at(900))
    watched = await store.record(Record(walked.due(None), held_claim=False))

    for payment, word in ((still_open, "has not ended"), (held, "is held"), (watched, "is still watched")):
        with pytest.raises(Conflict, match=word):
            await store.erase(payment.id, reason="asked to", context=context(9))
        with pytest.raises(Conflict, match=word):
            await store.erasable(payment.id)
        assert await store.sealed(payment.id) == SUBJECT.encode()
    with pytest.raises(NotFound):
        await store.erase("pay-" + "a" * 26, reason="asked to", context=context(9))
    keeper = Retention(store, 1.0, Clock(T0 + timedelta(days=8)), lambda: context(8 * 86400), None)
    await keeper.turn()

    assert await erasures(store) == []


async def test_of_several_payments_all_are_erased_or_none(store: SqlStore) -> None:
    paid, still_open = await ended(store, "PAID-1"), await born(store, "OPEN-1")

    with pytest.raises(Conflict):
        await erase(store, [paid.id, still_open.id], lambda: context(9), reason="asked to", told=None)

    assert await store.sealed(paid.id) is not None
    assert await erasures(store) == []


async def test_an_erasure_that_cannot_be_told_outside_does_not_happen(store: SqlStore) -> None:
    payment = await ended(store, "PAID-1")

    def tell(_payment: str, _at: Any) -> None:
        raise ControlFailed("erasure", "the file is gone")

    with pytest.raises(ControlFailed):
        await store.erase(payment.id, reason="asked to", context=context(9), told=tell)

    assert await store.sealed(payment.id) is not None
    assert await erasures(store) == []


async def test_a_replay_goes_on_past_what_is_unknown_or_still_open(store: SqlStore) -> None:
    paid, still_open, gone = await ended(store, "PAID-1"), await born(store, "OPEN-1"), "pay-" + "a" * 26
    named = [gone, still_open.id, paid.id]

    found = await replay(store, named, lambda: context(9), reason="backup of Monday", told=None)
    again = await replay(store, named, lambda: context(9), reason="backup of Monday", told=None)

    assert (found.erased, found.missing, list(found.refused)) == ([paid.id], [gone], [still_open.id])
    assert (again.erased, again.nothing) == ([], [paid.id])
    ((_, _, body),) = await erasures(store)
    assert body["replayed"] is True


async def test_retention_erases_what_ended_long_ago_and_nothing_else(store: SqlStore) -> None:
    old = await ended(store, "OLD-1")
    still_open = await born(store, "OPEN-1")
    late = await store.record(outside(await born(store, "LATE-1"), *PAID, seconds=6 * 86400))
    clock = Clock(T0 + timedelta(days=8))
    keeper = Retention(store, 7.0, clock, lambda: context(8 * 86400, actor="worker-1"), None)

    assert await keeper.turn() is False

    assert [await store.sealed(each.id) is None for each in (old, still_open, late)] == [True, False, False]
    ((about, _, body),) = await erasures(store)
    assert (about, body["reason"]) == (old.id, "retention")
    assert await keeper.failing() == ""
    assert await keeper.turn() is False, "the next walk is an hour away"
    await assert_clean(store)


async def test_retention_takes_a_page_a_turn_and_comes_to_the_end(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.erasure.PAGE", 2)
    for number in range(5):
        await ended(store, f"OLD-{number}")
    keeper = Retention(store, 1.0, Clock(T0 + timedelta(days=8)), lambda: context(8 * 86400), None)

    turns = 1
    while await keeper.turn():
        turns += 1

    assert turns == 3
    assert len(await erasures(store)) == 5
    assert not await store.holds_payer_data()


async def test_retention_empties_the_log_of_what_it_erased_before_it_failed(store: SqlStore) -> None:
    for number in range(2):
        await ended(store, f"OLD-{number}")
    heard: list[str] = []

    def tell(payment: str, _at: Any) -> None:
        if heard:
            raise ControlFailed("erasure", "the file is gone")
        heard.append(payment)

    clock = Clock(T0 + timedelta(days=8))
    keeper = Retention(store, 1.0, clock, lambda: context(8 * 86400), tell)

    with pytest.raises(ControlFailed):
        await keeper.turn()

    assert [about for about, _, _ in await erasures(store)] == heard
    clock.passed_s += 86400
    assert "emptied" in await keeper.failing()


async def test_every_value_is_sealed_anew_under_the_current_key(store: SqlStore) -> None:
    old, both = vault(FIRST), vault(FIRST, SECOND)
    payments = [await born(store, f"INV-{number}", old) for number in range(3)]
    before = [await store.sealed(each.id) for each in payments]

    done = await rotate(store, both, context(9, actor="ada"), reason="yearly")

    assert (done.resealed, done.current, done.older, done.damaged) == (3, 3, 0, ())
    assert done.older_digests == 3, "their digests are of another key"
    new = vault(SECOND)
    for payment, former in zip(payments, before, strict=True):
        sealed = await store.sealed(payment.id)
        assert sealed is not None
        assert sealed != former
        assert new.unseal(sealed, payment_id=payment.id) == {"cardholderName": SUBJECT}
    (entry,) = [each async for each in store.all_entries() if each.kind == "key.rotated"]
    body = json.loads(entry.body)
    assert (body["resealed"], body["older"], body["key"], body["former"]) == (3, 0, both.key_ids[-1], [old.key_ids[0]])
    assert FIRST not in entry.body
    assert SECOND not in entry.body
    again = await rotate(store, both, context(10, actor="ada"), reason="yearly")
    assert (again.resealed, again.current) == (0, 3)
    await assert_clean(store)


async def test_a_rotation_that_was_stopped_goes_on_where_it_was(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.rotation.PAGE", 2)
    old, both = vault(FIRST), vault(FIRST, SECOND)
    for number in range(5):
        await born(store, f"INV-{number}", old)
    pages, reseal = 0, store.reseal

    async def stopped(rows: Any) -> int:
        nonlocal pages
        pages += 1
        if pages > 1:
            raise KeyError("stopped")
        return await reseal(rows)

    monkeypatch.setattr(store, "reseal", stopped)
    with pytest.raises(KeyError):
        await rotate(store, both, context(9), reason="yearly")
    monkeypatch.setattr(store, "reseal", reseal)

    done = await rotate(store, both, context(10), reason="yearly")

    assert (done.resealed, done.current, done.older) == (3, 5, 0)
    assert PAGE == 200


async def test_a_write_in_the_middle_of_a_rotation_is_not_lost(
    store: SqlStore, other: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, both = vault(FIRST), vault(FIRST, SECOND)
    payment, erased = await born(store, "INV-1", old), await born(store, "INV-2", old)
    newer = old.seal({"cardholderName": "Ben"}, payment_id=payment.id)
    (seen,) = [each for each in await store.sealed_otherwise(b"\x00", "", 10) if each[0] == payment.id]
    reseal = store.reseal

    async def raced(rows: Any) -> int:
        monkeypatch.setattr(store, "reseal", reseal)
        assert await other.reseal([(*seen, newer)]) == 1
        return await reseal(rows)

    monkeypatch.setattr(store, "reseal", raced)
    done = await rotate(store, both, context(9), reason="yearly")

    sealed = await store.sealed(payment.id)
    assert sealed is not None
    assert vault(SECOND).unseal(sealed, payment_id=payment.id) == {"cardholderName": "Ben"}
    assert (done.resealed, done.older) == (2, 0)
    assert await store.sealed(erased.id) is not None


async def test_a_missing_key_is_told_before_anything_is_written(store: SqlStore) -> None:
    old = vault(FIRST)
    payment = await born(store, "INV-1", old)
    before = await store.sealed(payment.id)

    with pytest.raises(ConfigurationError, match="1 stored values need a key that is not given"):
        await rotate(store, vault(SECOND), context(9), reason="yearly")

    assert await store.sealed(payment.id) == before
    assert [each async for each in store.all_entries() if each.kind == "key.rotated"] == []


async def test_a_value_that_was_altered_is_named_and_left(store: SqlStore) -> None:
    old, both = vault(FIRST), vault(FIRST, SECOND)
    sound, altered = await born(store, "INV-1", old), await born(store, "INV-2", old)
    sealed = await store.sealed(altered.id) or b""
    assert await store.reseal([(altered.id, sealed, sealed[:-1] + bytes([sealed[-1] ^ 1]))]) == 1

    done = await rotate(store, both, context(9), reason="yearly")

    assert (done.resealed, done.older, done.damaged) == (1, 1, (altered.id,))
    assert sound.id not in done.damaged


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_after_an_erasure_no_byte_of_it_is_in_the_file_or_its_log(store: SqlStore) -> None:
    file = store.database.file
    assert file is not None
    payment = await ended(store, "PAID-1")
    await store.submit(birth("OTHER-1"))
    files = (file, file.with_name(f"{file.name}-wal"))
    assert any(SUBJECT.encode() in each.read_bytes() for each in files)

    found = await erase(store, [payment.id], lambda: context(9), reason="asked to", told=None)

    assert (found.erased, found.emptied) == ([payment.id], True)
    assert files[1].stat().st_size == 0
    assert not any(SUBJECT.encode() in each.read_bytes() for each in files)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_reader_that_keeps_the_log_is_told_and_the_erasure_stands(store: SqlStore) -> None:
    file = store.database.file
    assert file is not None
    payment = await ended(store, "PAID-1")
    with closing(sqlite3.connect(file)) as reader:
        reader.execute("begin")
        reader.execute("select count(*) from payment").fetchone()
        found = await erase(store, [payment.id], lambda: context(9), reason="asked to", told=None)

    assert (found.erased, found.emptied) == ([payment.id], False)
    assert await store.sealed(payment.id) is None
    assert await store.truncate_log() is True
