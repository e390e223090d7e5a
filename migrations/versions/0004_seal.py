"""
The seal: checkpoints with what the next one goes on from, and guards over leaves, failures of a control and reviews.

The statements are the files beside this one, frozen like those of 0001. Nothing wrote checkpoints before, so
their table is made anew.
"""

from pathlib import Path

from alembic import op
from sqlalchemy import DDL

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SEPARATOR = "\n--\n"
"""Stands between two statements; a trigger's body has semicolons of its own."""


def upgrade() -> None:
    dialect = op.get_context().dialect.name
    script = Path(__file__).with_name(f"0004_{dialect}.sql").read_text(encoding="utf-8")
    for statement in script.split(SEPARATOR):
        # DDL, and not text: colons in these statements are no parameters.
        op.execute(DDL(statement.replace("%", "%%")))  # type: ignore[no-untyped-call]


def downgrade() -> None:
    raise RuntimeError("the audit trail is never dropped: restore a backup to go back")
