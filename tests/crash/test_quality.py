"""The page of figures tells each proof once, by its last run."""

from pathlib import Path

import pytest

from tests.support import quality


def test_a_page_has_a_line_for_each_proof_and_of_two_runs_the_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.jsonl"
    monkeypatch.setenv(quality.RESULTS, str(kept))
    monkeypatch.setattr(quality, "PAGE", tmp_path / "quality.md")
    quality.row("kills", "none lost", "1 lost")
    quality.row("zombies", "none | decides", "10 rounds")
    quality.row("kills", "none lost", "0 lost")

    quality.main([str(kept)])

    told = (tmp_path / "quality.md").read_text().splitlines()
    assert [line for line in told if line.startswith(("| kills", "| zombies"))] == [
        "| kills | none lost | 0 lost |", "| zombies | none \\| decides | 10 rounds |",
    ]  # fmt: skip
    assert [line.split("|")[1].strip() for line in told if line.startswith(("| comm", "| date", "| mach", "| vers"))]
    assert len(kept.read_text().splitlines()) == 3


def test_without_a_file_to_keep_them_in_figures_are_only_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(quality.RESULTS, raising=False)

    quality.row("kills", "none lost", "0 lost")

    assert capsys.readouterr().out == "kills: 0 lost (aim: none lost)\n"
