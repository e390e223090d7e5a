"""
The tables that speak of the trail and of the database itself, not of one payment.

Owns the log's leaves and checkpoints, failures of the control and reviews, pauses,
what the schema was found to be, and the database's lives. Next: `schema`.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Identity,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from orchestrator.store.columns import OURS, Hash, Id, Instant, RowNumber, needed

log_leaf = Table(
    "log_leaf",
    OURS,
    needed("idx", RowNumber, autoincrement=False),
    needed("chain_id", Id),
    needed("seq", Integer),
    needed("hash", Hash),
    PrimaryKeyConstraint("idx"),
    UniqueConstraint("chain_id", "seq"),
    ForeignKeyConstraint(["chain_id", "seq"], ["audit_entry.chain_id", "audit_entry.seq"]),
    CheckConstraint("idx >= 0", name="ck_log_leaf_idx"),
)

checkpoint = Table(
    "checkpoint",
    OURS,
    needed("size", RowNumber, autoincrement=False),
    needed("root", Hash),
    # The compact range: the roots of the perfect subtrees, largest first, 32 bytes each. They fold to the root, so
    # the next sealer goes on from them without reading the leaves; `audit verify` does read them.
    needed("nodes", Hash),
    needed("note", Text),
    needed("created_at", Instant),
    PrimaryKeyConstraint("size"),
    CheckConstraint(
        "size > 0 and length(root) = 32 and length(nodes) / 32 * 32 = length(nodes) and note <> ''",
        name="ck_checkpoint_signed",
    ),
)

# PCI DSS v4.0.1, 10.7.3: what is written down about a failure of a security control.
control_failure = Table(
    "control_failure",
    OURS,
    needed("id", RowNumber, Identity(always=False)),
    needed("control", Text),
    needed("started_at", Instant),
    Column("ended_at", Instant),
    needed("cause", Text),
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
    OURS,
    needed("id", RowNumber, Identity(always=False)),
    needed("period_from", Instant),
    needed("period_to", Instant),
    needed("reviewer", Text),
    needed("reviewed_at", Instant),
    needed("rules_version", Text),
    Column("checkpoint_size", BigInteger),
    needed("findings", Text),
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
    OURS,
    needed("account", Id),
    needed("paused_at", Instant),
    needed("person", Text),
    needed("reason", Text),
    PrimaryKeyConstraint("account"),
    CheckConstraint("account <> '' and person <> '' and reason <> ''", name="ck_account_pause_said"),
)

# What the schema was found to be after each upgrade; compared at every start.
schema_record = Table(
    "schema_record",
    OURS,
    needed("id", RowNumber, Identity(always=False)),
    needed("revision", Text),
    needed("digest", Text),
    needed("recorded_at", Instant),
    PrimaryKeyConstraint("id"),
    CheckConstraint("id > 0 and revision <> '' and length(digest) = 64", name="ck_schema_record_said"),
)

# The database's lives: a restored copy goes on as a new one, which names the life that it was copied from.
incarnation = Table(
    "incarnation",
    OURS,
    needed("number", RowNumber, autoincrement=False),
    needed("id", Id),
    Column("previous", Id),
    needed("started_at", Instant),
    needed("person", Text),
    needed("reason", Text),
    PrimaryKeyConstraint("number"),
    UniqueConstraint("id"),
    # One life has one successor: two people who begin one at once can't both.
    UniqueConstraint("previous"),
    ForeignKeyConstraint(["previous"], ["incarnation.id"]),
    CheckConstraint(
        "number >= 1 and length(id) = 32 and person <> '' and reason <> '' and (number = 1) = (previous is null)",
        name="ck_incarnation_said",
    ),
)

metadata = OURS
"""With these tables in it; `schema` adds the others."""
