"""
Installing the roles in a PostgreSQL database, with an entry in the trail.

Owns that grants and entry are one transaction. Which rights there are is for `roles` to
say. Next: `grants`.
"""

from sqlalchemy import Connection

from orchestrator.domain.entry import Context
from orchestrator.domain.errors import InvalidInput
from orchestrator.store.roles import names, statements
from orchestrator.store.store import SqlStore

NO_ROLES = (
    "a SQLite file has no roles: whoever can write to the file can write anything that its triggers let pass. "
    "Give the file and its directory to the one user of the operating system that runs the orchestrator (mode 0600 "
    "and 0700), keep the signing key and the sink where that user can't change them, and hand out exports; "
    "where roles are asked for, use PostgreSQL"
)


async def install_roles(database_url: str, prefix: str, context: Context, *, reason: str) -> None:
    """
    Create the roles and make owners and grants what they should be, with an entry `roles.granted`.

    Args:
        database_url: An upgraded PostgreSQL database; its user owns the tables and may create roles.
        prefix: What the roles' names begin with.
        context: Who (`actor`), when, from where.
        reason: Why; only the entry keeps it. No payer data.

    Raises:
        InvalidInput: The prefix can't begin a name, or it is a SQLite file. Nothing was changed.
        DatabaseMismatch: It is not one that this version writes. Nothing was changed.
        ConfigurationError: The user lacks rights. Nothing was changed.
        Unavailable: The database does not answer; the same call again is safe.

    Crash: everything is granted, with its entry, or nothing.
    """
    store = SqlStore(database_url)
    if store.dialect != "postgresql":
        await store.close()
        raise InvalidInput("database_url", "names a SQLite file", NO_ROLES)
    made = statements(prefix)

    def change(connection: Connection) -> bool:
        for statement in made:
            connection.exec_driver_sql(statement)
        return True

    await store.open()
    try:
        details = {"prefix": prefix, "roles": sorted(names(prefix).values()), "reason": reason}
        await store.note("roles.granted", about=prefix, context=context, details=details, change=change)
    finally:
        await store.close()
