"""
A payment as a row and back, and an entry likewise.

Owns the one mapping between attributes and columns, checked by a test that turns
any payment into a row and back. Next: `group`.
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from sqlalchemy import RowMapping

from orchestrator.domain.entry import Entry, canonical
from orchestrator.domain.money import Money
from orchestrator.domain.outcome import MoneyFact, Outcome
from orchestrator.domain.payment import Channel, HoldReason, Payment, State
from orchestrator.store.rules import IDENTITY
from orchestrator.store.schema import payment as table

_SAME = tuple(
    field.name
    for field in fields(Payment)
    if field.name
    not in {"amount", "head", "missing", "codes", "definitions", "state", "channel", "hold", "money", "outcome"}
)
CHANGING = tuple(column.name for column in table.columns if column.name not in {"id", *IDENTITY})
"""The columns that a record writes."""


def row_of(payment: Payment) -> dict[str, Any]:
    """Give the payment's columns."""
    row: dict[str, Any] = {name: getattr(payment, name) for name in _SAME}
    row.update(
        amount_minor=payment.amount.minor,
        currency=payment.amount.currency,
        head_hash=payment.head,
        missing=json.dumps(list(payment.missing), ensure_ascii=False, separators=(",", ":")),
        codes=canonical(dict(payment.codes)),
        definitions=canonical(dict(payment.definitions)),
        # Drivers look at a value's exact type: an enum's member is not plain text to all of them.
        state=payment.state.value,
        channel=payment.channel.value,
        hold=payment.hold and payment.hold.value,
        money=payment.money.value,
        outcome=payment.outcome and payment.outcome.value,
    )
    return row


def payment_of(row: RowMapping | Mapping[str, Any]) -> Payment:
    """Give the payment that the row holds; what it raises for a row of somebody else's making is not defined."""
    _text(row, "id", "account", "reference", "reason")
    return Payment(
        amount=Money.of_minor(row["amount_minor"], row["currency"]),
        head=bytes(row["head_hash"]),
        missing=_list(row["missing"]),
        codes=_mapping(row["codes"]),
        definitions=_mapping(row["definitions"]),
        state=State(row["state"]),
        channel=Channel(row["channel"]),
        hold=row["hold"] and HoldReason(row["hold"]),
        money=MoneyFact(row["money"]),
        outcome=row["outcome"] and Outcome(row["outcome"]),
        **{name: row[name] for name in _SAME},
    )


@lru_cache(maxsize=4096)
def _mapping(text: str) -> Mapping[str, Any]:
    # Most payments have the same definitions, and few kinds of codes; nobody can change a proxy.
    return MappingProxyType(json.loads(text))


@lru_cache(maxsize=256)
def _list(text: str) -> tuple[Any, ...]:
    return tuple(json.loads(text))


ENTRY_COLUMNS = tuple(field.name for field in fields(Entry))
_ENTRY_TEXTS = tuple(field.name for field in fields(Entry) if field.type is str)


def row_of_entry(entry: Entry) -> dict[str, Any]:
    """Give the entry's columns; the two generated ones are the database's own."""
    return {name: getattr(entry, name) for name in ENTRY_COLUMNS}


def entry_of(row: RowMapping | Mapping[str, Any]) -> Entry:
    """Give the entry that the row holds; what it raises for a row of somebody else's making is not defined."""
    values = {name: row[name] for name in ENTRY_COLUMNS}
    _text(values, *_ENTRY_TEXTS)
    if not isinstance(values["seq"], int):
        raise TypeError("seq is not a number")
    values["hash"], values["prev_hash"] = bytes(values["hash"]), bytes(values["prev_hash"])
    return Entry(**values)


def _text(row: RowMapping | Mapping[str, Any], *names: str) -> None:
    # SQLite keeps bytes in a column of texts if it is given bytes.
    for name in names:
        if not isinstance(row[name], str):
            raise TypeError(f"{name} is not text")
