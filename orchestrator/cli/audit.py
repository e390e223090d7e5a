"""
Commands for compliance staff.

Owns no check: `orchestrator.audit` does. Reads only, but for the entry that an
export leaves; needs no key, because nothing of the payer is in the trail.
Next: `upgrade`.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from orchestrator import composition, sealing
from orchestrator.audit.export import Exported, Wish, export
from orchestrator.audit.exported import ExportArchive, check_manifest, read_manifest
from orchestrator.audit.log import Evidence
from orchestrator.audit.notes import LONGEST_NOTE, read_note
from orchestrator.audit.verify import Report, verify
from orchestrator.audit.watchman import VERIFY, told_of
from orchestrator.cli.exits import FINDINGS
from orchestrator.cli.queries import From, To, when
from orchestrator.cli.records import print_json
from orchestrator.cli.session import Json, Person, actor, reading, run, settings_of, writing
from orchestrator.cli.show import cell, console, new_table
from orchestrator.clock import SystemClock
from orchestrator.domain.entry import Context, instant
from orchestrator.domain.errors import InvalidInput
from orchestrator.orchestrator import VERSION
from orchestrator.settings import Settings

app = typer.Typer(help="The audit trail.", no_args_is_help=True)


class Form(StrEnum):
    """The forms of an export."""

    JSONL = "jsonl"
    CSV = "csv"


@app.callback()
def group() -> None:
    """The audit trail."""


Keys = Annotated[
    list[str] | None,
    typer.Option("--key", metavar="KEY", help="A verifier key that is trusted, instead of the settings' keys."),
]
Checkpoints = Annotated[
    list[Path] | None,
    typer.Option("--checkpoint", metavar="FILE", help="An old checkpoint, kept elsewhere, to hold the log against."),
]
Sinks = Annotated[
    list[Path] | None,
    typer.Option("--sink", metavar="FILE", help="A sink's file, instead of the settings' one."),
]
Announced = Annotated[
    bool,
    typer.Option(
        "--announced", help="Also find entries that no process has told a sink of; give every host's sink for that."
    ),
]
After = Annotated[
    Path | None,
    typer.Option("--after", metavar="FILE", help="Verify only what came after this checkpoint."),
]
Exports = Annotated[
    Path | None,
    typer.Option(
        "--export", metavar="FILE", help="Verify this export instead of the database, with FILE.manifest.json."
    ),
]


@app.command("verify")
def verify_trail(
    context: typer.Context,
    *,
    key: Keys = None,
    checkpoint: Checkpoints = None,
    sink: Sinks = None,
    announced: Announced = False,
    after: After = None,
    record: Annotated[bool, typer.Option("--record", help="Write down the result, and a failure as one.")] = False,
    person: Person = None,
    exported: Exports = None,
    as_json: Json = False,
) -> None:
    """
    Check the whole trail.

    Rows, chains, replayed states, columns against bodies, what must be true of
    every payment; leaves, roots and signatures; checkpoints and hashes that were
    kept elsewhere. With --after, what came after a checkpoint: its leaves, and whole
    the chains that have grown since. With --export, an export instead of the database: then only
    its files are needed. Reads only, but for --record: an entry `audit.verified`, and
    a failure of the control if anything does not hold; then the exit status is 1.
    """
    settings = settings_of(context)
    if exported is not None and sink is None:
        sink = []  # the settings' sink is of another moment
    evidence = evidence_of(settings, key or (), checkpoint or (), sink, announced=announced)
    if record and exported is not None:
        raise InvalidInput("--record", "does not go with --export", "an export has nothing to write to")
    here = Context(SystemClock().now(), actor(person), composition.origin(), version=VERSION)
    if after is not None:
        evidence = replace(evidence, after=(str(after), read_note(text_of(after), str(after))))

    async def work() -> Report:
        if exported is not None:
            return await _verified(exported, evidence)
        async with reading(settings) as store:
            report = await verify(store, evidence=evidence)
        if record:
            await _recorded(settings, report, here)
        return report

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


async def _recorded(settings: Settings, report: Report, here: Context) -> None:
    """Write down that somebody has verified the trail, and what came of it."""
    async with writing(settings, notes_only=True) as store:
        counted = {name: report.counts[name] for name in ("entries", "leaves", "findings")}
        result = "success" if report.clean else "failure"
        await store.note("audit.verified", about="trail", context=here, details=counted, result=result)
        if not report.clean:
            await store.fail_control(VERIFY, told_of(report), here)


async def _verified(exported: Path, evidence: Evidence) -> Report:
    """Verify an export."""
    manifest = read_manifest(exported)
    if evidence.after is not None:
        raise InvalidInput("--after", "does not go with --export", "an export is read whole")
    if evidence.sinks and not manifest.whole:
        raise InvalidInput("--sink", "tells of more than an export of a period holds", "export the whole trail")
    found = list(check_manifest(manifest, evidence.keys))
    if found or manifest.told["form"] != "jsonl":
        counts = {"findings": len(found), "entries": manifest.told["entries"]}
        return Report(tuple(found), counts)
    note = manifest.checkpoint
    notes = evidence.notes if note is None else [("the manifest's checkpoint", note), *evidence.notes]
    return await verify(ExportArchive(manifest), evidence=replace(evidence, notes=notes))


def evidence_of(
    settings: Settings, keys: Sequence[str], checkpoints: Sequence[Path], sinks: Sequence[Path] | None,
    *, announced: bool = False,
) -> Evidence:  # fmt: skip
    """
    Gather what a trail is held against.

    Raises:
        InvalidInput: A key is malformed, or a file is none or no checkpoint.
    """
    if sinks is None:
        own = sealing.file_sink(settings)
        sinks = [own.path] if own is not None and own.path.exists() else []
    notes = [(str(path), read_note(text_of(path), str(path))) for path in checkpoints]
    return Evidence(sealing.verifiers(settings, keys), notes, sinks, announced=announced)


def text_of(path: Path) -> str:
    """Give a checkpoint's text; raises `InvalidInput`."""
    try:
        with path.open("rb") as file:
            return file.read(LONGEST_NOTE + 1).decode()
    except OSError as error:
        problem = f"{path} can't be read ({type(error).__name__})"
        raise InvalidInput("--checkpoint", problem, "check the path") from None
    except UnicodeDecodeError:
        raise InvalidInput("--checkpoint", f"{path} is no text", "give a checkpoint's note") from None


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


