"""`docs/compliance.md` names commands, options, views, metrics and files that exist."""

import asyncio
import re
import shlex
import sqlite3
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer

from orchestrator.cli.app import app
from orchestrator.metrics import COUNTERS, GAUGES
from orchestrator.settings.seal import SealSettings
from orchestrator.store.migrate import upgrade
from orchestrator.store.views import VIEWS

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "compliance.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```([a-z]+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
SPANS = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL))
PROGRAM: Any = typer.main.get_command(app)


def blocks(language: str) -> Iterator[str]:
    return (text for found, text in BLOCKS if found == language)


def command_lines() -> set[str]:
    """Each `orchestrator ...` of consoles, schedules and running text."""
    lines = [line.removeprefix("$ ") for text in blocks("console") for line in text.splitlines() if line[:2] == "$ "]
    lines += [line[line.index("orchestrator ") :] for text in blocks("cron") for line in text.splitlines()]
    return {line for line in (*lines, *SPANS) if line.startswith("orchestrator ")}


def words(line: str) -> list[str]:
    """The words of a command up to where the shell takes over."""
    found = shlex.split(line, comments=True)
    end = next((at for at, word in enumerate(found) if word in {"|", "||", "&&", ";"} or word[0] in "<>"), len(found))
    return found[1:end]


def misnamed(line: str) -> list[str]:
    """What of a command line the program does not know."""
    here, wrong = PROGRAM, []
    options: dict[str, bool] = {}
    rest = words(line)
    while rest:
        word = rest.pop(0)
        options |= {
            name: bool(getattr(option, "is_flag", False))
            for option in here.params if option.param_type_name == "option"
            for name in (*option.opts, *option.secondary_opts)
        }  # fmt: skip
        name, _, value = word.partition("=")
        if word.startswith("-"):
            if name not in options:
                wrong.append(name)
            elif not options[name] and not value and rest:
                rest.pop(0)
        elif hasattr(here, "commands") and not word.isupper():
            if word not in here.commands:
                return [*wrong, word]
            here, options = here.commands[word], {}
        elif not any(each.param_type_name == "argument" for each in here.params):
            wrong.append(word)
    return wrong


def test_the_walk_knows_what_exists_and_what_does_not() -> None:
    assert misnamed("orchestrator audit verify --key K --checkpoint old.note --announced || alarm") == []
    assert misnamed("orchestrator audit prove pay-1 > proof.json") == []
    assert misnamed("orchestrator audit verify --quickly") == ["--quickly"]
    assert misnamed("orchestrator audit embellish --as ann") == ["embellish"]
    assert misnamed("orchestrator audit keys stray") == ["stray"]


@pytest.mark.parametrize("line", sorted(command_lines()))
def test_every_command_and_option_exists(line: str) -> None:
    assert misnamed(line) == []


def test_every_view_exists() -> None:
    queries = [*(span for span in SPANS if span.startswith("select ")), *blocks("sql")]
    asked = {name for query in queries for name in re.findall(r"\b(?:from|join)\s+(?!\()([a-z_]+)", query)}
    named = {span for span in SPANS if re.fullmatch(r"v_[a-z_]+", span)}
    assert asked
    assert sorted(asked | named) == sorted((asked | named) & set(VIEWS))


def test_every_query_runs(tmp_path: Path) -> None:
    file = tmp_path / "payments.db"
    asyncio.run(upgrade(f"sqlite:///{file}"))
    queries = [span for span in SPANS if span.startswith("select ")]
    with closing(sqlite3.connect(file)) as connection:
        for query in (*queries, *(part for text in blocks("sql") for part in text.split(";") if part.strip())):
            connection.execute(query).fetchall()


def test_every_metric_exists() -> None:
    known = {f"{metric.name}_total" for metric in COUNTERS} | {metric.name for metric in GAUGES}
    named = {span for span in SPANS if re.fullmatch(r"orchestrator_[a-z_]+", span)}
    assert named
    assert named <= known


def test_every_setting_of_the_example_exists() -> None:
    (example,) = (tomllib.loads(text) for text in blocks("toml"))
    assert set(example) == {"seal"}
    assert set(example["seal"]) <= set(SealSettings.model_fields)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT))))
def test_every_link_leads_to_a_file(link: str) -> None:
    assert (PAGE.parent / link).exists()


def test_every_file_that_is_named_exists() -> None:
    named = {span for span in SPANS if re.fullmatch(r"(?:tests|orchestrator|docs)/[A-Za-z0-9_/.]+", span)}
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
