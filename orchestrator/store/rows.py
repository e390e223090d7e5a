"""
A payment as a row and back, and an entry likewise.

Owns the one mapping between attributes and columns, checked by a test that turns
any payment into a row and back. Next: `group`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from functools import lru_cache
from operator import attrgetter, itemgetter
from types import MappingProxyType
from typing import Any

from sqlalchemy import RowMapping

from orchestrator.domain.entry import Entry, canonical
from orchestrator.domain.money import Money
from orchestrator.domain.outcome import MoneyFact, Outcome
from orchestrator.domain.payment import Channel, HoldReason, Payment, State
from orchestrator.store.rules import IDENTITY
from orchestrator.store.schema import payment as table

MOST_KNOWN = 4096

COLUMNS = tuple(column.name for column in table.columns)
"""Of a payment, in the table's order."""
_FIELDS = tuple(field.name for field in fields(Payment))
_COLUMN_OF = {"amount": "amount_minor", "head": "head_hash"}
_FIELD_OF = {column: field for field, column in _COLUMN_OF.items()} | {"currency": "amount"}
_AT = {name: at for at, name in enumerate(_FIELDS)}
_COLUMN_AT = {name: at for at, name in enumerate(COLUMNS)}
_in_order_of_fields = itemgetter(*(_COLUMN_AT[_COLUMN_OF.get(name, name)] for name in _FIELDS))
_MEMBERS: tuple[tuple[int, Mapping[str | None, Any]], ...] = tuple(
    (_AT[name], {None: None} | {member.value: member for member in kind})
    for name, kind in (
        ("channel", Channel), ("state", State), ("hold", HoldReason), ("money", MoneyFact), ("outcome", Outcome),
    )
)  # fmt: skip
_MUST_BE_TEXT = tuple(_COLUMN_AT[name] for name in ("id", "account", "reference", "reason"))
CHANGING = tuple(name for name in COLUMNS if name not in {"id", *IDENTITY})
"""The columns that a record writes."""


def _encoder(columns: Sequence[str]) -> Callable[[Payment], list[Any]]:
    """Make a function that gives these columns of a payment, in this order."""
    all_of = attrgetter(*(_FIELD_OF.get(name, name) for name in columns))
    special: dict[str, Callable[[Any], Any]] = {
        "amount_minor": attrgetter("minor"), "currency": attrgetter("currency"),
        "missing": _listed, "codes": _object, "definitions": _object,
        # Drivers look at a value's exact type: an enum's member is not plain text to all of them.
        **dict.fromkeys(("channel", "state", "hold", "money", "outcome"), _word),
    }  # fmt: skip
    encoded = tuple((at, special[name]) for at, name in enumerate(columns) if name in special)

    def encode(payment: Payment) -> list[Any]:
        values = list(all_of(payment))
        for at, encode_value in encoded:
            values[at] = encode_value(values[at])
        return values

    return encode


def _listed(names: Sequence[str]) -> str:
    return json.dumps(list(names), ensure_ascii=False, separators=(",", ":")) if names else "[]"


def _object(mapping: Mapping[str, Any]) -> str:
    return canonical(dict(mapping)) if mapping else "{}"


def _word(member: StrEnum | None) -> str | None:
    return None if member is None else member.value


values_of = _encoder(COLUMNS)
"""Give the payment's columns, in the order of `COLUMNS`."""
moved_values_of = _encoder(("id", *CHANGING))
"""Give the payment's id and `CHANGING` columns."""


def row_of(payment: Payment) -> dict[str, Any]:
    """Give the payment's columns by name."""
    return dict(zip(COLUMNS, values_of(payment), strict=True))


def payment_of(row: RowMapping | Mapping[str, Any]) -> Payment:
    """Give the payment that the row holds; what it raises for a row of somebody else's making is not defined."""
    return made_of([row[name] for name in COLUMNS])


def made_of(values: Sequence[Any]) -> Payment:
    """Give the payment that these columns hold, in the order of `COLUMNS`; otherwise as `payment_of`."""
    for at in _MUST_BE_TEXT:
        # SQLite keeps bytes in a column of texts if it is given bytes.
        if not isinstance(values[at], str):
            raise TypeError(f"{COLUMNS[at]} is not text")
    made = list(_in_order_of_fields(values))
    made[_AT["amount"]] = Money.of_minor(values[_COLUMN_AT["amount_minor"]], values[_COLUMN_AT["currency"]])
    made[_AT["head"]] = bytes(made[_AT["head"]])
    made[_AT["missing"]] = _list(made[_AT["missing"]])
    made[_AT["codes"]] = _mapping(made[_AT["codes"]])
    made[_AT["definitions"]] = _mapping(made[_AT["definitions"]])
    for at, members in _MEMBERS:
        made[at] = members[made[at]]
    return Payment(*made)


@lru_cache(maxsize=MOST_KNOWN)
def _mapping(text: str) -> Mapping[str, Any]:
    # Most payments have the same definitions, and few kinds of codes; nobody can change a proxy.
    return MappingProxyType(json.loads(text))


@lru_cache(maxsize=256)
def _list(text: str) -> tuple[Any, ...]:
    return tuple(json.loads(text))


ENTRY_COLUMNS = tuple(field.name for field in fields(Entry))
_ENTRY_TEXTS = tuple(field.name for field in fields(Entry) if field.type is str)
entry_values = attrgetter(*ENTRY_COLUMNS)
"""Give the entry's columns, in the order of `ENTRY_COLUMNS`; the two generated ones are the database's own."""


def row_of_entry(entry: Entry) -> dict[str, Any]:
    """Give the entry's columns by name."""
    return dict(zip(ENTRY_COLUMNS, entry_values(entry), strict=True))


def entry_of(row: RowMapping | Mapping[str, Any]) -> Entry:
    """Give the entry that the row holds; what it raises for a row of somebody else's making is not defined."""
    values = {name: row[name] for name in ENTRY_COLUMNS}
    for name in _ENTRY_TEXTS:
        if not isinstance(values[name], str):
            raise TypeError(f"{name} is not text")
    if not isinstance(values["seq"], int):
        raise TypeError("seq is not a number")
    values["hash"], values["prev_hash"] = bytes(values["hash"]), bytes(values["prev_hash"])
    return Entry(**values)
