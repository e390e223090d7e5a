"""
Commands of whoever reviews the trail: what the rules find, signing it, closing it.

Owns no rule: `orchestrator.audit.rules` does; and not who may sign: the store does. Next: `reconcile`.
"""

import hashlib
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from orchestrator import composition
from orchestrator.audit.review import Limits, Reviewed, review, review_of
from orchestrator.audit.rules import RULES, RULES_VERSION
from orchestrator.audit.sealer import Terms
from orchestrator.cli.exits import FINDINGS
from orchestrator.cli.population import Since, Until, context_of, period_of
from orchestrator.cli.queries import when
from orchestrator.cli.records import print_json
from orchestrator.cli.session import Json, reading, run, settings_of, writing
from orchestrator.cli.show import cell, console, new_table
from orchestrator.clock import SystemClock
from orchestrator.compliance import Review, Signed
from orchestrator.domain.entry import instant
from orchestrator.domain.errors import InvalidInput
from orchestrator.settings import Settings

MAX_TEXT, MAX_TICKET = 2000, 200
_DAY = timedelta(days=1)

Reviewer = Annotated[str, typer.Option("--as", metavar="PERSON", help="Who says so.", show_default=False)]

app = typer.Typer(help="Review the trail (PCI DSS v4.0.1, 10.4).")


@app.callback(invoke_without_command=True)
def show_findings(
    context: typer.Context,
    *,
    day: Annotated[str | None, typer.Option("--day", metavar="DATE", help="One day, UTC, like 2026-11-24.")] = None,
    since: Since = None,
    until: Until = None,
    as_json: Json = False,
) -> None:
    """
    Run the rules over a period and print what a person should look at.

    Reads only. Exit status 1 if anything was found. `sign` writes down who has
    reviewed it; `close` what became of the findings; `list` prints both.
    """
    if context.invoked_subcommand is not None:
        if day is not None or since is not None or until is not None or as_json:
            raise InvalidInput("audit review", "has options before its command", "write them behind it")
        return
    first, last = _span(day, since, until)
    settings = settings_of(context)

    async def work() -> Reviewed:
        async with reading(settings) as store:
            return await review(store, first, last, _limits(settings))

    found = run(work())
    if as_json:
        print_json({
            "since": instant(first), "until": instant(last), "rules_version": RULES_VERSION,
            "rules": {rule.id: rule.version for rule in RULES.values()},
            "checkpoint": None if found.checkpoint is None else found.checkpoint.size,
            "count": found.count, "counts": dict(found.counts), "digest": found.digest,
            "findings": [finding.told for finding in found.findings],
        })  # fmt: skip
    else:
        _print_findings(found)
    if found.count:
        raise typer.Exit(FINDINGS)


def _span(day: str | None, since: str | None, until: str | None) -> tuple[datetime, datetime]:
    if day is not None and (since is not None or until is not None):
        raise InvalidInput("--day", "goes with no --from and --to", "give one or the other")
    if day is not None:
        first = when("--day", day)
        if first is None or len(day) != len("2026-11-24"):
            raise InvalidInput("--day", "is not a day", "write it like 2026-11-24")
        try:
            return first, first + _DAY
        except OverflowError:
            raise InvalidInput("--day", "is not a day", "write it like 2026-11-24") from None
    period = period_of(since, until)
    if period.since is None or period.until is None:
        raise InvalidInput("--day", "is missing", "give --day, or --from and --to")
    return period.since, period.until


def _limits(settings: Settings) -> Limits:
    seal = timedelta(seconds=Terms(settings.seal.every_s, settings.seal.entries).late_s)
    return Limits(timedelta(seconds=settings.hold_age_s), seal, SystemClock().now())


def _print_findings(found: Reviewed) -> None:
    out = console()
    if found.findings:
        table = new_table("rule", "at", "about", "entry", "who", "what")
        for finding in found.findings:
            seq = "" if finding.seq is None else str(finding.seq)
            table.add_row(
                cell(finding.rule, "yellow"), cell(instant(finding.at)[:19]), cell(finding.about), cell(seq),
                cell(finding.actor), cell(finding.what),
            )  # fmt: skip
        out.print(table)
    counted = ", ".join(f"{number} {rule}" for rule, number in sorted(found.counts.items())) or "nothing to look at"
    out.print(cell(f"{counted}; {len(RULES)} rules, version {RULES_VERSION}", "yellow" if found.count else "green"))


