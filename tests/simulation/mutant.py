"""
What a mutant of the engine is: one mistake that somebody could make, as a small patch.

A mutant is caught when an invariant does not hold in some seed's simulation; which must
be found is written beside it. The mistakes are in `mutants_of_flow` and
`mutants_of_decisions`; `mutants` searches for their seeds.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from orchestrator.audit.chain import Finding
from tests.simulation.lives import ALL, Weather
from tests.simulation.world import Scene, simulate

MOST_SEEDS = 60


@dataclass(frozen=True)
class Mutant:
    """
    One mistake.

    Attributes:
        name: What is done wrong.
        patch: Does it, within a block.
        found_by: The invariants that it breaks; one is enough.
        seed: The first seed that shows it.
        scene: What it takes to show it soon.
    """

    name: str
    patch: Callable[[], AbstractContextManager[Any]]
    found_by: tuple[str, ...]
    seed: int
    scene: Scene


MUTANTS: list[Mutant] = []


def mutant(*found_by: str, seed: int = 1, weather: Weather = ALL, **scene: Any) -> Callable[[Any], Any]:
    """Make a mutant of a generator function that gives what to patch: (owner, name, value)."""

    def register(make: Callable[[], Iterator[tuple[Any, str, Any]]]) -> Any:
        @contextmanager
        def patch() -> Iterator[None]:
            with ExitStack() as stack:
                for owner, name, value in make():
                    stack.callback(setattr, owner, name, owner.__dict__[name])
                    setattr(owner, name, value)
                yield

        text = (make.__doc__ or make.__name__).strip().rstrip(".")
        scenery = Scene(weather=weather, **{"payments": 8, "workers": 2, "busy_s": 40.0} | scene)
        MUTANTS.append(Mutant(text, patch, found_by, seed, scenery))
        return make

    return register


def caught(one: Mutant, seed: int) -> list[Finding]:
    """Run one seed of a mutant; give what was found."""
    with one.patch():
        return simulate(seed, one.scene).findings
