"""
Commands for the service: take webhooks, and say how things stand.

Owns no route and no condition: `orchestrator.service` and `orchestrator.health` do.
Next: `queries`.
"""

import asyncio
import sys
from typing import Annotated

import typer

from orchestrator.cli.exits import FINDINGS
from orchestrator.cli.records import print_json
from orchestrator.cli.run import drained_by_signals
from orchestrator.cli.session import Json, acting, settings_of
from orchestrator.cli.session import run as run_to_end
from orchestrator.cli.show import cell, console, new_table
from orchestrator.domain.errors import ConfigurationError
from orchestrator.health import Colour, Health
from orchestrator.metrics import Metrics
from orchestrator.orchestrator import Orchestrator
from orchestrator.service import create_app
from orchestrator.service import serve as listen
from orchestrator.settings import Settings
from orchestrator.telemetry import emit

SHORTEST_TOKEN = 16


def serve(
    context: typer.Context,
    *,
    host: Annotated[
        str | None, typer.Option(help="The address to listen on; service.host by default.", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="The port; service.port by default, 0 takes a free one.", show_default=False
        ),
    ] = None,
) -> None:
    """
    Take the provider's webhooks until SIGTERM or SIGINT.

    POST /webhooks/ACCOUNT with the bearer token of service.webhook_token; GET /health, GET /metrics.
    Its address is the first line on standard output. It drives no payment: run a worker too.
    """
    settings = settings_of(context, {"service": {"host": host, "port": port}}, chatty=True)
    run_to_end(work(settings, token_of(settings)))


def token_of(settings: Settings) -> str:
    """
    Give the token that webhooks must carry.

    Raises:
        ConfigurationError: There is none, or one that can be guessed.
    """
    token = settings.service.webhook_token.reveal().strip() if settings.service.webhook_token is not None else ""
    if len(token) < SHORTEST_TOKEN:
        problem = f"is shorter than {SHORTEST_TOKEN} characters" if token else "is missing"
        raise ConfigurationError(
            "service.webhook_token", problem, "set it to env:NAME or file:PATH; the provider sends it"
        )
    return token


async def work(settings: Settings, token: str) -> None:
    """
    Serve to the end.

    Raises:
        ConfigurationError: Settings, definitions, keys, database or address don't fit.
        Unavailable: The database does not answer at the start.

    Crash: what was not answered is sent again by the provider.
    """
    stop, metrics = asyncio.Event(), Metrics()

    def ready(host: str, port: int) -> None:
        sys.stdout.write(f"http://{f'[{host}]' if ':' in host else host}:{port}\n")
        sys.stdout.flush()
        emit("service.started", host=host, port=port)

    async with Orchestrator(settings, actor="webhook") as orchestrator:
        app = create_app(orchestrator, token=token, metrics=metrics.text)
        with drained_by_signals(stop.set), metrics.counting():
            await listen(app, host=settings.service.host, port=settings.service.port, stop=stop, ready=ready)
        await app.state.denials.close()
    emit("service.stopped")


def health(context: typer.Context, *, as_json: Json = False) -> None:
    """
    Say what a person should know or do: green, amber or red.

    Exit status 1 for red, 0 otherwise.
    """
    settings = settings_of(context)

    async def examined() -> Health:
        async with acting(settings, None) as orchestrator:
            return await orchestrator.health()

    found = run_to_end(examined())
    if as_json:
        print_json(found.told())
    else:
        show(found)
    if found.colour is Colour.RED:
        raise typer.Exit(FINDINGS)


def show(found: Health) -> None:
    """Print the findings, the worst first."""
    style = {"green": "green", "amber": "yellow", "red": "red"}
    out = console()
    out.print(cell(found.colour.value, style[found.colour]))
    if found.findings:
        table = new_table("colour", "what", "about", "since", "detail", "what to do")
        for each in found.findings:
            since = f"{each.since:%Y-%m-%d %H:%M:%S}" if each.since else ""
            words = (each.what, each.about, since, each.detail, each.fix)
            table.add_row(cell(each.colour.value, style[each.colour]), *map(cell, words))
        out.print(table)
