"""`begin_anew`: everything held, one new life, whatever interrupts it, and whatever was put back."""

import asyncio
import contextlib
import json
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from orchestrator.audit import verify
from orchestrator.domain.errors import ConfigurationError, Conflict, DatabaseDamaged, Unavailable
from orchestrator.domain.payment import HoldReason, Payment
from orchestrator.mark import Mark, MarkFile
from orchestrator.records import Record
from orchestrator.store import SqlStore, restored
from orchestrator.store.restored import Restoration, begin_anew
from tests.integration.store.conftest import no_wait
from tests.integration.store.makers import T0, at, birth, births, context, outside, walk

LIFE = "e" * 32
NOW = 100.0


async def anew(url: str, sink: MarkFile | None = None, life: str = LIFE) -> Restoration:
    return await begin_anew(url, sink, lambda: context(NOW, "ada"), reason="the disk broke", new_id=life)


async def rows(store: SqlStore, statement: str) -> list[Any]:
    found = await store.database.read(lambda connection: connection.execute(text(statement)).all())
    return [tuple(row) for row in found]


async def submitted(store: SqlStore, count: int) -> Sequence[Payment]:
    return await asyncio.gather(*(store.submit(one) for one in births(count)))


async def test_all_that_had_not_ended_is_held_every_claim_is_free_and_the_trail_says_who(
    store: SqlStore, url: str
) -> None:
    await store.register("w", origin="here:1", version="1", now=T0)
    young, started, held, ended = await submitted(store, 4)
    started = await store.record(outside(started, "authorize", "start_session", due=T0))
    held = await store.record(Record(walk(held).hold(HoldReason.REVIEW).due(None), held_claim=False))
    ended = await store.record(outside(ended, "fail"))
    taken = await store.claim("w", now=at(1), limit=9, accounts=["emea"], machine_versions=[1])
    assert {payment.id for payment in taken} == {young.id, started.id}
    (first,) = await rows(store, "select id from incarnation")

    done = await anew(url)

    assert done == Restoration(LIFE, first[0], 2, T0)
    now = {payment.id: await store.get(payment.id) for payment in (young, started, held, ended)}
    assert [now[payment.id].hold for payment in (young, started, held, ended)] == [
        "session_unknown", "indeterminate", "review", None,
    ]  # fmt: skip
    assert [now[payment.id].reason for payment in (young, started)] == ["database_restored"] * 2
    assert now[ended.id] == ended
    assert not any(payment.claimed_by for payment in now.values())
    assert await store.beat("w", now=at(2)) is False, "whoever runs takes a new id"
    assert await rows(store, "select number, id, previous, person, reason from incarnation where number > 1") == [
        (2, LIFE, first[0], "ada", "the disk broke")
    ]
    (note,) = await store.noted(["database.restored"], since=T0)
    told = json.loads(note.body)
    assert (note.actor, note.about, told["held"], told["previous"]) == ("ada", LIFE, 2, first[0])
    assert (await verify(store)).findings == ()


async def test_a_call_that_was_not_handed_over_by_then_is_never_handed_over_again(store: SqlStore, url: str) -> None:
    await store.register("w", origin="here:1", version="1", now=T0)
    waiting = await store.record(
        Record(walk(await store.submit(birth("CALL"))).hold(HoldReason.REVIEW).due(None), held_claim=False)
    )
    telling = walk(waiting, seconds=2).step("hold")
    telling.notify("handed_over", expires_at=at(9999)).notify("held")
    await store.record(Record(telling.due(None), held_claim=False))

    await anew(url)

    await store.register("w", origin="here:1", version="1", now=T0)
    events = ("handed_over", "held")
    given = await store.take_notifications("w", events=events, now=at(NOW + 1), limit=9)
    assert "handed_over" not in {each.notice.event for each in given}
    assert {each.notice.event for each in given} == {"held"}
    (lapsed,) = await store.lapsed_notifications(now=at(NOW + 1), limit=9)
    assert (lapsed.notice.event, lapsed.begun) == ("handed_over", True)


async def test_a_crash_between_two_pages_leaves_no_new_life_and_the_same_command_does_the_rest(
    store: SqlStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restored, "PAGE", 3)
    await submitted(store, 10)
    real, pages = restored._payments, 0

    async def dies(*args: Any) -> Any:
        nonlocal pages
        pages += 1
        if pages == 3:
            raise Unavailable("the process is gone")
        return await real(*args)

    with monkeypatch.context() as patched:
        patched.setattr(restored, "_payments", dies)
        with pytest.raises(Unavailable):
            await anew(url)
    assert await rows(store, "select count(*) from incarnation") == [(1,)]
    assert await rows(store, "select count(*) from payment where hold is not null") == [(6,)]

    done = await anew(url)

    assert done.held == 4
    assert await rows(store, "select count(*) from payment where hold is not null") == [(10,)]
    assert (await verify(store)).findings == ()