Output = Annotated[Path, typer.Option("--output", metavar="FILE", help="The new file; must not exist.")]


@app.command("export")
def export_trail(
    context: typer.Context,
    *,
    output: Output,
    since: From = None,
    until: To = None,
    form: Annotated[Form, typer.Option("--format", help="JSON Lines, which can be verified, or CSV.")] = Form.JSONL,
    person: Person = None,
    as_json: Json = False,
) -> None:
    """
    Write the trail to files.

    Each entry's hash and the very text it was made of, hash = SHA-256(0x00 || body),
    by chain and number; beside them the log's leaves and a signed manifest. With
    --from and --to, whole chains that have an entry between them. The export is itself
    an entry (PCI DSS v4.0.1 requirement 10.2.1.3). Stopped at any moment, there is no
    manifest, and so no export, or all of it.
    """
    settings = settings_of(context)
    first, last, who = when("--from", since), when("--to", until), actor(person)
    if first and last and first >= last:
        raise InvalidInput("--to", "is not after --from", "swap them")

    async def work() -> Exported:
        async with reading(settings) as store:

            async def told(exported: Exported) -> None:
                details = {
                    "entries": exported.entries, "chains": exported.chains, "sha256": exported.sha256,
                    "since": _instant(first), "until": _instant(last),
                }  # fmt: skip
                here = Context(SystemClock().now(), who, composition.origin(), version=VERSION)
                await store.note("audit.exported", about="trail", context=here, details=details)

            here = Context(SystemClock().now(), who, composition.origin(), version=VERSION)
            said = {"at": instant(here.now), "by": who, "software": VERSION}
            return await export(store, output, told, Wish(first, last, form.value, said, sealing.keys(settings)))

    exported = run(work())
    if as_json:
        print_json({
            "file": str(output), "entries": exported.entries, "chains": exported.chains, "sha256": exported.sha256,
            "manifest": exported.manifest,
        })  # fmt: skip
        return
    words = f"{exported.entries} entries of {exported.chains} chains in {output}, SHA-256 {exported.sha256}"
    console().print(cell(words, "green"), soft_wrap=True)
    if not exported.manifest["signed"]:
        console().print(cell("the manifest is not signed: there is no signing key here", "yellow"), soft_wrap=True)


def _instant(at: datetime | None) -> str | None:
    return None if at is None else instant(at)
