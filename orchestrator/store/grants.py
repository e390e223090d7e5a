"""
Whether the grants in a PostgreSQL database are those that `roles` gives.

Owns one look at owners and grants of everything that is ours, and the comparison. Only a
database where the roles are in use is compared: where everything belongs to one user there
is nothing to say. Any user may look, and nothing is written. Next: `migrate`.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from orchestrator.store.roles import OWNER, RIGHTS, ROLES, names
from orchestrator.store.schema import OWN_TABLES
from orchestrator.store.views import VIEWS

_OURS = """
with named as (
  select c.oid, c.relname, c.relowner, c.relacl from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = current_schema() and c.relname = any(cast(:names as text[]))),
ours as (
  select oid, relname, relowner, relacl from named
  union all
  select s.oid, s.relname, s.relowner, s.relacl from pg_class s
    join pg_depend d on d.objid = s.oid and d.deptype = 'i' join named on named.oid = d.refobjid
  where s.relkind = 'S')
"""
_GRANTS = text(
    _OURS
    + """
select o.relname as name, pg_get_userbyid(o.relowner) as owner, a.grantee <> o.relowner as other,
    case when a.grantee = 0 then 'everybody' else pg_get_userbyid(a.grantee) end as grantee,
    a.privilege_type as verb, a.is_grantable as passes
  from ours o left join lateral aclexplode(o.relacl) a on true
union all
select o.relname || '.' || t.attname, pg_get_userbyid(o.relowner), a.grantee <> o.relowner,
    case when a.grantee = 0 then 'everybody' else pg_get_userbyid(a.grantee) end, a.privilege_type, a.is_grantable
  from ours o join pg_attribute t on t.attrelid = o.oid, lateral aclexplode(t.attacl) a
"""
)
_KNOWN = text(
    "select cast(rolname as text) as name, rolsuper or rolbypassrls or rolcreaterole as mighty, rolcanlogin as enters"
    " from pg_roles where rolname ~ :suffix"
)
_POWERS = text(
    "select cast(r.rolname as text) as name, pg_has_role(r.oid, o.oid, 'member') as owns,"
    " has_schema_privilege(r.oid, current_schema(), 'create') as makes"
    " from pg_roles r, pg_roles o where o.rolname = :owner and r.rolname = any(cast(:names as text[]))"
)


@dataclass(frozen=True, slots=True)
class _Grant:
    """One right of somebody's on something of ours."""

    name: str
    who: str
    verb: str


def grant_findings(connection: Connection) -> Sequence[str]:
    """
    Give a line for each grant that is missing, or that nobody should have; none where the roles are not in use.

    Args:
        connection: To a database at this version's revision.
    """
    if connection.dialect.name != "postgresql":
        return ()
    rows = connection.execute(_GRANTS, {"names": [*OWN_TABLES, *VIEWS]}).all()
    known = {row.name: row for row in connection.execute(_KNOWN, {"suffix": f"_({'|'.join(ROLES)})$"})}
    owners = {row.name: row.owner for row in rows if "." not in row.name}
    prefix = _in_use(known, [owners.get("audit_entry", ""), *owners.values(), *(row.grantee or "" for row in rows)])
    if prefix is None:
        return ()
    named = names(prefix)
    found = {_Grant(row.name, row.grantee, row.verb) for row in rows if row.other}
    wanted = {
        _Grant(name, named[role], verb)
        for role, table in RIGHTS.items() for name, verbs in table.items() for verb in verbs
    }  # fmt: skip
    lines = [f"{grant.who} may {grant.verb} {grant.name}" for grant in found - wanted]
    lines += [f"{grant.who} may not {grant.verb} {grant.name}" for grant in wanted - found]
    lines += [f"{row.grantee} may pass on {row.verb} {row.name}" for row in rows if row.other and row.passes]
    lines += [
        f"{name} belongs to {owner}, not to {named[OWNER]}" for name, owner in owners.items() if owner != named[OWNER]
    ]
    lines += [f"{name} may log in" for name in named.values() if known[name].enters]
    lines += [f"{name} is above all grants" for name in named.values() if known[name].mighty]
    powers = {"owner": named[OWNER], "names": [named[role] for role in RIGHTS]}
    for row in connection.execute(_POWERS, powers):
        lines += _powers(row.name, named[OWNER], owns=row.owns, makes=row.makes)
    return [f"grant: {line}" for line in sorted(set(lines))]


def _powers(name: str, owner: str, *, owns: bool, makes: bool) -> Iterator[str]:
    if owns:
        yield f"{name} is a member of {owner}"
    if makes:
        yield f"{name} may make tables in the schema"


def _in_use(known: Collection[str], seen: Sequence[str]) -> str | None:
    """Give the prefix whose roles all exist and of which one owns or may do something here."""
    for name in seen:
        prefix, _, role = name.rpartition("_")
        if role in ROLES and {f"{prefix}_{each}" for each in ROLES} <= set(known):
            return prefix
    return None
