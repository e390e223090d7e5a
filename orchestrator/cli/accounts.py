"""
Commands on accounts: list, check, pause, resume.

Owns their arguments and look. What is checked is in `account_check`; a pause is
the store's, with its entry, and workers read it before they claim. Next: `account_check`.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from orchestrator import composition
from orchestrator.cli.account_check import Check, Standing, check_account
from orchestrator.cli.exits import FINDINGS, UNAVAILABLE
from orchestrator.cli.records import print_json
from orchestrator.cli.session import Json, Person, actor, known_account, reading, run, settings_of
from orchestrator.cli.show import cell, console, new_table
from orchestrator.clock import SystemClock
from orchestrator.domain.entry import Context, instant
from orchestrator.domain.errors import DatabaseMismatch, InvalidInput
from orchestrator.domain.payment import Channel
from orchestrator.orchestrator import VERSION
from orchestrator.records import Pause
from orchestrator.settings import AccountSettings, Settings

app = typer.Typer(help="The provider configurations.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The account's name.", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why, for the audit trail.", show_default=False)]

MAX_REASON = 500

_STYLES = {Standing.OK: "green", Standing.FINDING: "red", Standing.UNREACHABLE: "yellow", Standing.SKIPPED: "dim"}


@app.command("list")
def list_accounts(context: typer.Context, as_json: Json = False) -> None:
    """
    List the configured accounts.

    With who has paused which; an account that is paused and no longer configured
    is listed too. Without a database nothing is known to be paused.
    """
    settings = settings_of(context)
    pauses = run(_pauses(settings))
    names = sorted({*settings.accounts, *pauses})
    if as_json:
        print_json([_record(name, settings.accounts.get(name), pauses.get(name)) for name in names])
        return
    table = new_table("account", "base URL", "currency", "dial prefixes", "own definitions", "paused")
    for name in names:
        record = _record(name, settings.accounts.get(name), pauses.get(name))
        table.add_row(
            cell(name, "bold"), cell(record["base_url"] or "not configured"), cell(record["currency"] or ""),
            cell(", ".join(record["dial_prefixes"])), cell(", ".join(record["own_definitions"])),
            cell(_paused(pauses.get(name)), "yellow"),
        )  # fmt: skip
    console().print(table if names else cell("no account is configured"))


@app.command("check")
def check_accounts(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this one.", show_default=False)] = None,
    channel: Annotated[
        str | None, typer.Option(help="Only what phone, or digital, payments need.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """
    Find what would stop an account's payments.

    Secrets, definitions, dial prefixes, a token from the provider, and how far
    this machine's clock is from the provider's. No session is started, no payment
    is touched. Exit status 1 with findings, 3 if the provider can't be reached.
    """
    chosen = tuple(Channel) if channel is None else (_channel(channel),)
    settings = settings_of(context)
    if name is not None:
        known_account(settings, name, "NAME")
    names = sorted(settings.accounts) if name is None else [name]
    if not names:
        raise InvalidInput("accounts", "is empty", "configure at least one account")

    async def work() -> list[Check]:
        return [check for name in names for check in await check_account(settings, name, chosen)]

    checks = run(work())
    if as_json:
        print_json([
            {"account": each.account, "check": each.name, "standing": each.standing, "what": each.what, "fix": each.fix}
            for each in checks
        ])  # fmt: skip
    else:
        _print_checks(checks)
    standings = {each.standing for each in checks}
    if Standing.FINDING in standings:
        raise typer.Exit(FINDINGS)
    if Standing.UNREACHABLE in standings:
        raise typer.Exit(UNAVAILABLE)


@app.command()
def pause(context: typer.Context, name: Name, reason: Reason, person: Person = None, as_json: Json = False) -> None:
    """
    Begin nothing new for an account.

    No token is fetched and no session is started until it is resumed; sessions
    under way are handed over and watched. A digital payment's start deadline
    stands still, at most for its policy's start_pause_s; phone payments run into
    theirs. Stopped at any moment, it is paused with its entry, or not: again.
    """
    settings = settings_of(context)
    known_account(settings, name, "NAME")
    given, who = _reason(reason), actor(person)

    async def work() -> tuple[bool, Pause | None]:
        async with reading(settings) as store:
            changed = await store.pause_account(name, reason=given, context=_context(who))
            return changed, (await store.paused_accounts()).get(name)

    changed, found = run(work())
    told = f"{name} is paused" if changed else f"{name} was paused before: {_paused(found)}"
    _tell({"account": name, "changed": changed, "paused": _pause_record(found)}, told, as_json=as_json)


@app.command()
def resume(context: typer.Context, name: Name, reason: Reason, person: Person = None, as_json: Json = False) -> None:
    """
    End an account's pause.

    What has waited goes on within seconds. Stopped at any moment, it is resumed
    with its entry, or not: again.
    """
    settings = settings_of(context)
    given, who = _reason(reason), actor(person)

    async def work() -> bool:
        async with reading(settings) as store:
            if name not in await store.paused_accounts():
                known_account(settings, name, "NAME")  # a paused account may have left the settings meanwhile
            return await store.resume_account(name, reason=given, context=_context(who))

    changed = run(work())
    told = f"{name} is resumed" if changed else f"{name} was not paused"
    _tell({"account": name, "changed": changed, "paused": None}, told, as_json=as_json)


async def _pauses(settings: Settings) -> Mapping[str, Pause]:
    try:
        async with reading(settings) as store:
            return await store.paused_accounts()
    except DatabaseMismatch:
        return {}


def _record(name: str, account: AccountSettings | None, pause: Pause | None) -> dict[str, Any]:
    own = {} if account is None else account.definitions.model_dump(exclude_none=True)
    return {
        "name": name,
        "base_url": account and account.base_url,
        "currency": account and account.currency,
        "dial_prefixes": [] if account is None else list(account.dial_prefixes),
        "own_definitions": sorted(own),
        "paused": _pause_record(pause),
    }


def _pause_record(pause: Pause | None) -> dict[str, str] | None:
    return None if pause is None else {"by": pause.person, "reason": pause.reason, "since": instant(pause.paused_at)}


def _paused(pause: Pause | None) -> str:
    return f"by {pause.person} since {instant(pause.paused_at)[:19]}Z: {pause.reason}" if pause else ""


def _print_checks(checks: Sequence[Check]) -> None:
    out = console()
    for each in checks:
        fix = f"; {each.fix}" if each.fix else ""
        line = f"{each.account}  {each.name:14}  {each.standing:11}  {each.what}{fix}"
        out.print(cell(line.rstrip(), _STYLES[each.standing]), soft_wrap=True)


def _tell(record: dict[str, Any], words: str, *, as_json: bool) -> None:
    if as_json:
        print_json(record)
    else:
        console().print(cell(words), soft_wrap=True)


def _channel(value: str) -> Channel:
    try:
        return Channel(value)
    except ValueError:
        fix = f"use one of {', '.join(Channel)}"
    raise InvalidInput("--channel", "is unknown", fix)


def _reason(reason: str) -> str:
    given = composition.DoorIntake().text("--reason", reason).strip()
    if not 1 <= len(given) <= MAX_REASON:
        raise InvalidInput("--reason", "is empty or too long", f"say why in 1 to {MAX_REASON} characters")
    return given


def _context(who: str) -> Context:
    return Context(SystemClock().now(), who, composition.origin(), version=VERSION)
