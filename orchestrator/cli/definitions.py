"""
Commands on definitions: check documents, show the ones in use.

Owns no rule of the language; `interactions.lint` does. What is shown is masked:
literal secrets were lifted out when the document was read. Next: `database`.
"""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator import composition
from orchestrator.cli.exits import FINDINGS
from orchestrator.cli.records import print_json
from orchestrator.cli.session import Json, known_account, settings_of
from orchestrator.cli.show import cell, console
from orchestrator.domain.errors import ConfigurationError, InvalidInput
from orchestrator.interactions import BUNDLED, Finding, bundled, lint

app = typer.Typer(help="The provider's calls as <ApiInteraction> documents.", no_args_is_help=True)

MAX_DOCUMENT = 1024 * 1024


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="The documents.", show_default=False)],
    supplied: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", show_default=False,
            help="A name that somebody supplies; repeat it. With it, names that nobody supplies are errors.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """
    Report all that is wrong with documents.

    With file, line and element. Exit status 1 if one can't run like this.
    """
    found = [(file, finding) for file in files for finding in _lint(file, supplied)]
    if as_json:
        print_json([_record(file, finding) for file, finding in found])
    else:
        _print(len(files), found)
    if any(finding.severity == "error" for _, finding in found):
        raise typer.Exit(FINDINGS)


@app.command()
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(BUNDLED)}.", show_default=False)],
    account: Annotated[
        str | None, typer.Option(help="The one that this account uses, masked.", show_default=False)
    ] = None,
) -> None:
    """Print a bundled definition or an account's own."""
    if name not in BUNDLED:
        raise InvalidInput("NAME", "is not a definition", f"use one of {', '.join(BUNDLED)}")
    if account is None:
        typer.echo(bundled(name))
        return
    settings = settings_of(context)
    known_account(settings, account, "--account")
    typer.echo(composition.load_definitions(settings).by_account[account][name].text)


def _lint(file: Path, supplied: list[str] | None) -> list[Finding]:
    try:
        with file.open("rb") as source:
            content = source.read(MAX_DOCUMENT + 1)
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        problem = f"can't be read ({type(error).__name__})"
    else:
        if len(content) <= MAX_DOCUMENT:
            return lint(text, name=file.name, supplied=supplied)
        problem = f"is longer than {MAX_DOCUMENT} bytes"
    raise ConfigurationError(str(file), problem, "give an <ApiInteraction> document in UTF-8")


def _record(file: Path, finding: Finding) -> dict[str, object]:
    return {
        "file": str(file), "line": finding.line, "element": finding.element,
        "severity": finding.severity, "message": finding.message,
    }  # fmt: skip


def _print(files: int, found: list[tuple[Path, Finding]]) -> None:
    out = console()
    for file, finding in found:
        style = "red" if finding.severity == "error" else "yellow"
        element = f" <{finding.element}>" if finding.element else ""
        line = f"{file}:{finding.line}{element}: {finding.severity}: {finding.message}"
        out.print(cell(line, style), soft_wrap=True)
    errors = sum(finding.severity == "error" for _, finding in found)
    warnings = len(found) - errors
    out.print(cell(f"{files} checked: {errors} errors, {warnings} warnings", "red" if errors else "green"))
