"""Seeds of the simulation, each with every invariant; and that a seed is a seed."""

import os
import subprocess
import sys

import pytest

from tests.simulation.__main__ import chunk, told
from tests.simulation.world import Scene, simulate

SEEDS = 500
EACH = 50


@pytest.mark.parametrize("first", range(1, SEEDS + 1, EACH))
def test_every_invariant_holds_in_every_seed(first: int) -> None:
    wrong, counts = chunk(range(first, first + EACH), sqlite_every=0)

    assert wrong == []
    assert counts["seeds"] == EACH
    assert counts["deaths"] > EACH, "the weather is foul"
    assert counts["sessions"] > EACH


def test_one_seed_is_the_same_to_the_byte_whatever_strings_hash_to() -> None:
    def traced(hash_seed: str) -> str:
        command = [sys.executable, "-m", "tests.simulation", "--seed", "11", "--log"]
        environ = os.environ | {"PYTHONHASHSEED": hash_seed}
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout

    first = traced("1")

    assert traced("2") == first
    again = simulate(11)
    assert first == "\n".join([*again.lines, told(again, on_sqlite=False), ""])
    assert again.trace == simulate(11).trace


def test_another_seed_is_another_run() -> None:
    assert len({simulate(seed).trace for seed in range(1, 6)}) == 5


def test_a_failure_names_its_seed_and_the_command_that_replays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.domain import looking

    monkeypatch.setattr(looking, "mismatch", lambda _payment, _seen: "")
    wrong, _ = chunk(range(1, 41), sqlite_every=0)

    assert wrong
    seed = int(wrong[0].split()[1].rstrip(":"))
    assert wrong[0].endswith(f"replay: python -m tests.simulation --seed {seed}")
    assert simulate(seed, Scene()).findings