async def test_a_crash_before_the_new_lifes_commit_leaves_everything_held_and_the_mark_as_it_was(
    store: SqlStore, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = MarkFile(tmp_path / "mark")
    sink.write(Mark("9" * 32))
    await submitted(store, 2)

    def dies(*_: Any) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patched:
        patched.setattr(restored, "settle_failures", dies)
        with pytest.raises((Unavailable, ConnectionResetError)):
            await anew(url, sink)
    assert await rows(store, "select count(*) from incarnation") == [(1,)]
    assert sink.read() == Mark("9" * 32)

    done = await anew(url, sink)

    assert (done.held, sink.read()) == (0, Mark(LIFE))
    lives = [life for (life,) in await rows(store, "select id from incarnation order by number")]
    assert lives == [done.previous, "9" * 32, LIFE], "the life that the mark knew is named as a former one"


async def test_the_same_command_again_is_another_life_and_holds_what_came_in_between(store: SqlStore, url: str) -> None:
    await submitted(store, 2)
    first = await anew(url)
    await store.submit(birth("BETWEEN"))
    second = await anew(url, life="f" * 32)

    assert (first.held, second.held, second.previous) == (2, 1, LIFE)


async def test_of_two_persons_at_once_one_begins_the_new_life(store: SqlStore, url: str) -> None:
    await submitted(store, 5)

    results = await asyncio.gather(anew(url), anew(url, life="f" * 32), return_exceptions=True)

    done = [result for result in results if isinstance(result, Restoration)]
    lost = [result for result in results if not isinstance(result, Restoration)]
    assert len(done) >= 1
    assert all(isinstance(each, Conflict) for each in lost)
    assert await rows(store, "select count(*) from incarnation") == [(1 + len(done),)]
    assert await rows(store, "select count(*) from payment where hold is null") == [(0,)]
    assert (await verify(store)).findings == ()


async def test_what_somebody_changes_meanwhile_is_read_and_decided_again(
    store: SqlStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (payment,) = await submitted(store, 1)
    real = restored._payments

    async def overtaken(*args: Any) -> Any:
        found = await real(*args)
        with contextlib.suppress(Exception):
            await store.record(outside(payment, "authorize", due=T0))
        return found

    monkeypatch.setattr(restored, "_payments", overtaken)

    assert (await anew(url)).held == 1
    after = await store.get(payment.id)
    assert after is not None
    assert (after.state, after.hold) == ("authorized", "session_unknown")


# --- the mark ----------------------------------------------------------------------------------------


async def test_a_mark_that_can_not_be_written_is_told_before_anything_is_done(
    store: SqlStore, url: str, tmp_path: Path
) -> None:
    await submitted(store, 1)
    with pytest.raises(ConfigurationError, match="mark_file: can't be written"):
        await anew(url, MarkFile(tmp_path / "away" / "mark"))

    assert await rows(store, "select count(*) from payment where hold is not null") == [(0,)]
    assert await rows(store, "select count(*) from incarnation") == [(1,)]


async def test_a_damaged_mark_is_replaced(sqlite_url: str, tmp_path: Path) -> None:
    sink = MarkFile(tmp_path / "mark")
    sink.path.write_text("{")

    await anew(sqlite_url, sink)

    assert sink.read() == Mark(LIFE)


# --- files -------------------------------------------------------------------------------------------


async def test_a_damaged_file_is_told_and_left_alone(sqlite_url: str, tmp_path: Path) -> None:
    file = tmp_path / "payments.db"
    async with SqlStore(sqlite_url, sleep=no_wait) as store:
        await submitted(store, 40)
        (page,) = await rows(store, "select rootpage from sqlite_master where name = 'ix_payment_list'")
    with file.open("r+b") as raw:
        raw.seek((page[0] - 1) * 4096 + 8)
        raw.write(b"\xff" * 2000)
    before = file.read_bytes()

    with pytest.raises(DatabaseDamaged, match="no `-wal` and `-shm` beside it"):
        await anew(sqlite_url)
    assert file.read_bytes() == before


async def test_the_log_of_the_former_file_beside_the_copy_is_never_taken_for_good(
    sqlite_template: Path, tmp_path: Path
) -> None:
    """The log of a process that was killed is applied to whatever file lies beside it."""
    file, copy = tmp_path / "payments.db", tmp_path / "copy.db"
    shutil.copy(sqlite_template, file)
    url = f"sqlite:///{file}"
    async with SqlStore(url, sleep=no_wait) as store:
        await submitted(store, 30)
        with contextlib.closing(sqlite3.connect(file)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
            source.backup(target)
            # Not what the file is; so the pages of its log belong elsewhere.
            target.execute("pragma journal_mode = delete")
            target.execute("vacuum")
        await asyncio.gather(*(store.submit(birth(f"LATER-{number}")) for number in range(30)))
        log = (tmp_path / "payments.db-wal").read_bytes()
    shutil.copy(copy, file)
    (tmp_path / "payments.db-wal").write_bytes(log)

    with pytest.raises((DatabaseDamaged, ConfigurationError)):
        await anew(url)

    shutil.copy(copy, file)
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"payments.db{suffix}").unlink(missing_ok=True)
    assert (await anew(url)).held == 30
