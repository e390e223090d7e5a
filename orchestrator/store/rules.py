"""
What a single row may say, as SQL conditions: the rules without memory.

Each rule is a name and a condition over a row's columns. `schema` makes CHECK
constraints of them, and on SQLite `guards` puts the very same conditions into
triggers, because a client there can switch CHECK constraints off. Generated from
the machine and the enums, so that database and code can't disagree. `{r}` stands
before each column's name: nothing in a CHECK, `new.` in a trigger.
Next: `schema`.
"""

from collections.abc import Iterable, Mapping

from orchestrator.domain.entry import ADMIN_EDGES
from orchestrator.domain.machine import edges
from orchestrator.domain.outcome import MoneyFact, Outcome
from orchestrator.domain.payment import ENDED, Channel, HoldReason, State

IDENTITY = (
    "account", "channel", "reference", "round", "amount_minor", "currency", "created_at", "machine_version",
    "content_digest", "definitions",
)  # fmt: skip
"""Columns of a payment that never change after its birth."""

WITHOUT_ENTRY = ("due_at", "claimed_by", "claim_no", "progress_claim")
"""Columns of a payment that may change while its version stays: they say who looks when, not what is so."""


def listed(values: Iterable[str]) -> str:
    """Give the values as a SQL list; they are our own words, never input."""
    return ", ".join(f"'{value}'" for value in values)


ENDED_LIST = listed(sorted(ENDED))
OPEN = "({r}state not in (" + ENDED_LIST + "))"
"""A payment that has not ended: two of one reference are never open, not even for a moment."""
LIVE = "({r}state not in (" + ENDED_LIST + ") or {r}hold is not null or {r}watch_until is not null)"
"""
A payment that forbids the birth of another with its reference: not ended, or held, or its session may
still be paid. Only births: an ended payment may be held later, for money that came late, and that must
be written down whatever became of its reference meanwhile.
"""
UNENDED = f"state not in ({ENDED_LIST}) and hold is null"
"""A payment that can go on by itself, if it does not wait for fields."""
ON_CALL = "({r}channel = 'phone' and {r}call_guid is not null and {r}state not in (" + ENDED_LIST + "))"
"""A payment that keeps its call taken."""

PAYMENT_RULES: Mapping[str, str] = {
    "ck_payment_state": "{r}state in (" + listed(State) + ")",
    "ck_payment_channel": "{r}channel in (" + listed(Channel) + ")",
    "ck_payment_money": "{r}money in (" + listed(MoneyFact) + ")",
    "ck_payment_outcome": "{r}outcome is null or {r}outcome in (" + listed(Outcome) + ")",
    "ck_payment_hold": "{r}hold is null or {r}hold in (" + listed(HoldReason) + ")",
    "ck_payment_held_since": "({r}hold is null) = ({r}held_at is null)",
    "ck_payment_amount": "{r}amount_minor > 0 and length({r}currency) = 3",
    "ck_payment_counts": "{r}version >= 1 and {r}round >= 1 and {r}claim_no >= 0 and {r}attempts >= 0",
    # Compared by their codes: a completed payment was paid, a failed one says how it ended.
    "ck_payment_end": "({r}state <> 'completed' or coalesce({r}outcome, '') = 'paid')"
    " and ({r}state <> 'failed' or {r}outcome is not null)",
}  # fmt: skip


def _edge_rule() -> str:
    move = "({r}trigger || ' ' || {r}from_state || ' ' || {r}to_state) in "
    ours = listed(" ".join(edge) for edge in edges())
    theirs = listed(" ".join(edge) for edge in ADMIN_EDGES)
    pay = "substr({r}chain_id, 1, 4) = 'pay-'"
    return f"({pay} and {move}({ours})) or (not {pay} and {move}({theirs}))"


