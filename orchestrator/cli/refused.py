"""
Card data on the command line: what became of it is written to the trail, if there is one.

Owns no message: the error itself is told as any other. Next: `exits`.
"""

import asyncio
import contextlib
from pathlib import Path

from orchestrator import composition
from orchestrator.cli.session import actor, writing
from orchestrator.clock import SystemClock
from orchestrator.domain.entry import Context
from orchestrator.domain.errors import CardDataRefused, OrchestratorError
from orchestrator.orchestrator import VERSION
from orchestrator.refusals import note_card_data
from orchestrator.settings import load_settings


def note(error: BaseException, config: Path | None) -> None:
    """
    Write down that an argument held card data; trouble in doing so is not told instead.

    Args:
        error: What the command ended with; nothing but card data that nobody has noted matters.
        config: The settings file, if one was named.
    """
    if not isinstance(error, CardDataRefused) or error.noted:
        return
    with contextlib.suppress(OrchestratorError):
        asyncio.run(_note(error, config))


async def _note(error: CardDataRefused, config: Path | None) -> None:
    settings = load_settings(config)
    path = composition.sqlite_path(settings.database_url)
    if path is not None and not path.exists():
        return
    context = Context(SystemClock().now(), actor(None), composition.origin(), version=VERSION)
    async with writing(settings) as store:
        await note_card_data(store, error, context, about="command line")
