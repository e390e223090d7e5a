"""
What the flow asks of the outside, as Protocols in the order of the flow.

The flow knows these and never an adapter; adapters meet them by shape and never
know each other. `orchestrator.py` is the one place where both are in sight.
Next: `submit`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from orchestrator.domain.condition import Condition
from orchestrator.domain.entry import Context, Entry
from orchestrator.domain.machine import Operation
from orchestrator.domain.outcome import Observation
from orchestrator.domain.payment import Payment
from orchestrator.domain.verdict import Verdict
from orchestrator.records import Birth, Holds, Notification, Pause, Query, Record


class Clock(Protocol):
    """Time, as a parameter."""

    def now(self) -> datetime:
        """Give the wall clock's time, UTC, aware: for the trail and for durable times."""
        ...

    def monotonic(self) -> float:
        """Give seconds on a clock that never goes back: for trust in a claim."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait so long on this clock."""
        ...


class Vault(Protocol):
    """Seals payer data and compares content without keeping it."""

    def seal(self, fields: Mapping[str, str], *, payment_id: str) -> bytes:
        """Encrypt the fields, bound to their payment."""
        ...

    def unseal(self, sealed: bytes, *, payment_id: str) -> dict[str, str]:
        """Decrypt what `seal` gave; raises `IntegrityViolated` for anything else."""
        ...

    def digest(self, content: bytes) -> str:
        """Give the keyed digest of a submit's content."""
        ...

    def same_content(self, content: bytes, digest: str) -> bool:
        """Tell whether the digest was made of this content."""
        ...


class Births(Protocol):
    """What a submit asks of the database: each verb its own transaction, or all in the host's."""

    async def submit(self, birth: Birth) -> Payment:
        """
        Record a birth, or give the payment that already has this id.

        Raises:
            Conflict: A live payment has the same (account, reference), or a live phone
                session the same (account, CallGuid).
        """
        ...

    async def of_reference(self, account: str, reference: str) -> Sequence[Payment]:
        """Give every payment of the reference, oldest round first."""
        ...

    async def sealed(self, payment_id: str) -> bytes | None:
        """Give a payment's sealed fields; `None` when it has none or they were erased."""
        ...


class Store(Births, Protocol):
    """The database, as verbs of the flow. Every verb is one transaction."""

    async def get(self, payment_id: str) -> Payment | None:
        """Give one payment."""
        ...

    async def within(self, connection: object) -> Births:
        """
        Give the verbs of a submit inside the host's own transaction.

        Raises:
            InvalidInput: Not a connection that can be used so.
            Conflict: It leads to another database.
        """
        ...

    async def list(self, query: Query) -> Sequence[Payment]:
        """Give a page of payments in the order (created_at, id)."""
        ...

    async def of_session(self, account: str, session_id: str) -> Sequence[Payment]:
        """Give the account's payments that look at this session, whatever the case of its letters; newest first."""
        ...

    async def held_before(self, at: datetime) -> Holds:
        """Tell of the payments that have been held since before `at`."""
        ...

    async def entries(self, chain_id: str) -> Sequence[Entry]:
        """Give one chain in order."""
        ...

    async def publish_definition(self, digest: str, name: str, text: str, *, context: Context) -> None:
        """Keep a definition's masked text by its digest; equal ones are one row."""
        ...

    async def definition(self, digest: str) -> str | None:
        """Give a definition's masked text."""
        ...

    async def definitions(self) -> dict[str, tuple[str, str]]:
        """Give every published definition: digest to name and masked text."""
        ...

    async def register(self, worker_id: str, *, origin: str, version: str, now: datetime) -> None:
        """Make a worker known, alive from `now` on."""
        ...

    async def beat(self, worker_id: str, *, now: datetime) -> bool:
        """Say that the worker lives; `False` if it was reaped: it must take a new id."""
        ...

    async def living(self, *, since: datetime) -> int:
        """Count the workers that have said since then that they live."""
        ...

    async def lapsed(self, *, before: datetime) -> bool:
        """Tell whether a worker has last said before then that it lives."""
        ...

    async def retire(self, worker_id: str, *, now: datetime) -> None:
        """Give every claim back, in good order: it does not count as fruitless; and forget the worker."""
        ...

    async def claim(
        self,
        worker_id: str,
        *,
        now: datetime,
        limit: int,
        accounts: Collection[str],
        machine_versions: Collection[int],
    ) -> Sequence[Payment]:
        """
        Take due, unclaimed payments, in one statement, each with `claim_no` + 1.

        Only those of the accounts and machine versions that the worker knows.

        Raises:
            Unavailable: The claims may have been made nevertheless: `claimed` tells.
        """
        ...

    async def claimed(self, worker_id: str) -> Sequence[Payment]:
        """Give what the worker holds."""
        ...

    async def reap(self, *, lapsed_before: datetime, now: datetime, jitter_s: float, limit: int) -> int:
        """Free the claims of workers whose last beat is older; they are due again within `jitter_s`."""
        ...

    async def record(self, record: Record) -> Payment:
        """
        Write one decision; concurrent calls share a transaction.

        Raises:
            Fenced: Version or claim is not what `decision.before` says. Nothing was written.
            Conflict: A unique rule of the database refuses it. Nothing was written.
            Unavailable: The database does not answer; whether it was written is unknown,
                and the same call again is safe.
        """
        ...

    async def postpone(self, payment: Payment, due_at: datetime | None, *, keep_claim: bool) -> bool:
        """
        Move only the due time, under the claim in `payment`, without an entry; `False` if fenced.

        Its claims so far count no longer as fruitless.
        """
        ...

    async def take_notifications(
        self, worker_id: str, *, events: Sequence[str], now: datetime, limit: int, accounts: Collection[str]
    ) -> Sequence[Notification]:
        """Begin deliveries: due, unexpired, untaken or taken by a worker that is gone; marks them begun."""
        ...

    async def lapsed_notifications(
        self, *, now: datetime, limit: int, accounts: Collection[str]
    ) -> Sequence[Notification]:
        """Give undone notifications whose time is over."""
        ...

    async def settle_notification(self, notification_id: int, *, now: datetime, retry_at: datetime | None) -> None:
        """Mark a notification done, or due again at `retry_at`."""
        ...

    async def unended(self) -> int:
        """Count what can go on by itself: not ended, not held, not waiting for fields of the host's."""
        ...

    async def paused_accounts(self) -> dict[str, Pause]:
        """Give the accounts that an operator has paused, by name."""
        ...

    async def pause_account(self, account: str, *, reason: str, context: Context) -> bool:
        """Pause an account, with its entry in one transaction; `False` if it is paused already."""
        ...

    async def resume_account(self, account: str, *, reason: str, context: Context) -> bool:
        """End an account's pause, with its entry in one transaction; `False` if it is not paused."""
        ...

    async def note(
        self,
        kind: str,
        *,
        about: str,
        context: Context,
        details: Mapping[str, Any] = ...,
        result: str = ...,
    ) -> Entry | None:
        """Write the next entry of the day's administrative chain (`admin-<day>`, trigger `note`)."""
        ...

    async def noted(self, kinds: Collection[str], *, since: datetime) -> Sequence[Entry]:
        """Give the administrative entries of these kinds since then, in order."""
        ...

    async def listen(self, stir: Callable[[], None]) -> None:
        """
        Call `stir` whenever another process may have made something due; until cancelled.

        A hint only: polling is the truth. Never raises for trouble of the database;
        returns at once where the database can't tell (SQLite, a transaction pooler).
        """
        ...

    async def clock_offset(self, clock: Clock) -> float:
        """
        Give by how many seconds our clock is ahead of the database's; 0.0 where they are one (SQLite).

        Raises:
            Unavailable: The database does not answer.
        """
        ...


