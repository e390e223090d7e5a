"""
What one would write by hand for the same payments, beside ours in the same run.

    python -m benchmarks.naive --payments 2000 --http httpx --http aiohttp

`transitions` on an ORM object, an ORM session for each payment, an audit row beside every change,
one commit for each step, one asyncio task for each payment, httpx or aiohttp: the floor's payment
with its four durable steps, in one process. It is meant to run well: enough connections, nothing
read again after a commit, one machine for all. It has no claims, no chain and no retries, checks
nothing and writes no log; after a crash nobody knows what was sent.

Each run has a new database and a process of its own; the variants and the orchestrator alternate.
One JSON line for each variant and database, and one for ours against each; figures are medians.
"""

import argparse
import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Any

import aiohttp
import httpx
from sqlalchemy import ForeignKey, event, func, make_url, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from transitions import EventData
from transitions.extensions.asyncio import AsyncMachine

from benchmarks.end_to_end import Configuration, run_ours
from benchmarks.floor import HEADERS, RUN
from benchmarks.harness import (
    WAIT_S,
    Measured,
    Place,
    Window,
    asked,
    median_of,
    parser_of,
    place,
    processes,
    servers,
    stub,
    summed_up,
    told,
    verified,
)

VARIANTS = ("httpx", "aiohttp")
IN_FLIGHT = 100
CONNECTIONS = {"sqlite": 1, "postgresql": 8}
"""As many as write in the orchestrator; more were no faster. On SQLite they would poll for the one lock."""
BUSY_MS = 30_000

Asked = Callable[[str, str, str | None], Awaitable[dict[str, Any]]]
"""Method, address and body of a request to the JSON of its answer."""


class Base(DeclarativeBase):
    """The two tables."""


class NaivePayment(Base):
    """A payment; the machine moves its `state`."""

    __tablename__ = "naive_payment"

    id: Mapped[int] = mapped_column(primary_key=True)
    reference: Mapped[str] = mapped_column(unique=True)
    amount: Mapped[str]
    state: Mapped[str]
    session: Mapped[str | None]
    audit: Mapped[list["NaiveAudit"]] = relationship(lazy="raise", passive_deletes="all")

    def note(self, event_data: EventData) -> None:
        """Tell of a change of state; the machine calls it after each."""
        transition: Any = event_data.transition
        self.told(event_data.event.name, transition.source, transition.dest)

    def told(self, trigger: str, source: str | None, target: str) -> None:
        """Add a row to the audit."""
        body = json.dumps({"payment": self.id, "trigger": trigger, "to": target, "session": self.session})
        self.audit.append(NaiveAudit(source=source, target=target, body=body))


class NaiveAudit(Base):
    """One change of a payment."""

    __tablename__ = "naive_audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    payment_id: Mapped[int] = mapped_column(ForeignKey("naive_payment.id"), index=True)
    source: Mapped[str | None]
    target: Mapped[str]
    body: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.now())


def new_machine() -> Any:
    """Give the machine that all payments share: one each would cost more than the payment."""
    return AsyncMachine(
        model=None,
        states=["collecting", "authorized", "awaiting_payment", "completed"],
        transitions=[
            ["authorize", "collecting", "authorized"],
            ["start_session", "authorized", "awaiting_payment"],
            ["complete", "awaiting_payment", "completed"],
        ],
        initial="collecting", auto_transitions=False, send_event=True, after_state_change="note",
    )  # fmt: skip


def open_engine(where: Place) -> AsyncEngine:
    """Give an engine that keeps every promise."""
    driver = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}[where.kind]
    engine = create_async_engine(
        make_url(where.url).set(drivername=driver), pool_size=CONNECTIONS[where.kind], max_overflow=0
    )
    if where.kind == "sqlite":

        @event.listens_for(engine.sync_engine, "connect")
        def set_up(connection: Any, _: Any) -> None:
            cursor = connection.cursor()
            for pragma in (f"busy_timeout = {BUSY_MS}", "journal_mode = wal", "synchronous = full"):
                cursor.execute(f"pragma {pragma}")
            cursor.close()

    return engine


@contextlib.asynccontextmanager
async def by_httpx(in_flight: int) -> AsyncIterator[Asked]:
    """Ask with httpx; its pool holds 100 connections and keeps 20 by default."""
    limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    async with httpx.AsyncClient(limits=limits, headers=HEADERS, timeout=10) as client:

        async def ask(method: str, url: str, body: str | None = None) -> dict[str, Any]:
            answer = await client.request(method, url, content=body)
            answer.raise_for_status()
            found: dict[str, Any] = answer.json()
            return found

        yield ask


@contextlib.asynccontextmanager
async def by_aiohttp(in_flight: int) -> AsyncIterator[Asked]:
    """Ask with aiohttp."""
    timeout = aiohttp.ClientTimeout(total=10)
    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(
        connector=connector, headers=HEADERS, timeout=timeout, raise_for_status=True
    ) as session:

        async def ask(method: str, url: str, body: str | None = None) -> dict[str, Any]:
            async with session.request(method, url, data=body) as answer:
                found: dict[str, Any] = await answer.json()
                return found

        yield ask


