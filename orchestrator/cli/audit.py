"""
Commands for compliance staff.

Owns no check: `orchestrator.audit` does. Reads only; needs no key, because
nothing of the payer is in the trail. Next: `records`.
"""

import typer
from rich.console import Console

from orchestrator.audit.verify import Report, verify
from orchestrator.cli.exits import FINDINGS
from orchestrator.cli.records import print_json
from orchestrator.cli.session import Json, reading, run, settings_of
from orchestrator.cli.show import cell, console, new_table

app = typer.Typer(help="The audit trail.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """The audit trail."""


@app.command("verify")
def verify_trail(context: typer.Context, as_json: Json = False) -> None:
    """
    Check the whole trail.

    Rows, chains, replayed states, columns against bodies, and what must be true
    of every payment. Reads only. Exit status 1 if anything does not hold.
    """
    settings = settings_of(context)

    async def work() -> Report:
        async with reading(settings) as store:
            return await verify(store)

    report = run(work())
    if as_json:
        print_json({
            "clean": report.clean, "counts": report.counts,
            "findings": [
                {"kind": found.kind, "chain_id": found.chain_id, "seq": found.seq, "what": found.what}
                for found in report.findings
            ],
        })  # fmt: skip
    else:
        print_report(report, console())
    if not report.clean:
        raise typer.Exit(FINDINGS)


def print_report(report: Report, out: Console) -> None:
    """Print the findings, if any, and the counts."""
    if not report.clean:
        table = new_table("kind", "chain", "entry", "what")
        for found in report.findings:
            seq = "" if found.seq is None else str(found.seq)
            table.add_row(cell(found.kind, "red"), cell(found.chain_id), cell(seq), cell(found.what))
        out.print(table)
    counted = ", ".join(f"{count} {name}" for name, count in sorted(report.counts.items()) if "." not in name)
    words = "the trail is clean" if report.clean else f"{len(report.findings)} findings"
    out.print(cell(f"{words}: {counted}", "green" if report.clean else "red"), soft_wrap=True)
