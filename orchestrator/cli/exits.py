"""
What an error looks like to the person at the keyboard, and to the shell.

Owns exit statuses and the one red line. Texts of our own errors never hold
values; texts of any other exception may, so those are not shown. Next: `demo_script`.
"""

import sys
import traceback

import typer
from rich.console import Console
from rich.text import Text

from orchestrator.domain.errors import (
    ConfigurationError,
    ControlFailed,
    Fenced,
    IntegrityViolated,
    InvalidInput,
    NotFound,
    OrchestratorError,
    Unavailable,
)

FINDINGS, USAGE, UNAVAILABLE, DEFECT, CLOSED_PIPE = 1, 2, 3, 70, 141

_EXTRA, _HELP = "Got unexpected extra argument", "Usage:"


def status_of(error: BaseException) -> int:
    """Give the exit status for an error."""
    match _first(error):
        case InvalidInput() | ConfigurationError() | NotFound():
            return USAGE
        case Unavailable() | Fenced() | ControlFailed():
            return UNAVAILABLE
        case IntegrityViolated():
            return FINDINGS
    return DEFECT


def tell(error: BaseException) -> None:
    """Write what went wrong to standard error; of a defect only where, since its text may hold values."""
    first = _first(error)
    if isinstance(first, OrchestratorError):
        red(str(first))
        return
    where = "".join(traceback.format_tb(first.__traceback__))
    red(f"a defect of this program: {type(first).__name__}\n{where.rstrip()}")


def tell_usage(error: typer.TyperException) -> int:
    """Write what is wrong with the arguments and give the exit status; an argument's text is not repeated."""
    text = error.format_message()
    if text.startswith(_HELP):  # a group without a command
        sys.stderr.write(f"{text}\n")
        return error.exit_code
    if text.startswith(_EXTRA):
        # What is left over is often the second word of a payer's name.
        text = 'an argument belongs to no option; quote values that hold spaces, like --field "NAME=two words"'
    context = getattr(error, "ctx", None)
    red(text.rstrip(".") + (f"; see {context.command_path} --help" if context is not None else ""))
    return error.exit_code


def red(text: str) -> None:
    """Write one error to standard error, in red on a terminal."""
    Console(file=sys.stderr, highlight=False, soft_wrap=True).print(Text(f"error: {text}", style="red"))


def _first(error: BaseException) -> BaseException:
    """Give the error itself, or of a group the one to tell: ours before others."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    members = [_first(member) for member in error.exceptions]
    return next((member for member in members if isinstance(member, OrchestratorError)), members[0])