class Desk:
    """What every payment of a run is driven with."""

    def __init__(self, engine: AsyncEngine, ask: Asked, url: str) -> None:
        self.sessions = async_sessionmaker(engine, expire_on_commit=False)
        self.machine = new_machine()
        self.ask = ask
        self.url = url

    async def pay(self, number: int) -> None:
        """Drive one payment from its birth to its end."""
        payment = NaivePayment(id=number, reference=f"NAIVE-{RUN}-{number}", amount="12.40")
        self.machine.add_model(payment)
        try:
            async with self.sessions() as session:
                await self._steps(payment, session)
        finally:
            self.machine.remove_model(payment)

    async def _steps(self, payment: Any, session: AsyncSession) -> None:
        session.add(payment)
        payment.told("submit", None, payment.state)
        await session.commit()
        await payment.authorize()
        await session.commit()
        started = await self.ask("POST", f"{self.url}/globalpci/v1/digitalselfservicesession/", _body(payment))
        payment.session = started["sessionId"]
        await payment.start_session()
        await session.commit()
        while True:
            seen = await self.ask("GET", f"{self.url}/globalpci/v1/session/{payment.session}", None)
            if seen["sessionState"] == "Finished":
                break
            await asyncio.sleep(WAIT_S)
        await payment.complete()
        await session.commit()


def _body(payment: NaivePayment) -> str:
    about = {
        "CustomerPhoneNumber": "+447700900123", "cardholderName": "A. Payer", "cardholderPostCode": "RG1 1AA",
        "cardholder Address": "1 High Street", "merchantTxnRef": payment.reference, "amount": payment.amount,
    }  # fmt: skip
    return json.dumps({"AccountConfigurationId": "4242", "PaymentData": about}, separators=(",", ":"))


async def run(window: Window, where: Place, url: str, measured: Measured, *, http: str) -> None:
    """Keep the window full until all payments have ended, each in a task of its own."""
    engine = open_engine(where)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    event.listen(engine.sync_engine, "commit", partial(_count, measured))
    room = asyncio.Semaphore(window.in_flight)

    async def one(number: int, began: float) -> None:
        try:
            await desk.pay(number)
        finally:
            room.release()
        measured.latencies.append(time.monotonic() - began)

    async with (by_httpx if http == "httpx" else by_aiohttp)(window.in_flight) as ask:
        desk = Desk(engine, ask, url)
        window.go.wait()
        measured.start()
        async with asyncio.TaskGroup() as group:
            while (number := window.next()) is not None:
                await room.acquire()
                group.create_task(one(number, time.monotonic()))
        measured.stop()
    await engine.dispose()


def _count(measured: Measured, _: Any) -> None:
    measured.commits += 1


def check(where: Place, payments: int) -> None:
    """Insist that every payment was completed, with its four steps."""

    async def counted() -> tuple[int | None, int | None]:
        engine = open_engine(where)
        async with AsyncSession(engine) as session:
            completed = select(func.count()).where(NaivePayment.state == "completed")
            found = await session.scalar(completed), await session.scalar(select(func.count(NaiveAudit.id)))
        await engine.dispose()
        return found

    found = asyncio.run(counted())
    assert found == (payments, 4 * payments), found


def run_naive(kind: str, server: Any, url: str, payments: int, http: str) -> dict[str, float]:
    with place(kind, server) as where:
        before = asked(url)
        found = processes(partial(run, http=http), where, url, payments=payments, in_flight=IN_FLIGHT)
        check(where, payments)
        return summed_up(found, payments) | verified(before, asked(url), payments)


def compare(kind: str, server: Any, url: str, words: argparse.Namespace) -> None:
    """Run everything in turns on one database; print the lines."""
    variants, payments = words.http or VARIANTS, words.payments
    found: dict[str, list[dict[str, float]]] = {http: [] for http in variants}
    ours: list[dict[str, float]] = []
    for _ in range(words.runs):
        for http in variants:
            found[http].append(run_naive(kind, server, url, payments, http))
        ours.append(run_ours(Configuration(kind, payments, IN_FLIGHT, 1), server, url))
    middle = median_of(ours)
    for http in variants:
        naive = median_of(found[http])
        told("naive", kind, IN_FLIGHT, 1, naive, http=http)
        ratio = middle["payments_per_s"] / naive["payments_per_s"]
        told("end_to_end", kind, IN_FLIGHT, 1, middle, ratio=ratio, to=f"naive {http}")


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--http", choices=VARIANTS, action="append")
    parser.add_argument("--payments", type=int, default=2000)
    words = parser.parse_args()
    with stub() as url, servers(words) as databases:
        for kind, server in databases:
            compare(kind, server, url, words)


if __name__ == "__main__":
    main()
