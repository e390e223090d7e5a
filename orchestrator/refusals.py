"""
Card data that was refused, in the trail: one kind of entry, written in one place.

Owns the entry's form. It names the field and the kind of find, never the find itself.
Next: `webhook`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from orchestrator.domain.entry import Context
from orchestrator.domain.errors import CardDataRefused, OrchestratorError
from orchestrator.domain.fields import is_payment_id
from orchestrator.telemetry import emit

CARD_DATA = "card_data.refused"
"""The entry's kind, and the log event's name."""


class Notes(Protocol):
    """Where administrative entries are written."""

    async def note(self, kind: str, *, about: str, context: Context, details: Any = ..., result: str = ...) -> Any:
        """Write the next entry of the day's chain."""
        ...


async def note_card_data(store: Notes, error: CardDataRefused, context: Context, *, about: str) -> None:
    """
    Write down that card data was refused, unless that was done.

    Never raises for trouble of the database: the refusal itself must reach whoever sent it.

    Args:
        store: Where.
        error: The refusal; its field is a name of ours or one that was checked.
        context: Who sent it, when, from where.
        about: What it was for: an account, a payment, or the verb.

    Crash: the entry is there or not; nothing else was to be written.
    """
    if error.noted:
        return
    emit("card_data.refused", reason=f"{error.field} {error.problem}")
    details = {"field": error.field, "reason": error.problem}
    try:
        await store.note(CARD_DATA, about=about, context=context, details=details, result="failure")
    except OrchestratorError as trouble:
        emit("control.failed", control=CARD_DATA, reason=type(trouble).__name__)
    else:
        error.noted = True


@contextlib.asynccontextmanager
async def noting(store: Notes, context: Callable[[], Context], about: str) -> AsyncIterator[None]:
    """Write down, as `note_card_data` does, what the block refuses, and let it be refused."""
    try:
        yield
    except CardDataRefused as error:
        await note_card_data(store, error, context(), about=about)
        raise


@contextlib.asynccontextmanager
async def noting_later(
    store: Notes, context: Callable[[], Context], about: str, tasks: set[asyncio.Task[None]]
) -> AsyncIterator[None]:
    """
    Do as `noting` does, but not before the host's transaction has let go of the database.

    SQLite has one writer: a note that is waited for would wait for its own caller. In the host's
    transaction it would go away with it.

    Args:
        store: Where.
        context: Who, when, from where.
        about: What it was for.
        tasks: Whoever closes the database waits for these first.
    """
    try:
        yield
    except CardDataRefused as error:
        task = asyncio.create_task(note_card_data(store, error, context(), about=about))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        raise


async def settled(tasks: set[asyncio.Task[None]]) -> None:
    """Wait for the notes that are still to be written."""
    await asyncio.gather(*tasks)


def subject(payment_id: str, verb: str) -> str:
    """Give what an entry is about: the payment, if it has the form of our ids, else the verb."""
    return payment_id if is_payment_id(payment_id) else verb
