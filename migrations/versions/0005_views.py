"""
Views for compliance staff: calls to the provider, what is not known, overlapping sessions, access, administration.

The statements are the files beside this one, frozen like those of 0001. No table is touched.
"""

from pathlib import Path

from alembic import op
from sqlalchemy import DDL

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SEPARATOR = "\n--\n"
"""Stands between two statements."""


def upgrade() -> None:
    dialect = op.get_context().dialect.name
    script = Path(__file__).with_name(f"0005_{dialect}.sql").read_text(encoding="utf-8")
    for statement in script.split(SEPARATOR):
        # DDL, and not text: colons in these statements are no parameters.
        op.execute(DDL(statement.replace("%", "%%")))  # type: ignore[no-untyped-call]


def downgrade() -> None:
    raise RuntimeError("the audit trail is never dropped: restore a backup to go back")
