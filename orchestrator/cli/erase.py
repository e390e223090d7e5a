"""
The command that erases payer data, and the one that seals it under another key.

Owns their arguments and look: `orchestrator.erasure` and `orchestrator.rotation` do the work.
Next: `audit`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import composition, erasure, sealing
from orchestrator.audit.erased import erased_in
from orchestrator.cli.exits import FINDINGS
from orchestrator.cli.records import print_json
from orchestrator.cli.session import Json, actor, run, settings_of, writing
from orchestrator.cli.show import cell, console
from orchestrator.clock import SystemClock
from orchestrator.domain.entry import Context
from orchestrator.domain.errors import InvalidInput, NotFound
from orchestrator.domain.fields import checked_reference, is_payment_id, unknown_payment
from orchestrator.erasure import Erased
from orchestrator.orchestrator import VERSION
from orchestrator.rotation import Rotated, rotate
from orchestrator.store.store import SqlStore

MAX_REASON = 500

Who = Annotated[str, typer.Option("--as", metavar="PERSON", help="Who does this.", show_default=False)]
Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the audit trail.", show_default=False)]


def erase(
    context: typer.Context,
    payments: Annotated[
        list[str] | None, typer.Argument(metavar="[PAYMENT]...", help="Payments' ids.", show_default=False)
    ] = None,
    *,
    person: Who,
    reason: Why,
    reference: Annotated[
        str | None, typer.Option(help="Instead: every payment of this reference.", show_default=False)
    ] = None,
    account: Annotated[str | None, typer.Option(help="Whose reference it is.", show_default=False)] = None,
    replay: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Instead: what a sink's file or an export names.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """
    Erase what the payers of these payments gave.

    The trail stays, and stays clean: nothing of the payer is in it. Refused for a
    payment that has not ended, is held or is still watched. With --replay what was
    erased before the database was put back is erased again; exit status 1 if a
    payment may not be erased yet. Stopped at any moment, a payment's data is there,
    or gone with its entry: again.
    """
    settings = settings_of(context)
    name, why = actor(person), said("--reason", reason)
    if sum((bool(payments), reference is not None, replay is not None)) != 1:
        raise InvalidInput("PAYMENT", "is missing, or one of three ways too many", "ids, --reference or --replay")
    if (reference is None) != (account is None):
        raise InvalidInput("--reference", "and --account belong together", "give both")
    named = _read(replay) if replay is not None else list(payments or ())
    told, now = sealing.erasure_told(settings), acting(name)

    async def work() -> Erased:
        async with writing(settings) as store:
            if replay is not None:
                return await erasure.replay(store, named, now, reason=why, told=told)
            chosen = await _of(store, account or "", reference) if reference is not None else _checked(named)
            return await erasure.erase(store, chosen, now, reason=why, told=told)

    found = run(work())
    _print(found, told is not None, as_json=as_json)
    if found.refused:
        raise typer.Exit(FINDINGS)


def rotate_keys(context: typer.Context, *, person: Who, reason: Why, as_json: Json = False) -> None:
    """
    Seal all payer data under the current key.

    That is the last one of `sealing_key`; the older ones stay in the list until
    nothing needs them. Submits are compared with earlier ones by digests under the
    key of their day, so keep an old key for as long as one may come again. Exit
    status 1 if a value can't be opened. Stopped at any moment, the same command
    goes on.
    """
    settings = settings_of(context)
    name, why = actor(person), said("--reason", reason)
    vault = composition.build_vault(settings, may_create=False)

    async def work() -> tuple[Rotated, bool | None]:
        async with writing(settings) as store:
            done = await rotate(store, vault, acting(name)(), reason=why)
            return done, await store.truncate_log()

    done, emptied = run(work())
    if as_json:
        print_json({
            "key": done.key, "former_keys": list(done.former), "resealed": done.resealed, "current": done.current,
            "older": done.older, "older_digests": done.older_digests, "damaged": list(done.damaged),
            "log_emptied": emptied,
        })  # fmt: skip
    else:
        _print_rotated(done, emptied)
    if done.damaged:
        raise typer.Exit(FINDINGS)


def said(option: str, text: str) -> str:
    """
    Give a reason, checked.

    Raises:
        InvalidInput: It is empty, too long, or holds what must not be written down.
    """
    found = composition.DoorIntake().text(option, text).strip()
    if not 1 <= len(found) <= MAX_REASON:
        raise InvalidInput(option, "is empty or too long", f"say why in 1 to {MAX_REASON} characters")
    return found


def acting(person: str) -> Callable[[], Context]:
    """Give what tells who acts, and when."""
    clock = SystemClock()
    return lambda: Context(clock.now(), person, composition.origin(), version=VERSION)


def _read(file: Path) -> list[str]:
    try:
        with file.open("rb") as opened:
            return erased_in(opened)
    except OSError as error:
        raise InvalidInput("--replay", f"can't be read ({type(error).__name__})", "name a file") from None


def _checked(payments: Sequence[str]) -> list[str]:
    for payment_id in payments:
        if not is_payment_id(composition.DoorIntake().text("PAYMENT", payment_id)):
            raise unknown_payment(payment_id)
    return list(dict.fromkeys(payments))


async def _of(store: SqlStore, account: str, reference: str) -> list[str]:
    intake = composition.DoorIntake()
    intake.text("--reference", checked_reference(reference))
    found = await store.of_reference(intake.text("--account", account), reference)
    if not found:
        raise NotFound("no payment has this reference in this account")
    return [payment.id for payment in found]


def _print(found: Erased, told: bool, *, as_json: bool) -> None:
    if as_json:
        print_json({
            "erased": found.erased, "nothing": found.nothing, "missing": found.missing, "refused": found.refused,
            "log_emptied": found.emptied, "told_outside": told,
        })  # fmt: skip
        return
    out = console()
    out.print(cell(f"erased: {len(found.erased)}; nothing there (any more): {len(found.nothing)}"), soft_wrap=True)
    if found.missing:
        out.print(cell(f"not in this database: {len(found.missing)}"), soft_wrap=True)
    for payment_id, why in found.refused.items():
        out.print(cell(f"{payment_id} {why}", "red"), soft_wrap=True)
    _print_log(found.emptied)
    if not told and found.erased:
        words = "no sink's file is set (seal.sink): an older copy of the database would not know of this"
        out.print(cell(words, "yellow"), soft_wrap=True)


def _print_log(emptied: bool | None) -> None:
    if emptied is False:
        words = "the log beside the database could not be emptied, since somebody reads: run the command again later"
        console().print(cell(words, "yellow"), soft_wrap=True)
    elif emptied is None:
        words = "the server's own log and backups keep the old bytes until they age out; VACUUM payer_data"
        console().print(cell(words), soft_wrap=True)


def _print_rotated(done: Rotated, emptied: bool | None) -> None:
    out = console()
    out.print(cell(f"sealed anew: {done.resealed}; under key {done.key} now: {done.current}"), soft_wrap=True)
    out.print(cell(f"still in need of an older key: {done.older}", "yellow" if done.older else ""), soft_wrap=True)
    if done.older_digests:
        words = f"{done.older_digests} payments' submits are compared under an older key: keep it in the list"
        out.print(cell(words), soft_wrap=True)
    for payment_id in done.damaged:
        out.print(cell(f"{payment_id}: its payer data can't be opened, it was altered", "red"), soft_wrap=True)
    _print_log(emptied)
