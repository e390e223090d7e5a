"""
Commands that stay: the worker and the sandbox.

Owns their signals. A first SIGTERM or SIGINT drains, a second one exits at
once; what is cut off then is decided as `unknown` by whoever comes next.
Next: `processes`.
"""

import asyncio
import contextlib
import importlib
import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli import loop
from orchestrator.cli.processes import Supervisor, command_of, tied_to
from orchestrator.cli.records import print_json
from orchestrator.cli.session import Json, config_of, settings_of
from orchestrator.cli.session import run as run_to_end
from orchestrator.cli.show import cell, console, new_table
from orchestrator.domain.errors import ConfigurationError
from orchestrator.metrics import Metrics
from orchestrator.orchestrator import Orchestrator
from orchestrator.privacy import resolve_secret
from orchestrator.sandbox import SCRIPTS, SandboxOptions, load_faults, serve
from orchestrator.settings import Settings
from orchestrator.telemetry import configure, emit


def worker(
    context: typer.Context,
    *,
    concurrency: Annotated[
        int | None, typer.Option(help="Payments driven at once; worker.concurrency by default.", show_default=False)
    ] = None,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="Stop when every payment has ended or is held for a person.")
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Run so many worker processes and keep them running.", show_default=False),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Serve /metrics for Prometheus there; 0 takes a free one.", show_default=False
        ),
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="The address for it; it has no token.")] = "127.0.0.1",
    line: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """
    Drive payments until SIGTERM or SIGINT.

    The first signal drains: steps in flight end, claims go back. A second one
    exits at once. The function named by worker.handlers is called with the
    orchestrator to register event handlers; without one, a phone payment's
    hand-over must be acknowledged with `orchestrator acknowledge`.
    With --processes, one that dies is started anew, and SIGHUP replaces them
    one by one: each reads the settings again and works before the old one drains.
    """
    settings = settings_of(context, {"worker": {"concurrency": concurrency}}, chatty=True)
    if processes is None:
        with served(metrics_port, metrics_host):
            run_to_end(work(settings, until_idle=until_idle, line=line))
        return
    if metrics_port is not None:
        problem, fix = "is one, and each of several processes counts for itself", "start them one by one"
        raise ConfigurationError("metrics-port", problem, fix)
    if processes > 1 and settings.database_url.startswith("sqlite"):
        emit("processes.crowded", count=processes, reason="SQLite lets one process write at a time; use PostgreSQL")
    given = [*config_of(context), "worker"]
    given += ["--concurrency", str(concurrency)] if concurrency is not None else []
    given += ["--until-idle"] if until_idle else []
    command = command_of(*given, "--line")
    supervisor = Supervisor(command, processes, drain_s=settings.worker.drain_s, until_idle=until_idle)
    raise typer.Exit(run_to_end(supervisor.run()))


@contextlib.contextmanager
def served(port: int | None, host: str) -> Iterator[None]:
    """
    Count and serve metrics until the block ends, where a port is given.

    Raises:
        ConfigurationError: The port can't be had.
    """
    if port is None:
        yield
        return
    metrics = Metrics()
    with metrics.counting(), metrics.served(port, host) as found:
        emit("metrics.served", port=found, host=host)
        yield


async def work(settings: Settings, *, until_idle: bool, line: int | None = None) -> None:
    """
    Run one worker to its end.

    Args:
        settings: All settings.
        until_idle: Whether to stop when nothing is left to do.
        line: The descriptor that ties this process to its supervisor.

    Raises:
        ConfigurationError: Settings, handlers, definitions, keys or database don't fit.
        Unavailable: The database does not answer at the start.

    Crash:
        Claims lapse, open attempts are decided as `unknown` by the next worker.
    """
    async with Orchestrator(settings, actor="worker") as orchestrator:
        if settings.worker.handlers is not None:
            await register(settings.worker.handlers, orchestrator)
        running = orchestrator.new_worker()
        with drained_by_signals(running.stop):
            async with tied_to(line, running.stop) as ready:
                loop.settle()
                await running.run(until_idle=until_idle, ready=ready)


async def register(handlers: str, orchestrator: Orchestrator) -> None:
    """
    Call the host's `module:function` with the orchestrator; a coroutine function is awaited.

    Raises:
        ConfigurationError: It can't be imported, is no function, or raises.
    """
    module_name, _, name = handlers.partition(":")
    key, fix = "worker.handlers", "name a module:function that takes the orchestrator"
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # a host's own module lies beside its settings
    try:
        function = getattr(importlib.import_module(module_name), name)
        result = function(orchestrator)
        if inspect.isawaitable(result):
            await result
    except Exception as error:
        raise ConfigurationError(key, f"failed with {type(error).__name__}", fix) from error
    emit("handler.registered", name=handlers)


@contextlib.contextmanager
def drained_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at the first SIGTERM or SIGINT; exit at once at the second."""
    running = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def first() -> None:
        for number in numbers:
            running.add_signal_handler(number, os._exit, 128 + number)
        stop()

    for number in numbers:
        running.add_signal_handler(number, first)
    try:
        yield
    finally:
        for number in numbers:
            running.remove_signal_handler(number)


def sandbox(
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.")] = 8080,
    seed: Annotated[int, typer.Option(help="Chooses ids and tokens; 0 draws new ones.")] = 0,
    speed: Annotated[float, typer.Option(help="How many times faster than documented sessions run.")] = 1.0,
    faults: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML with further prefixes.", show_default=False)
    ] = None,
    webhook_url: Annotated[
        str | None,
        typer.Option(help="Tell each session's end there: http://127.0.0.1:8088/webhooks/emea.", show_default=False),
    ] = None,
    webhook_token: Annotated[
        str | None, typer.Option(help="Its bearer token: env:NAME or file:PATH.", show_default=False)
    ] = None,
    scripts: Annotated[bool, typer.Option("--scripts", help="Print what each reference prefix brings about.")] = False,
    as_json: Json = False,
) -> None:
    """
    Run the provider's twin until SIGTERM or SIGINT.

    Its address is the first line on standard output; everything is in memory.
    The prefix of a merchant reference decides what happens: PAID-1001 is paid,
    DECLINED-7 is declined. See --scripts.
    """
    further = load_faults(faults) if faults is not None else ()
    if scripts:
        print_scripts((*SCRIPTS, *further), as_json=as_json)
        return
    configure()
    token = ""
    if webhook_token is not None:
        found = resolve_secret(webhook_token, key="sandbox.webhook_token", environ=os.environ, base_dir=Path.cwd())
        token = found.reveal()
    options = SandboxOptions(
        host=host, port=port, seed=seed, speed=speed, faults=further,
        webhook_url=webhook_url or "", webhook_token=token,
    )  # fmt: skip

    def ready(url: str) -> None:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        emit("sandbox.started", url=url, seed=seed)

    run_to_end(serve(options, ready))


def print_scripts(scripts: tuple[Any, ...], *, as_json: bool) -> None:
    """Print the table of reference prefixes."""
    if as_json:
        print_json([{"prefix": script.prefix, "what": script.what, "ends": script.ends} for script in scripts])
        return
    table = new_table("prefix", "what happens", "how it ends")
    for script in scripts:
        table.add_row(cell(script.prefix, "bold"), cell(script.what), cell(script.ends))
    console().print(table)
