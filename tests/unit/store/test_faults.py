"""Errors of the databases, sorted by what they mean, and silent about values."""

import sqlite3

import pytest
from sqlalchemy.exc import (
    DatabaseError,
    DataError,
    DBAPIError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
)  # fmt: skip

from orchestrator.domain.errors import (
    ConfigurationError,
    Conflict,
    DatabaseDamaged,
    DatabaseMismatch,
    IntegrityViolated,
)
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


def of_driver(text: str, state: str | None = None, kind: type[DBAPIError] = OperationalError) -> DBAPIError:
    original = Exception(text)
    if state is not None:
        original.sqlstate = state  # type: ignore[attr-defined]
    return kind("statement", {}, original)


PSYCOPG = 'connection failed: connection to server at "h", port 5432 failed: FATAL:  '


@pytest.mark.parametrize(
    ("error", "signal", "words"),
    [
        (of_driver("pk_payment", kind=IntegrityError), Refused, "pk_payment"),
        (of_driver("nul", kind=DataError), Refused, "data"),
        (of_driver("database is locked"), Silent, "another program holds the file's lock"),
        (of_driver("cannot execute INSERT in a read-only transaction", "25006"), Silent, "read-only"),
        (of_driver("deadlock detected", "40P01"), Silent, "OperationalError"),
        (ConnectionRefusedError(), Silent, "ConnectionRefusedError"),
        (TimeoutError(), Silent, "TimeoutError"),
        (sqlite3.OperationalError("locked"), Silent, "OperationalError"),
        (of_driver("x", "28P01"), ConfigurationError, "wrong user or password"),
        (of_driver(PSYCOPG + 'password authentication failed for user "u"'), ConfigurationError, "wrong user"),
        (of_driver(PSYCOPG + 'no pg_hba.conf entry for host "h"'), ConfigurationError, "may not connect"),
        (of_driver(PSYCOPG + 'role "u" does not exist'), ConfigurationError, "may not connect"),
        (of_driver(PSYCOPG + "no such user"), ConfigurationError, "may not connect"),  # as pgbouncer words it
        (of_driver("x", "3D000"), ConfigurationError, "does not exist"),
        (of_driver(PSYCOPG + 'database "d" does not exist'), ConfigurationError, "does not exist"),
        (of_driver("no schema", "3F000", ProgrammingError), ConfigurationError, "sees no schema"),
        (
            of_driver("permission denied for payment", "42501", ProgrammingError),
            ConfigurationError,
            "without the rights",
        ),
        (of_driver("file is not a database", kind=DatabaseError), DatabaseMismatch, "no SQLite database"),
        (of_driver("attempt to write a readonly database"), ConfigurationError, "read-only file"),
        (of_driver("database disk image is malformed", kind=DatabaseError), DatabaseDamaged, "restore a backup"),
        (of_driver("database or disk is full"), Silent, "no room left"),
        (KeyError("ours"), KeyError, "ours"),
    ],
    ids=str,
)
def test_errors_are_sorted(error: Exception, signal: type[Exception], words: str) -> None:
    with pytest.raises(signal) as sorted_, heard():
        raise error
    told = sorted_.value
    assert type(told) is signal
    if isinstance(told, Refused):
        assert told.__cause__ is None  # its text may quote a row
    else:
        assert told.__cause__ is (error if signal is not KeyError else None)
    assert words in (str(unavailable(told)) if isinstance(told, Silent) else str(told))


def test_a_servers_text_is_never_repeated() -> None:
    with pytest.raises(ConfigurationError) as told, heard():
        raise of_driver('password authentication failed for user "ada:s3cret"')
    assert "ada" not in str(told.value)
    assert told.value.key == "database_url"
