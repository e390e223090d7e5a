"""
The tables of payments and their trail, with keys and indexes, once, for both databases.

Owns names and columns; what is kept about the trail and the database itself is in
`registers`; conditions come from `rules`, triggers from `guards`.
Every constraint has a name, because errors and migrations speak of them. Each
index says which query it is for. Must not know how rows are read or written.
Next: `guards`.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Dialect,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)  # fmt: skip

from orchestrator.store import registers
from orchestrator.store.columns import Hash, Id, Instant, RowNumber, needed
from orchestrator.store.rules import ENTRY_RULES, ON_CALL, OPEN, PAYMENT_RULES, UNENDED, of_row

metadata = registers.metadata
"""Every table: those here and those of `registers`."""


def _partial(condition: str) -> dict[str, Any]:
    clause = text(of_row(condition))
    return {"sqlite_where": clause, "postgresql_where": clause}


def _checks(rules: Callable[[str], dict[str, str]]) -> list[CheckConstraint]:
    # A rule that both databases word alike is one constraint; others exist on their own one.
    found = []
    ours, theirs = rules("sqlite"), rules("postgresql")
    for name, condition in {**theirs, **ours}.items():
        if ours.get(name) == theirs.get(name):
            found.append(CheckConstraint(of_row(condition), name=name))
            continue
        for dialect, chosen in (("sqlite", ours), ("postgresql", theirs)):
            if name in chosen:
                check = CheckConstraint(of_row(chosen[name]), name=name)
                found.append(check.ddl_if(dialect=dialect))
    return found


audit_entry = Table(
    "audit_entry",
    metadata,
    needed("chain_id", Id),
    needed("seq", Integer),
    needed("trigger", Text),
    needed("from_state", Text),
    needed("to_state", Text),
    needed("at", Instant),
    needed("actor", Text),
    needed("origin", Text),
    needed("kind", Text),
    needed("result", Text),
    needed("about", Text),
    needed("prev_hash", Hash),
    needed("hash", Hash),
    needed("body", Text),
    # A key with any null column is not looked up at all: so the first entry, and only it, has
    # nulls here, made by the database itself and not by whoever writes.
    Column("prev_seq", Integer, Computed("nullif(seq - 1, 0)", persisted=True)),
    Column("prev_fk", Hash, Computed("case when seq > 1 then prev_hash end", persisted=True)),
    PrimaryKeyConstraint("chain_id", "seq"),
    # What an entry's successor and its payment point at.
    UniqueConstraint("chain_id", "seq", "to_state", "hash", name="uq_audit_entry_head"),
    ForeignKeyConstraint(
        ["chain_id", "prev_seq", "from_state", "prev_fk"],
        ["audit_entry.chain_id", "audit_entry.seq", "audit_entry.to_state", "audit_entry.hash"],
        name="fk_audit_entry_extends",
    ),
    *_checks(lambda dialect: dict(ENTRY_RULES[dialect])),
)
# chains: every chain once, in order.
Index("ix_audit_entry_chain", audit_entry.c.chain_id, **_partial("seq = 1"))

payment = Table(
    "payment",
    metadata,
    needed("id", Id),
    needed("account", Text),
    needed("channel", Text),
    needed("reference", Text),
    needed("round", Integer),
    needed("amount_minor", BigInteger),
    needed("currency", Text),
    needed("created_at", Instant),
    needed("machine_version", Integer),
    needed("content_digest", Text),
    needed("definitions", Text),
    Column("call_guid", Text),
    needed("state", Text),
    needed("version", Integer),
    needed("head_hash", Hash),
    needed("missing", Text),
    Column("due_at", Instant),
    Column("deadline_at", Instant),
    Column("troubled_since", Instant),
    needed("paused_s", Integer),
    needed("attempts", Integer),
    Column("open_attempt", Integer),
    needed("failures", Integer),
    needed("sessions", Integer),
    Column("session_id", Text),
    Column("session_at", Instant),
    Column("number", Text),
    Column("link_id", Text),
    Column("unseen_until", Instant),
    Column("hand_over_until", Instant),
    Column("acknowledged_at", Instant),
    needed("undelivered", Boolean),
    needed("overdue", Boolean),
    needed("cancel_requested", Boolean),
    Column("hold", Text),
    Column("held_at", Instant),
    needed("money", Text),
    Column("outcome", Text),
    needed("reason", Text),
    Column("session_state", Text),
    needed("codes", Text),
    Column("watch_until", Instant),
    Column("claimed_by", Text),
    needed("claim_no", BigInteger),
    needed("progress_claim", BigInteger),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("account", "reference", "round"),
    ForeignKeyConstraint(
        ["id", "version", "state", "head_hash"],
        ["audit_entry.chain_id", "audit_entry.seq", "audit_entry.to_state", "audit_entry.hash"],
        name="fk_payment_head",
        deferrable=True,
        initially="DEFERRED",
    ),
    *_checks(lambda _dialect: dict(PAYMENT_RULES)),
)
# submit: one payment at a time for a reference, one phone session at a time for a call.
Index("uq_payment_live_reference", payment.c.account, payment.c.reference, unique=True, **_partial(OPEN))
Index("uq_payment_live_call", payment.c.account, payment.c.call_guid, unique=True, **_partial(ON_CALL))
# claim: what is due and free, earliest first; its size is the backlog's, not the history's.
Index("ix_payment_due", payment.c.due_at, **_partial("due_at is not null and claimed_by is null"))
# retire, reap, claimed: what a worker holds.
Index("ix_payment_claimed", payment.c.claimed_by, **_partial("claimed_by is not null"))
# list: pages by (created_at, id).
Index("ix_payment_list", payment.c.created_at, payment.c.id)
# list(held=True): what a person must look at, a small part of all.
Index("ix_payment_held", payment.c.created_at, payment.c.id, **_partial("hold is not null"))
# list(call_guid=...): every payment of one call.
Index("ix_payment_call", payment.c.call_guid, **_partial("call_guid is not null"))
# of_session: the payment of a session that somebody else speaks of, such as a webhook.
Index("ix_payment_session", payment.c.account, payment.c.session_id, **_partial("session_id is not null"))
# unended: what is still to be done.
Index("ix_payment_unended", payment.c.id, **_partial(UNENDED))

payer_data = Table(
    "payer_data",
    metadata,
    needed("payment_id", Id),
    needed("sealed", Hash),
    needed("updated_at", Instant),
    PrimaryKeyConstraint("payment_id"),
    ForeignKeyConstraint(["payment_id"], ["payment.id"]),
)

unsealed = Table(
    "unsealed",
    metadata,
    needed("chain_id", Id),
    needed("seq", Integer),
    PrimaryKeyConstraint("chain_id", "seq"),
    ForeignKeyConstraint(["chain_id", "seq"], ["audit_entry.chain_id", "audit_entry.seq"]),
)

definition = Table(
    "definition",
    metadata,
    needed("digest", Id),
    needed("name", Text),
    needed("text", Text),
    needed("created_at", Instant),
    PrimaryKeyConstraint("digest"),
)

worker = Table(
    "worker",
    metadata,
    needed("id", Id),
    needed("origin", Text),
    needed("version", Text),
    needed("started_at", Instant),
    needed("beat_at", Instant),
    PrimaryKeyConstraint("id"),
)

notification = Table(
    "notification",
    metadata,
    needed("id", RowNumber, Identity(always=False)),
    needed("payment_id", Id),
    needed("seq", Integer),
    needed("event", Text),
    needed("created_at", Instant),
    needed("due_at", Instant),
    Column("expires_at", Instant),
    Column("taken_by", Text),
    Column("begun_at", Instant),
    needed("tries", Integer),
    Column("done_at", Instant),
    PrimaryKeyConstraint("id"),
    # The same fact is told once, however often its record is tried again.
    UniqueConstraint("payment_id", "seq", "event"),
    ForeignKeyConstraint(["payment_id", "seq"], ["audit_entry.chain_id", "audit_entry.seq"]),
    CheckConstraint("event <> '' and tries >= 0", name="ck_notification_event"),
)
# take_notifications: what is undone and due.
Index("ix_notification_due", notification.c.due_at, **_partial("done_at is null"))
# lapsed_notifications: what is undone and too old.
Index("ix_notification_expires", notification.c.expires_at, **_partial("done_at is null and expires_at is not null"))

TABLES = frozenset(metadata.tables)
"""The names that are ours in a database that may be shared."""
VERSION_TABLE = "orchestrator_schema_version"
"""Where Alembic keeps which revision the database is at."""
OWN_TABLES = TABLES | {VERSION_TABLE}
"""What a host's Alembic must leave alone in a database that is shared: all our tables' names."""


def known(dialect: Dialect) -> str:
    """
    Give the dialect's name if it is one of the two that the rules are written for.

    Raises:
        ValueError: Another database.
    """
    if dialect.name not in ENTRY_RULES:
        raise ValueError(f"no rules are written for {dialect.name}")
    return dialect.name
