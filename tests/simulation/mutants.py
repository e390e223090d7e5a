"""
All mutants. `python -m tests.simulation.mutants` searches for their first seeds anew, after a change of the simulation.
"""

import sys
import time

from tests.simulation import mutants_of_decisions, mutants_of_flow
from tests.simulation.mutant import MOST_SEEDS, MUTANTS, Mutant, caught

__all__ = ["MOST_SEEDS", "MUTANTS", "Mutant", "caught", "mutants_of_decisions", "mutants_of_flow"]


def search() -> int:
    """Look for each mutant's first seed; print it, what found it, and how long that took."""
    missed = 0
    for one in MUTANTS:
        began = time.process_time()
        for seed in range(1, MOST_SEEDS + 1):
            try:
                found = sorted({each.invariant for each in caught(one, seed)})
            except Exception as error:  # noqa: BLE001 - a mutant may break more than the trail
                print(f"      {one.name}: seed {seed}: {error!r}")
                continue
            if set(found) & set(one.found_by):
                break
        else:
            seed, found, missed = 0, [], missed + 1
        print(f"{seed:4} {time.process_time() - began:5.1f} s  {one.name}: {', '.join(found)}", flush=True)
    return missed


if __name__ == "__main__":
    sys.exit(search())
