import asyncio
import sys
from pathlib import Path

import pytest

from orchestrator import Orchestrator
from orchestrator.cli.app import execute
from orchestrator.diagrams import flow_text, machine_text, path_text
from orchestrator.sandbox import Sandbox, SandboxOptions
from tests.support.flow import settings_for, submit


@pytest.mark.parametrize(("arguments", "text"), [((), machine_text()), (("--flow",), flow_text())])
def test_a_picture_of_the_code_needs_no_settings(
    arguments: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert execute(("diagram", *arguments)) == 0
    assert capsys.readouterr().out == text
    assert not list(tmp_path.iterdir())


def test_writing_makes_both_texts(tmp_path: Path) -> None:
    assert execute(("diagram", "--write", str(tmp_path))) == 0
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "machine.mmd": machine_text(), "flow.mmd": flow_text(),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("pay-x", "--flow"), "error: payment: "),
        (("pay-x", "--write", "."), "error: payment: "),
        (("--write", "nowhere/at/all"), "error: write: "),
    ],
)
def test_a_wrong_call_is_told_in_one_line(
    arguments: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(("diagram", *arguments)) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(named)


async def test_a_payments_path_is_drawn_from_its_trail(tmp_path: Path) -> None:
    async with (
        Sandbox(SandboxOptions(speed=10)) as sandbox,
        Orchestrator(settings_for(sandbox.base_url, tmp_path)) as orchestrator,
        orchestrator.worker(),
    ):
        payment = await submit(orchestrator, "PAID-1", "digital")
        await orchestrator.wait(payment.id, timeout=20)
        entries = await orchestrator.timeline(payment.id)
    (tmp_path / "orchestrator.toml").write_text(f'database_url = "sqlite:///{tmp_path / "orchestrator.db"}"\n')
    config = ("--config", str(tmp_path / "orchestrator.toml"))
    drawn, absent = await asyncio.gather(
        _run(*config, "diagram", payment.id), _run(*config, "diagram", "pay-none")
    )  # fmt: skip
    assert drawn == (0, path_text(entries), "")
    assert absent[:2] == (2, "")
    assert "orchestrator list" in absent[2]


async def _run(*arguments: str) -> tuple[int | None, str, str]:
    ran = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orchestrator", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await ran.communicate()
    return ran.returncode, out.decode(), err.decode()
