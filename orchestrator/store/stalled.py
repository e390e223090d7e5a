"""
Connections of processes that were stopped in the middle of a statement.

PostgreSQL ends a transaction that idles (`idle_in_transaction_session_timeout`), but not one
whose client was stopped between preparing a statement and running it: the server takes that for
an active one, and its locks would stay for as long as the process is stopped. So whoever
frees the claims of such a worker ends its connection, too. Owns which connections those are.
Next: `claims`.
"""

from sqlalchemy import Connection, text

NAME = "payment-orchestrator"
"""What our connections call themselves at a PostgreSQL server."""
STALLED_S = 5
"""A driver sends the rest of a statement within microseconds."""

# Of the same user only: that needs no further right. What waits for its client while a statement is
# under way has said nothing since then; a long statement waits for other things.
_END = text(
    "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database()"
    " and usename = current_user and application_name = :name and state = 'active' and wait_event = 'ClientRead'"
    " and state_change < clock_timestamp() - make_interval(secs => :seconds)"
)


def end_stalled(connection: Connection) -> int:
    """
    End the connections of our programs that have said nothing for 5 s in the middle of a statement.

    Returns:
        How many; on SQLite none: nobody can take a file's lock away.

    Crash: the server rolls back what such a connection had begun, whoever dies meanwhile.
    """
    if connection.dialect.name != "postgresql":
        return 0
    return int(connection.scalar(_END, {"name": NAME, "seconds": STALLED_S}) or 0)
