"""
The triggers that make SQLite refuse what constraints alone would let pass.

A client of a SQLite file may have foreign keys off, CHECK constraints off, and
may write `INSERT OR REPLACE`, which deletes without asking delete triggers. So
here the triggers carry every rule by themselves. The refusal's text is the rule's
name, which `faults` reads. PostgreSQL's own are in `guards_postgresql`.
Next: `guards_postgresql`, `views`.
"""

from collections.abc import Iterable, Mapping

from orchestrator.store.rules import (
    CONTROL_CLOSED,
    CONTROL_OPENED,
    ENDED_LIST,
    ENTRY_RULES,
    IDENTITY,
    LIVE,
    ON_CALL,
    PAYMENT_RULES,
    REVIEW_CLOSED,
    REVIEWED,
    WITHOUT_ENTRY,
    of_row,
)  # fmt: skip
from orchestrator.store.schema import payment

APPEND_ONLY: Mapping[str, str] = {
    "audit_entry": "chain_id = new.chain_id and seq = new.seq",
    "checkpoint": "size = new.size",
    "log_leaf": "idx = new.idx or (chain_id = new.chain_id and seq = new.seq)",
    "definition": "digest = new.digest and text <> new.text",
    "schema_record": "id = new.id",
    "incarnation": "number = new.number or id = new.id",
}
"""Tables whose rows are never changed or removed, and when a new row collides with one of them."""

FACT_COLUMNS = tuple(
    column.name for column in payment.columns
    if column.name not in {"id", "version", "state", "head_hash", *IDENTITY, *WITHOUT_ENTRY}
)  # fmt: skip
"""What of a payment may change only together with a new entry."""

MOVES = ("id", "version", "state", "head_hash")


def _refusals(refusals: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"  select raise(abort, '{name}') where {condition};" for name, condition in refusals)


def _trigger(name: str, when: str, refusals: Iterable[tuple[str, str]], first: str = "") -> str:
    return f"create trigger {name} {when} begin\n{first}{_refusals(refusals)}\nend"


def _broken(rules: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, f"not ({of_row(condition, 'new')})") for name, condition in rules.items()]


def _taken(name: str, condition: str, same: str) -> tuple[str, str]:
    """Give the refusal of a second row for which `condition` holds; named as the unique index."""
    others = f"select 1 from payment where {same} and id <> new.id and {of_row(condition)}"  # noqa: S608 - our own words
    return name, f"{of_row(condition, 'new')} and exists ({others})"


_REFERENCE_ONCE = _taken("uq_payment_live_reference", LIVE, "account = new.account and reference = new.reference")
_CALL_ONCE = _taken("uq_payment_live_call", ON_CALL, "account = new.account and call_guid = new.call_guid")
_HEAD_MISSING = (
    "not exists (select 1 from audit_entry where chain_id = new.id and seq = new.version"
    " and to_state = new.state and hash = new.head_hash)"
)


def _append_only(table: str, collides: str) -> list[str]:
    never = f"tr_{table}_append_only"
    # A row number that is given by hand could collide too, and REPLACE would take the other row
    # away. Where none is given it reads as -1 here: so -1 itself must never be stored.
    by_number = f"exists (select 1 from {table} where ({collides}) or rowid = new.rowid)"  # noqa: S608 - our own words
    extends = {
        "audit_entry": [*_broken(ENTRY_RULES["sqlite"]), *_CHAIN], "incarnation": _LIVES,
        "log_leaf": _LEAF, "checkpoint": _CHECKPOINT,
    }.get(table, [])  # fmt: skip
    found = [
        _trigger(f"tr_{table}_update", f"before update on {table}", [(never, "true")]),
        _trigger(f"tr_{table}_delete", f"before delete on {table}", [(never, "true")]),
        _trigger(f"tr_{table}_insert", f"before insert on {table}", [(f"pk_{table}", by_number), *extends],
                 _SAME_DEFINITION if table == "definition" else ""),
    ]  # fmt: skip
    if table in ("audit_entry", "definition", "schema_record"):
        found.append(_NUMBERED.format(table=table))
    return found


