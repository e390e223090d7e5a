"""
Commands that act on payments: submit, collect, cancel, resolve, acknowledge.

Owns the reading of their arguments. What is acceptable is decided at the
orchestrator's door, where a host's values are checked too. Payer data is taken
from a file or standard input as well, because a command line is seen by every
user of the machine; none is ever printed. Next: `queries`.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.records import payment_record, print_json
from orchestrator.cli.session import Json, PaymentId, Person, acting, known_account, run, settings_of
from orchestrator.cli.show import console, facts_table
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.money import Money
from orchestrator.domain.payment import Payment
from orchestrator.settings import Settings

MAX_FIELDS_FILE = 256 * 1024
"""Bytes of a fields file; the door allows 4 KiB a value."""

Fields = Annotated[
    list[str] | None,
    typer.Option(
        "--field", metavar="NAME=VALUE", show_default=False,
        help="One field; repeat it. Other users can see a command line: give payer data with --fields-file.",
    ),
]  # fmt: skip
FieldsFile = Annotated[
    str | None,
    typer.Option(
        "--fields-file", metavar="FILE", show_default=False,
        help="A JSON object of fields, name to text; - reads standard input. Keeps payer data out of the process list.",
    ),
]  # fmt: skip


def submit(
    context: typer.Context,
    *,
    account: Annotated[str, typer.Option(help="Name of the provider configuration.", show_default=False)],
    channel: Annotated[str, typer.Option(help="phone or digital.", show_default=False)],
    reference: Annotated[str, typer.Option(help="The merchant reference.", show_default=False)],
    amount: Annotated[str, typer.Option(help="In major units, like 12.40.", show_default=False)],
    currency: Annotated[
        str | None, typer.Option(help="ISO 4217 code, like GBP; the account's by default.", show_default=False)
    ] = None,
    field: Fields = None,
    fields_file: FieldsFile = None,
    key: Annotated[
        str | None, typer.Option("--key", help="Idempotency key; the reference by default.", show_default=False)
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Take a reference anew whose payments failed.")] = False,
    person: Person = None,
    as_json: Json = False,
) -> None:
    """
    Submit a payment.

    The same submit again gives the same payment; other content is refused.
    Stopped at any moment, it was submitted or it was not: submit again.
    """
    settings = settings_of(context)
    money = Money(amount, currency or _currency(settings, account))
    fields = read_fields(field, fields_file)

    async def work() -> Payment:
        async with acting(settings, person, may_create=True) as orchestrator:
            return await orchestrator.submit(
                account=account, channel=channel, reference=reference, amount=money, fields=fields,
                idempotency_key=key, again=again,
            )  # fmt: skip

    _print_payment(run(work()), as_json=as_json)


def collect(
    context: typer.Context,
    *,
    payment_id: PaymentId,
    field: Fields = None,
    fields_file: FieldsFile = None,
    person: Person = None,
    as_json: Json = False,
) -> None:
    """
    Supply fields that a payment still lacks.

    When all are known it goes on by itself. Stopped at any moment, all fields
    given were taken or none.
    """
    settings = settings_of(context)
    fields = read_fields(field, fields_file)
    if not fields:
        raise InvalidInput("--field", "is missing", "give at least one field, or --fields-file")

    async def work() -> Payment:
        async with acting(settings, person) as orchestrator:
            return await orchestrator.collect(payment_id, fields)

    _print_payment(run(work()), as_json=as_json)


def cancel(
    context: typer.Context,
    *,
    payment_id: PaymentId,
    reason: Annotated[str, typer.Option(help="Why, for the audit trail.", show_default=False)] = "",
    hung_up: Annotated[bool, typer.Option("--hung-up", help="Phone: the caller is gone; it ends as hung_up.")] = False,
    person: Person = None,
    as_json: Json = False,
) -> None:
    """
    Ask to end a payment.

    One that may still be paid gets a last look first, and stays watched.
    Stopped at any moment, it was asked or it was not: ask again.
    """
    settings = settings_of(context)

    async def work() -> Payment:
        async with acting(settings, person) as orchestrator:
            return await orchestrator.cancel(payment_id, reason=reason, hung_up=hung_up)

    _print_payment(run(work()), as_json=as_json)


def resolve(
    context: typer.Context,
    *,
    payment_id: PaymentId,
    person: Annotated[str, typer.Option("--as", metavar="PERSON", help="Who says it.", show_default=False)],
    reason: Annotated[str, typer.Option(help="Why, for the audit trail.", show_default=False)],
    outcome: Annotated[
        str | None, typer.Option(help="How it ended, like paid or declined.", show_default=False)
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Go on: what stood in the way does so no more.")] = False,
    session: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Its session, as the provider or a log tells it.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """
    Resolve a held payment.

    `orchestrator explain ID` says which of --outcome, --retry and --session fit its
    hold. Where the account's policy asks for two people, the first proposes and the
    second says the same. Stopped at any moment, it was said or it was not: again.
    """
    settings = settings_of(context)

    async def work() -> Payment:
        async with acting(settings, person) as orchestrator:
            return await orchestrator.resolve(
                payment_id, person=person, reason=reason, outcome=outcome, retry=retry, session=session
            )

    _print_payment(run(work()), as_json=as_json)


def acknowledge(
    context: typer.Context, payment_id: PaymentId, person: Person = None, as_json: Json = False
) -> None:  # fmt: skip
    """
    Say that the call was transferred.

    For hosts that read number and link id with `show --json` instead of handling
    the event. Stopped at any moment, it was said or it was not: say it again.
    """
    settings = settings_of(context)

    async def work() -> Payment:
        async with acting(settings, person) as orchestrator:
            return await orchestrator.acknowledge(payment_id)

    _print_payment(run(work()), as_json=as_json)


def read_fields(given: Sequence[str] | None, file: str | None) -> dict[str, str]:
    """
    Read fields from the command line and from a file; no name may come twice.

    Args:
        given: `NAME=VALUE` each.
        file: A path, or `-` for standard input.

    Raises:
        InvalidInput: Malformed. No message holds a value.
    """
    fields = _from_file(file) if file is not None else {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InvalidInput("--field", "has no name before its value", "write NAME=VALUE")
        if name in fields:
            raise InvalidInput(f"fields.{name}", "is given twice", "give each field once")
        fields[name] = value
    return fields


def _from_file(file: str) -> dict[str, str]:
    fix = 'give a JSON object of texts, like {"CallGuid": "..."}'
    try:
        content = sys.stdin.buffer.read(MAX_FIELDS_FILE + 1) if file == "-" else _content(Path(file))
        if len(content) > MAX_FIELDS_FILE:
            raise InvalidInput("--fields-file", f"is longer than {MAX_FIELDS_FILE} bytes", fix)
        found = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_pairs)
    except OSError as error:
        problem = f"can't be read ({type(error).__name__})"
    except (ValueError, RecursionError):
        problem = "is not JSON in UTF-8"
    else:
        if isinstance(found, Mapping) and all(isinstance(value, str) for value in found.values()):
            return dict(found)
        problem = "is not an object of texts"
    raise InvalidInput("--fields-file", problem, fix)  # outside: a decode error carries the content


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_FIELDS_FILE + 1)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise InvalidInput("--fields-file", "gives a field twice", "give each field once")
    return dict(pairs)


def _currency(settings: Settings, account: str) -> str:
    currency = known_account(settings, account).currency
    if currency is None:
        raise InvalidInput("currency", "is missing", f"give --currency, or set accounts.{account}.currency")
    return currency


def _print_payment(payment: Payment, *, as_json: bool) -> None:
    if as_json:
        print_json(payment_record(payment))
        return
    console().print(facts_table(payment))
