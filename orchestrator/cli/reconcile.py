"""
The command that holds the provider's report against ours.

Owns the reading of its arguments and the look of what was found; the comparison is
`orchestrator.audit.reconcile`'s. Next: `audit`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.audit.matching import Pair, Result
from orchestrator.audit.reconcile import Reconciled, reconcile
from orchestrator.audit.statement import NAMES, OPEN, PAID, UNPAID, Statement
from orchestrator.cli.exits import FINDINGS
from orchestrator.cli.population import Since, Until, context_of, period_of
from orchestrator.cli.queries import text
from orchestrator.cli.records import print_json
from orchestrator.cli.session import Json, Person, known_account, run, settings_of, writing
from orchestrator.cli.show import cell, console, new_table
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.money import Money
from orchestrator.privacy.guard import refuse_card_data

_MEANINGS = (PAID, UNPAID, OPEN)

app = typer.Typer()


@app.command("reconcile")
def reconcile_report(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="The provider's report.", show_default=False)],
    *,
    account: Annotated[str | None, typer.Option(help="Only payments of this account.", show_default=False)] = None,
    since: Since = None,
    until: Until = None,
    columns: Annotated[
        str, typer.Option("--columns", metavar="NAME=COLUMN,...", help="What the file calls its columns.")
    ] = "",
    statuses: Annotated[
        str,
        typer.Option("--statuses", metavar="WORD=MEANING,...", help="More words of a status: paid, unpaid or open."),
    ] = "",
    person: Person = None,
    as_json: Json = False,
) -> None:
    """
    Compare the provider's report with our payments.

    A CSV file with columns for reference, amount, currency, status and time, and
    the session's id if it has one. What could be one or the other stays open, as
    ambiguous. Without --from and --to the period is the days (UTC) that the file
    speaks of. Exit status 1 if the books differ or anything stays open. Leaves an
    entry (`audit.reconciled`) with the counts and the file's SHA-256; of a file that
    can't be used it writes nothing.
    """
    settings, period, here = settings_of(context), period_of(since, until), context_of(person)
    names = _pairs("--columns", columns)
    if not names.keys() <= NAMES.keys():
        raise InvalidInput("--columns", "names something else than is looked for", f"use {', '.join(NAMES)}")
    words = {word.casefold(): meaning for word, meaning in _pairs("--statuses", statuses).items()}
    if not set(words.values()) <= set(_MEANINGS):
        raise InvalidInput("--statuses", "has a meaning that is not known", f"use {', '.join(_MEANINGS)}")
    only = text("--account", account)
    if only is not None:
        known_account(settings, only, "--account")

    async def work() -> Reconciled:
        async with writing(settings) as store:
            try:
                with file.open("rb") as report:
                    statement = Statement(report, file.name, refuse_card_data, names, words)
                    found = await reconcile(store, statement, period, only)
            except OSError as error:
                problem = f"can't be read ({type(error).__name__})"
                raise InvalidInput(
                    "FILE.csv", problem, "check the path, its rights, and the room for temporary files"
                ) from None
            about = only or "every account"
            await store.note("audit.reconciled", about=about, context=here, details=_details(found))
            return found

    found = run(work())
    if as_json:
        print_json(_details(found) | {"account": only, "findings": [_told(pair) for pair in found.findings]})
    else:
        _print(found)
    if found.count:
        raise typer.Exit(FINDINGS)


def _pairs(option: str, given: str) -> dict[str, str]:
    """Read `a=b,c=d`."""
    found: dict[str, str] = {}
    for part in filter(None, (text(option, given) or "").split(",")):
        name, sign, value = (word.strip() for word in part.partition("="))
        if not sign or not name or not value or name in found:
            raise InvalidInput(option, "is not a list of pairs", "write it like reference=Merchant Ref,amount=Value")
        found[name] = value
    return found


def _details(found: Reconciled) -> dict[str, Any]:
    return {
        **found.period.told, "sha256": found.sha256, "lines": found.lines, "payments": found.payments,
        "counts": {result.value: found.counts[result.value] for result in Result}, "count": found.count,
    }  # fmt: skip


def _told(pair: Pair) -> dict[str, Any]:
    theirs, ours = pair.line, pair.payment
    return {
        "result": pair.result.value, "why": pair.why,
        "theirs": None if theirs is None else {
            "line": theirs.number, "reference": theirs.reference, "status": theirs.status,
            "amount": _money(theirs.minor, theirs.currency), "session_id": theirs.session_id,
        },
        "ours": None if ours is None else {
            "id": ours.id, "account": ours.account, "reference": ours.reference, "money": ours.money,
            "amount": _money(ours.minor, ours.currency), "session_id": ours.session_id,
        },
    }  # fmt: skip


def _money(minor: int, currency: str) -> str:
    return str(Money.of_minor(minor, currency))


def _print(found: Reconciled) -> None:
    out = console()
    if found.findings:
        table = new_table("result", "why", "reference", "line", "they say", "payment", "we say")
        for pair in found.findings:
            told = _told(pair)
            theirs, ours = told["theirs"] or {}, told["ours"] or {}
            table.add_row(
                cell(pair.result.value, "yellow" if pair.result is Result.AMBIGUOUS else "red"), cell(pair.why),
                cell(str((theirs or ours)["reference"])), cell(str(theirs.get("line", ""))),
                cell(_said(theirs, "status")), cell(str(ours.get("id", ""))), cell(_said(ours, "money")),
            )  # fmt: skip
        out.print(table)
    counted = ", ".join(f"{found.counts[result.value]} {result.value}" for result in Result)
    out.print(cell(f"{found.lines} lines, {found.payments} payments: {counted}", "red" if found.count else "green"))


def _said(side: Mapping[str, Any], name: str) -> str:
    return f"{side['amount']} {side[name]}" if side else ""
