"""
`Orchestrator`: what a host imports; the composition root.

Opens database, keys and providers from settings, and gives the host its verbs.
Everything it does is done by the flow's modules; here they get their adapters.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from random import Random
from types import TracebackType
from typing import Any, Literal, Self

from orchestrator import assembly, composition, resolve, sealing
from orchestrator.clock import SystemClock
from orchestrator.domain.account import Account, policy_of
from orchestrator.domain.entry import Context, Entry
from orchestrator.domain.errors import ConfigurationError
from orchestrator.domain.fields import unknown_payment
from orchestrator.domain.money import Money
from orchestrator.domain.payment import Payment, State
from orchestrator.domain.policy import Policy
from orchestrator.handlers import Event, Handler, Handlers
from orchestrator.health import Health, Terms, examine
from orchestrator.ports import Clock
from orchestrator.records import Query
from orchestrator.refusals import noting, settled, subject
from orchestrator.settings import Settings, load_settings
from orchestrator.store.store import SqlStore
from orchestrator.submit import Door, Submission, collect, submit
from orchestrator.webhook import Ear, Heard, hear
from orchestrator.worker import Worker

Until = Literal["handed_over", "ended", "settled"]

WAIT_POLL_S, VERSION = 0.05, composition.VERSION


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
        self._actor = composition.DoorIntake().text("actor", actor)
        self._origin = composition.origin()
        self._handlers = Handlers()
        self._workers: set[Worker] = set()
        self._stack = contextlib.AsyncExitStack()
        self._random = Random(composition.new_worker_id())  # noqa: S311 - jitter, not a secret
        self._definitions = composition.load_definitions(self.settings)
        self._accounts: Mapping[str, Account] = {}
        self.store: SqlStore = composition.build_store(self.settings, sealing.entry_lines(self.settings))

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            opened = assembly.opened(
                self.settings, self.store, self._definitions, self._context, clock=self._clock, random=self._random
            )
            parts = await stack.enter_async_context(opened)
            self._providers, self._vault, self._accounts = parts.providers, parts.vault, parts.accounts
            self._door = Door(self.store, self._vault, composition.DoorIntake(), self._accounts, self._context)
            self._ear = Ear(self.store, self._providers, self._vault, self._accounts, self._context, parts.acquaint)
            stack.push_async_callback(settled, self._door.later)
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

    async def cancel(self, payment_id: str, *, reason: str = "", hung_up: bool = False) -> Payment:
        """
        Ask to end a payment. A session that may still be paid gets a last look first, and stays watched.

        Args:
            payment_id: The payment.
            reason: Why, for the trail.
            hung_up: Phone only: the caller is gone; it ends as `hung_up` instead of `cancelled_by_host`.

        Raises:
            NotFound: No such payment.
            InvalidInput: The reason holds what must not be written down, or a digital payment hung up.
        """
        async with noting(self.store, self._context, subject(payment_id, "cancel")):
            reason = composition.DoorIntake().text("reason", reason)
        payment = await resolve.cancel(self.store, payment_id, self._context, reason=reason, hung_up=hung_up)
        self._stir()
        return payment

    async def resolve(
        self, payment_id: str, *, person: str, reason: str,
        outcome: str | None = None, retry: bool = False, session: str | None = None,
    ) -> Payment:  # fmt: skip
        """
        Take a person's word on a held payment: `outcome`, `retry` or `session` (with an outcome, or alone).

        What each says to which hold is `domain.settling.FITS`. Where the policy's `resolve_persons`
        is 2, the first word is a proposal that a second person's equal word carries out.

        Args:
            payment_id: The payment.
            person: Who says it.
            reason: Why.
            outcome: How it ended.
            retry: Go on: what stood in the way does so no more.
            session: The provider's id of its session.

        Raises:
            NotFound: No such payment.
            InvalidInput: A text is refused, or the word does not fit the hold; nothing was changed.
            Conflict: It is not held, has ended, or the same person speaks a second time.
        """
        async with noting(self.store, self._context, subject(payment_id, "resolve")):
            word = composition.resolution(person=person, reason=reason, outcome=outcome, retry=retry, session=session)
        spoken = partial(self._context, word.person)
        payment = await resolve.resolve(self.store, payment_id, word, spoken, self._policy)
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

    async def webhook(self, account: str, body: bytes) -> Heard:
        """
        Take an inbound webhook, for hosts with a web framework of their own; `orchestrator serve` is the other way.

        Args:
            account: The account that its address stands for.
            body: As it came. Make sure first who sent it: a bearer token, over TLS.

        Raises:
            ConfigurationError: No such account. Answer 404.
            InvalidInput: The body is not one. Answer 400; nothing was written but, for card data, a note.
            Unavailable: Not now. Answer 503, and the provider sends it again.
        """
        heard = await hear(self._ear, account, body)
        self._stir()
        return heard

    async def refuse_webhook(self, account: str, why: str, sender: str = "") -> None:
        """Write down that a webhook was refused at the door, and whose; raises as `webhook` does."""
        async with noting(self.store, self._context, "webhook"):
            why, sender = (composition.DoorIntake().text(*each) for each in (("why", why), ("sender", sender)))
        await self._ear.refuse(account, why, sender)

    async def deny_access(self, door: str, sender: str, count: int) -> None:
        """Write an entry that somebody came to a door without a valid token, so many times; raises `Unavailable`."""
        details = {"reason": "unauthorized", "sender": sender, "count": count}
        await self.store.note("access.denied", about=door, context=self._context(), details=details, result="failure")

    async def health(self) -> Health:
        """Sum up what a person should know or do; a database that does not answer is a finding, no error."""
        settings, late_s = self.settings, sealing.terms_of(self.settings).late_s
        terms = Terms(settings.hold_age_s, settings.worker.claim_life_s, late_s, sealing.seals(settings))
        return await examine(self.store, self._providers, self._accounts, self._clock, terms)

    async def get(self, payment_id: str) -> Payment:
        """
        Give one payment; nothing of the payer's is in it.

        Raises:
            NotFound: No such payment.
        """
        payment = await self.store.get(payment_id)
        if payment is None:
            raise unknown_payment(payment_id)
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
        parts = assembly.Parts(self.store, self._providers, self._vault, self._accounts)
        return assembly.build_worker(
            self.settings, parts, self._handlers, self._clock, origin=self._origin, version=VERSION
        )

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

    def _policy(self, payment: Payment) -> Policy:
        return policy_of(self._accounts, payment)

    def _context(self, actor: str | None = None) -> Context:
        return Context(self._clock.now(), actor or self._actor, self._origin, version=VERSION)

    def _stir(self) -> None:
        for worker in self._workers:
            worker.wake()
