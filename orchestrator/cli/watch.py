"""
The command `watch`: the open payments as they are, until somebody has seen enough.

Owns its rhythm and what it shows: a live table on a terminal, one line for each
change elsewhere. Reads only. Next: `run`.
"""

import asyncio
import contextlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from orchestrator.cli.queries import text
from orchestrator.cli.records import payment_record
from orchestrator.cli.session import Json, reading, run, settings_of
from orchestrator.cli.show import cell, console, new_table, state_cell
from orchestrator.clock import SystemClock
from orchestrator.domain.entry import instant
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.payment import Payment
from orchestrator.records import Query
from orchestrator.store.store import SqlStore

MOST = 1000
"""The most payments that are watched at once, the oldest."""
LEAST_S, MOST_S = 0.05, 3600.0


def watch(
    context: typer.Context,
    account: Annotated[str | None, typer.Option(help="Only of this account.", show_default=False)] = None,
    interval: Annotated[float, typer.Option(metavar="SECONDS", help="Between two looks at the database.")] = 1.0,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End when every payment has ended, is held, or waits for fields.")
    ] = False,
    as_json: Json = False,
) -> None:
    """
    Watch the open payments until Ctrl-C.

    A live table on a terminal; elsewhere one line for each change, with --json
    one record a line. Reads only.
    """
    if not math.isfinite(interval) or not LEAST_S <= interval <= MOST_S:
        raise InvalidInput("--interval", "is out of range", f"give {LEAST_S} to {MOST_S:.0f} seconds")
    account = text("--account", account)
    settings = settings_of(context)

    async def work() -> None:
        async with reading(settings) as store:
            with screen(console(), as_json=as_json) as view:
                watcher = Watcher(store, account)
                while not (view.show(await watcher.look()) and until_idle):  # noqa: ASYNC110 - a database stirs nobody
                    await asyncio.sleep(interval)

    with contextlib.suppress(KeyboardInterrupt):  # the way to end it, no failure
        run(work())


class Watcher:
    """
    Looks for open payments, and once more at those that are open no longer.

    Args:
        store: Where to look.
        account: Only of this one, if given.
    """

    def __init__(self, store: SqlStore, account: str | None) -> None:
        self._store = store
        self._query = Query(ended=False, account=account, limit=MOST)
        self._open: set[str] = set()

    async def look(self) -> Sequence[Payment]:
        """Give the open payments, oldest first, behind those that have ended since the last look."""
        payments = await self._store.list(self._query)
        now_open = {payment.id for payment in payments}
        gone = [await self._store.get(payment_id) for payment_id in sorted(self._open - now_open)]
        self._open = now_open
        return [*(payment for payment in gone if payment is not None and payment.ended), *payments]


class Lines:
    """
    One line for each change.

    Args:
        out: Where to.
        as_json: A record a line instead of words.
    """

    def __init__(self, out: Console, *, as_json: bool) -> None:
        self._out = out
        self._as_json = as_json
        self._seen: dict[str, tuple[object, ...]] = {}

    def show(self, payments: Sequence[Payment]) -> bool:
        """Print what has changed; tell whether all is idle."""
        seen: dict[str, tuple[object, ...]] = {}
        for payment in payments:
            facts = (payment.state, payment.outcome, payment.hold, payment.money, payment.overdue, payment.reason)
            if self._seen.get(payment.id) != facts:
                self._print(payment)
            seen[payment.id] = facts
        self._seen = seen
        sys.stdout.flush()
        return idle(payments)

    def _print(self, payment: Payment) -> None:
        if self._as_json:
            sys.stdout.write(json.dumps(payment_record(payment)) + "\n")
            return
        words = (
            instant(SystemClock().now())[:19] + "Z", payment.id, payment.account, payment.channel, payment.reference,
            payment.state, payment.outcome, payment.hold and f"held:{payment.hold}", payment.reason,
            "overdue" if payment.overdue else None,
        )  # fmt: skip
        self._out.print(cell(" ".join(str(word) for word in words if word)), soft_wrap=True)


class Screen:
    """A table that is painted over."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, payments: Sequence[Payment]) -> bool:
        """Paint the table anew; tell whether all is idle."""
        self._live.update(open_table(payments, rows=self._live.console.height - 4), refresh=True)
        return idle(payments)


@contextlib.contextmanager
def screen(out: Console, *, as_json: bool) -> Iterator[Lines | Screen]:
    """Give the view that fits where the output goes."""
    if as_json or not out.is_terminal:
        yield Lines(out, as_json=as_json)
        return
    with Live(console=out, auto_refresh=False) as live:
        yield Screen(live)


def open_table(payments: Sequence[Payment], *, rows: int) -> Table:
    """
    Give the payments, one line each.

    Args:
        payments: Oldest first.
        rows: The most lines there is room for.
    """
    shown = payments[: max(rows, 1)]
    table = new_table("reference", "account", "channel", "amount", "state", "what", "since")
    for payment in shown:
        what = f"held: {payment.hold}" if payment.hold else payment.outcome or payment.reason
        table.add_row(
            cell(payment.reference), cell(payment.account), cell(payment.channel), cell(str(payment.amount)),
            state_cell(payment), cell("overdue" if payment.overdue and not payment.hold else what),
            cell(instant(payment.created_at)[:19]),
        )  # fmt: skip
    more = f"{MOST} and more" if len(payments) >= MOST else str(len(payments))
    table.caption = "nothing is open" if not payments else f"{len(shown)} of {more}"
    return table


def idle(payments: Sequence[Payment]) -> bool:
    """Whether none of them can go on by itself."""
    return len(payments) < MOST and all(p.ended or p.hold is not None or p.missing for p in payments)
