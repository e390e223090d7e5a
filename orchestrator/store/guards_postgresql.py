"""
The triggers of PostgreSQL: what keys and CHECK constraints there can't say.

They are ENABLE ALWAYS, so that a session in the replica role meets them too.
Their refusals are integrity errors that carry the rule's name, as on SQLite.
Functions see no search path but the one they were made under. What stays open:
an owner can disable a trigger, and a superuser in the replica role passes foreign
keys; both leave marks that `audit verify` finds. Next: `views`.
"""

from orchestrator.store.guards import APPEND_ONLY, FACT_COLUMNS
from orchestrator.store.rules import (
    CONTROL_CLOSED,
    CONTROL_OPENED,
    ENDED_LIST,
    IDENTITY,
    LIVE,
    REVIEW_CLOSED,
    REVIEWED,
    of_row,
)  # fmt: skip

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


_LEAF = f"""\
create function orchestrator_leaf() returns trigger language plpgsql set search_path from current as $$
begin
  if new.idx > 0 and not exists (select 1 from log_leaf where idx = new.idx - 1) then
    {_VIOLATED.format(name="tr_log_leaf_gap")}
  end if;
  if not exists (select 1 from audit_entry
    where chain_id = new.chain_id and seq = new.seq and hash = new.hash) then
    {_VIOLATED.format(name="tr_log_leaf_entry")}
  end if;
  return new;
end $$"""  # noqa: S608 - our own words

_CHECKPOINT = f"""\
create function orchestrator_checkpoint() returns trigger language plpgsql set search_path from current as $$
begin
  if not exists (select 1 from log_leaf where idx = new.size - 1)
    or exists (select 1 from log_leaf where idx = new.size) then
    {_VIOLATED.format(name="tr_checkpoint_size")}
  end if;
  return new;
end $$"""  # noqa: S608 - our own words

_UNSEALED = f"""\
create function orchestrator_unsealed() returns trigger language plpgsql set search_path from current as $$
begin
  if tg_op = 'UPDATE' then
    {_VIOLATED.format(name="tr_unsealed_update")}
  end if;
  if not exists (select 1 from log_leaf where chain_id = old.chain_id and seq = old.seq) then
    {_VIOLATED.format(name="tr_unsealed_delete")}
  end if;
  return old;
end $$"""  # noqa: S608 - our own words


def _row(name: str, columns: tuple[str, ...]) -> str:
    return f"({', '.join(f'{name}.{column}' for column in columns)})"


def _closed_once(table: str, end: str, opened: tuple[str, ...], closed: str) -> str:
    """Give the function of a register whose rows are opened, and closed once by a person."""
    return f"""\
create function orchestrator_{table}() returns trigger language plpgsql set search_path from current as $$
begin
  if tg_op = 'INSERT' then
    if new.{end} is not null then
      {_VIOLATED.format(name=f"tr_{table}_opened")}
    end if;
    return new;
  end if;
  if old.{end} is not null then
    {_VIOLATED.format(name=f"tr_{table}_closed")}
  end if;
  if {_row("new", opened)} is distinct from {_row("old", opened)} or not ({of_row(closed, "new")}) then
    {_VIOLATED.format(name=f"tr_{table}_said")}
  end if;
  return new;
end $$"""


def _change() -> str:
    identity = ("id", *IDENTITY)
    return f"""\
create function orchestrator_payment_change() returns trigger language plpgsql set search_path from current as $$
begin
  if {_row("new", identity)} is distinct from {_row("old", identity)} then
    {_VIOLATED.format(name="tr_payment_identity")}
  end if;
  if new.version < old.version
    or (new.version = old.version and (new.state <> old.state or new.head_hash <> old.head_hash)) then
    {_VIOLATED.format(name="tr_payment_back")}
  end if;
  if old.state in ({ENDED_LIST}) and new.state <> old.state then
    {_VIOLATED.format(name="tr_payment_ended")}
  end if;
  if new.version = old.version and {_row("new", FACT_COLUMNS)} is distinct from {_row("old", FACT_COLUMNS)} then
    {_VIOLATED.format(name="tr_payment_facts")}
  end if;
  return new;
end $$"""


def postgresql_guards() -> list[str]:
    """Give every function and trigger of a PostgreSQL database, each one statement."""
    made = [
        _REFUSE, _BIRTH, _HAS_PAYMENT, _change(), _LEAF, _CHECKPOINT, _UNSEALED,
        _closed_once("control_failure", "ended_at", CONTROL_OPENED, CONTROL_CLOSED),
        _closed_once("review", "closed_at", REVIEWED, REVIEW_CLOSED),
    ]  # fmt: skip
    refused = [(table, "update or delete") for table in APPEND_ONLY]
    refused += [("payment", "delete"), ("control_failure", "delete"), ("review", "delete")]
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
    for table, suffix, when in (
        ("log_leaf", "leaf", "insert"), ("checkpoint", "checkpoint", "insert"),
        ("unsealed", "unsealed", "update or delete"),
        ("control_failure", "control_failure", "insert or update"), ("review", "review", "insert or update"),
    ):  # fmt: skip
        clause = f"before {when} on {table} for each row execute function orchestrator_{suffix}()"
        made += _always(table, "guard", clause)
    truncate = "before truncate on unsealed for each statement execute function orchestrator_refuse()"
    made += _always("unsealed", "truncate", truncate)
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
