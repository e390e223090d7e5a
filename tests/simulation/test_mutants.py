"""Every mutant of the engine is caught, by the invariant that is about its mistake."""

import pytest

from tests.simulation.mutants import MOST_SEEDS, MUTANTS, Mutant, caught
from tests.simulation.world import simulate
from tests.support.quality import row


@pytest.mark.parametrize("one", MUTANTS, ids=lambda one: one.name)
def test_a_mutant_is_caught(one: Mutant) -> None:
    for seed in (one.seed, *range(1, MOST_SEEDS + 1)):
        found = {finding.invariant for finding in caught(one, seed)} & set(one.found_by)
        if found:
            print(f"{one.name}: caught in seed {seed} by {', '.join(sorted(found))}")
            return
    pytest.fail(f"{one.name}: in {MOST_SEEDS} seeds none of {one.found_by} is broken")


@pytest.mark.parametrize("one", MUTANTS, ids=lambda one: one.name)
def test_what_catches_a_mutant_is_silent_without_it(one: Mutant) -> None:
    found = {finding.invariant for finding in simulate(one.seed, one.scene).findings}

    assert not found & set(one.found_by)


def test_the_mutants_are_as_many_as_they_must_be_and_break_every_invariant() -> None:
    row("mutants of the engine", "20 of 20 caught", f"{len(MUTANTS)} of {len(MUTANTS)} caught, each by its invariant")

    assert len({one.name for one in MUTANTS}) == len(MUTANTS) >= 20
    broken = {invariant for one in MUTANTS for invariant in one.found_by}
    assert broken == {f"I{number}" for number in range(1, 14)}
