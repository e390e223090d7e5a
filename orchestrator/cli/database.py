"""
Commands on the database's schema and on the settings.

Owns no schema: `store.migrate` does. No URL is printed with its password.
Next: `audit`.
"""

import secrets
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import composition
from orchestrator.cli.exits import FINDINGS
from orchestrator.cli.records import print_json
from orchestrator.cli.session import Json, Person, actor, run, settings_of
from orchestrator.cli.show import cell, console
from orchestrator.clock import SystemClock
from orchestrator.domain.entry import Context
from orchestrator.domain.errors import InvalidInput
from orchestrator.orchestrator import VERSION
from orchestrator.settings import Settings
from orchestrator.store import backup as backups
from orchestrator.store import migrate
from orchestrator.store.restored import begin_anew

MAX_REASON = 200

app = typer.Typer(help="The database's schema.", no_args_is_help=True)
settings_app = typer.Typer(help="The settings in force.", no_args_is_help=True)


@app.command()
def upgrade(context: typer.Context, person: Person = None, as_json: Json = False) -> None:
    """
    Bring the database to this version.

    A SQLite file is made if there is none. The change is an entry, `schema.upgraded`.
    Stopped at any moment, the database is as it was before or upgraded.
    """
    settings = settings_of(context)
    here = Context(SystemClock().now(), actor(person), composition.origin(), version=VERSION)
    _print(settings, run(migrate.upgrade(settings.database_url, here)), as_json=as_json)


@app.command()
def check(context: typer.Context, as_json: Json = False) -> None:
    """
    Tell where the database stands.

    Also what in it differs from a fresh one. Exit status 1 unless all is well.
    """
    settings = settings_of(context)
    status = run(migrate.check(settings.database_url))
    _print(settings, status, as_json=as_json)
    if not status.fine:
        raise typer.Exit(FINDINGS)


@app.command()
def backup(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The copy; must not exist.", show_default=False)],
    as_json: Json = False,
) -> None:
    """
    Copy a SQLite database while it is worked on.

    One moment, verified, and readable by its owner alone. PostgreSQL has its own
    tools. Exit status 1 if what was copied differs from a fresh database. Stopped
    at any moment, FILE is a whole copy or not there.
    """
    settings = settings_of(context)
    made = run(backups.backup(settings.database_url, file))
    path = composition.sqlite_path(settings.database_url)
    key = f"{path}.key" if settings.sealing_key is None else "sealing_key"
    if as_json:
        print_json({
            "file": str(made.file), "bytes": made.size, "revision": made.status.revision,
            "standing": made.status.standing.value, "drift": list(made.status.drift),
        })  # fmt: skip
    else:
        out = console()
        copied = f"{made.file}: {made.size} bytes, verified, {made.status.standing.value}"
        out.print(cell(f"{copied}, revision {made.status.revision}"), soft_wrap=True)
        out.print(cell(f"payer data in it opens with {key} alone: keep that too, and elsewhere"), soft_wrap=True)
        for line in made.status.drift:
            out.print(cell(line, "red"), soft_wrap=True)
    if made.status.drift:
        raise typer.Exit(FINDINGS)


@app.command()
def restored(
    context: typer.Context,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why, for the audit trail.", show_default=False)
    ],
    person: Annotated[str, typer.Option("--as", metavar="PERSON", help="Who says so.", show_default=False)],
    as_json: Json = False,
) -> None:
    """
    Say that the database was put back from an older copy, and go on.

    Every payment that has not ended is held, every claim is freed, and a new life
    of the database begins; running workers go on by themselves. Stopped at any
    moment, the same command again does the rest.
    """
    settings = settings_of(context)
    name, why = actor(person), composition.DoorIntake().text("--reason", reason).strip()
    if not 1 <= len(why) <= MAX_REASON:
        raise InvalidInput("--reason", "is empty or too long", f"say why in 1 to {MAX_REASON} characters")
    clock = SystemClock()
    done = run(
        begin_anew(
            settings.database_url, composition.mark_file(settings),
            lambda: Context(clock.now(), name, composition.origin(), version=VERSION),
            reason=why, new_id=secrets.token_hex(16), longest_s=composition.longest_life_s(settings),
        )
    )  # fmt: skip
    if as_json:
        newest = done.newest.isoformat() if done.newest is not None else None
        print_json({"incarnation": done.incarnation, "previous": done.previous, "held": done.held, "newest": newest})
        return
    out = console()
    out.print(cell(f"a new life begins: {done.incarnation}, after {done.previous}"), soft_wrap=True)
    out.print(cell(f"payments held: {done.held}; see `orchestrator list --held`"), soft_wrap=True)
    since = f"after {done.newest:%Y-%m-%d %H:%M:%S} UTC" if done.newest is not None else "ever"
    out.print(cell(f"what was submitted {since} is not in this copy: look it up at the provider"), soft_wrap=True)


@settings_app.command("show")
def show_settings(context: typer.Context) -> None:
    """Print all settings as JSON, secrets masked."""
    print_json(settings_of(context).describe())


def _print(settings: Settings, status: migrate.Status, *, as_json: bool) -> None:
    if as_json:
        print_json({
            "standing": status.standing.value, "revision": status.revision, "head": status.head,
            "drift": list(status.drift), "fine": status.fine,
        })  # fmt: skip
        return
    out = console()
    where = settings.describe()["database_url"]
    at = f"revision {status.revision}" if status.revision else "no revision"
    out.print(cell(f"{where}: {status.standing.value}, {at}, needed is {status.head}"), soft_wrap=True)
    for line in status.drift:
        out.print(cell(line, "red"), soft_wrap=True)
