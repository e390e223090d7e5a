"""
What the demo shows: a live table on a terminal, plain lines elsewhere.

Owns the screen. Knows payments, not where they come from. Next: `demo_check`.
"""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from orchestrator.cli.demo_check import Promise
from orchestrator.cli.show import cell, state_cell
from orchestrator.domain.payment import Payment


class View:
    """
    The demo's screen, as a context manager.

    Args:
        out: The console; a terminal gets a live table.
        elapsed: Seconds since the demo began.
    """

    def __init__(self, out: Console, elapsed: Callable[[], float]) -> None:
        self._out = out
        self._elapsed = elapsed
        self._seen: dict[str, tuple[object, ...]] = {}
        self._live = Live(console=out, auto_refresh=False, transient=True) if out.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str, style: str = "bold") -> None:
        """Print one line that stays."""
        self._out.print(cell(f"{self._elapsed():5.1f} s  {text}", style), soft_wrap=True)

    def show(self, payments: Sequence[Payment]) -> None:
        """Show how the payments are now: the whole table, or a line for each that changed."""
        if self._live is not None:
            self._live.update(outcome_table(payments, rows=self._out.height - 6), refresh=True)
            return
        for payment in payments:
            facts = (payment.state, payment.outcome, payment.hold, payment.money)
            if self._seen.get(payment.id) != facts:
                self._seen[payment.id] = facts
                words = " ".join(str(fact) for fact in facts if fact is not None)
                self.say(f"{payment.reference:24} {payment.channel:8} {words}", "")

    def promises(self, promises: Sequence[Promise]) -> None:
        """Print each promise and whether it was kept."""
        for promise in promises:
            word, style = ("kept  ", "green") if promise.kept else ("BROKEN", "bold red")
            self._out.print(cell(f"{word}  {promise.text}", style), soft_wrap=True)
            for line in promise.broken:
                self._out.print(cell(f"          {line}", "red"), soft_wrap=True)


def outcome_table(payments: Sequence[Payment], *, rows: int | None = None) -> Table:
    """
    Give how the payments are now, one line each, in at most 80 columns.

    Args:
        payments: In the order of their submission.
        rows: The most lines there is room for; those under way come first then.
    """
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold underline")
    for column in ("reference", "channel", "state", "outcome", "money"):
        table.add_column(column, no_wrap=True)
    shown = payments
    if rows is not None and len(payments) > rows:
        shown = sorted(payments, key=lambda payment: payment.ended or payment.hold is not None)[: max(rows, 1)]
    for payment in shown:
        ended = cell(payment.outcome or "") if payment.hold is None else cell(f"held: {payment.hold}", "yellow")
        table.add_row(
            cell(payment.reference), cell(payment.channel), state_cell(payment), ended, cell(payment.money)
        )  # fmt: skip
    if len(shown) < len(payments):
        table.add_row(cell(f".. {len(payments) - len(shown)} more", "dim"))
    return table
