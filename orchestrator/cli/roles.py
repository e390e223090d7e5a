"""
The command on a database's roles.

Owns no right: `store.roles` does. Next: `audit`.
"""

from typing import Annotated

import typer

from orchestrator import composition
from orchestrator.cli.database import MAX_REASON
from orchestrator.cli.session import actor, run, settings_of
from orchestrator.cli.show import cell, console
from orchestrator.clock import SystemClock
from orchestrator.domain.entry import Context
from orchestrator.domain.errors import InvalidInput
from orchestrator.orchestrator import VERSION
from orchestrator.store.install import NO_ROLES, install_roles
from orchestrator.store.roles import PREFIX, names, script


def roles(
    context: typer.Context,
    *,
    prefix: Annotated[str, typer.Option("--prefix", metavar="NAME", help="What the roles' names begin with.")] = PREFIX,
    apply: Annotated[bool, typer.Option("--apply", help="Install them, instead of printing how.")] = False,
    person: Annotated[str | None, typer.Option("--as", metavar="PERSON", help="Who does this; with --apply.")] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the audit trail; with --apply.")
    ] = None,
) -> None:
    """
    Print the roles of a PostgreSQL database as a script.

    For a database administrator, to be run in the orchestrator's database and schema
    after each `db upgrade`; it opens no database. With --apply it is run here, as one
    transaction with its entry `roles.granted`; that user must own the tables and may
    create roles. The same again changes nothing. A SQLite file has no roles: exit
    status 2, with what to do instead.
    """
    settings = settings_of(context)
    if composition.sqlite_path(settings.database_url) is not None:
        raise InvalidInput("database_url", "names a SQLite file", NO_ROLES)
    if not apply:
        if person is not None or reason is not None:
            raise InvalidInput("--apply", "is missing", "--as and --reason are for --apply; the script needs neither")
        typer.echo(script(prefix), nl=False)
        return
    if person is None or reason is None:
        missing = "--as" if person is None else "--reason"
        raise InvalidInput(missing, "is missing", "say who does this, and why, for the audit trail")
    here = Context(SystemClock().now(), actor(person), composition.origin(), version=VERSION)
    why = composition.DoorIntake().text("--reason", reason).strip()
    if not 1 <= len(why) <= MAX_REASON:
        raise InvalidInput("--reason", "is empty or too long", f"say why in 1 to {MAX_REASON} characters")
    run(install_roles(settings.database_url, prefix, here, reason=why))
    console().print(cell(f"granted: {', '.join(names(prefix).values())}", "green"), soft_wrap=True)
