"""Workers, their supervisor and the sandbox as processes of their own, and a look into their database."""

import asyncio
import base64
import contextlib
import http.client
import json
import os
import secrets
import signal
import sqlite3
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from sqlalchemy import make_url

from orchestrator import Orchestrator, Settings, load_settings
from tests.support.flow import submit

FULL = os.environ.get("ORCHESTRATOR_TEST_CRASH") == "full"
"""`make prove` runs the whole numbers; every other run is smaller, and as strict."""

OPEN = "state not in ('completed', 'failed') and hold is null"
# A busy machine makes a worker late; one that lapses for that alone would tell nothing.
QUICK = {"heartbeat_s": 0.2, "claim_trust_s": 3.0, "claim_life_s": 4.0, "poll_interval_s": 0.25, "concurrency": 8}

# Callers wait on the line for minutes here: a busy machine and many restarts take longer than the usual 20 s.
CONFIG = """\
database_url = "{database_url}"
sealing_key = "file:sealing-key"
log_level = "info"

[worker]
handlers = "orchestrator.cli.demo_handlers:register"
{worker}

[accounts.test]
base_url = "{base_url}"
client_id = "sandbox-client"
client_secret = "file:client-secret"
account_configuration_id = "4242"
dial_prefixes = ["+44"]
start_deadline_s = {start_deadline_s}
call_deadline_s = 5
requests_per_second = 0

[accounts.test.policy.phone]
start_s = 240
hand_over_s = 240
poll_first_s = 0.05
poll_max_s = 0.4
poll_retry_s = 0.2

[accounts.test.policy.digital]
poll_first_s = 0.05
poll_max_s = 0.4
poll_retry_s = 0.2
"""


async def until(condition: Callable[[], Awaitable[Any]], seconds: float = 90, *, every_s: float = 0.02) -> Any:
    """Wait for a condition; give what it gave."""
    async with asyncio.timeout(seconds):
        while not (found := await condition()):
            await asyncio.sleep(every_s)
    return found


@dataclass
class Fleet:
    """One database, one sandbox, and the processes that a test starts on them."""

    directory: Path
    database_url: str
    base_url: str = ""
    processes: list[Process] = field(default_factory=list)
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    asked: Any = None

    @property
    def config(self) -> Path:
        return self.directory / "orchestrator.toml"

    @property
    def settings(self) -> Settings:
        return load_settings(self.config, environ={})

    async def start(self, name: str, *arguments: str, stdout: int = DEVNULL) -> Process:
        """Start a command; its log goes to `NAME.log`."""
        environ = {key: value for key, value in os.environ.items() if not key.startswith("ORCHESTRATOR_")}
        with (self.directory / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "orchestrator", *arguments,
                stdin=DEVNULL, stdout=stdout, stderr=log, env=environ, cwd=self.directory,
            )  # fmt: skip
        self.processes.append(process)
        return process

    async def worker(self, *arguments: str, name: str = "worker") -> Process:
        return await self.start(name, "--config", str(self.config), "worker", *arguments)

    def log(self, name: str = "worker") -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.directory / f"{name}.log").read_text().splitlines()]

    def doubts(self, name: str = "worker") -> int:
        """Count the starts that no kill made doubtful: unknown answers, and steps of workers that lapsed."""
        log = self.log(name)
        unknown = [line for line in log if line["event"] == "operation.answered" and line["verdict"] == "unknown"]
        return len(unknown) + sum(line["in_flight"] for line in log if line["event"] == "worker.lapsed")

    async def ask(self, statement: str, *values: Any) -> Sequence[Any]:
        """Read rows, on a connection of the test's own."""
        if self.database_url.startswith("sqlite"):
            with contextlib.closing(sqlite3.connect(self.database_url.partition("///")[2], timeout=10)) as connection:
                return connection.execute(statement, values).fetchall()
        async with self.asking:
            self.asked = self.asked or await self.connect()
            return list(await self.asked.fetch(statement, *values))

    async def count(self, statement: str, *values: Any) -> int:
        return int((await self.ask(statement, *values))[0][0] or 0)

    async def forget(self) -> None:
        """Drop the test's own connection: its server is gone."""
        if self.asked is not None:
            self.asked.terminate()
            self.asked = None

    async def connect(self) -> Any:
        url = make_url(self.database_url)
        told = url.query["host"]
        hosts = [host.partition(":")[0] for host in ([told] if isinstance(told, str) else told)]
        return await asyncpg.connect(
            host=hosts,
            port=[5432] * len(hosts),
            user=url.username,
            database=url.database,
            target_session_attrs="primary",
        )

    async def worker_ids(self) -> dict[int, str]:
        """Give the living workers by the process they live in."""
        rows = await self.ask("select origin, id from worker")
        return {int(origin.rpartition(":")[2]): str(worker_id) for origin, worker_id in rows}

    async def open_payments(self) -> int:
        return await self.count(
            "select count(*) from payment where state not in ('completed', 'failed') and hold is null"
        )

    def stats(self) -> dict[str, Any]:
        """Ask the sandbox what it was asked."""
        parts = urlsplit(self.base_url)
        with contextlib.closing(http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)) as connection:
            connection.request("GET", "/_sandbox/stats")
            return dict(json.loads(connection.getresponse().read()))


@asynccontextmanager
async def fleet(
    directory: Path, database_url: str, *, speed: float = 1, start_deadline_s: float = 2.5, **worker: Any
) -> AsyncIterator[Fleet]:
    """Start a sandbox and write the settings; end what is left when the block ends."""
    made = Fleet(directory, database_url)
    try:
        sandbox = await made.start("sandbox", "sandbox", "--port", "0", "--speed", str(speed), stdout=PIPE)
        assert sandbox.stdout is not None
        made.base_url = (await sandbox.stdout.readline()).decode().strip()
        assert made.base_url.startswith("http://")
        key = base64.b64encode(secrets.token_bytes(32)).decode()
        for name, secret in (("client-secret", "sandbox-secret"), ("sealing-key", key)):
            (directory / name).touch(mode=0o600)
            (directory / name).write_text(secret)
        lines = "\n".join(f"{name} = {value}" for name, value in (QUICK | worker).items())
        made.config.write_text(
            CONFIG.format(
                database_url=database_url, base_url=made.base_url, worker=lines, start_deadline_s=start_deadline_s
            )
        )
        yield made
    finally:
        if made.asked is not None:
            made.asked.terminate()
        for process in made.processes:
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                # Whoever supervises drains its workers even then.
                process.kill()
        await asyncio.gather(*(process.wait() for process in made.processes))


async def submit_all(
    orchestrator: Orchestrator, references: Sequence[str], *, first: int = 0, count: int | None = None
) -> None:
    """Submit payments, digital and phone in turn: all, or so many from the first on."""
    end = len(references) if count is None else first + count
    for start in range(first, end, 100):
        await asyncio.gather(
            *(
                submit(orchestrator, references[number], "digital" if number % 2 else "phone", number)
                for number in range(start, min(start + 100, end))
            )
        )
