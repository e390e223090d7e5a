"""The generated rules are the machine's and the enums', on the database's own evaluation."""

import re
import sqlite3
from itertools import product

import pytest

from orchestrator.domain.entry import ADMIN_EDGES
from orchestrator.domain.machine import START, edges
from orchestrator.domain.outcome import Outcome
from orchestrator.domain.payment import State
from orchestrator.store.ddl import fresh
from orchestrator.store.faults import _RULES
from orchestrator.store.rules import ENTRY_RULES, PAYMENT_RULES, of_row
from orchestrator.store.schema import known, metadata

TRIGGERS = sorted({edge[0] for edge in (*edges(), *ADMIN_EDGES)} | {"pay"})
STATES = [START, *(state.value for state in State), "running", "stopped", "open"]


def holds(condition: str, row: dict[str, object]) -> bool:
    names = ", ".join(f"? as {name}" for name in row)
    with sqlite3.connect(":memory:") as connection:
        (found,) = connection.execute(
            f"select {of_row(condition)} from (select {names})", list(row.values())
        ).fetchone()
    connection.close()
    return bool(found)


@pytest.mark.parametrize(("chain", "legal"), [("pay-x", edges()), ("admin-x", ADMIN_EDGES), ("worker-x", ADMIN_EDGES)])
def test_exactly_the_machines_edges_are_legal(chain: str, legal: list[tuple[str, str, str]]) -> None:
    every = list(product(TRIGGERS, STATES, STATES))
    values = ", ".join(f"('{chain}', '{trigger}', '{source}', '{target}')" for trigger, source, target in every)
    condition = of_row(ENTRY_RULES["sqlite"]["ck_audit_entry_edge"])
    with sqlite3.connect(":memory:") as connection:
        connection.execute("create table edge (chain_id, trigger, from_state, to_state)")
        connection.execute(f"insert into edge values {values}")
        found = connection.execute(f"select trigger, from_state, to_state from edge where {condition}").fetchall()
    connection.close()
    assert set(found) == set(legal)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("outcome", [None, *Outcome])
def test_an_end_says_how(state: State, outcome: Outcome | None) -> None:
    fits = {State.COMPLETED: outcome is Outcome.PAID, State.FAILED: outcome is not None}.get(state, True)
    assert holds(PAYMENT_RULES["ck_payment_end"], {"state": state.value, "outcome": outcome}) == fits


def test_every_enum_member_may_be_stored() -> None:
    for name, column, members in (("state", "state", State), ("outcome", "outcome", Outcome)):
        assert all(holds(PAYMENT_RULES[f"ck_payment_{name}"], {column: member.value}) for member in members)
        assert not holds(PAYMENT_RULES[f"ck_payment_{name}"], {column: "another"})


def test_every_constraint_trigger_and_rule_has_a_name_that_errors_can_tell() -> None:
    for table in metadata.tables.values():
        assert all(constraint.name for constraint in table.constraints), table.name
    refusals = set(re.findall(r"raise\(abort, '(\w+)'\)", "\n".join(fresh("sqlite"))))
    assert len(refusals) > 20
    assert refusals <= set(_RULES)


def test_statements_can_be_told_apart_and_carry_no_parameter_marks() -> None:
    for dialect in ("sqlite", "postgresql"):
        for statement in fresh(dialect):
            assert "\n--\n" not in statement
            assert "%" not in statement


def test_another_database_has_no_rules() -> None:
    from sqlalchemy.dialects import mysql, sqlite

    assert known(sqlite.dialect()) == "sqlite"
    with pytest.raises(ValueError, match="mysql"):
        known(mysql.dialect())
