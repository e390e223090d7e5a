"""
The result of deciding: what is to be recorded, in one piece.

A `Decision` is what `decide` and its siblings return and what the store's
`record` writes in one transaction. `Walk` builds one: each step is one
transition of the machine and one entry of the chain. Pure. Next: `decide`.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from orchestrator.domain.entry import Context, Entry, Looks, extend
from orchestrator.domain.machine import Operation, next_state
from orchestrator.domain.payment import HoldReason, Payment, evolved
from orchestrator.domain.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Notice:
    """
    Something that the host wants to know, queued with the entry that made it true.

    Attributes:
        event: `handed_over`, `link_sent`, `completed`, `failed`, `held`, `overdue`, `money_changed`.
        seq: The entry that it belongs to.
        expires_at: After this it is never delivered; `None` for events that do not age.
    """

    event: str
    seq: int
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """
    What is to be recorded.

    Attributes:
        before: The payment that was looked at; its version and claim are the fence.
        payment: The payment as it will be.
        entries: What is appended to its chain; empty when nothing was learnt.
        notices: What the host is told.
    """

    before: Payment
    payment: Payment
    entries: tuple[Entry, ...] = ()
    notices: tuple[Notice, ...] = ()

    @property
    def quiet(self) -> bool:
        """Whether nothing is to be written: the next look is timed in memory."""
        return not self.entries

    def then(self, following: "Decision") -> "Decision":
        """Give this decision and the one that was made on its result, as one record."""
        return Decision(
            self.before, following.payment, self.entries + following.entries, self.notices + following.notices
        )


class Walk:
    """Walk a payment through one or more transitions; local to one decision."""

    def __init__(self, payment: Payment, context: Context) -> None:
        self.before = payment
        self.payment = payment
        self.looks = context.looks
        self._context = context
        self._entries: list[Entry] = []
        self._notices: list[Notice] = []

    @property
    def now(self) -> datetime:
        """The decision's present."""
        return self._context.now

    def step(
        self,
        trigger: str,
        *,
        operation: Operation | None = None,
        attempt: int | None = None,
        verdict: Verdict | None = None,
        extra: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Self:
        """
        Change facts, take the transition, append its entry.

        Raises:
            MachineError: The machine has no such transition: a defect of the caller.
        """
        changed = evolved(self.payment, **changes)
        state = next_state(changed, trigger)
        entry = extend(
            self.payment, changed, trigger, self._context, to_state=state,
            operation=operation, attempt=attempt, verdict=verdict, extra=extra,
        )  # fmt: skip
        self.payment = evolved(
            changed, state=state, progress_claim=changed.claim_no, version=entry.seq, head=entry.hash
        )  # fmt: skip
        self._entries.append(entry)
        if self._context.looks.count:
            self._context = replace(self._context, looks=Looks())
        return self

    def hold(self, doubt: HoldReason, **details: Any) -> Self:
        """Set doubt and tell the host; the caller knows whether it is there already."""
        self.step("hold", hold=doubt, held_at=self.now, **details)
        return self.notify("held")

    def release(self, reason: str, **details: Any) -> Self:
        """Resolve doubt, if there is any; `reason` is the word for what resolved it."""
        if self.payment.hold is None:
            return self
        return self.step("release", hold=None, held_at=None, reason=reason, **details)

    def notify(self, event: str, expires_at: datetime | None = None) -> Self:
        """Queue something for the host with the newest entry."""
        self._notices.append(Notice(event, self.payment.version, expires_at))
        return self

    def due(self, at: datetime | None) -> Decision:
        """Finish: say when a worker should look next, or that only an event can move it."""
        return Decision(self.before, evolved(self.payment, due_at=at), tuple(self._entries), tuple(self._notices))


def quiet(payment: Payment, due_at: datetime | None) -> Decision:
    """Give the decision that writes nothing."""
    return Decision(payment, evolved(payment, due_at=due_at))
