"""A database that went back in time is noticed by whoever knew it before, and by those who are told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.util import await_only

from orchestrator.domain.errors import ConfigurationError, Conflict, Unavailable, WentBack
from orchestrator.mark import Mark, MarkFile
from orchestrator.records import Record
from orchestrator.store import SqlStore, incarnation
from orchestrator.store.incarnation import UNSET, Witness
from orchestrator.store.restored import begin_anew
from tests.integration.store.conftest import DRIVER, host_engine, no_wait
from tests.integration.store.makers import T0, at, birth, context, outside, walk
from tests.support import rewind
from tests.support.postgresql import Server
from tests.support.rewind import Rewindable

LOST = "it has lost an entry that was acknowledged"
REPLACED = "its file was replaced while it was open"


@pytest.fixture(params=["sqlite", "postgresql"])
async def past(request: pytest.FixtureRequest, tmp_path: Path) -> Rewindable:
    """A database that can be sent back in time."""
    if request.param == "postgresql":
        return await rewind.postgresql(request.getfixturevalue("postgresql_host"), DRIVER)
    template = request.getfixturevalue("sqlite_template")
    return rewind.sqlite(template, tmp_path)


@dataclass
class Fleet:
    """Processes on one database, as far as it can tell."""

    past: Rewindable
    directory: Path
    stack: AsyncExitStack
    told: list[tuple[str, str]] = field(default_factory=list)

    def sink(self, name: str = "mark") -> MarkFile:
        return MarkFile(self.directory / name)

    def process(self, sink: MarkFile | None = None) -> SqlStore:
        return SqlStore(
            self.past.url, sleep=no_wait,
            witness=lambda file: Witness(sink, file, lambda event, why: self.told.append((event, why))),
        )  # fmt: skip

    async def opened(self, sink: MarkFile | None = None) -> SqlStore:
        return await self.stack.enter_async_context(self.process(sink))

    async def restored(self, life: str = "e" * 32, sink: MarkFile | None = None) -> None:
        await begin_anew(self.past.url, sink, lambda: context(100, "ada"), reason="the disk broke", new_id=life)


@pytest.fixture
async def fleet(past: Rewindable, tmp_path: Path) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        yield Fleet(past, tmp_path, stack)


async def noticed(work: Any) -> str:
    with pytest.raises(WentBack) as found:
        await work
    assert "orchestrator db restored --as PERSON --reason TEXT" in str(found.value)
    return found.value.why


async def rows(store: SqlStore, statement: str) -> list[Any]:
    found = await store.database.read(lambda connection: connection.execute(text(statement)).all())
    return [tuple(row) for row in found]


async def test_nothing_is_written_to_a_copy_that_was_put_back_until_a_person_says_so(
    fleet: Fleet, past: Rewindable
) -> None:
    store = await fleet.opened(fleet.sink())
    old = await store.submit(birth("OLD"))
    await past.copy()
    lost = await store.submit(birth("LOST"))
    await past.put_back()

    writes: list[Callable[[], Any]] = [
        lambda: store.record(outside(old, "authorize")),
        lambda: store.submit(birth("NEW")),
        lambda: store.register("w", origin="here:1", version="1", now=T0),
        lambda: store.beat("w", now=T0),
        lambda: store.claim("w", now=T0, limit=9, accounts=["emea"], machine_versions=[1]),
        lambda: store.take_notifications("w", events=["failed"], now=T0, limit=9),
        lambda: store.pause_account("emea", reason="r", context=context()),
    ]
    for write in writes:
        assert await noticed(write()) in (LOST, REPLACED)
    assert await noticed(store.check_life()) == store.standing.went_back != ""
    assert await store.get(lost.id) is None
    assert await store.get(old.id) == old
    assert await rows(store, "select count(*) from audit_entry") == [(1,)]
    assert [event for event, _ in fleet.told] == ["database.rewound"], "told once"

    await fleet.restored()

    assert (await store.submit(birth("NEW"))).version == 1
    assert store.standing.went_back == ""
    assert [event for event, _ in fleet.told] == ["database.rewound", "database.recovered"]


async def test_the_mark_notices_at_the_start_what_nobody_was_there_to_see(fleet: Fleet, past: Rewindable) -> None:
    async with fleet.process(fleet.sink()) as store:
        await store.submit(birth("OLD"))
        await past.copy()
        await store.submit(birth("LOST"))
    kept = fleet.sink().read()
    await past.put_back()

    assert await noticed(fleet.process(fleet.sink()).open()) == LOST
    assert fleet.sink().read() == kept, "the mark is the only witness"

    async with SqlStore(past.url) as looking:
        assert await rows(looking, "select count(*) from control_failure") == [(0,)], "a start may be a wrong setting"

    await fleet.restored(sink=fleet.sink())
    async with fleet.process(fleet.sink()) as store:
        await store.submit(birth("NEW"))
    assert fleet.sink().read() not in (None, kept)


async def test_a_mark_of_a_former_life_is_as_good_as_new(fleet: Fleet, past: Rewindable) -> None:
    async with fleet.process(fleet.sink()) as store:
        await past.copy()
        await store.submit(birth("LOST"))
    await past.put_back()
    await fleet.restored()  # the command ran on another host, or died before it wrote the mark

    async with fleet.process(fleet.sink()) as store:
        await store.submit(birth("NEW"))

    found = fleet.sink().read()
    assert found is not None
    assert found.incarnation == "e" * 32


async def test_a_second_return_is_noticed_as_well(fleet: Fleet, past: Rewindable) -> None:
    store = await fleet.opened()
    await past.copy()
    await store.submit(birth("LOST"))
    await past.put_back()
    await fleet.restored()
    await store.submit(birth("NEW"))
    await past.put_back()

    assert await noticed(store.submit(birth("NEWER"))) == "it does not know the life that it was in"

    await fleet.restored("f" * 32)
    assert (await store.submit(birth("NEWER"))).version == 1


async def test_who_has_written_nothing_himself_knows_what_others_were_told(fleet: Fleet, past: Rewindable) -> None:
    idle, busy = await fleet.opened(fleet.sink("idle")), await fleet.opened(fleet.sink("busy"))
    await idle.register("w", origin="here:1", version="1", now=T0)
    await past.copy()
    payment = await busy.submit(birth("BUSY"))
    failed = await busy.record(Record(walk(payment, "fail").notify("failed").due(None), held_claim=False))
    await idle.beat("w", now=at(1))
    known = fleet.sink("idle").read()
    await past.put_back()

    assert known is not None
    assert known.hash == failed.head.hex()
    assert await noticed(idle.register("w2", origin="here:2", version="1", now=T0)) in (LOST, REPLACED)


async def test_whoever_notices_leaves_word_for_those_who_can_not(fleet: Fleet, past: Rewindable) -> None:
    knows = await fleet.opened(fleet.sink("knows"))
    await past.copy()
    await knows.submit(birth("LOST"))
    await past.put_back()
    stranger = await fleet.opened()  # on a host that came after; it has no mark
    await stranger.submit(birth("EARLY"))
    why = await noticed(knows.submit(birth("NEW")))

    assert await noticed(stranger.submit(birth("LATE"))) == f"somebody has noticed: {why}"
    late = fleet.process()
    assert await noticed(late.open()) == f"somebody has noticed: {why}"
    assert await rows(stranger, "select control, cause, ended_at from control_failure") == [("incarnation", why, None)]

    await fleet.restored()

    for store in (knows, stranger):
        assert (await store.submit(birth("LATE"))).version == 1
    told = await rows(stranger, "select owner, remediation, ended_at is null from control_failure")
    assert [(owner, why, bool(still)) for owner, why, still in told] == [("ada", "the disk broke", False)]


async def test_a_word_that_comes_after_the_new_life_is_not_left(
    postgresql_host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = await rewind.postgresql(postgresql_host, DRIVER)  # a file is locked between look and word
    async with AsyncExitStack() as stack:
        fleet = Fleet(past, tmp_path, stack)
        knows = await fleet.opened()
        await past.copy()
        await knows.submit(birth("LOST"))
        await past.put_back()
        leave = incarnation._leave_word

        def late(*args: Any) -> None:
            await_only(fleet.restored())
            leave(*args)

        with monkeypatch.context() as patched:
            patched.setattr(incarnation, "_leave_word", late)
            assert await noticed(knows.submit(birth("NEW"))) == LOST

        assert (await knows.submit(birth("NEW"))).version == 1
        assert await rows(knows, "select count(*) from control_failure") == [(0,)]


async def test_what_is_written_together_is_refused_together(fleet: Fleet, past: Rewindable) -> None:
    store = await fleet.opened()
    await store.submit(birth("OLD"))
    await past.copy()
    await store.submit(birth("LOST"))
    await past.put_back()

    results = await asyncio.gather(*(store.submit(birth(f"N-{n}")) for n in range(20)), return_exceptions=True)

    assert {type(result) for result in results} == {WentBack}


async def test_a_hosts_transaction_is_refused_too_and_stays_usable(fleet: Fleet, past: Rewindable) -> None:
    store = await fleet.opened()
    await past.copy()
    await store.submit(birth("LOST"))
    engine = host_engine(store.database.url)
    async with engine.connect() as connection:
        await connection.execute(text("select count(*) from payment"))
    await past.put_back()
    with contextlib.suppress(Exception):  # the host's pool finds out in its own way
        async with engine.connect() as connection:
            await noticed(store.within(connection))
    await engine.dispose()

    engine = host_engine(store.database.url)
    async with engine.begin() as connection:
        await noticed(store.within(connection))
        assert (await connection.execute(text("select count(*) from payment"))).scalar_one() == 0
    await fleet.restored()
    async with engine.begin() as connection:
        await (await store.within(connection)).submit(birth("NEW"))
    await engine.dispose()
    assert len(await rows(store, "select id from payment")) == 1


async def test_a_host_that_looks_at_an_earlier_moment_is_no_alarm(postgresql: str, sqlite_url: str) -> None:
    for url, level in ((postgresql, {"isolation_level": "REPEATABLE READ"}), (sqlite_url, {})):
        told: list[str] = []
        witness = lambda file: Witness(None, file, lambda event, _: told.append(event))  # noqa: B023, E731
        async with SqlStore(url, sleep=no_wait, witness=witness) as store:
            engine = host_engine(url if "aiosqlite" in url else str(store.database.url.render_as_string(False)))
            async with engine.connect() as connection:
                await connection.execution_options(**level)
                await connection.execute(text("select count(*) from payment"))
                await store.submit(birth("LATER"))
                with contextlib.suppress(Unavailable):  # SQLite: a host that reads before can't write after
                    await store.within(connection)
                await connection.rollback()
            await engine.dispose()
        assert "database.rewound" not in told


async def test_a_hosts_connection_to_the_file_that_was_replaced_is_refused(
    sqlite_template: Path, tmp_path: Path
) -> None:
    past = rewind.sqlite(sqlite_template, tmp_path)
    async with AsyncExitStack() as stack:
        fleet = Fleet(past, tmp_path, stack)
        store = await fleet.opened()
        engine = host_engine(store.database.url)
        stack.push_async_callback(engine.dispose)
        connection = await stack.enter_async_context(engine.connect())
        await connection.execute(text("select count(*) from payment"))
        await connection.rollback()
        await past.copy()
        await store.submit(birth("LOST"))
        await past.put_back()
        await fleet.restored()
        await store.submit(birth("NEW"))

        with pytest.raises(Conflict, match="a file that was replaced"):
            await store.within(connection)


async def test_one_statement_more_is_all_that_a_write_pays(url: str) -> None:
    async with SqlStore(url, sleep=no_wait) as plain:
        await plain.submit(birth("WARM"))
        without = await statements(plain, birth("PLAIN"))
    async with SqlStore(url, sleep=no_wait, witness=lambda file: Witness(None, file, lambda *_: None)) as store:
        await store.submit(birth("WARM-2"))
        guarded = await statements(store, birth("GUARDED"))

    assert len(guarded) - len(without) == 1


async def statements(store: SqlStore, one: Any) -> list[str]:
    seen: list[str] = []
    engine = store.database.engines.write.engine

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    await store.submit(one)
    event.remove(engine, "before_cursor_execute", note)
    return seen


# --- files ------------------------------------------------------------------------------------------


async def test_a_copy_written_over_the_open_file_is_never_written_to_until_everybody_was_stopped(
    sqlite_template: Path, tmp_path: Path
) -> None:
    past = rewind.sqlite(sqlite_template, tmp_path, over=True)
    async with AsyncExitStack() as stack:
        fleet = Fleet(past, tmp_path, stack)
        async with fleet.process(fleet.sink()) as store:
            await store.submit(birth("OLD"))
            await past.copy()
            await store.submit(birth("LOST"))
            await past.put_back()
            before = (tmp_path / "orchestrator.db").read_bytes()

            for _ in range(2):
                with pytest.raises(Unavailable, match="stop every process on it, put the file back anew"):
                    await store.submit(birth("NEW"))
            assert (tmp_path / "orchestrator.db").read_bytes() == before
        await past.put_back()

        assert await noticed(fleet.process(fleet.sink()).open()) == LOST
        await fleet.restored(sink=fleet.sink())
        assert (await (await fleet.opened(fleet.sink())).submit(birth("NEW"))).version == 1


async def test_a_log_that_is_removed_under_an_open_file_stops_the_writing(sqlite_url: str, tmp_path: Path) -> None:
    async with SqlStore(sqlite_url, sleep=no_wait) as store:
        await store.submit(birth("SAFE"))
        (tmp_path / "payments.db-wal").unlink()

        with pytest.raises(Unavailable, match="`-wal` was removed"):
            await store.submit(birth("WOULD-BE-LOST"))

    async with SqlStore(sqlite_url) as store:
        assert await rows(store, "select reference from payment") == [("SAFE",)]


async def test_a_file_that_is_taken_away_is_awaited(sqlite_template: Path, tmp_path: Path) -> None:
    past = rewind.sqlite(sqlite_template, tmp_path)
    async with AsyncExitStack() as stack:
        store = await Fleet(past, tmp_path, stack).opened()
        await store.submit(birth("OLD"))
        (tmp_path / "orchestrator.db").rename(tmp_path / "away.db")

        with pytest.raises(Unavailable):
            await store.submit(birth("NEW"))
        assert not (tmp_path / "orchestrator.db").exists(), "nobody makes an empty one"

        (tmp_path / "away.db").rename(tmp_path / "orchestrator.db")
        assert (await store.submit(birth("NEW"))).version == 1


# --- the sink ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["damaged", "a directory", "not mounted"])
async def test_a_mark_that_can_not_be_read_stops_the_start(sqlite_url: str, tmp_path: Path, what: str) -> None:
    sink = MarkFile(tmp_path / ("away/mark" if what == "not mounted" else "mark"))
    if what == "damaged":
        sink.path.write_text("{")
    elif what == "a directory":
        sink.path.mkdir()

    with pytest.raises(ConfigurationError, match="mark_file"):
        await SqlStore(sqlite_url, witness=lambda file: Witness(sink, file, lambda *_: None)).open()


async def test_a_sink_that_can_not_be_written_is_told_once_and_stops_nobody(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str]] = []
    sink = MarkFile(tmp_path / "mark")
    witness = lambda file: Witness(sink, file, lambda *what: told.append(what))  # noqa: E731
    async with SqlStore(sqlite_url, witness=witness) as store:
        await store.register("w", origin="here:1", version="1", now=T0)
        for number in range(3):
            with monkeypatch.context() as patched:
                patched.setattr(MarkFile, "_partial", lambda _: tmp_path / "away" / "mark")
                await store.submit(birth(f"INV-{number}"))
                assert await store.beat("w", now=at(number))
            assert store.mark_trouble == "can't be written (FileNotFoundError)"
        assert told == [("mark.failed", "can't be written (FileNotFoundError)")]

        assert await store.beat("w", now=at(9))
        assert store.mark_trouble == ""
        kept = sink.read()
        assert kept is not None
        assert kept.entries == 3


async def test_a_missing_mark_is_told_where_the_database_is_not_new(sqlite_url: str, tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    witness = lambda file: Witness(MarkFile(tmp_path / "mark"), file, lambda *what: told.append(what))  # noqa: E731
    async with SqlStore(sqlite_url, witness=witness) as store:
        assert told == []
        payment = await store.submit(birth())
        await store.record(Record(walk(payment, "fail").notify("failed").due(None), held_claim=False))
    (tmp_path / "mark").unlink()

    async with SqlStore(sqlite_url, witness=witness) as store:
        assert told == [("mark.missing", "there is none of this database yet")]
    assert (tmp_path / "mark").exists()

    async with SqlStore(sqlite_url, witness=lambda file: Witness(None, file, lambda *what: told.append(what))) as store:
        assert told[-1] == ("mark.missing", UNSET)
        assert store.mark_trouble == UNSET


async def test_another_database_under_the_same_name_is_not_taken_for_ours(
    sqlite_template: Path, sqlite_url: str, tmp_path: Path
) -> None:
    (tmp_path / "mark").write_text("")
    sink = MarkFile(tmp_path / "mark")
    sink.write(Mark("9" * 32))

    assert "life" in await noticed(SqlStore(sqlite_url, witness=lambda file: Witness(sink, file, print)).open())


# --- replicas ----------------------------------------------------------------------------------------


async def test_a_replica_that_had_everything_is_no_alarm_and_one_that_lagged_is(tmp_path: Path) -> None:
    quick = {"fsync": "off"}
    with Server(options=quick) as primary, Server(options=quick) as replica:
        await asyncio.to_thread(primary.initialise)
        await asyncio.to_thread(primary.start)
        past = await rewind.postgresql(primary.host)
        await asyncio.to_thread(replica.copy_of, primary)
        await asyncio.to_thread(replica.start)
        url = past.url.replace(f"host={primary.host}", f"host={replica.host}:5432&host={primary.host}:5432")
        async with AsyncExitStack() as stack:
            fleet = Fleet(Rewindable(url, past.copy, past.put_back), tmp_path, stack)
            store = await fleet.opened()
            await store.submit(birth("SEEN"))
            reader = SqlStore(past.url.replace(primary.host, replica.host))
            stack.push_async_callback(reader.close)
            await until_seen(reader, 1)
            await asyncio.to_thread(replica.stop)
            await store.submit(birth("UNSEEN"))
            witness = store._witness
            assert witness is not None

            # As long as it is a replica it proves nothing: it may only lag behind.
            await asyncio.to_thread(primary.stop, "immediate")
            await asyncio.to_thread(replica.start)
            with pytest.raises(Unavailable) as silent:
                await reader.database.read(witness.demand)
            assert not isinstance(silent.value, WentBack)

            await asyncio.to_thread(replica.promote)
            assert await noticed(store.submit(birth("AFTER"))) == LOST
            await fleet.restored()
            assert (await store.submit(birth("AFTER"))).version == 1


async def until_seen(reader: SqlStore, count: int) -> None:
    async with asyncio.timeout(30):
        while await rows(reader, "select count(*) from payment") != [(count,)]:
            await asyncio.sleep(0.02)
