"""
The tables in docs/ that are made from the code: what each role may do, and every kind of entry.

Each stands between `<!-- table: NAME -->` and `<!-- end -->`. `python -m tests.support.doc_tables`
writes them anew; a test compares them.
"""

import re
from collections.abc import Callable
from pathlib import Path

from orchestrator.domain.kinds import ADMIN, PAYMENT
from orchestrator.store.roles import OWNER, RIGHTS, ROLES
from orchestrator.store.schema import OWN_TABLES
from orchestrator.store.views import VIEWS
from tests.support.readme_tables import table

DOCS = Path(__file__).parent.parent.parent / "docs"
VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE")
_PART = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def roles_table() -> str:
    """Every role with what it is for."""
    return table(("role", "for"), [(f"`{role}`", what) for role, what in ROLES.items()])


def rights_table() -> str:
    """Every table and view with what each role may do."""
    others = [role for role in ROLES if role != OWNER]
    rows = [
        (f"`{name}`", *(", ".join(verb for verb in VERBS if verb in RIGHTS[role].get(name, ())) for role in others))
        for name in (*sorted(OWN_TABLES), *VIEWS)
    ]
    return table(("table or view", *others), rows)


def kinds_table() -> str:
    """Every administrative or security event."""
    return table(("kind", "means"), [(f"`{kind}`", what) for kind, what in ADMIN.items()])


def payment_kinds_table() -> str:
    """Everything that happens to a payment."""
    return table(("kind", "means"), [(f"`{kind}`", what) for kind, what in PAYMENT.items()])


TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "roles.md": {"roles": roles_table, "rights": rights_table},
    "views.md": {"kinds": kinds_table, "payment_kinds": payment_kinds_table},
}


def renewed(name: str) -> str:
    """Give a document's text with every generated table made anew."""
    text = (DOCS / name).read_text(encoding="utf-8")
    return _PART.sub(lambda part: f"{part[1]}{TABLES[name][part[2]]()}{part[3]}", text)


if __name__ == "__main__":
    for document in TABLES:
        (DOCS / document).write_text(renewed(document), encoding="utf-8", newline="\n")
