"""
Payments and entries as JSON-ready records.

Owns the names in `--json` output: they are an interface, so names are added and
never changed. Nothing of the payer is in a payment or an entry. Next: `show`.
"""

import json
import sys
from typing import Any

from orchestrator.domain.entry import Entry, fact, instant
from orchestrator.domain.payment import FACTS, Payment


def payment_record(payment: Payment) -> dict[str, Any]:
    """Give everything known of a payment; times are ISO 8601 in UTC, `amount` is in major units."""
    record: dict[str, Any] = {
        "id": payment.id,
        "state": payment.state.value,
        "amount": f"{payment.amount.major:f}",
        "created_at": instant(payment.created_at),
        "due_at": instant(payment.due_at) if payment.due_at else None,
        "claimed_by": payment.claimed_by,
        "claim_no": payment.claim_no,
        "version": payment.version,
        "head": payment.head.hex(),
    }
    return record | {name: fact(payment, name) for name in FACTS}


def entry_record(entry: Entry) -> dict[str, Any]:
    """Give an entry: its columns, its body and its hash in hexadecimal."""
    return {"hash": entry.hash.hex(), "body": json.loads(entry.body)}


def print_json(value: Any) -> None:
    """Write one JSON value to standard output."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
