"""
Commands on the seal: seal now, show the keys, see and close failures of controls.

Owns no rule of the seal: `orchestrator.audit` and `orchestrator.sealing` do. Next: `population`.
"""

from datetime import datetime
from typing import Annotated, Any

import typer

from orchestrator import composition, sealing
from orchestrator.audit.notes import read_note
from orchestrator.audit.proof import prove
from orchestrator.cli.audit import Checkpoints, text_of
from orchestrator.cli.queries import when
from orchestrator.cli.records import print_json
from orchestrator.cli.session import Json, Person, actor, reading, run, settings_of, writing
from orchestrator.cli.show import cell, console, new_table
from orchestrator.clock import SystemClock
from orchestrator.compliance import Closing, Failure, Seal
from orchestrator.domain.entry import Context, instant
from orchestrator.domain.errors import ConfigurationError, ControlFailed, InvalidInput
from orchestrator.orchestrator import VERSION
from orchestrator.privacy.signing import new_key_line

MAX_TEXT = 500

app = typer.Typer()


@app.command("seal")
def seal_trail(context: typer.Context, person: Person = None, as_json: Json = False) -> None:
    """
    Seal everything that waits, now.

    Appends the waiting entries to the log, signs a checkpoint, and carries both to
    the sinks. Prints the newest checkpoint, a C2SP signed note, to be kept where
    nobody can change it. What keeps it from sealing is written down as a failure of
    the control. Stopped at any moment, the next seal of anybody goes on.
    """
    settings, clock, here = settings_of(context), SystemClock(), actor(person)

    async def work() -> Seal | None:
        async with writing(settings, notes_only=True) as store:
            sealer = sealing.build_sealer(
                settings, store, clock, lambda: Context(clock.now(), here, composition.origin(), version=VERSION)
            )
            if sealer is None:
                fix = "set it to env:NAME or file:PATH; `orchestrator audit new-key` makes one"
                raise ConfigurationError("seal.signing_key", "is missing", fix)
            try:
                return await sealer.seal() or (await store.lag()).newest
            except ControlFailed as error:
                await store.fail_control(error.control, error.why, sealer.context())
                raise

    newest = run(work())
    if as_json:
        print_json({} if newest is None else {
            "size": newest.size, "root": newest.root.hex(), "at": instant(newest.created_at), "note": newest.note,
        })  # fmt: skip
    elif newest is None:
        console().print("the trail is empty: there is nothing to seal")
    else:
        typer.echo(newest.note, nl=False)


@app.command("keys")
def show_keys(context: typer.Context, as_json: Json = False) -> None:
    """
    Print the verifier keys whose signatures this configuration trusts.

    Give them to whoever verifies: `orchestrator audit verify --key KEY`, or any tool
    that reads C2SP signed notes.
    """
    settings = settings_of(context)
    signing = {str(key.public) for key in sealing.keys(settings)}
    told = [{"key": str(key), "signs": str(key) in signing} for key in sealing.verifiers(settings)]
    if as_json:
        print_json(told)
        return
    for each in told:
        typer.echo(each["key"])


@app.command("new-key")
def new_key(name: Annotated[str, typer.Argument(metavar="NAME", help="The key's name.", show_default=False)]) -> None:
    """
    Print the line of a new signing key, for the file or secret of `seal.signing_key`.

    To rotate: append the line, so that both keys sign; seal once; give out the new
    verifier key; take the old line away, and keep the old verifier key in
    seal.public_keys, since old checkpoints have its signature alone.
    """
    if not name or len(name) > 150 or not all("!" <= letter <= "~" and letter != "+" for letter in name):
        raise InvalidInput("NAME", "can't be a key's name", "1 to 150 printable ASCII characters, no blank, no plus")
    typer.echo(new_key_line(name), nl=False)


@app.command("prove")
def prove_chain(
    context: typer.Context,
    chain: Annotated[str, typer.Argument(metavar="ID", help="A payment's id, or another chain's.", show_default=False)],
    checkpoint: Checkpoints = None,
) -> None:
    """
    Print the proof that a payment's entries are in the sealed log.

    JSON with the entries' texts, the checkpoint that is over them, and for each an
    inclusion proof of RFC 9162; with --checkpoint also the proof that the log is
    that old one grown. Needs no key, and neither does whoever checks it. Reads only.
    """
    settings = settings_of(context)
    old = [(str(path), read_note(text_of(path), str(path))) for path in checkpoint or ()]

    async def work() -> dict[str, Any]:
        async with reading(settings) as store:
            return await prove(store, chain, old)

    print_json(run(work()))


@app.command("failures")
def show_failures(context: typer.Context, as_json: Json = False) -> None:
    """Print the failures of controls, open ones included (PCI DSS v4.0.1, 10.7)."""
    settings = settings_of(context)

    async def work() -> list[Failure]:
        async with reading(settings) as store:
            return list(await store.failures())

    found = run(work())
    if as_json:
        print_json([_told(failure) for failure in found])
        return
    table = new_table("number", "control", "since", "until", "cause", "owner")
    for failure in found:
        until = "open" if failure.ended_at is None else instant(failure.ended_at)[:19]
        table.add_row(
            cell(str(failure.id)), cell(failure.control), cell(instant(failure.started_at)[:19]),
            cell(until, "red" if failure.ended_at is None else ""), cell(failure.cause), cell(failure.owner or ""),
        )  # fmt: skip
    console().print(table if found else cell("no control has ever failed", "green"))


def _told(failure: Failure) -> dict[str, Any]:
    values = {name: getattr(failure, name) for name in Failure.__slots__}
    return {name: instant(value) if isinstance(value, datetime) else value for name, value in values.items()}


@app.command("close")
def close_failure(
    context: typer.Context,
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="As `failures` prints it.", show_default=False)],
    *,
    person: Annotated[str, typer.Option("--as", metavar="PERSON", help="Who closes it.", show_default=False)],
    remediation: Annotated[str, typer.Option("--remediation", metavar="TEXT", help="What was done about it.")],
    issues: Annotated[str, typer.Option("--issues", metavar="TEXT", help="What came of it while it lasted.")],
    further_action: Annotated[str, typer.Option("--further-action", metavar="TEXT", help="What is still to be done.")],
    prevention: Annotated[str, typer.Option("--prevention", metavar="TEXT", help="What prevents it from now on.")],
    ended: Annotated[str | None, typer.Option("--ended", metavar="TIME", help="Until when; now by default.")] = None,
) -> None:
    """
    Close a control's failure, once it works again.

    Nothing may be left out (PCI DSS v4.0.1, 10.7.3). Stopped at any moment, it is
    closed, with its entry, or still open.
    """
    settings = settings_of(context)
    texts = {
        "--remediation": remediation, "--issues": issues, "--further-action": further_action,
        "--prevention": prevention,
    }  # fmt: skip
    said = {name: _said(name, text) for name, text in texts.items()}
    here = Context(SystemClock().now(), actor(person), composition.origin(), version=VERSION)
    closing = Closing(when("--ended", ended) or here.now, *said.values())

    async def work() -> None:
        async with writing(settings, notes_only=True) as store:
            await store.close_failure(number, closing, here)

    run(work())
    console().print(cell(f"failure {number} is closed", "green"))


def _said(name: str, text: str) -> str:
    found = composition.DoorIntake().text(name, text).strip()
    if not 1 <= len(found) <= MAX_TEXT:
        raise InvalidInput(name, "is empty or too long", f"say it in 1 to {MAX_TEXT} characters")
    return found