# The same definition again is no news, and no refusal either: the row that is there stays.
_SAME_DEFINITION = (
    "  select raise(ignore) where exists (select 1 from definition where digest = new.digest and text = new.text);\n"
)
_NUMBERED = (
    "create trigger tr_{table}_numbered after insert on {table} when new.rowid < 0 begin\n"
    "  select raise(abort, 'tr_{table}_numbered');\nend"
)
_CHAIN = [
    (
        "fk_audit_entry_extends",
        (
            "new.seq > 1 and not exists (select 1 from audit_entry where chain_id = new.chain_id"
            " and seq = new.seq - 1 and to_state = new.from_state and hash = new.prev_hash)"
        ),
    ),
    (
        # The birth's entry comes before its payment; every later one needs it.
        "tr_audit_entry_payment",
        (
            "new.seq > 1 and substr(new.chain_id, 1, 4) = 'pay-'"
            " and not exists (select 1 from payment where id = new.chain_id)"
        ),
    ),
]
_NO_LEAF = "not exists (select 1 from log_leaf where chain_id = old.chain_id and seq = old.seq)"
_LEAF = [
    ("tr_log_leaf_gap", "new.idx > 0 and not exists (select 1 from log_leaf where idx = new.idx - 1)"),
    (
        "tr_log_leaf_entry",
        ("not exists (select 1 from audit_entry where chain_id = new.chain_id and seq = new.seq and hash = new.hash)"),
    ),
]
_CHECKPOINT = [
    (
        # A root over all leaves that there are: no other can be signed.
        "tr_checkpoint_size",
        (
            "not exists (select 1 from log_leaf where idx = new.size - 1)"
            " or exists (select 1 from log_leaf where idx = new.size)"
        ),
    ),
]
_LIVES = [
    (
        "ck_incarnation_said",
        "not (new.number >= 1 and length(new.id) = 32 and new.person <> '' and new.reason <> '')",
    ),
    (
        # One after the other, without a gap and without a fork.
        "fk_incarnation_previous",
        (
            "(new.number > 1 or new.previous is not null) and not exists (select 1 from incarnation"
            " where id = new.previous and number = new.number - 1)"
        ),
    ),
]


def _closed_once(table: str, opened: tuple[str, ...], closed: str) -> list[str]:
    """Give the triggers of a register whose rows are opened, closed once by a person, and never removed."""
    changed = " or ".join(f"new.{column} is not old.{column}" for column in opened)
    refusals = [(f"tr_{table}_closed", f"old.{_END[table]} is not null"), (f"tr_{table}_said", changed),
                (f"tr_{table}_said", f"not ({of_row(closed, 'new')})")]  # fmt: skip
    taken = f"exists (select 1 from {table} where id = new.id)"  # noqa: S608 - our own words
    return [
        _trigger(f"tr_{table}_update", f"before update on {table}", refusals),
        _trigger(f"tr_{table}_delete", f"before delete on {table}", [(f"tr_{table}_delete", "true")]),
        _trigger(f"tr_{table}_insert", f"before insert on {table}",
                 [(f"pk_{table}", taken), (f"tr_{table}_opened", f"new.{_END[table]} is not null")]),
        _NUMBERED.format(table=table),
    ]  # fmt: skip


_END = {"control_failure": "ended_at", "review": "closed_at"}


def sqlite_guards() -> list[str]:
    """Give every trigger of a SQLite database, each one statement."""
    identity = " or ".join(f"new.{column} is not old.{column}" for column in ("id", *IDENTITY))
    facts = " or ".join(f"new.{column} is not old.{column}" for column in FACT_COLUMNS)
    moved = " or ".join(f"new.{column} is not old.{column}" for column in MOVES)
    born = [
        ("pk_payment", "exists (select 1 from payment where id = new.id or rowid = new.rowid)"),
        *_broken(PAYMENT_RULES),
        ("tr_payment_birth", "new.state is not 'collecting' or new.version is not 1"),
        ("fk_payment_head", _HEAD_MISSING),
        (
            "uq_payment_account_reference_round",
            (
                "exists (select 1 from payment where account = new.account and reference = new.reference"
                " and round = new.round)"
            ),
        ),
        _REFERENCE_ONCE,
        _CALL_ONCE,
    ]
    moves = [
        ("tr_payment_back", "new.version is null or new.version <= old.version"),
        ("tr_payment_ended", f"old.state in ({ENDED_LIST}) and new.state is not old.state"),
        ("fk_payment_head", _HEAD_MISSING),
    ]
    found = [statement for table, collides in APPEND_ONLY.items() for statement in _append_only(table, collides)]
    return [
        *found,
        *_closed_once("control_failure", CONTROL_OPENED, CONTROL_CLOSED),
        *_closed_once("review", REVIEWED, REVIEW_CLOSED),
        _trigger("tr_unsealed_update", "before update on unsealed", [("tr_unsealed_update", "true")]),
        _trigger("tr_unsealed_delete", "before delete on unsealed", [("tr_unsealed_delete", _NO_LEAF)]),
        _trigger("tr_payment_insert", "before insert on payment", born),
        _NUMBERED.format(table="payment"),
        _trigger("tr_payment_delete", "before delete on payment", [("tr_payment_delete", "true")]),
        _trigger(
            "tr_payment_update",
            "before update on payment",
            [("tr_payment_identity", identity), ("tr_payment_identity", "new.rowid <> old.rowid")],
        ),
        _trigger(
            "tr_payment_facts",
            "before update on payment when new.version is old.version",
            [("tr_payment_facts", facts)],
        ),
        _trigger(
            "tr_payment_move",
            f"before update on payment when {moved}",
            [*moves, *_broken(PAYMENT_RULES), _CALL_ONCE],
        ),
    ]
