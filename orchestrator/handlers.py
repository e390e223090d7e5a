"""
The host's handlers: which events there are, and who is called at each.

Meets the flow's `Notifier`; `notify` decides when something is delivered, and
how often. Must not know how an event came about. Next: `orchestrator`.
"""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.payment import Payment

EVENTS = ("handed_over", "link_sent", "overdue", "held", "completed", "failed", "money_changed")
"""What a host can handle; each handler gets the payment as it is at delivery."""

Event = Literal["handed_over", "link_sent", "overdue", "held", "completed", "failed", "money_changed"]
Handler = Callable[[Payment], Awaitable[None] | None]


class Handlers:
    """The host's handlers by event."""

    def __init__(self) -> None:
        self._by_event: dict[str, list[Handler]] = {}

    @property
    def events(self) -> Sequence[str]:
        """The events that somebody handles here."""
        return tuple(self._by_event)

    def add(self, event: str, handler: Handler) -> None:
        """Register a handler."""
        if event not in EVENTS:
            raise InvalidInput("event", "is unknown", f"use one of {', '.join(EVENTS)}")
        self._by_event.setdefault(event, []).append(handler)

    async def deliver(self, event: str, payment: Payment) -> None:
        """Call each handler in order; the first that raises stops the rest, and all are called again later."""
        for handler in self._by_event.get(event, ()):
            result = handler(payment)
            if inspect.isawaitable(result):
                await result
