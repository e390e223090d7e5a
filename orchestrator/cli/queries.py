"""
Commands that look at payments: show, list, explain.

Owns the reading of their arguments and the pages' look; the sentences of
`explain` are `orchestrator.explain`'s. They read only, and need no key. Next: `watch`.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import typer
from rich.table import Table

from orchestrator import composition
from orchestrator.cli.records import entry_record, payment_record, print_json
from orchestrator.cli.session import Json, PaymentId, known_account, reading, run, settings_of
from orchestrator.cli.show import cell, console, facts_table, holds_table, payments_table, state_cell, timeline_table
from orchestrator.clock import SystemClock
from orchestrator.domain.entry import Entry, instant
from orchestrator.domain.errors import InvalidInput, NotFound
from orchestrator.domain.fields import checked_call_guid, checked_reference
from orchestrator.domain.payment import Channel, Payment, State
from orchestrator.explain import STEPS, Explanation
from orchestrator.explain import explain as explained
from orchestrator.records import Pause, Query
from orchestrator.store.store import SqlStore

Word = TypeVar("Word", State, Channel)

From = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help="Created then or later; ISO 8601, UTC by default.")
]
To = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Created before; ISO 8601, UTC by default.")]

INSTANT_FIX = "write ISO 8601, like 2026-11-24 or 2026-11-24T15:46:40+01:00"


def show(context: typer.Context, payment_id: PaymentId, as_json: Json = False) -> None:
    """Show a payment's facts and timeline."""
    settings = settings_of(context)

    async def work() -> tuple[Payment, Sequence[Entry]]:
        async with reading(settings) as store:
            return await found(store, payment_id), await store.entries(payment_id)

    payment, entries = run(work())
    if as_json:
        timeline = [entry_record(entry) for entry in entries]
        print_json({"payment": payment_record(payment), "timeline": timeline})
        return
    out = console()
    out.print(facts_table(payment))
    out.print(timeline_table(entries))


