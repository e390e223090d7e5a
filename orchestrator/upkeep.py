"""
Upkeep of the controls: seal in time, and write down when that fails.

Owns what becomes of a failure: a row of the register, an entry, a log line, once; the seal is
tried again at the next turn. Payments go on meanwhile: their entries wait for their leaves in
the database. Next: `worker`.
"""

from collections.abc import Callable
from typing import Protocol

from orchestrator.domain.entry import Context
from orchestrator.domain.errors import ControlFailed
from orchestrator.telemetry import emit


class Register(Protocol):
    """Where failures of controls are written down."""

    async def fail_control(self, control: str, cause: str, context: Context) -> bool:
        """Open a failure unless one of this control is open; tells whether it did."""
        ...


class Control(Protocol):
    """A control that needs its turn."""

    async def turn(self) -> bool:
        """Do what is due; tells whether anything was. Raises `ControlFailed`."""
        ...

    async def failing(self) -> str:
        """Tell why it is late, or nothing."""
        ...


class Upkeep:
    """
    One process's turns of one control.

    Args:
        control: The control.
        name: What the register calls it.
        register: Where failures are written down.
        context: Gives who notices, when, from where.
    """

    def __init__(self, control: Control, name: str, register: Register, context: Callable[[], Context]) -> None:
        self._control = control
        self._name = name
        self._register = register
        self._context = context
        self._told: set[str] = set()

    async def turn(self) -> bool:
        """
        Take one turn.

        Raises:
            Unavailable: The database does not answer.

        Crash: what the control did is whole by itself; a failure that was not written down is noticed again.
        """
        try:
            done = await self._control.turn()
            why, name = await self._control.failing(), self._name
        except ControlFailed as error:
            done, why, name = False, error.why, error.control
        if not why:
            self._told.clear()
        elif name not in self._told:
            emit("control.failed", control=name, reason=why)
            await self._register.fail_control(name, why, self._context())
            self._told.add(name)
        return done
