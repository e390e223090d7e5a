"""
The floor: the same payments by bare aiohttp and grouped raw writes, without any of our rules.

    python -m benchmarks.floor --in-flight 100

No chain, no claims, no checks, no retries: three requests and four durable steps for each
payment, which share commits. What is faster than this gives up durability.
"""

import asyncio
import json
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import aiohttp

from benchmarks.harness import WAIT_S, Measured, Place, Window

HEADERS = {"Authorization": "Bearer bench-token", "Content-Type": "application/json"}
_TABLES = (
    "create table if not exists floor_payment(id bigint primary key, state text not null, session text)",
    "create table if not exists floor_trail(id bigint, seq int, body text not null, primary key(id, seq))",
)
_INSERT = "insert into floor_payment(id, state) values ({0}, {1})"
_UPDATE = "update floor_payment set state = {1}, session = {2} where id = {0}"
_TRAIL = "insert into floor_trail(id, seq, body) values ({0}, {1}, {2})"


def prepare(place: Place) -> None:
    """Make file and tables: two processes that switch a new file to its log at once lock each other out."""

    async def work() -> None:
        database = Sqlite(place) if place.kind == "sqlite" else Postgresql(place)
        await database.open()
        await database.close()

    asyncio.run(work())


class Sqlite:
    """Groups of writes on SQLite with `synchronous = full`, by a thread of its own."""

    def __init__(self, place: Place) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._file = place.file
        self._marks = ("?", "?", "?")

    async def open(self) -> None:
        def work() -> None:
            self._connection = sqlite3.connect(self._file, isolation_level=None)
            self._connection.execute("pragma busy_timeout = 5000")
            self._connection.execute("pragma journal_mode = wal")
            self._connection.execute("pragma synchronous = full")
            for table in _TABLES:
                self._connection.execute(table)

        await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def write(self, rows: list[tuple[int, int, str, str | None]]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._write, rows)

    def _write(self, rows: list[tuple[int, int, str, str | None]]) -> None:
        run = self._connection
        run.execute("begin immediate")
        run.executemany(_INSERT.format("?", "?"), [(row[0], row[2]) for row in rows if row[1] == 1])
        run.executemany(
            "update floor_payment set state = ?, session = ? where id = ?",
            [(row[2], row[3], row[0]) for row in rows if row[1] > 1],
        )
        run.executemany(_TRAIL.format(*self._marks), [(row[0], row[1], _body(row)) for row in rows])
        run.execute("commit")

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)


class Postgresql:
    """Groups of writes on PostgreSQL, over asyncpg."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def open(self) -> None:
        import asyncpg  # noqa: PLC0415 - only here

        database = self._place.url.partition("@/")[2].partition("?")[0]
        self._connection: Any = await asyncpg.connect(user="postgres", host=self._place.socket, database=database)
        for table in _TABLES:
            await self._connection.execute(table)

    async def write(self, rows: list[tuple[int, int, str, str | None]]) -> None:
        run, marks = self._connection, ("$1", "$2", "$3")
        async with run.transaction():
            born = [(row[0], row[2]) for row in rows if row[1] == 1]
            moved = [(row[0], row[2], row[3]) for row in rows if row[1] > 1]
            if born:
                await run.executemany(_INSERT.format(*marks), born)
            if moved:
                await run.executemany(_UPDATE.format(*marks), moved)
            await run.executemany(_TRAIL.format(*marks), [(row[0], row[1], _body(row)) for row in rows])

    async def close(self) -> None:
        await self._connection.close()


def _body(row: tuple[int, int, str, str | None]) -> str:
    return json.dumps({"payment": row[0], "seq": row[1], "to": row[2], "session": row[3]})


class Group:
    """While one transaction runs, the next one's writes gather."""

    def __init__(self, database: Sqlite | Postgresql) -> None:
        self._database = database
        self._waiting: list[tuple[Any, asyncio.Future[None]]] = []
        self._runner: asyncio.Task[None] | None = None
        self.commits = 0

    async def put(self, row: tuple[int, int, str, str | None]) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((row, future))
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run())
        await future

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await self._database.write([row for row, _ in batch])
            self.commits += 1
            for _, future in batch:
                future.set_result(None)


async def run(window: Window, place: Place, url: str, measured: Measured) -> None:
    database = Sqlite(place) if place.kind == "sqlite" else Postgresql(place)
    await database.open()
    group = Group(database)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        window.go.wait()
        measured.start()
        lanes = [_lane(window, group, session, url, measured) for _ in range(window.in_flight // window.workers)]
        await asyncio.gather(*lanes)
        measured.stop()
    measured.commits = group.commits
    await database.close()


async def _lane(window: Window, group: Group, session: Any, url: str, measured: Measured) -> None:
    while (number := window.next()) is not None:
        began = time.monotonic()
        await _pay(number, group, session, url)
        measured.latencies.append(time.monotonic() - began)
        window.end()


async def _pay(number: int, group: Group, session: Any, url: str) -> None:
    await group.put((number, 1, "collecting", None))
    await group.put((number, 2, "authorized", None))
    body = (
        '{"AccountConfigurationId":"4242", "PaymentData": { "CustomerPhoneNumber":"+447700900123",'
        '"cardholderName":"A. Payer","cardholderPostCode":"RG1 1AA", "cardholder Address": "1 High Street",'
        f'"merchantTxnRef":"FLOOR-{place_number(number)}", "amount":"12.40" }} }}'
    )
    started = await _asked(session, "POST", f"{url}/globalpci/v1/digitalselfservicesession/", body)
    name = started["sessionId"]
    await group.put((number, 3, "awaiting_payment", name))
    while (await _asked(session, "GET", f"{url}/globalpci/v1/session/{name}"))["sessionState"] != "Finished":
        await asyncio.sleep(WAIT_S)
    await group.put((number, 4, "completed", name))


def place_number(number: int) -> str:
    """Give a reference's end that no other run has: the stub counts what came twice."""
    return f"{RUN}-{number}"


async def _asked(session: Any, method: str, url: str, body: str | None = None) -> dict[str, Any]:
    async with session.request(method, url, data=body, headers=HEADERS) as answer:
        told: dict[str, Any] = json.loads(await answer.read())
    return told


RUN = f"{time.monotonic_ns():x}"


def check(place: Place, payments: int) -> None:
    """Insist that every payment ended, with its four steps."""
    wanted = "select count(*), (select count(*) from floor_trail) from floor_payment where state = 'completed'"
    if place.kind == "sqlite":
        with closing(sqlite3.connect(place.file)) as connection:
            found = connection.execute(wanted).fetchone()
    else:
        found = asyncio.run(_counted(place, wanted))
    assert tuple(found) == (payments, 4 * payments), found


async def _counted(place: Place, wanted: str) -> Any:
    database = Postgresql(place)
    await database.open()
    found = await database._connection.fetchrow(wanted)
    await database.close()
    return found


if __name__ == "__main__":
    from benchmarks.end_to_end import main

    main(["floor"])
