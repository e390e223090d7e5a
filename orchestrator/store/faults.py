"""
What a database's error means for a payment: nothing of SQLAlchemy leaves the store.

Refusals (the database kept a rule) become `Conflict` or `IntegrityViolated`;
silence (no connection, no room, no lock) becomes `Unavailable`. A refusal's own
text may quote a whole row, so it is not chained; only the rule's name is told.
Next: `rows`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from orchestrator.domain.errors import Conflict, IntegrityViolated, OrchestratorError, Unavailable
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
        "tr_payment_delete", "tr_audit_entry_payment",
    },
    key=len, reverse=True,
)  # fmt: skip


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
    Sort a database's errors into `Refused` and `Silent`.

    Raises:
        Refused: It kept a rule, or can't store a value.
        Silent: Anything else from the driver.
    """
    try:
        yield
    except (IntegrityError, DataError) as error:
        raise Refused(rule_of(error)) from None
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise Silent(type(error).__name__) from error
    except Exception as error:
        # asyncpg's errors while connecting don't pass through SQLAlchemy.
        if type(error).__module__.partition(".")[0] in ("asyncpg", "psycopg", "sqlite3"):
            raise Silent(type(error).__name__) from error
        raise


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
