"""`db restored` in a process that dies at a boundary of its own."""

import os
import signal
from pathlib import Path
from typing import Any

from orchestrator.clock import SystemClock
from orchestrator.domain.entry import Context
from orchestrator.mark import MarkFile
from orchestrator.store import SqlStore, restored

LIFE = "d" * 32
PAGE = 4
MOMENTS = ("between two pages", "before the new life", "after the new life")


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def restore(*, url: str, mark: str, moment: str) -> None:
    """Run the command's work, and die at the moment."""
    restored.PAGE = PAGE
    payments, note, pages = restored._payments, SqlStore.note, 0

    async def page(*args: Any) -> Any:
        nonlocal pages
        pages += 1
        if moment == MOMENTS[0] and pages == 2:
            die()
        return await payments(*args)

    async def noted(*args: Any, **kwargs: Any) -> Any:
        if moment == MOMENTS[1]:
            die()
        done = await note(*args, **kwargs)
        die()
        return done

    restored._payments = page  # type: ignore[assignment]
    SqlStore.note = noted  # type: ignore[method-assign,assignment]
    clock = SystemClock()
    await restored.begin_anew(
        url, MarkFile(Path(mark)), lambda: Context(clock.now(), "ada", "here:1"), reason="put back", new_id=LIFE
    )
