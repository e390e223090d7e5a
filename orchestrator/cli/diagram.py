"""
`orchestrator diagram`: the machine as a picture, or the path that one payment took.

Owns the command and the writing of the files in `diagrams/`; the text is made in
`diagrams`. Must not know how a picture is laid out. Next: `cli.app`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.session import reading, run, settings_of
from orchestrator.diagrams import flow_text, machine_text, path_text
from orchestrator.domain.entry import Entry
from orchestrator.domain.errors import InvalidInput, NotFound
from orchestrator.settings import Settings

FILES = {"machine.mmd": machine_text, "flow.mmd": flow_text}
"""What `--write` writes: name to maker."""


def diagram(
    context: typer.Context,
    payment: Annotated[
        str | None, typer.Argument(help="A payment's id: draw the path that it took.", show_default=False)
    ] = None,
    *,
    flow: Annotated[bool, typer.Option("--flow", help="The flow of one payment instead of the machine.")] = False,
    write: Annotated[
        Path | None,
        typer.Option(help="Write machine.mmd and flow.mmd into this directory instead.", metavar="DIRECTORY"),
    ] = None,
) -> None:
    """Print the machine, or the path that one payment took, as a Mermaid diagram."""
    if payment is not None and (write is not None or flow):
        raise InvalidInput("payment", "can't be drawn together with --flow or --write", "give one of them")
    if write is not None:
        written(write)
    elif payment is not None:
        typer.echo(path_text(run(_entries(settings_of(context), payment))), nl=False)
    else:
        typer.echo(flow_text() if flow else machine_text(), nl=False)


def written(directory: Path) -> None:
    """
    Write each file of `FILES`.

    Args:
        directory: Where to; it must exist.

    Raises:
        InvalidInput: It can't be written to.

    Crash:
        Each file is written by itself: some may be new and some old. Run it again.
    """
    for name, text in FILES.items():
        try:
            (directory / name).write_text(text(), encoding="utf-8", newline="\n")
        except OSError as error:
            raise InvalidInput("write", f"{name} can't be written ({type(error).__name__})", "create it") from None


async def _entries(settings: Settings, payment_id: str) -> Sequence[Entry]:
    async with reading(settings) as store:
        entries = await store.entries(payment_id)
    if not entries:
        raise NotFound("no payment has this id; `orchestrator list` gives ids")
    return entries
