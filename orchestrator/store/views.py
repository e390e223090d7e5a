"""
What compliance staff read: two views, the same columns on both databases.

`v_payment` is every payment without sealed data and without what dials into a
session; `v_timeline` is every entry of a payment with its body taken apart.
Owns their columns: they are an interface, so columns are added and never renamed.
Next: `ddl`.
"""

VIEWS = ("v_payment", "v_timeline")

_PAYMENT = (
    "id", "account", "channel", "reference", "round", "amount_minor", "currency", "state", "outcome", "reason",
    "money", "hold", "held_at", "overdue", "cancel_requested", "created_at", "due_at", "deadline_at", "watch_until",
    "call_guid", "session_id", "session_state", "session_at", "attempts", "open_attempt", "sessions",
    "acknowledged_at", "unseen_until", "version", "claimed_by", "claim_no", "machine_version", "codes",
)  # fmt: skip

_COLUMNS = ("seq", "at", "actor", "origin", "kind", "trigger", "from_state", "to_state", "result")
_TEXTS = ("operation", "verdict", "cause", "why", "message", "method", "url", "trace", "software")
_NUMBERS = ("attempt", "status", "sends", "duration_ms")


def views(dialect: str) -> list[str]:
    """Give the two statements for `sqlite` or `postgresql`."""
    if dialect == "sqlite":
        hexed = "lower(hex(hash))"
        picked = [f"json_extract(body, '$.{name}') as {name}" for name in (*_TEXTS, *_NUMBERS)]
        reason = "json_extract(body, '$.facts.reason')"
        looks = "json_extract(body, '$.looks.count')"
    else:
        hexed = "encode(hash, 'hex')"
        picked = [f"cast(body as jsonb) ->> '{name}' as {name}" for name in _TEXTS]
        picked += [f"cast(cast(body as jsonb) ->> '{name}' as bigint) as {name}" for name in _NUMBERS]
        reason = "cast(body as jsonb) -> 'facts' ->> 'reason'"
        looks = "cast(cast(body as jsonb) -> 'looks' ->> 'count' as bigint)"
    columns = ["chain_id as payment_id", *_COLUMNS, *picked, f"{reason} as reason", f"{looks} as looks"]
    entries = f"{', '.join(columns)}, {hexed} as hash from audit_entry where substr(chain_id, 1, 4) = 'pay-'"
    return [
        f"create view v_payment as select {', '.join(_PAYMENT)} from payment",  # noqa: S608 - our own column names
        f"create view v_timeline as select {entries}",
    ]
