"""
One wait policy: exponential, full jitter, capped.

Owns the numbers of waiting. The same policy times the bursts of a few seconds
inside one attempt (`client`) and the durable due times that `decide` sets. Must
not know what is waited for. Next: `profile`.

Source: "Exponential Backoff And Jitter", AWS Architecture Blog (full jitter):
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from collections.abc import Callable
from random import Random

from tenacity import AsyncRetrying, RetryCallState, wait_random_exponential

FIRST_S = 0.5
MAX_S = 60.0


class FullJitter(wait_random_exponential):
    """
    Tenacity's policy with chance as a parameter.

    Args:
        random: Where the jitter comes from.
    """

    def __init__(self, random: Random) -> None:
        super().__init__(multiplier=FIRST_S, max=MAX_S)
        self._random = random

    def __call__(self, retry_state: RetryCallState) -> float:
        """Give the seconds to wait after the try that `retry_state` describes."""
        # wait_random_exponential would draw from the module-wide generator: ask its
        # parent for the window and draw here.
        window = super(wait_random_exponential, self).__call__(retry_state)
        return self._random.uniform(self.min, window)


def backoff(random: Random) -> Callable[[int], float]:
    """
    Give the policy as a function of failures, the shape that `decide` takes.

    Args:
        random: Where the jitter comes from.

    Returns:
        Failures in a row, from 1, to seconds: between 0 and 0.5, 1, 2, ... at most 60.
    """
    policy = FullJitter(random)
    owner = AsyncRetrying()

    def seconds(failures: int) -> float:
        state = RetryCallState(owner, None, (), {})
        state.attempt_number = max(1, failures)
        return policy(state)

    return seconds
