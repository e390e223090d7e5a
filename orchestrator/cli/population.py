"""
Commands on the population that an auditor works with: is it complete, and a sample of it.

Owns no count and no rule of drawing: `orchestrator.audit.completeness` and `.sample` do.
Next: `reviews`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator import composition, sealing
from orchestrator.audit.completeness import COUNTED, Completeness, completeness
from orchestrator.audit.notes import LONGEST_NOTE, Note, Verifier, read_note
from orchestrator.audit.periods import Ledger, Period, signers
from orchestrator.audit.sample import ENTRIES, MOST_ITEMS, PAYMENTS, RULE, Sample, draw, population_of
from orchestrator.cli.exits import FINDINGS
from orchestrator.cli.queries import when
from orchestrator.cli.records import print_json
from orchestrator.cli.session import Json, Person, actor, reading, run, settings_of, writing
from orchestrator.cli.show import cell, console, new_table
from orchestrator.clock import SystemClock
from orchestrator.compliance import Seal
from orchestrator.domain.entry import Context, instant
from orchestrator.domain.errors import InvalidInput
from orchestrator.orchestrator import VERSION
from orchestrator.settings import Settings

MOST_NONCE = 200

Since = Annotated[str | None, typer.Option("--from", metavar="TIME", help="Then or later; ISO 8601, UTC by default.")]
Until = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Before; ISO 8601, UTC by default.")]
Keys = Annotated[
    list[str] | None,
    typer.Option("--key", metavar="KEY", help="A verifier key that is trusted, instead of the settings'; repeatable."),
]

app = typer.Typer()


def period_of(since: str | None, until: str | None) -> Period:
    """
    Read a period of the command line.

    Raises:
        InvalidInput: An end is no instant, or they are the wrong way round.
    """
    first, last = when("--from", since), when("--to", until)
    if first is not None and last is not None and first >= last:
        raise InvalidInput("--to", "is not after --from", "swap them: --from counts, --to no longer does")
    return Period(first, last)


def context_of(person: str | None) -> Context:
    """Say who acts now, from here."""
    return Context(SystemClock().now(), actor(person), composition.origin(), version=VERSION)


@app.command("completeness")
def show_completeness(
    context: typer.Context, *, since: Since = None, until: Until = None, key: Keys = None, as_json: Json = False
) -> None:
    """
    Show that nothing is missing.

    Leaves without a gap under the newest signed checkpoint, chains without a gap,
    a first entry for every payment, a word on what came of every session that was
    asked for. Prints counts by day (UTC), to be compared with other books. Reads
    only. Exit status 1 if anything is missing.
    """
    settings, period = settings_of(context), period_of(since, until)
    trusted = sealing.verifiers(settings, key or ())

    async def work() -> Completeness:
        async with reading(settings) as store:
            return await completeness(store, period, trusted)

    found = run(work())
    if as_json:
        print_json(_complete(found))
    else:
        _print_complete(found)
    if found.missing:
        raise typer.Exit(FINDINGS)


def _complete(found: Completeness) -> dict[str, Any]:
    trail = {name: getattr(found, name) for name in ("entries", "chains", "payments", "leaves", "unsealed")}
    return {
        "complete": not found.missing, **found.period.told, "checkpoint": _seal(found.seal, found.signed_by),
        "trail": trail, "totals": found.totals,
        "days": {day: {name: counted[name] for name in COUNTED} for day, counted in found.days.items()},
        "missing": found.missing,
        "gaps": [{"kind": gap.kind, "about": gap.about, "what": gap.what} for gap in found.gaps],
    }  # fmt: skip


def _seal(seal: Seal | None, signed_by: Sequence[str]) -> dict[str, Any] | None:
    if seal is None:
        return None
    told = {"size": seal.size, "root": seal.root.hex(), "at": instant(seal.created_at), "note": seal.note}
    return told | {"signed_by": list(signed_by)}


def _print_complete(found: Completeness) -> None:
    out = console()
    days = new_table("day", *(name.replace("_", " ") for name in COUNTED))
    for day, counted in [*found.days.items(), ("total", found.totals)]:
        days.add_row(cell(day, "bold" if day == "total" else ""), *(cell(str(counted[name])) for name in COUNTED))
    out.print(days)
    if found.gaps:
        gaps = new_table("kind", "about", "what is missing")
        for gap in found.gaps:
            gaps.add_row(cell(gap.kind, "red"), cell(gap.about), cell(gap.what))
        out.print(gaps)
    signed = f", signed by {', '.join(found.signed_by)}" if found.signed_by else ""
    sealed = "no checkpoint" if found.seal is None else f"the checkpoint over {found.seal.size} leaves{signed}"
    whole = f"{found.entries} entries in {found.chains} chains of {found.payments} payments, {found.unsealed} unsealed"
    words = f"{found.missing} gaps" if found.missing else "nothing is missing"
    out.print(cell(f"{words}: {whole}; {sealed}", "red" if found.missing else "green"), soft_wrap=True)


@app.command("sample")
def draw_sample(
    context: typer.Context,
    *,
    number: Annotated[int, typer.Option("-n", "--number", help="How many to draw.", min=1, max=MOST_ITEMS)],
    since: Since = None,
    until: Until = None,
    nonce: Annotated[str, typer.Option("--nonce", metavar="TEXT", help="The auditor's own words, told last.")] = "",
    seed_from_checkpoint: Annotated[
        bool, typer.Option("--seed-from-checkpoint", help="The newest checkpoint is the seed, as without this.")
    ] = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint", metavar="FILE", help="An older checkpoint as the seed, as `audit seal` printed it."
        ),
    ] = None,
    entries: Annotated[bool, typer.Option("--entries", help="Draw entries of the trail, not payments.")] = False,
    key: Keys = None,
    person: Person = None,
    as_json: Json = False,
) -> None:
    """
    Draw a sample that neither side can steer.

    The items are ordered by the SHA-256 of the checkpoint's root, the nonce and the
    leaf index of the item's first entry, and the first are taken: whoever has the
    checkpoint and an export draws the same ones. Fix the checkpoint first, then let
    the auditor choose the nonce. The drawing is itself an entry (`audit.sampled`).
    """
    del seed_from_checkpoint  # there is no other seed
    settings, period, here = settings_of(context), period_of(since, until), context_of(person)
    word = composition.DoorIntake().text("--nonce", nonce)
    if len(word) > MOST_NONCE:
        raise InvalidInput("--nonce", "is too long", f"use at most {MOST_NONCE} characters")
    trusted, given = sealing.verifiers(settings, key or ()), None if checkpoint is None else _note_in(checkpoint)
    what = ENTRIES if entries else PAYMENTS

    async def work() -> dict[str, Any]:
        async with writing(settings) as store:
            async with store.ledger() as ledger:
                seal, signed_by = await _seed(ledger, given, trusted, settings)
                drawn = await draw(population_of(ledger, period, seal.size, what), seal.root, word, number)
            told = {"of": what, "number": number, "population": drawn.population, "nonce": word} | period.told
            details = told | {"checkpoint": seal.size, "root": seal.root.hex(), "drawn": len(drawn.items)}
            await store.note("audit.sampled", about="trail", context=here, details=details)
            return told | {"checkpoint": _seal(seal, signed_by), "rule": RULE, "items": _items(drawn)}

    found = run(work())
    if as_json:
        print_json(found)
    else:
        _print_sample(found)


def _note_in(file: Path) -> Note:
    try:
        with file.open("rb") as opened:
            text = opened.read(LONGEST_NOTE + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        problem = f"{file} can't be read ({type(error).__name__})"
        raise InvalidInput("--checkpoint", problem, "give a file that `orchestrator audit seal` has printed") from None
    return read_note(text, "--checkpoint")


async def _seed(
    ledger: Ledger, given: Note | None, trusted: Sequence[Verifier], settings: Settings
) -> tuple[Seal, Sequence[str]]:
    """Give the checkpoint that is the seed: one of this very log, signed by a key that is trusted."""
    name = "--seed-from-checkpoint" if given is None else "--checkpoint"
    seal = await ledger.newest() if given is None else await ledger.seal_of_size(given.checkpoint.size)
    if given is None and seal is None:
        raise InvalidInput(name, "there is none yet", "run `orchestrator audit seal`")
    if given is not None:
        ours = given.checkpoint.log == settings.seal.name and given.checkpoint.life in await ledger.lives()
        if not ours:
            raise InvalidInput(name, "is another log's", "give one of this database's checkpoints")
    if seal is None or (given is not None and given.checkpoint.root != seal.root):
        fix = "see `orchestrator audit verify`: one of them was changed"
        raise InvalidInput(name, "is not in this database", fix)
    note = read_note(seal.note, name) if given is None else given
    return seal, signers(note, trusted, name)


def _items(drawn: Sample) -> list[dict[str, Any]]:
    return [
        {"chain_id": item.chain_id, "seq": item.seq, "leaf": item.leaf, "order": item.order.hex()}
        for item in drawn.items
    ]  # fmt: skip


def _print_sample(found: dict[str, Any]) -> None:
    table = new_table("#", "chain", "entry", "leaf", "order")
    for place, item in enumerate(found["items"], 1):
        table.add_row(
            cell(str(place)), cell(item["chain_id"]), cell(str(item["seq"])), cell(str(item["leaf"])),
            cell(item["order"][:16], "dim"),
        )  # fmt: skip
    out, seal = console(), found["checkpoint"]
    out.print(table)
    out.print(cell(f"{len(found['items'])} of {found['population']} {found['of']}", "green"), soft_wrap=True)
    out.print(cell(f"checkpoint: {seal['size']} leaves, root {seal['root']}, signed by {', '.join(seal['signed_by'])}"))
    out.print(cell(f"nonce: {found['nonce'] or '(none)'}"), soft_wrap=True)
    out.print(cell(f"rule: {found['rule']}"), soft_wrap=True)
