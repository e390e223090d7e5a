"""
How a process of ours runs: the faster event loop where there is one, and a collector that looks at what may die.

uvloop has its home here. A host that embeds the orchestrator chooses both for itself;
`docs/performance.md` says what they bring. Next: `session`.
"""

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

try:
    import uvloop
except ModuleNotFoundError:  # where there is no wheel for it, such as on Windows
    _factory: Callable[[], asyncio.AbstractEventLoop] | None = None
else:
    _factory = uvloop.new_event_loop

T = TypeVar("T")

YOUNG = 20_000
"""New containers between two collections of the young ones; Python's own number is 700."""
SWITCH_S = 0.001
"""How long the loop may keep the interpreter from a thread of the database's; Python's 0.005, for each statement."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end."""
    with asyncio.Runner(loop_factory=_factory) as runner:
        return runner.run(work)


def settle() -> None:
    """Take what is there by now, modules and settings, out of the collector's sight: call it when a worker is ready."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 20)
    sys.setswitchinterval(SWITCH_S)
