"""
`Orchestrator`: what a host imports; the composition root.

Opens database, keys and providers from settings, and gives the host its verbs.
Everything it does is done by the flow's modules; here they get their adapters.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from importlib import metadata
from random import Random
from types import TracebackType
from typing import Any, Literal, Self

from orchestrator import composition, resolve
from orchestrator.claim import Claims, Rhythm
from orchestrator.clock import SystemClock
from orchestrator.domain.account import Account
from orchestrator.domain.entry import Context, Entry
from orchestrator.domain.errors import ConfigurationError, NotFound
from orchestrator.domain.money import Money
from orchestrator.domain.payment import Payment, State
from orchestrator.execute import Bench
from orchestrator.handlers import Event, Handler, Handlers
from orchestrator.interactions import Definition, parse
from orchestrator.ports import Clock
from orchestrator.provider.backoff import backoff
from orchestrator.records import Query
from orchestrator.settings import Settings, load_settings
from orchestrator.store import migrate
from orchestrator.store.store import SqlStore
from orchestrator.submit import Door, Submission, collect, submit
from orchestrator.worker import Limits, Worker

Until = Literal["handed_over", "ended", "settled"]

WAIT_POLL_S = 0.05

REQUEST_DIGESTS = b"the key of request digests"
"""Its keyed digest keys the digests of requests in the trail: a plain one of a name and a number could be guessed."""

try:
    VERSION = metadata.version("payment-orchestrator")
except metadata.PackageNotFoundError:  # a source tree that was never installed
    VERSION = "0"


class Orchestrator:
    """
    An embeddable, durable payment orchestrator.

    Use it as an asynchronous context manager, in one event loop. A new SQLite
    file is created and brought to the present schema; any other database must
    have been prepared with `orchestrator db upgrade`.

    Args:
        settings: What `load_settings` gives; by default it is called.
        clock: Time, for tests.
        actor: Who acts through this object, for the trail: `host`, or a person.

    Raises:
        ConfigurationError: On entering: settings, definitions, keys or database don't fit.
        Unavailable: On entering: the database does not answer.
    """

    def __init__(self, settings: Settings | None = None, *, clock: Clock | None = None, actor: str = "host") -> None:
        self.settings = settings or load_settings()
        self._clock: Clock = clock or SystemClock()
        self._actor = actor
        self._origin = composition.origin()
        self._handlers = Handlers()
        self._workers: set[Worker] = set()
        self._stack = contextlib.AsyncExitStack()
        self._random = Random(composition.new_worker_id())  # noqa: S311 - jitter, not a secret
        self._definitions = composition.load_definitions(self.settings)
        self._accounts: dict[str, Account] = {}
        self.store: SqlStore = composition.build_store(self.settings)

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            path = composition.sqlite_path(self.settings.database_url)
            if path is not None and (not path.exists() or path.stat().st_size == 0):
                await migrate.upgrade(self.settings.database_url)
            await self.store.open()
            stack.push_async_callback(self.store.close)
            vault = composition.build_vault(self.settings, may_create=not await self.store.holds_payer_data())
            for digest, definition in self._definitions.all().items():
                await self.store.publish_definition(digest, definition.name, definition.text, now=self._clock.now())
            self._providers = composition.build_providers(
                self.settings, self._definitions, await self._older_definitions(),
                clock=self._clock, random=self._random, digest_key=vault.digest(REQUEST_DIGESTS).encode(),
            )  # fmt: skip
            stack.push_async_callback(self._providers.close)
            self._accounts = composition.build_accounts(self.settings, self._providers, backoff(self._random))
            self._vault = vault
            self._door = Door(self.store, vault, composition.DoorIntake(), self._accounts, self._context)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.stop()
        await self._stack.aclose()

    @property
    def accounts(self) -> Mapping[str, Account]:
        """The configured accounts by name; empty until entered."""
        return self._accounts

    async def submit(
        self,
        *,
        account: str,
        channel: str,
        reference: str,
        amount: Money,
        fields: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        again: bool = False,
        connection: Any = None,
    ) -> Payment:
        """
        Submit a payment; the same submit again gives the same payment.

        Args:
            account: Name of the provider configuration.
            channel: `phone` (keypad) or `digital` (link by text).
            reference: The merchant reference: 1 to 50 characters, unique for what is paid.
            amount: What is to be taken.
            fields: Fields that are known already; `collect` supplies the rest.
            idempotency_key: What makes two submits the same; the reference by default.
            again: Take a reference anew whose earlier payments have failed.
            connection: The host's own SQLAlchemy `AsyncConnection` to the same database
                (`docs/embedding.md`); the payment then exists when the host commits. Its
                transaction is begun if none runs, and goes on after every error of ours
                but `Unavailable`.

        Raises:
            InvalidInput: A value is refused: names field, problem and fix. Nothing was written.
            Conflict: Submitted before with other content, or must not be taken again; or
                the connection leads to another database.
            Unavailable: The database does not answer; the same call again is safe.
        """
        submission = Submission(account, channel, reference, amount, fields or {}, idempotency_key, again)
        payment = await submit(self._door, submission, connection=connection)
        self._stir()
        return payment

    async def collect(self, payment_id: str, fields: Mapping[str, str]) -> Payment:
        """
        Supply more fields; when all are known the payment goes on by itself.

        Raises:
            NotFound: No such payment.
            InvalidInput: A value is refused, or collecting is over.
        """
        payment = await collect(self._door, payment_id, fields)
        self._stir()
        return payment

    async def cancel(self, payment_id: str, *, reason: str = "") -> Payment:
        """
        Ask to end a payment. A session that may still be paid gets a last look first, and stays watched.

        Raises:
            NotFound: No such payment.
            InvalidInput: The reason holds what must not be written down.
        """
        if reason:
            reason = composition.DoorIntake().text("reason", reason)
        payment = await resolve.cancel(self.store, payment_id, self._context, reason=reason)
        self._stir()
        return payment

    async def acknowledge(self, payment_id: str) -> Payment:
        """
        Say that the hand-over was taken: for hosts that read it with `get` or `wait` instead of a handler.

        Raises:
            NotFound: No such payment.
            InvalidInput: Nothing was handed over.
        """
        return await resolve.acknowledge(self.store, payment_id, self._context)

    async def get(self, payment_id: str) -> Payment:
        """
        Give one payment; nothing of the payer's is in it.

        Raises:
            NotFound: No such payment.
        """
        payment = await self.store.get(payment_id)
        if payment is None:
            raise NotFound(f"no payment {payment_id[:40]!r}")
        return payment

    async def list(self, query: Query | None = None) -> Sequence[Payment]:
        """Give a page of payments, oldest first; `Query.after` with the last id gives the next page."""
        return await self.store.list(query or Query())

    async def timeline(self, payment_id: str) -> Sequence[Entry]:
        """
        Give a payment's entries in order.

        Raises:
            NotFound: No such payment.
        """
        await self.get(payment_id)
        return await self.store.entries(payment_id)

    async def wait(
        self,
        payment_id: str,
        *,
        until: Until = "ended",
        timeout: float | None = None,  # noqa: ASYNC109 - what a host expects it to be called
    ) -> Payment:
        """
        Wait until a payment is handed over, has ended, or is settled (ended, or held for a person).

        A payment that ends is given back whatever was waited for.

        Args:
            payment_id: The payment.
            until: What to wait for.
            timeout: Seconds; `None` waits for ever.

        Raises:
            NotFound: No such payment.
            TimeoutError: It takes longer; the payment goes on regardless.
        """
        async with asyncio.timeout(timeout):
            while True:
                payment = await self.get(payment_id)
                if payment.ended or (until == "settled" and payment.hold is not None):
                    return payment
                if until == "handed_over" and payment.state is State.AWAITING_PAYMENT:
                    return payment
                await self._clock.sleep(WAIT_POLL_S)

    def on(self, event: Event | str, handler: Handler) -> None:
        """
        Call `handler(payment)` at every such event, at least once, in this process's workers.

        For `handed_over` the handler's return is the acknowledgement; it is never
        called after the hand-over's validity. A handler that raises is called again.

        Args:
            event: One of `EVENTS`.
            handler: A function or coroutine function; must be idempotent.

        Raises:
            InvalidInput: No such event.
        """
        self._handlers.add(event, handler)

    def new_worker(self) -> Worker:
        """Give a worker of this orchestrator, to be `run` once."""
        if not self._accounts:
            raise ConfigurationError("accounts", "is empty", "configure at least one account for a worker")
        told = self.settings.worker
        rhythm = Rhythm(told.heartbeat_s, told.claim_life_s, told.claim_trust_s, told.poll_interval_s)
        claims = Claims(
            self.store, self._clock, rhythm,
            accounts=tuple(self._accounts), new_id=composition.new_worker_id, origin=self._origin, version=VERSION,
        )  # fmt: skip
        bench = Bench(self.store, self._providers, self._vault, self._accounts, self._clock, claims)
        return Worker(bench, self._handlers, Limits(told.concurrency, told.claim_batch, told.drain_s))

    @contextlib.asynccontextmanager
    async def worker(self) -> AsyncIterator[Worker]:
        """
        Run a worker beside the block; it drains when the block ends.

        Raises:
            ExceptionGroup: The worker itself failed; the claims it held lapse.
        """
        worker = self.new_worker()
        self._workers.add(worker)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(worker.run())
                try:
                    yield worker
                finally:
                    worker.stop()
        finally:
            self._workers.discard(worker)

    async def _older_definitions(self) -> dict[str, Definition]:
        """Compile what payments were begun under and the settings no longer hold."""
        present = self._definitions.all()
        stored = await self.store.definitions()
        return {digest: parse(text, name=name) for digest, (name, text) in stored.items() if digest not in present}

    def _context(self) -> Context:
        return Context(self._clock.now(), self._actor, self._origin, version=VERSION)

    def _stir(self) -> None:
        for worker in self._workers:
            worker.wake()