@app.command("sign")
def sign(
    context: typer.Context,
    *,
    person: Reviewer,
    since: Since = None,
    until: Until = None,
    exceptions: Annotated[
        str, typer.Option("--exceptions", metavar="TEXT", help="What you say of the findings; no payer data.")
    ] = "",
    as_json: Json = False,
) -> None:
    """
    Sign that you have reviewed a period.

    The rules are run once more, and their findings kept with the newest checkpoint.
    Refused to whoever acted in the period, and while it has not ended. Stopped at
    any moment, it is signed, with its entry, or it is not.
    """
    first, last = _span(None, since, until)
    here, said = context_of(person), _text("--exceptions", exceptions, MAX_TEXT, least=0)
    settings = settings_of(context)

    async def work() -> tuple[int, Signed]:
        async with writing(settings) as store:
            async with store.ledger() as ledger:
                await store.demand_unbiased(ledger, first, last, here)
                found = await review_of(ledger, first, last, _limits(settings))
            signed = _signed(found, said)
            return await store.sign_review(signed, here), signed

    number, signed = run(work())
    if as_json:
        print_json({
            "number": number, "count": signed.count, "sha256": signed.sha256, "checkpoint": signed.checkpoint_size,
        })  # fmt: skip
        return
    words = f"review {number} is signed: {signed.count} findings"
    console().print(cell(words, "yellow" if signed.count else "green"))


def _signed(found: Reviewed, exceptions: str) -> Signed:
    text = found.text(exceptions)
    size = None if found.checkpoint is None else found.checkpoint.size
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Signed(found.since, found.until, RULES_VERSION, size, text, digest, found.count, size or 0)


@app.command("close")
def close(
    context: typer.Context,
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="As `list` prints it.", show_default=False)],
    *,
    person: Reviewer,
    disposition: Annotated[str, typer.Option("--disposition", metavar="TEXT", help="What became of the findings.")],
    ticket: Annotated[str, typer.Option("--ticket", metavar="TEXT", help="Where that is followed up.")],
) -> None:
    """
    Say what became of a review's findings, once (PCI DSS v4.0.1, 10.4.3).

    Stopped at any moment, it is closed, with its entry, or still open.
    """
    here = context_of(person)
    said = _text("--disposition", disposition, MAX_TEXT), _text("--ticket", ticket, MAX_TICKET)
    if not 0 < number < 1 << 62:
        raise InvalidInput("NUMBER", "is none of a review", "`orchestrator audit review list` gives them")
    settings = settings_of(context)

    async def work() -> None:
        async with writing(settings) as store:
            await store.close_review(number, *said, here)

    run(work())
    console().print(cell(f"review {number} is closed", "green"))


@app.command("list")
def list_reviews(context: typer.Context, as_json: Json = False) -> None:
    """Print the signed reviews, the newest first."""
    settings = settings_of(context)

    async def work() -> list[Review]:
        async with reading(settings) as store:
            return list(await store.reviews())

    found = run(work())
    if as_json:
        print_json([_told(one) for one in found])
        return
    table = new_table("number", "from", "to", "reviewer", "signed", "checkpoint", "disposition", "ticket", "closed by")
    for one in found:
        table.add_row(
            cell(str(one.id)), cell(instant(one.period_from)[:19]), cell(instant(one.period_to)[:19]),
            cell(one.reviewer), cell(instant(one.reviewed_at)[:19]), cell(str(one.checkpoint_size or "")),
            cell(one.disposition or "open", "" if one.disposition else "yellow"), cell(one.ticket or ""),
            cell(one.closed_by or ""),
        )  # fmt: skip
    console().print(table if found else cell("no review is signed yet"))


def _told(one: Review) -> dict[str, Any]:
    values = {name: getattr(one, name) for name in Review.__slots__}
    return {name: instant(value) if isinstance(value, datetime) else value for name, value in values.items()}


def _text(option: str, text: str, most: int, *, least: int = 1) -> str:
    found = composition.DoorIntake().text(option, text).strip()
    if not least <= len(found) <= most:
        raise InvalidInput(option, "is empty or too long", f"say it in {least} to {most} characters")
    return found
