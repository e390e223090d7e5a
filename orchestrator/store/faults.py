"""
What a database's error means for a payment: nothing of SQLAlchemy leaves the store.

Refusals (the database kept a rule) become `Conflict` or `IntegrityViolated`;
silence (no connection, no room, no lock) becomes `Unavailable`; what only a person
can mend (password, rights, a file that is no database) becomes `ConfigurationError`
at once. A refusal's own text may quote a whole row, so it is not chained; only the
rule's name is told. Next: `rows`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from orchestrator.domain.errors import (
    ConfigurationError,
    Conflict,
    DatabaseDamaged,
    DatabaseMismatch,
    IntegrityViolated,
    OrchestratorError,
    Unavailable,
)
from orchestrator.store.engines import KEY, LOG_GONE
from orchestrator.store.schema import metadata

_FIX = "wait until it is over, or ask for the payment that is there"
_TWICE = {
    "uq_payment_live_reference": Conflict("reference", "has a payment that is not over yet", _FIX),
    "uq_payment_live_call": Conflict("CallGuid", "has a payment session that is not over yet", _FIX),
    "uq_payment_account_reference_round": Conflict("reference", "has this round already", "submit it again"),
}
_COLUMNS = {
    "UNIQUE constraint failed: payment.account, payment.reference, payment.round": "uq_payment_account_reference_round",
    "UNIQUE constraint failed: payment.account, payment.reference": "uq_payment_live_reference",
    "UNIQUE constraint failed: payment.account, payment.call_guid": "uq_payment_live_call",
    "FOREIGN KEY constraint failed": "foreign key",
    "NOT NULL constraint failed": "not null",
}
_RULES = sorted(
    {
        *(str(rule.name) for table in metadata.tables.values() for rule in table.constraints),
        *_TWICE,
        *(f"pk_{table}" for table in metadata.tables),
        *(f"tr_{table}_{what}" for table in metadata.tables for what in ("append_only", "numbered")),
        "tr_payment_identity", "tr_payment_back", "tr_payment_ended", "tr_payment_facts", "tr_payment_birth",
        "tr_payment_delete", "tr_audit_entry_payment", "tr_log_leaf_gap", "tr_log_leaf_entry", "tr_checkpoint_size",
        "tr_unsealed_update", "tr_unsealed_delete",
        *(
            f"tr_{table}_{what}"
            for table in ("control_failure", "review")
            for what in ("opened", "closed", "said", "delete")
        ),
    },
    key=len, reverse=True,
)  # fmt: skip


# SQLSTATEs of PostgreSQL, appendix A of its manual: none of them goes away by trying again.
_BARRED = {
    "28P01": ("is refused: wrong user or password", "correct the user or the password"),
    "28000": ("is refused: this user may not connect in this way", "see pg_hba.conf of the server, and TLS"),
    "3D000": ("names a database that does not exist", "create it, or correct the name"),
    "3F000": ("names a user that sees no schema", "grant USAGE on one, and CREATE for `orchestrator db upgrade`"),
    "42501": ("names a user without the rights that this needs", "grant them, or name another user"),
}
# psycopg tells no SQLSTATE of a connection that never came about.
_BARRED_WORDS = (
    ("password authentication failed", "28P01"), ("no password supplied", "28P01"),
    ("no pg_hba.conf entry", "28000"), ('role "', "28000"),
    ("FATAL:  no such user", "28000"), ('FATAL:  database "', "3D000"),
)  # fmt: skip
_READ_ONLY = ("names a read-only file", "let this user write to the file and its directory")
_FILE_WORDS = (
    ("file is not a database", DatabaseMismatch(KEY, "names a file that is no SQLite database", "correct the path")),
    ("readonly database", ConfigurationError(KEY, *_READ_ONLY)),
)
NO_ROOM = "there is no room left on its disk"
_NO_ROOM_STATE = "53100"
_SILENCES = (
    ("database is locked", "another program holds the file's lock"),
    ("database table is locked", "another program holds the file's lock"),
    (LOG_GONE, "its `-wal` was removed while it was open: stop every process on it, put the file back anew"),
    ("disk is full", NO_ROOM),
    ("No space left on device", NO_ROOM),
    ("read-only transaction", "it is read-only: not the primary, or default_transaction_read_only is on"),
)


class Refused(Exception):  # noqa: N818 - an internal signal of the store
    """
    The database kept a rule; nothing was written.

    Args:
        rule: The constraint's or trigger's name.
    """

    def __init__(self, rule: str) -> None:
        self.rule = rule
        super().__init__(rule)

    def told(self) -> OrchestratorError:
        """Give what the caller is told."""
        conflict = _TWICE.get(self.rule)
        if conflict is not None:
            return Conflict(conflict.field, conflict.problem, conflict.fix)
        return IntegrityViolated(f"the database refused a write: {self.rule}")


class Silent(Exception):  # noqa: N818 - an internal signal of the store
    """The database gave no answer, or asks to try again; whether a write happened is unknown."""


@contextmanager
def heard() -> Iterator[None]:
    """
    Sort a database's errors into `Refused`, `Silent`, and what only a person can mend.

    Raises:
        Refused: It kept a rule, or can't store a value.
        ConfigurationError: Password, rights, or a file that can't be used.
        DatabaseDamaged: The file is damaged.
        Silent: Anything else from the driver.
    """
    try:
        yield
    except (IntegrityError, DataError) as error:
        raise Refused(rule_of(error)) from None
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise _told(error) from error
    except Exception as error:
        # asyncpg's errors while connecting don't pass through SQLAlchemy.
        if type(error).__module__.partition(".")[0] in ("asyncpg", "psycopg", "sqlite3"):
            raise _told(error) from error
        raise


def _told(error: Exception) -> Exception:
    """Give what a driver's error is raised as; texts of servers are matched, never repeated."""
    original = getattr(error, "orig", None) or error
    text = str(original)
    state = getattr(original, "sqlstate", None)
    if state is None and isinstance(error, OSError | DBAPIError):
        state = next((known for words, known in _BARRED_WORDS if words in text), None)
    if state in _BARRED:
        return ConfigurationError(KEY, *_BARRED[state])
    for words, mismatch in _FILE_WORDS:
        if words in text:
            return type(mismatch)(KEY, mismatch.problem, mismatch.fix)
    if "disk image is malformed" in text:
        return DatabaseDamaged("the database file is damaged: restore a backup")
    known = NO_ROOM if state == _NO_ROOM_STATE else None
    return Silent(known or next((told for words, told in _SILENCES if words in text), type(error).__name__))


def rule_of(error: DBAPIError) -> str:
    """Give the name of the rule that was kept; constraint names are unique by construction."""
    # PostgreSQL's detail lines quote values, and a value could look like a rule's name.
    text = str(error.orig).split("\n", 1)[0]
    for phrase, rule in _COLUMNS.items():
        if phrase in text:
            return rule
    return next((rule for rule in _RULES if rule in text), "data" if isinstance(error, DataError) else "constraint")


def unavailable(silent: Silent) -> Unavailable:
    """Give what the caller is told about silence; the cause goes along for the log."""
    return Unavailable(f"the database does not answer ({silent})")
