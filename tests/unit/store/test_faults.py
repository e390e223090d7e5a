"""Errors of the databases, sorted by what they mean, and silent about values."""

import sqlite3

import pytest
from sqlalchemy.exc import DataError, IntegrityError, OperationalError

from orchestrator.domain.errors import Conflict, IntegrityViolated
from orchestrator.store.faults import Refused, Silent, heard, rule_of, unavailable

POSTGRESQL = "<class 'asyncpg.exceptions.UniqueViolationError'>: duplicate key value violates unique constraint \"{}\""
SECRET = "\nDETAIL:  Key (account, reference)=(emea, INV-1 uq_payment_live_call) already exists."


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (POSTGRESQL.format("uq_payment_live_reference") + SECRET, "uq_payment_live_reference"),
        (POSTGRESQL.format("pk_payment"), "pk_payment"),
        ('new row violates check constraint "ck_audit_entry_says"', "ck_audit_entry_says"),
        ("refused (tr_payment_facts)", "tr_payment_facts"),
        ("uq_payment_live_call", "uq_payment_live_call"),
        ("UNIQUE constraint failed: payment.account, payment.reference", "uq_payment_live_reference"),
        ("UNIQUE constraint failed: payment.account, payment.call_guid", "uq_payment_live_call"),
        (
            "UNIQUE constraint failed: payment.account, payment.reference, payment.round",
            "uq_payment_account_reference_round",
        ),
        ("FOREIGN KEY constraint failed", "foreign key"),
        ("something else", "constraint"),
    ],
)
def test_a_refusal_is_known_by_its_rules_name(text: str, rule: str) -> None:
    assert rule_of(IntegrityError("insert", {}, Exception(text))) == rule


@pytest.mark.parametrize(
    ("rule", "kind", "words"),
    [
        ("uq_payment_live_reference", Conflict, "reference"),
        ("uq_payment_live_call", Conflict, "CallGuid"),
        ("uq_payment_account_reference_round", Conflict, "round"),
        ("ck_audit_entry_edge", IntegrityViolated, "ck_audit_entry_edge"),
    ],
)
def test_a_refusal_is_told_as_conflict_or_contradiction(rule: str, kind: type[Exception], words: str) -> None:
    told = Refused(rule).told()
    assert type(told) is kind
    assert words in str(told)
    assert Refused(rule).told() is not told


@pytest.mark.parametrize(
    ("error", "signal"),
    [
        (IntegrityError("insert", {}, Exception("pk_payment")), Refused),
        (DataError("insert", {}, Exception("nul")), Refused),
        (OperationalError("insert", {}, Exception("database is locked")), Silent),
        (ConnectionRefusedError(), Silent),
        (TimeoutError(), Silent),
        (sqlite3.OperationalError("locked"), Silent),
        (KeyError("ours"), KeyError),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_are_sorted(error: Exception, signal: type[Exception]) -> None:
    with pytest.raises(signal) as sorted_, heard():
        raise error
    if signal is Refused:
        assert sorted_.value.__cause__ is None  # its text may quote a row
    if signal is Silent:
        assert sorted_.value.__cause__ is error
        assert type(error).__name__ in str(unavailable(sorted_.value))  # type: ignore[arg-type]
