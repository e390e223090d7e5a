"""
The triggers of PostgreSQL: what keys and CHECK constraints there can't say.

They are ENABLE ALWAYS, so that a session in the replica role meets them too.
Their refusals are integrity errors that carry the rule's name, as on SQLite.
Functions see no search path but the one they were made under. What stays open:
an owner can disable a trigger, and a superuser in the replica role passes foreign
keys; both leave marks that `audit verify` finds. Next: `views`.
"""

from orchestrator.store.guards import APPEND_ONLY, FACT_COLUMNS
from orchestrator.store.rules import ENDED_LIST, IDENTITY, LIVE, of_row

DEFERRED = ("fk_payment_head", "tr_audit_entry_payment")
"""The constraints that are looked at when a transaction ends."""

_REFUSE = """\
create function orchestrator_refuse() returns trigger language plpgsql set search_path from current as $$
begin
  raise exception using errcode = '23001', constraint = 'tr_' || tg_table_name || '_append_only',
    message = lower(tg_op) || ' of ' || tg_table_name || ' is refused (tr_' || tg_table_name || '_append_only)';
end $$"""

_VIOLATED = "raise exception using errcode = '23514', constraint = '{name}', message = 'refused ({name})';"

_BIRTH = f"""\
create function orchestrator_payment_birth() returns trigger language plpgsql set search_path from current as $$
begin
  if new.state <> 'collecting' or new.version <> 1 then
    {_VIOLATED.format(name="tr_payment_birth")}
  end if;
  if exists (select 1 from payment where account = new.account and reference = new.reference
    and id <> new.id and {of_row(LIVE)}) then
    {_VIOLATED.format(name="uq_payment_live_reference")}
  end if;
  return new;
end $$"""  # noqa: S608 - our own words

_HAS_PAYMENT = f"""\
create function orchestrator_entry_payment() returns trigger language plpgsql set search_path from current as $$
begin
  if not exists (select 1 from payment where id = new.chain_id and version >= new.seq) then
    {_VIOLATED.format(name="tr_audit_entry_payment")}
  end if;
  return null;
end $$"""  # noqa: S608 - our own words


def _change() -> str:
    def row(name: str, columns: tuple[str, ...]) -> str:
        return f"({', '.join(f'{name}.{column}' for column in columns)})"

    identity = ("id", *IDENTITY)
    return f"""\
create function orchestrator_payment_change() returns trigger language plpgsql set search_path from current as $$
begin
  if {row("new", identity)} is distinct from {row("old", identity)} then
    {_VIOLATED.format(name="tr_payment_identity")}
  end if;
  if new.version < old.version
    or (new.version = old.version and (new.state <> old.state or new.head_hash <> old.head_hash)) then
    {_VIOLATED.format(name="tr_payment_back")}
  end if;
  if old.state in ({ENDED_LIST}) and new.state <> old.state then
    {_VIOLATED.format(name="tr_payment_ended")}
  end if;
  if new.version = old.version and {row("new", FACT_COLUMNS)} is distinct from {row("old", FACT_COLUMNS)} then
    {_VIOLATED.format(name="tr_payment_facts")}
  end if;
  return new;
end $$"""


def postgresql_guards() -> list[str]:
    """Give every function and trigger of a PostgreSQL database, each one statement."""
    made = [_REFUSE, _BIRTH, _HAS_PAYMENT, _change()]
    refused = [(table, "update or delete") for table in APPEND_ONLY] + [("payment", "delete")]
    for table, events in refused:
        for suffix, when, each in (
            ("append_only", f"before {events} on {table}", "row"),
            ("truncate", f"before truncate on {table}", "statement"),
        ):
            made += _always(table, suffix, f"{when} for each {each} execute function orchestrator_refuse()")
    made += _always(
        "payment", "birth", "before insert on payment for each row execute function orchestrator_payment_birth()"
    )
    made += _always(
        "payment", "change", "before update on payment for each row execute function orchestrator_payment_change()"
    )
    return made + _always(
        "audit_entry",
        "payment",
        "after insert on audit_entry deferrable initially deferred for each row"
        " when (substr(new.chain_id, 1, 4) = 'pay-') execute function orchestrator_entry_payment()",
        kind="constraint trigger",
    )


def _always(table: str, suffix: str, clause: str, kind: str = "trigger") -> list[str]:
    name = f"tr_{table}_{suffix}"
    return [f"create {kind} {name} {clause}", f"alter table {table} enable always trigger {name}"]