def list_(
    context: typer.Context,
    *,
    state: Annotated[str | None, typer.Option(help="Only in this state.", show_default=False)] = None,
    held: Annotated[
        bool | None, typer.Option("--held/--not-held", help="Only those that a person must look at, or the others.")
    ] = None,
    account: Annotated[str | None, typer.Option(help="Only of this account.", show_default=False)] = None,
    channel: Annotated[str | None, typer.Option(help="Only phone, or only digital.", show_default=False)] = None,
    reference: Annotated[
        str | None, typer.Option(help="Only this reference; found at once with --account.", show_default=False)
    ] = None,
    call_guid: Annotated[
        str | None, typer.Option("--call-guid", metavar="GUID", help="Only of this call.", show_default=False)
    ] = None,
    created_from: From = None,
    created_to: To = None,
    limit: Annotated[int, typer.Option(help="At most so many, up to 1000.")] = 100,
    after: Annotated[
        str | None, typer.Option(metavar="ID", help="The page after this payment.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """List payments, oldest first."""
    query = Query(
        state=None if state is None else _word("--state", state, State).value,
        held=held,
        account=text("--account", account),
        channel=None if channel is None else _word("--channel", channel, Channel),
        reference=None if reference is None else checked_reference(reference),
        call_guid=None if call_guid is None else checked_call_guid(call_guid),
        created_from=when("--from", created_from),
        created_to=when("--to", created_to),
        after=text("--after", after),
        limit=limit,
    )
    if query.created_from and query.created_to and query.created_from >= query.created_to:
        raise InvalidInput("--to", "is not after --from", "swap them: --from counts, --to no longer does")
    settings = settings_of(context)

    async def work() -> Sequence[Payment]:
        async with reading(settings) as store:
            return await store.list(query)

    payments = run(work())
    if as_json:
        print_json([payment_record(payment) for payment in payments])
        return
    table = holds_table(payments, SystemClock().now()) if held else payments_table(payments)
    console().print(table if payments else cell("no payment matches"))


def explain(context: typer.Context, payment_id: PaymentId, as_json: Json = False) -> None:
    """
    Say what happens next to a payment, and why.

    Also what it would send, what becomes of it by time alone, and what a person
    can do about a hold. Asks nobody and changes nothing.
    """
    settings = settings_of(context)

    async def work() -> tuple[Payment, Pause | None]:
        async with reading(settings) as store:
            payment = await found(store, payment_id)
            return payment, (await store.paused_accounts()).get(payment.account)

    payment, pause = run(work())
    account = known_account(settings, payment.account, "the payment's account")
    policy = composition.policy_of(payment.account, account, payment.channel)
    explanation = explained(payment, SystemClock().now(), policy, paused=pause is not None)
    if as_json:
        print_json(explanation_record(payment, explanation))
        return
    console().print(explanation_table(payment, explanation, pause, policy.resolve_persons))


def explanation_record(payment: Payment, explanation: Explanation) -> dict[str, Any]:
    """Give an explanation as JSON-ready data; times are ISO 8601 in UTC."""
    record = asdict(explanation) | {"advice": explanation.advice and explanation.advice._asdict()}
    times = {name: value and instant(value) for name in ("due_at", "deadline_at") for value in [record[name]]}
    whole = {"id": payment.id, "state": payment.state, "hold": payment.hold, "driven_by": payment.claimed_by}
    return whole | record | times


def explanation_table(payment: Payment, explanation: Explanation, pause: Pause | None, persons: int = 1) -> Table:
    """Give an explanation as questions and answers."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))

    def row(question: str, *answers: str) -> None:
        table.add_row(cell(question, "bold"), cell(" ".join(answer for answer in answers if answer)))

    step = STEPS[explanation.next]
    if explanation.operation is not None:
        step = f"{explanation.operation}: {step}"
    at = explanation.due_at
    table.add_row(cell("state", "bold"), state_cell(payment))
    row("next", f"{step}, at {instant(at)}." if at else f"{step}.", _driver(payment))
    row("why", explanation.because)
    if explanation.waits_for_account and pause is not None:
        row("paused", f"{pause.person} has paused {payment.account} since {instant(pause.paused_at)}: {pause.reason}")
    row("what is sent", explanation.effects)
    by_time = explanation.if_nothing_happens
    row("without any word", f"At {instant(explanation.deadline_at)}: {by_time}" if explanation.deadline_at else by_time)
    if explanation.advice is not None:
        row("held", f"{payment.hold}: {explanation.advice.why}")
        row("what you can do", explanation.advice.person)
        who = "two people must say the same: " if payment.hold and persons > 1 else ""
        for kind, meaning in explanation.fits.items():
            row(f"resolve --{kind}", f"{who}{meaning}")
    return table


async def found(store: SqlStore, payment_id: str) -> Payment:
    """
    Read one payment.

    Raises:
        InvalidInput: No id can look like this.
        NotFound: No payment has it.
    """
    payment = await store.get(composition.DoorIntake().text("ID", payment_id))
    if payment is None:
        raise NotFound("no payment has this id; `orchestrator list` gives ids")
    return payment


def when(option: str, value: str | None) -> datetime | None:
    """
    Read an instant of the command line; UTC unless it says otherwise, a date is its midnight.

    Raises:
        InvalidInput: It is none.
    """
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):  # the latter: no such instant in UTC
        problem = "is not an instant"
    raise InvalidInput(option, problem, INSTANT_FIX)


def text(option: str, value: str | None) -> str | None:
    """Give a text that can be looked for, or refuse it by its option's name."""
    return None if value is None else composition.DoorIntake().text(option, value)


def _driver(payment: Payment) -> str:
    return f"{payment.claimed_by} drives it and times its looks in memory." if payment.claimed_by else ""


def _word(option: str, value: str, words: type[Word]) -> Word:
    try:
        return words(value)
    except ValueError:
        fix = f"use one of {', '.join(word.value for word in words)}"
    raise InvalidInput(option, "is unknown", fix)
