"""
The tables, keys and indexes, once, for both databases.

Owns names and columns; conditions come from `rules`, triggers from `guards`.
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
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)  # fmt: skip

from orchestrator.store.columns import Hash, Id, Instant, RowNumber
from orchestrator.store.rules import ENTRY_RULES, ON_CALL, OPEN, PAYMENT_RULES, UNENDED, of_row

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)


def _needed(name: str, kind: Any, *args: Any, **kwargs: Any) -> Column[Any]:
    return Column(name, kind, *args, nullable=False, **kwargs)


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
    _needed("chain_id", Id),
    _needed("seq", Integer),
    _needed("trigger", Text),
    _needed("from_state", Text),
    _needed("to_state", Text),
    _needed("at", Instant),
    _needed("actor", Text),
    _needed("origin", Text),
    _needed("kind", Text),
    _needed("result", Text),
    _needed("about", Text),
    _needed("prev_hash", Hash),
    _needed("hash", Hash),
    _needed("body", Text),
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
    _needed("id", Id),
    _needed("account", Text),
    _needed("channel", Text),
    _needed("reference", Text),
    _needed("round", Integer),
    _needed("amount_minor", BigInteger),
    _needed("currency", Text),
    _needed("created_at", Instant),
    _needed("machine_version", Integer),
    _needed("content_digest", Text),
    _needed("definitions", Text),
    Column("call_guid", Text),
    _needed("state", Text),
    _needed("version", Integer),
    _needed("head_hash", Hash),
    _needed("missing", Text),
    Column("due_at", Instant),
    Column("deadline_at", Instant),
    Column("troubled_since", Instant),
    _needed("paused_s", Integer),
    _needed("attempts", Integer),
    Column("open_attempt", Integer),
    _needed("failures", Integer),
    _needed("sessions", Integer),
    Column("session_id", Text),
    Column("session_at", Instant),
    Column("number", Text),
    Column("link_id", Text),
    Column("unseen_until", Instant),
    Column("hand_over_until", Instant),
    Column("acknowledged_at", Instant),
    _needed("undelivered", Boolean),
    _needed("overdue", Boolean),
    _needed("cancel_requested", Boolean),
    Column("hold", Text),
    Column("held_at", Instant),
    _needed("money", Text),
    Column("outcome", Text),
    _needed("reason", Text),
    Column("session_state", Text),
    _needed("codes", Text),
    Column("watch_until", Instant),
    Column("claimed_by", Text),
    _needed("claim_no", BigInteger),
    _needed("progress_claim", BigInteger),
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
# unended: what is still to be done.
Index("ix_payment_unended", payment.c.id, **_partial(UNENDED))

payer_data = Table(
    "payer_data",
    metadata,
    _needed("payment_id", Id),
    _needed("sealed", Hash),
    _needed("updated_at", Instant),
    PrimaryKeyConstraint("payment_id"),
    ForeignKeyConstraint(["payment_id"], ["payment.id"]),
)

unsealed = Table(
    "unsealed",
    metadata,
    _needed("chain_id", Id),
    _needed("seq", Integer),
    PrimaryKeyConstraint("chain_id", "seq"),
    ForeignKeyConstraint(["chain_id", "seq"], ["audit_entry.chain_id", "audit_entry.seq"]),
)

definition = Table(
    "definition",
    metadata,
    _needed("digest", Id),
    _needed("name", Text),
    _needed("text", Text),
    _needed("created_at", Instant),
    PrimaryKeyConstraint("digest"),
)

worker = Table(
    "worker",
    metadata,
    _needed("id", Id),
    _needed("origin", Text),
    _needed("version", Text),
    _needed("started_at", Instant),
    _needed("beat_at", Instant),
    PrimaryKeyConstraint("id"),
)

notification = Table(
    "notification",
    metadata,
    _needed("id", RowNumber, Identity(always=False)),
    _needed("payment_id", Id),
    _needed("seq", Integer),
    _needed("event", Text),
    _needed("created_at", Instant),
    _needed("due_at", Instant),
    Column("expires_at", Instant),
    Column("taken_by", Text),
    Column("begun_at", Instant),
    _needed("tries", Integer),
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

log_leaf = Table(
    "log_leaf",
    metadata,
    _needed("idx", RowNumber, autoincrement=False),
    _needed("chain_id", Id),
    _needed("seq", Integer),
    _needed("hash", Hash),
    PrimaryKeyConstraint("idx"),
    UniqueConstraint("chain_id", "seq"),
    ForeignKeyConstraint(["chain_id", "seq"], ["audit_entry.chain_id", "audit_entry.seq"]),
    CheckConstraint("idx >= 0", name="ck_log_leaf_idx"),
)

checkpoint = Table(
    "checkpoint",
    metadata,
    _needed("size", RowNumber, autoincrement=False),
    _needed("root", Hash),
    _needed("note", Text),
    _needed("created_at", Instant),
    PrimaryKeyConstraint("size"),
    CheckConstraint("size >= 0 and length(root) = 32 and note <> ''", name="ck_checkpoint_signed"),
)

# PCI DSS v4.0.1, 10.7.3: what is written down about a failure of a security control.
control_failure = Table(
    "control_failure",
    metadata,
    _needed("id", RowNumber, Identity(always=False)),
    _needed("control", Text),
    _needed("started_at", Instant),
    Column("ended_at", Instant),
    _needed("cause", Text),
    Column("remediation", Text),
    Column("issues", Text),
    Column("further_action", Text),
    Column("prevention", Text),
    Column("resumed_at", Instant),
    Column("owner", Text),
    PrimaryKeyConstraint("id"),
    CheckConstraint("control <> '' and (ended_at is null or ended_at >= started_at)", name="ck_control_failure_span"),
)

# PCI DSS v4.0.1, 10.4: who reviewed which period against which rules, and what was found.
review = Table(
    "review",
    metadata,
    _needed("id", RowNumber, Identity(always=False)),
    _needed("period_from", Instant),
    _needed("period_to", Instant),
    _needed("reviewer", Text),
    _needed("reviewed_at", Instant),
    _needed("rules_version", Text),
    Column("checkpoint_size", BigInteger),
    _needed("findings", Text),
    Column("disposition", Text),
    Column("ticket", Text),
    Column("closed_by", Text),
    Column("closed_at", Instant),
    PrimaryKeyConstraint("id"),
    CheckConstraint("reviewer <> '' and period_to > period_from", name="ck_review_period"),
)

# An operator's pause of an account; the row goes when it is resumed, the trail of both is in the admin chain.
account_pause = Table(
    "account_pause",
    metadata,
    _needed("account", Id),
    _needed("paused_at", Instant),
    _needed("person", Text),
    _needed("reason", Text),
    PrimaryKeyConstraint("account"),
    CheckConstraint("account <> '' and person <> '' and reason <> ''", name="ck_account_pause_said"),
)

# What the schema was found to be after each upgrade; compared at every start.
schema_record = Table(
    "schema_record",
    metadata,
    _needed("id", RowNumber, Identity(always=False)),
    _needed("revision", Text),
    _needed("digest", Text),
    _needed("recorded_at", Instant),
    PrimaryKeyConstraint("id"),
    CheckConstraint("id > 0 and revision <> '' and length(digest) = 64", name="ck_schema_record_said"),
)

TABLES = frozenset(metadata.tables)
"""The names that are ours in a database that may be shared."""


def known(dialect: Dialect) -> str:
    """
    Give the dialect's name if it is one of the two that the rules are written for.

    Raises:
        ValueError: Another database.
    """
    if dialect.name not in ENTRY_RULES:
        raise ValueError(f"no rules are written for {dialect.name}")
    return dialect.name