class Prepared(Protocol):
    """A request, rendered and ready to be sent; its repr shows no secret and no payer data."""

    @property
    def digest(self) -> str:
        """SHA-256 over method, URL and body, without the Authorization header."""
        ...


class Provider(Protocol):
    """The provider, under one account and its definitions. Never raises for remote trouble."""

    def prepare(self, operation: Operation, payment: Payment, fields: Mapping[str, str]) -> Prepared:
        """
        Render the operation's request.

        Raises:
            InvalidInput: A field can't be encoded for its place, or is missing.
        """
        ...

    async def send(self, prepared: Prepared, *, by: datetime | None = None) -> Verdict:
        """
        Send, with bursts of retries only where nothing can have had an effect, under one total deadline.

        A look that loses its evidence sooner (`by`) is sent sooner.
        """
        ...

    async def authorize(self) -> Verdict:
        """Make sure that an unexpired token is at hand."""
        ...


class Providers(Protocol):
    """Every account's provider."""

    def of(self, payment: Payment) -> Provider:
        """Give the provider with the definitions that the payment is pinned to."""
        ...

    def notice(self, account: str, body: bytes) -> Callable[[str], Observation]:
        """
        Read a webhook's body by the account's gateway profile.

        Gives what it says, by the ISO 4217 code that gives its amount's decimals.

        Raises:
            InvalidInput: The body is not one, or holds card data.
        """
        ...

    def condition(self, account: str) -> Condition:
        """Say how the account fares with its provider, as this process sees it."""
        ...


class Traffic(Protocol):
    """What this process may send to the provider, account by account."""

    def barred(self, account: str) -> Verdict | None:
        """Give the verdict on a start that would be kept back, so that no intent is written for it."""
        ...

    def condition(self, account: str) -> Condition:
        """Say how the account fares with its provider, as this process sees it."""
        ...

    def shared_by(self, workers: int) -> None:
        """Divide every account's budget among so many live workers."""
        ...


class Notifier(Protocol):
    """The host's handlers."""

    @property
    def events(self) -> Sequence[str]:
        """The events that somebody handles in this process."""
        ...

    async def deliver(self, event: str, payment: Payment) -> None:
        """Call the handlers; raises what they raise."""
        ...
