"""
Bringing a database to this version, for hosts that do it in their own code.

Owns who is said to have done it. Next: `store.migrate`.
"""

from orchestrator import composition
from orchestrator.clock import SystemClock
from orchestrator.domain.entry import Context
from orchestrator.store import migrate


async def upgrade_database(database_url: str, *, actor: str = "host") -> migrate.Status:
    """
    Bring the database to this version; a SQLite file is made if there is none.

    Args:
        database_url: The database.
        actor: Who does it, for the entry `schema.upgraded`.

    Raises:
        ConfigurationError: It can't be reached in this way, or not be written to.
        DatabaseMismatch: It is ahead or foreign, or was changed by hand; it is unchanged.
        Unavailable: It does not answer.

    Crash: all steps are one transaction: it is as before, or upgraded.
    """
    context = Context(SystemClock().now(), actor, composition.origin(), version=composition.VERSION)
    return await migrate.upgrade(database_url, context)
