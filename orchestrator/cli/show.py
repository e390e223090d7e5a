"""
How payments and their timelines look on a screen.

Owns tables and the colours of states. Every cell is plain text: what comes from
outside is never read as markup, and control characters are written out.
Next: `exits`.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.domain.entry import Entry, instant
from orchestrator.domain.money import Money
from orchestrator.domain.payment import Payment, State

HASH_SHOWN, WORKER_SHOWN = 8, 4
"""Hexadecimal digits of a hash and of a worker's id; `--json` gives all."""

PLAIN_WIDTH = 180
"""Columns where the output is no terminal: a pipe has no width."""

_FACTS = (
    "id", "account", "channel", "reference", "round", "amount", "state", "outcome", "money", "hold", "reason",
    "created_at", "due_at", "deadline_at", "missing", "call_guid", "session_id", "session_state", "codes", "number",
    "link_id", "hand_over_until", "acknowledged_at", "overdue", "cancel_requested", "held_at", "unseen_until",
    "watch_until", "attempts", "open_attempt", "sessions", "claimed_by", "claim_no", "version",
)  # fmt: skip
_STYLES = {State.COMPLETED: "green", State.FAILED: "red"}


def console() -> Console:
    """Give the console of standard output."""
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    return Console(file=sys.stdout, width=width, highlight=False, emoji=False)


def facts_table(payment: Payment) -> Table:
    """Give a payment's facts, those that say something."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name in _FACTS:
        value = getattr(payment, name)
        if value not in (None, "", (), False, 0) and value != {}:
            table.add_row(cell(name, "bold"), cell(_text(value)))
    return table


def timeline_table(entries: Iterable[Entry]) -> Table:
    """Give a payment's entries, one line each, hashes and workers' ids shortened; made for 80 columns and more."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold underline")
    for column in ("#", "at", "who", "what happened", "what came of it", "hash"):
        table.add_column(column, no_wrap=column != "what came of it", overflow="fold")
    for entry in entries:
        body = json.loads(entry.body)
        moved = f" -> {entry.to_state}" if entry.from_state != entry.to_state else ""
        table.add_row(
            cell(str(entry.seq)), cell(instant(entry.at)[11:23]), cell(_who(entry.actor)),
            cell(f"{entry.trigger}{moved}", "bold"), cell(_came_of_it(body, entry.result)),
            cell(entry.hash.hex()[:HASH_SHOWN], "dim"),
        )  # fmt: skip
    return table


def payments_table(payments: Sequence[Payment]) -> Table:
    """Give a list of payments, one line each."""
    table = _table("id", "account", "reference", "channel", "amount", "state", "outcome", "money", "hold", "created")
    for payment in payments:
        table.add_row(
            cell(payment.id), cell(payment.account), cell(payment.reference), cell(payment.channel),
            cell(str(payment.amount)), state_cell(payment), cell(payment.outcome or ""), cell(payment.money),
            cell(payment.hold or "", "yellow"), cell(instant(payment.created_at)[:19]),
        )  # fmt: skip
    return table


def holds_table(payments: Sequence[Payment], now: datetime) -> Table:
    """Give a list of held payments, one line each: why, since when, what was found."""
    table = _table("id", "account", "reference", "channel", "amount", "state", "money", "hold", "held", "reason")
    for payment in payments:
        table.add_row(
            cell(payment.id), cell(payment.account), cell(payment.reference), cell(payment.channel),
            cell(str(payment.amount)), state_cell(payment), cell(payment.money), cell(payment.hold or "", "yellow"),
            cell(age(now - payment.held_at) if payment.held_at else ""), cell(payment.reason),
        )  # fmt: skip
    return table


def age(span: timedelta) -> str:
    """Give how long something has lasted, in its two largest units: `3 h 12 min`."""
    seconds = max(0, int(span.total_seconds()))
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s"


def state_cell(payment: Payment) -> Text:
    """Give the state in its colour."""
    return cell(payment.state, "yellow" if payment.hold else _STYLES.get(payment.state, "cyan"))


def cell(text: str, style: str = "") -> Text:
    """Give text that is shown as it is, control characters written out."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return Text(text, style=style)


def new_table(*columns: str) -> Table:
    """Give an empty table in the look of all others."""
    return _table(*columns)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column in ("id", "reference", "state"))
    return table


def _who(actor: str) -> str:
    name, dash, number = actor.rpartition("-")
    return f"{name}-{number[-WORKER_SHOWN:]}" if dash and name == "worker" else actor


def _came_of_it(body: dict[str, Any], result: str) -> str:
    """Say in one line what an entry tells beside its transition."""
    facts, looks, status = body.get("facts", {}), body.get("looks", {}), str(body.get("status") or "")
    parts = [f"attempt {body['attempt']}" if "attempt" in body else "", body.get("verdict", ""), status]
    chosen = body.get("resolution") or body.get("proposal") or {}
    said = "proposed" if "proposal" in body else "resolved"
    parts += [f"{said}: {' '.join(str(word) for word in chosen.values())}" if chosen else ""]
    parts += [str(body.get("why") or ""), *(str(facts.get(name) or "") for name in ("reason", "outcome", "hold"))]
    if looks:
        parts.append(f"{looks['count']} looks before, {looks['failed']} failed")
    words = list(dict.fromkeys(part for part in parts if part and part != f"http_{status}"))
    return ", ".join(words) or result


def _text(value: Any) -> str:
    if isinstance(value, Money):
        return str(value)
    if hasattr(value, "astimezone"):
        return instant(value)
    if isinstance(value, tuple):
        return ", ".join(value)
    if hasattr(value, "items"):
        return ", ".join(f"{name}={text}" for name, text in sorted(value.items()))
    return str(value)
