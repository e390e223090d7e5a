"""The command line as a function: arguments in, exit status and output out."""

import asyncio
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
import structlog

from orchestrator import telemetry
from orchestrator.cli.app import execute
from orchestrator.privacy import load_or_create_key_file
from orchestrator.store import migrate
from tests.support.cli import SECRET, SETTINGS, Command, Result, assert_discreet


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Commands take over the process's logging: put it back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in telemetry._LIBRARIES}
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level
    for name, former in levels.items():
        logging.getLogger(name).setLevel(former)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an upgraded, empty database and its key, to be copied."""
    directory = tmp_path_factory.mktemp("prepared")
    database = directory / "orchestrator.db"
    asyncio.run(migrate.upgrade(f"sqlite:///{database}"))
    load_or_create_key_file(database.with_name("orchestrator.db.key"), may_create=True)
    return directory


@pytest.fixture
def home(tmp_path: Path, prepared: Path, own_logging: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory: an empty database, settings of one account whose provider is not reachable."""
    for name in os.environ:
        if name.startswith("ORCHESTRATOR_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CANARY_SECRET", SECRET)
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orchestrator.toml").write_text(SETTINGS.format(url="http://127.0.0.1:9"))
    return tmp_path


@pytest.fixture
def command(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run one command in this process; its output is checked for canaries."""

    def run(*argv: str, stdin: str | None = None, **options: object) -> Result:
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(stdin.encode("utf-8", "surrogatepass"))))
        for name, value in options.items():
            argv = (*argv, f"--{name.replace('_', '-')}", str(value))
        capsys.readouterr()
        status = execute(argv)
        out, err = capsys.readouterr()
        assert_discreet(out, err)
        return Result(status, out, err)

    return run
