"""
The roles of a PostgreSQL database: who may do what to which table, written down once.

The script for a database administrator, the comparison of `grants` and the table in
`docs/roles.md` are all made of `RIGHTS`. They are groups that nobody logs in as: a
login user is granted one of them. A file of SQLite has no roles. Next: `grants`.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from orchestrator.domain.errors import InvalidInput
from orchestrator.store.schema import OWN_TABLES, VERSION_TABLE
from orchestrator.store.views import VIEWS

PREFIX = "orchestrator"
OWNER, WRITER, SEALER, EXAMINER, AUDITOR = "owner", "writer", "sealer", "examiner", "auditor"
LOCK = 7_213_300_118
"""Any number, but always the same: two that install roles in one database wait for each other."""
_PREFIX = re.compile(r"[a-z][a-z0-9_]{0,40}")

Rights = Mapping[str, frozenset[str]]
"""Table or view to what may be done with it."""

_S, _SI = ("SELECT",), ("SELECT", "INSERT")
_WRITER = {
    "audit_entry": _SI, "unsealed": _SI, "definition": _SI, "control_failure": _SI,
    "payment": (*_SI, "UPDATE"), "notification": (*_SI, "UPDATE"),
    # Erasing what a payer gave is not changing the trail.
    "payer_data": (*_SI, "UPDATE", "DELETE"), "worker": (*_SI, "UPDATE", "DELETE"), "account_pause": (*_SI, "DELETE"),
    "log_leaf": _S, "checkpoint": _S, "review": _S, "incarnation": _S, "schema_record": _S, VERSION_TABLE: _S,
}  # fmt: skip
_SEALER = {
    "log_leaf": _SI, "checkpoint": _SI, "unsealed": (*_SI, "DELETE"),
    # Its own words: that a key begins to sign, and that sealing has failed.
    "audit_entry": _SI, "control_failure": _SI,
    # Whether the database went back in time is asked of these before anything is written.
    "incarnation": _S, "notification": _S, "schema_record": _S, VERSION_TABLE: _S,
}  # fmt: skip
_EXAMINER = {
    **dict.fromkeys((*sorted(OWN_TABLES - {"payer_data"}), *VIEWS), _S),
    # That somebody looked is itself an entry; reviews and failures are opened and closed by persons.
    "audit_entry": _SI, "unsealed": _SI, "control_failure": (*_SI, "UPDATE"), "review": (*_SI, "UPDATE"),
}  # fmt: skip

RIGHTS: Mapping[str, Rights] = MappingProxyType({
    role: MappingProxyType({name: frozenset(rights) for name, rights in table.items()})
    for role, table in (
        (WRITER, _WRITER), (SEALER, _SEALER), (EXAMINER, _EXAMINER), (AUDITOR, dict.fromkeys(VIEWS, _S)),
    )
})  # fmt: skip
"""What each role but the owner may do; the owner may do everything that the triggers let pass."""

ROLES: Mapping[str, str] = MappingProxyType({
    OWNER: "owns tables, views and functions: `orchestrator db upgrade`, `db check`, `db roles`, `db restored`",
    WRITER: "the engine: `orchestrator worker`, `serve`, and all commands on payments",
    SEALER: "`orchestrator audit seal`, with the signing key",
    EXAMINER: "compliance staff at the command line: `orchestrator audit verify`, `export`, `failures`, `close`",
    AUDITOR: "people who write SQL: the views, and nothing else",
})  # fmt: skip
"""Every role with what it is for."""


def names(prefix: str) -> Mapping[str, str]:
    """
    Give each role's name in the database.

    Raises:
        InvalidInput: The prefix can't begin a name.
    """
    if not _PREFIX.fullmatch(prefix):
        fix = "1 to 41 small letters, digits and underscores, a letter first"
        raise InvalidInput("--prefix", "can't begin the name of a role", fix)
    return {role: f"{prefix}_{role}" for role in ROLES}


def statements(prefix: str) -> Sequence[str]:
    """
    Give what installs the roles, one statement each; running them again changes nothing.

    They are for the schema that the user sees first, after `orchestrator db upgrade`, and for a user who may
    create roles and owns the tables, or a superuser. That user becomes a member of the owner, so that what
    it could do it still can.

    Raises:
        InvalidInput: The prefix can't begin a name.
    """
    named = names(prefix)
    others = ", ".join(named[role] for role in RIGHTS)
    made = [f"select pg_advisory_xact_lock({LOCK})", *(_created(name) for name in named.values())]
    made += [f"grant {named[OWNER]} to current_user", _place("usage, create", named[OWNER]), _scratch(named[OWNER])]
    made += [_place("usage", others), _closed(others)]
    made += [f"alter {_kind(name)} {name} owner to {named[OWNER]}" for name in _relations()]
    made.append(_functions(named[OWNER]))
    made += [f"revoke all on table {name} from public, {others}" for name in _relations()]
    for role, table in RIGHTS.items():
        made += [f"grant {_listed(rights)} on table {name} to {named[role]}" for name, rights in sorted(table.items())]
    return made


def script(prefix: str) -> str:
    """
    Give the statements as a text for `psql`, with what to do afterwards.

    Raises:
        InvalidInput: The prefix can't begin a name.
    """
    head = [f"-- {name}: {ROLES[role]}".replace("`", "") for role, name in names(prefix).items()]
    head.append("-- Run it in the database and schema of the orchestrator, after each `orchestrator db upgrade`.")
    foot = f"-- Then grant each login user one of them: grant {names(prefix)[WRITER]} to ...;"
    return "\n".join([*head, "begin;", *(f"{statement};" for statement in statements(prefix)), "commit;", foot, ""])


def _relations() -> Sequence[str]:
    return (*sorted(OWN_TABLES), *VIEWS)


def _kind(name: str) -> str:
    return "view" if name in VIEWS else "table"


def _listed(rights: Collection[str]) -> str:
    return ", ".join(right for right in ("SELECT", "INSERT", "UPDATE", "DELETE") if right in rights).lower()


def _created(name: str) -> str:
    unless = f"if not exists (select 1 from pg_roles where rolname = '{name}')"  # noqa: S608 - checked by `names`
    return f"do $$ begin {unless} then create role {name} nologin; end if; end $$"


def _place(rights: str, name: str) -> str:
    return f"do $$ begin execute format('grant {rights} on schema %I to {name}', current_schema()); end $$"


def _closed(others: str) -> str:
    return f"do $$ begin execute format('revoke create on schema %I from {others}', current_schema()); end $$"


def _scratch(owner: str) -> str:
    # `db check` builds a fresh copy in a schema of its own, which is rolled back.
    return f"do $$ begin execute format('grant create on database %I to {owner}', current_database()); end $$"


def _functions(owner: str) -> str:
    ours = "pronamespace = current_schema()::regnamespace and proname like 'orchestrator\\_%'"
    loop = f"for f in select oid::regprocedure as name from pg_proc where {ours} loop"  # noqa: S608 - our own words
    change = f"execute format('alter function %s owner to {owner}', f.name);"
    # As the migrations leave it, the path may begin with "$user": that is another schema for each user.
    change += " execute format('alter function %s set search_path to %I, pg_temp', f.name, current_schema());"
    return f"do $$ declare f record; begin {loop} {change} end loop; end $$"