_BOTH = {
    "ck_audit_entry_edge": _edge_rule(),
    # A payment's first entry is its birth; what extends nothing extends 32 zero bytes.
    "ck_audit_entry_first": "{r}seq >= 1 and ({r}seq = 1) = ({r}from_state = '-')",
    # PCI DSS v4.0.1, 10.2.2: who, what kind, when, success or failure, from where, about what.
    "ck_audit_entry_answers": "{r}result in ('success', 'failure', 'unknown') and {r}actor <> '' and {r}origin <> ''"
    " and {r}kind <> '' and {r}about <> '' and {r}chain_id <> ''",
}

_TEXTS = {
    "chain": "chain_id", "trigger": "trigger", "from": "from_state", "to": "to_state", "actor": "actor",
    "origin": "origin", "kind": "kind", "result": "result", "about": "about",
}  # fmt: skip

ENTRY_RULES: Mapping[str, Mapping[str, str]] = {
    "sqlite": {
        **_BOTH,
        "ck_audit_entry_shape": "typeof({r}seq) = 'integer' and typeof({r}body) = 'text'"
        " and typeof({r}hash) = 'blob' and length({r}hash) = 32"
        " and typeof({r}prev_hash) = 'blob' and length({r}prev_hash) = 32"
        " and {r}at glob '????-??-??T??:??:??.??????Z' and ({r}seq > 1 or {r}prev_hash = zeroblob(32))",
        # `is` and not `=`: a member that is missing is null, and null would pass. SQLite has
        # no SHA-256: that the hash is the body's is for `audit verify` to see.
        "ck_audit_entry_says": " and ".join(
            f"json_extract({{r}}body, '$.{member}') is {column}"
            for member, column in {
                **{member: f"{{r}}{column}" for member, column in _TEXTS.items()},
                "seq": "{r}seq", "at": "{r}at", "prev": "lower(hex({r}prev_hash))",
            }.items()
        ),
    },
    "postgresql": {
        **_BOTH,
        "ck_audit_entry_shape": "octet_length({r}hash) = 32 and octet_length({r}prev_hash) = 32"
        " and ({r}seq > 1 or {r}prev_hash = decode(repeat('00', 32), 'hex'))",
        "ck_audit_entry_says": "cast({r}body as jsonb) @> jsonb_build_object("
        + "".join(f"'{member}', {{r}}{column}, " for member, column in _TEXTS.items())
        + "'seq', {r}seq, 'prev', encode({r}prev_hash, 'hex'),"
        " 'at', to_char({r}at at time zone 'UTC', 'YYYY-MM-DD') || 'T'"
        " || to_char({r}at at time zone 'UTC', 'HH24:MI:SS.US') || 'Z')",
        "ck_audit_entry_hash": "{r}hash = sha256(decode('00', 'hex') || convert_to({r}body, 'UTF8'))",
    },
}  # fmt: skip


CONTROL_OPENED = ("id", "control", "started_at", "cause")
"""What is said when a failure of a control begins, and never changes."""
CONTROL_CLOSED = "{r}ended_at is not null and {r}resumed_at is not null" + "".join(
    f" and coalesce({{r}}{name}, '') <> ''"
    for name in ("remediation", "issues", "further_action", "prevention", "owner")
)
"""What closing it says, all at once: PCI DSS v4.0.1, 10.7.3."""
REVIEWED = (
    "id", "period_from", "period_to", "reviewer", "reviewed_at", "rules_version", "checkpoint_size", "findings",
)  # fmt: skip
"""What a sign-off says, which never changes."""
REVIEW_CLOSED = "{r}closed_at is not null" + "".join(
    f" and coalesce({{r}}{name}, '') <> ''" for name in ("disposition", "ticket", "closed_by")
)
"""What closing its exceptions says, once and all at once: PCI DSS v4.0.1, 10.4.3."""


def of_row(condition: str, row: str = "") -> str:
    """Give the condition for plain columns, or for the row called `row` in a trigger."""
    return condition.replace("{r}", f"{row}." if row else "")
