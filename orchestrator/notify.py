"""
Notify: what the host should know reaches its handlers, at least once.

Notices were queued in the commit that made them true. A delivery is marked
begun before a handler runs, because for a hand-over "never begun" is what
allows saying `not_attempted`. A hand-over is never delivered after its
validity. Next: `worker`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime, timedelta

from orchestrator.claim import DATABASE_TROUBLE
from orchestrator.domain.machine import Operation
from orchestrator.domain.payment import Payment, State
from orchestrator.domain.verdict import Verdict, VerdictKind
from orchestrator.ports import Clock, Notifier, Store
from orchestrator.records import Notification
from orchestrator.telemetry import emit

HandIn = Callable[[str, Operation, Verdict], Awaitable[None]]
"""Payment id, operation, verdict: decided by whoever holds the payment."""

RETRY_FIRST_S, RETRY_MAX_S = 0.5, 300.0
DATABASE_RETRY_S = 0.5
BATCH = 100
LAPSES_EVERY_S = 0.2
"""Between two looks for hand-overs that came too late: nothing stirs those."""


class Deliveries:
    """Delivers queued notices to this process's handlers; those of accounts that it does not know are others'."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        notifier: Notifier,
        hand_in: HandIn,
        *,
        accounts: Collection[str],
        known: Callable[[str], Payment | None] = lambda _: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._notifier = notifier
        self._hand_in = hand_in
        self._accounts = accounts
        self._known = known
        self._lapsing: set[int] = set()
        self._looked_at = float("-inf")
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether a delivery is under way."""
        return bool(self.tasks)

    async def turn(self, worker_id: str) -> int:
        """
        Begin what is due, and settle hand-overs whose time is over.

        A delivery runs beside the turns: a slow handler holds up only itself.

        Returns:
            How many notices were begun or settled.

        Crash:
            A notice begun and not settled is delivered again by somebody else,
            unless its validity is over.
        """
        due: Sequence[Notification] = ()
        if events := tuple(self._notifier.events):
            due = await self._store.take_notifications(
                worker_id, events=events, now=self._clock.now(), limit=BATCH, accounts=self._accounts
            )
        for notification in due:
            self._begin(notification, self._deliver)
        late = await self._late()
        for notification in late:
            self._lapsing.add(notification.id)
            self._begin(notification, self._lapse)
        return len(due) + len(late)

    async def _late(self) -> Sequence[Notification]:
        """Give those whose time is over and that nobody here settles yet; a turn that was stirred need not look."""
        now = self._clock.monotonic()
        if now - self._looked_at < LAPSES_EVERY_S:
            return ()
        late = await self._store.lapsed_notifications(now=self._clock.now(), limit=BATCH, accounts=self._accounts)
        self._looked_at = now if len(late) < BATCH else float("-inf")
        return [notification for notification in late if notification.id not in self._lapsing]

    def _begin(self, notification: Notification, work: Callable[[Notification], Awaitable[None]]) -> None:
        task = asyncio.create_task(self._guarded(notification, work))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _guarded(self, notification: Notification, work: Callable[[Notification], Awaitable[None]]) -> None:
        try:
            await work(notification)
        except Exception as error:  # noqa: BLE001 - a notice that is dropped silently is never told again
            emit("notification.failed", error=error, payment_id=notification.payment_id, tries=notification.tries)
            await self._put_back(notification)

    async def _put_back(self, notification: Notification) -> None:
        """Queue it again, however long the database is away: while we live nobody else would take it."""
        delay = min(RETRY_FIRST_S * 2.0 ** min(notification.tries - 1, 16), RETRY_MAX_S)
        while True:
            retry_at = self._clock.now() + timedelta(seconds=delay)
            try:
                await self._settle(notification, retry_at)
            except DATABASE_TROUBLE:
                await self._clock.sleep(DATABASE_RETRY_S)
            else:
                return

    async def _settle(self, notification: Notification, retry_at: datetime | None = None) -> None:
        await self._store.settle_notification(notification.id, now=self._clock.now(), retry_at=retry_at)

    async def _deliver(self, notification: Notification) -> None:
        event = notification.notice.event
        payment = self._known(notification.payment_id)  # this worker's own: nobody else changes it
        if payment is None or payment.version < notification.notice.seq:
            payment = await self._store.get(notification.payment_id)
        expires_at = notification.notice.expires_at
        if payment is None or (expires_at is not None and self._clock.now() >= expires_at):
            return  # an expired one comes back through `lapsed_notifications`
        if event == "handed_over" and payment.state is not State.AWAITING_PAYMENT:
            await self._settle(notification)
            return
        try:
            await self._notifier.deliver(event, payment)
        except Exception as error:  # noqa: BLE001 - a host's handler may raise anything; the notice stays queued
            emit("handler.failed", error=error, payment_id=payment.id, name=event, tries=notification.tries)
            await self._put_back(notification)
            return
        if event == "handed_over":
            acknowledged = Verdict(VerdictKind.ANSWERED, reason="handler_returned")
            await self._hand_in(payment.id, Operation.HAND_OVER, acknowledged)
        await self._settle(notification)
        emit("notification.delivered", payment_id=payment.id, kind=event, tries=notification.tries)

    async def _lapse(self, notification: Notification) -> None:
        try:
            if notification.notice.event == "handed_over":
                kind = VerdictKind.UNKNOWN if notification.begun else VerdictKind.NOT_SENT
                await self._hand_in(
                    notification.payment_id, Operation.HAND_OVER, Verdict(kind, reason="hand_over_lapsed")
                )
            await self._settle(notification)
            emit("notification.expired", payment_id=notification.payment_id, kind=notification.notice.event)
        finally:
            self._lapsing.discard(notification.id)
