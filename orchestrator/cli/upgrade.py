"""
`check-upgrade`: would this version go on with everything that an older trail tells of?

Owns the command's look, and which definitions are known here. Replaying is
`orchestrator.audit.upgrade`'s. Reads only. Next: `diagram`.
"""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator import composition
from orchestrator.audit.exported import read_export
from orchestrator.audit.upgrade import Replayed, present_rules, replay
from orchestrator.claim import MACHINE_VERSIONS
from orchestrator.cli.exits import FINDINGS
from orchestrator.cli.records import print_json
from orchestrator.cli.session import Json, run, settings_of
from orchestrator.cli.show import cell, console, new_table
from orchestrator.domain.errors import DefinitionError, InvalidInput
from orchestrator.domain.payment import Channel
from orchestrator.domain.policy import Policy
from orchestrator.interactions import parse
from orchestrator.settings import Settings

Trail = Annotated[
    Path,
    typer.Argument(metavar="OLD_TRAIL", help="What `orchestrator audit export` wrote before.", show_default=False),
]


def check_upgrade(context: typer.Context, old_trail: Trail, as_json: Json = False) -> None:
    """
    Replay an exported trail through this version.

    Lists what payments have done or wait for and this version does otherwise:
    transitions, guards, states and words that are gone, states that have become
    ends, deadlines that the settings give otherwise now, machine versions and
    definitions that are not known. Run it with the new version before the
    upgrade, with the settings in force. Exit status 1 if there is anything, 2 if
    the file is damaged.
    """
    settings = settings_of(context)
    policies = {
        (name, channel): composition.policy_of(name, account, channel)
        for name, account in settings.accounts.items()
        for channel in Channel
    }

    def policy(account: str, channel: Channel) -> Policy | None:
        return policies.get((account, channel))

    rules = present_rules(versions=MACHINE_VERSIONS, definitions=run(_known(settings)), policy=policy)
    try:
        with old_trail.open("rb") as file:
            replayed = replay(read_export(file, str(old_trail)), rules)
    except OSError as error:
        raise InvalidInput("OLD_TRAIL", f"can't be read ({type(error).__name__})", "check the path") from None
    if as_json:
        print_json({
            "clean": not replayed.changes, "counts": replayed.counts,
            "changes": [
                {"kind": one.kind, "what": one.what, "chains": one.chains, "in_flight": one.in_flight,
                 "example": one.example}
                for one in replayed.changes
            ],
        })  # fmt: skip
    else:
        _print(replayed)
    if replayed.changes:
        raise typer.Exit(FINDINGS)


async def _known(settings: Settings) -> set[str]:
    """
    Give the digests of the definitions that payments could be driven with here: in the settings or in the database.

    A database that was not upgraded yet is asked all the same; a stored text that this
    version can't read is not known.
    """
    known = set(composition.load_definitions(settings).all())
    path = composition.sqlite_path(settings.database_url)
    if path is not None and not path.exists():
        return known
    store = composition.build_store(settings)
    try:
        stored = await store.definitions()
    finally:
        await store.close()
    for digest, (name, text) in stored.items():
        try:
            if parse(text, name=name).digest == digest:
                known.add(digest)
        except DefinitionError:
            continue
    return known


def _print(replayed: Replayed) -> None:
    out, counts = console(), replayed.counts
    if replayed.changes:
        table = new_table("kind", "what", "chains", "in flight", "for example")
        for one in replayed.changes:
            style = "red" if one.in_flight else "yellow"
            table.add_row(
                cell(one.kind, style), cell(one.what), cell(str(one.chains)), cell(str(one.in_flight)),
                cell(one.example),
            )  # fmt: skip
        out.print(table)
    words = f"{counts['changes']} changes" if replayed.changes else "this version goes on with all of it"
    looked = f"{counts['payments']} payments, {counts['in_flight']} of them in flight, {counts['entries']} entries"
    out.print(cell(f"{words}: {looked}", "red" if replayed.changes else "green"), soft_wrap=True)
