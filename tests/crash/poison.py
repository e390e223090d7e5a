"""A host's handlers, and a payment that takes its worker down: the process ends when its fields are read."""

import os
import signal
from typing import Any

from orchestrator import Orchestrator
from orchestrator.cli.demo_handlers import register as register_handlers

POISON = "PAID-POISON"


class Deadly:
    """The real store; reading the sealed fields of the poison payment kills the process."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._store, verb)

    async def sealed(self, payment_id: str) -> bytes | None:
        payment = await self._store.get(payment_id)
        if payment.reference == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        return await self._store.sealed(payment_id)


def register(orchestrator: Orchestrator) -> None:
    """Named by the setting `worker.handlers`."""
    register_handlers(orchestrator)
    orchestrator.store = Deadly(orchestrator.store)  # type: ignore[assignment]
