"""The README is true: its code runs, its tables are the code's own, its words all exist."""

import asyncio
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from orchestrator.cli import app as cli
from orchestrator.domain.outcome import HOLDING, MONEY_OF, MoneyFact, Outcome
from orchestrator.domain.payment import HoldReason
from orchestrator.handlers import EVENTS
from orchestrator.sandbox import Sandbox, SandboxOptions
from tests.support.readme_tables import README, TABLES

TEXT = README.read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return str(found)


def rows(heading: str) -> list[list[str]]:
    """The cells of every row of the tables below a heading, up to the next heading or generated table."""
    part = re.split(r"^## |<!-- table", TEXT.split(f"\n## {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]
    cells = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")]
    return [row for row in cells if not set(row[0]) <= {"-"}]


def names(heading: str, first: str) -> list[str]:
    """The first column of the table whose head begins with `first`."""
    found = rows(heading)
    start = next(number for number, row in enumerate(found) if row[0] == first)
    body = [row[0] for row in found[start + 1 :]]
    ends = [number for number, name in enumerate(body) if not name.startswith("`") and not name.isdigit()]
    return [name.strip("`") for name in body[: ends[0] if ends else None]]


async def test_the_embedding_example_runs_as_it_stands_and_is_paid(tmp_path: Path) -> None:
    (tmp_path / "embed.py").write_text(block("python"), encoding="utf-8")
    async with Sandbox(SandboxOptions(speed=4)) as sandbox:
        settings = block("toml").replace("http://127.0.0.1:8080", sandbox.base_url)
        assert sandbox.base_url in settings
        (tmp_path / "orchestrator.toml").write_text(settings, encoding="utf-8")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
        ran = await asyncio.create_subprocess_exec(
            sys.executable, "embed.py", cwd=tmp_path, env=environment | {"EMEA_CLIENT_SECRET": "sandbox-secret"},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await ran.communicate()
        stats = sandbox.stats()
    assert ran.returncode == 0, err.decode()
    transferred, ended = out.decode().splitlines()
    assert re.fullmatch(r"transfer the call to \+44\d+ and send the digits \d+", transferred)
    assert ended == "PAID-1001 completed paid None taken"
    assert stats["sessions_per_reference"] == {"PAID-1001": 1}
    assert (tmp_path / "orchestrator.db.key").stat().st_mode & 0o777 == 0o600
    assert "A. Payer" not in out.decode() + err.decode()


@pytest.mark.parametrize("name", TABLES)
def test_a_generated_table_says_something_of_every_row(name: str) -> None:
    lines = TABLES[name]().splitlines()
    assert len(lines) > 10
    assert all(cell.strip() for line in lines for cell in re.split(r"(?<!\\)\|", line.strip("|")))


def test_every_outcome_is_explained_once_with_its_end_and_its_money() -> None:
    table = {row[0].strip("`"): row[1:3] for row in rows("Outcomes")[1:]}
    assert len(table) == len(rows("Outcomes")) - 1
    assert table == {
        outcome: [
            "held" if outcome in HOLDING else "completed" if outcome is Outcome.PAID else "failed",
            MONEY_OF.get(outcome, MoneyFact.NONE),
        ]
        for outcome in Outcome
    }


def test_every_hold_is_explained_once() -> None:
    part = TEXT.split("<!-- table: holds -->")[1].split("<!-- end -->")[0]
    assert sorted(re.findall(r"^\| `(\w+)`", part, re.MULTILINE)) == sorted(HoldReason)


def test_every_event_is_explained_in_order() -> None:
    assert names("Embed", "event") == list(EVENTS)


def commands() -> set[str]:
    return set(below(cli.app, "orchestrator"))


def below(app: typer.Typer, prefix: str) -> Iterator[str]:
    """Give the commands of a group and of the groups in it; one without a name adds none to theirs."""
    for command in app.registered_commands:
        if command.callback:
            yield f"{prefix} {command.name or command.callback.__name__}"
    for group in app.registered_groups:
        assert group.typer_instance is not None
        own = group.typer_instance.registered_callback
        name = f"{prefix} {group.name}" if isinstance(group.name, str) else prefix
        if own is not None and own.invoke_without_command is True:
            yield name
        yield from below(group.typer_instance, name)


def test_every_command_is_listed_and_no_other() -> None:
    listed = names("Commands", "command")
    assert len(listed) == len(set(listed))
    assert set(listed) == commands()


@pytest.mark.parametrize("link", re.findall(r'\]\((?!https?:)([^)#]+)\)|src="([^"]+)"', TEXT))
def test_every_link_leads_to_a_file(link: tuple[str, str]) -> None:
    assert (README.parent / (link[0] or link[1])).exists()


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    told = TEXT + (README.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for target in set(re.findall(r"(?:^\$ |`)make ([a-z]+)", told, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
