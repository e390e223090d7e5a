"""
The commands put together, and `main`.

Owns the tree of commands and what becomes of an error: one red line, never a
traceback with values in it. Next: `payments`.
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import (
    accounts,
    audit,
    database,
    definitions,
    demo,
    erase,
    payments,
    population,
    queries,
    reconcile,
    refused,
    reviews,
    roles,
    run,
    seal,
    serve,
    session,
)
from orchestrator.cli.diagram import diagram
from orchestrator.cli.exits import CLOSED_PIPE, status_of, tell, tell_usage
from orchestrator.cli.upgrade import check_upgrade
from orchestrator.cli.watch import watch

STANDARD_OUTPUT = 1

_called: ContextVar[session.Called | None] = ContextVar("called", default=None)
"""How the program was called, for what is done after a command has failed."""

app = typer.Typer(
    name="orchestrator",
    help="A durable payment orchestrator for Vonage Contact Center IVR Secure Payments.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # its tracebacks show values
    add_completion=False,
    rich_markup_mode=None,  # help texts are plain: no bracket in one is markup
    context_settings={"max_content_width": 110},
)


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="PATH", help="The settings file; ORCHESTRATOR_CONFIG or ./orchestrator.toml."),
    ] = None,
) -> None:
    """Run payments, look at them, prove their trail. Exit status: 0 fine, 1 findings, 2 usage, 3 unavailable."""
    context.obj = session.Called(config)
    _called.set(context.obj)


app.command("demo")(demo.demo)
app.command("sandbox")(run.sandbox)
app.command("worker")(run.worker)
app.command("serve")(serve.serve)
for command in (payments.submit, payments.collect, payments.cancel, payments.resolve, payments.acknowledge):
    app.command()(command)
app.command("show")(queries.show)
app.command("list")(queries.list_)
app.command("watch")(watch)
app.command("explain")(queries.explain)
app.command("health")(serve.health)
app.add_typer(accounts.app, name="accounts")
app.add_typer(definitions.app, name="definitions")
database.app.command("rotate-keys")(erase.rotate_keys)
database.app.command("roles")(roles.roles)
app.add_typer(database.app, name="db")
audit.app.command("erase")(erase.erase)
for part in (seal, population, reconcile):
    audit.app.add_typer(part.app)  # without a name of its own: its commands are audit's
audit.app.add_typer(reviews.app, name="review")
app.add_typer(audit.app, name="audit")
app.add_typer(database.settings_app, name="settings")
app.command("check-upgrade")(check_upgrade)
app.command("diagram")(diagram)


def main(argv: Sequence[str] | None = None) -> None:
    """
    Run one command and exit with its status.

    Args:
        argv: The arguments; those of the process by default.

    Crash:
        As the command says; nothing is kept here.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a test's stream may be of another kind
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # text streams can
    sys.exit(execute(argv))


def execute(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status; errors are told on standard error."""
    try:
        status = app(args=argv, prog_name="orchestrator", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        return tell_usage(error)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except (BrokenPipeError, SystemExit):
        # Whoever read our output has seen enough. Typer exits with 1 then, which is our word for findings;
        # nothing else in a command exits like that. The interpreter would complain at its own last flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), STANDARD_OUTPUT)
        return CLOSED_PIPE
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback with values
        called = _called.get()
        refused.note(error, called.config if called is not None else None)
        tell(error)
        return status_of(error)
    return status if isinstance(status, int) else 0
