"""
Values that are known and must not be kept, taken out of texts that somebody else wrote.

A provider may quote what it was sent, or what it knows of the payer. Card data is found by its
shape elsewhere; these are found by themselves. Next: `verdict`.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType

from orchestrator.domain.verdict import Verdict

REMOVED = "[removed]"

SHORTEST = 3
"""Shorter values stay, since they would tear holes into every word."""
SHORTEST_IN_CODES = 6
"""In codes a house number must not take the gateway's `100` away."""


class PrivateValues:
    """
    Values to be taken out of texts, whatever the case of their letters.

    Args:
        values: The values as they were sent.
    """

    def __init__(self, values: Iterable[str]) -> None:
        longest_first = sorted((value for value in values if len(value) >= SHORTEST), key=len, reverse=True)
        either = "|".join(map(re.escape, longest_first))
        long = "|".join(re.escape(value) for value in longest_first if len(value) >= SHORTEST_IN_CODES)
        self._anywhere = re.compile(either, re.IGNORECASE) if either else None
        self._words = re.compile(rf"(?<!\w)(?:{long})(?!\w)", re.IGNORECASE) if long else None

    def out_of(self, text: str) -> str:
        """Give a text for people without the values, wherever they stand in it."""
        return text if self._anywhere is None else self._anywhere.sub(REMOVED, text)

    def out_of_code(self, text: str) -> str:
        """Give a code or a state without them; within a longer word one is chance, and evidence stays whole."""
        return text if self._words is None else self._words.sub(REMOVED, text)

    def hold(self, text: str | None) -> bool:
        """Tell whether the text is one of the values, and nothing else."""
        return (
            text is not None and self._anywhere is not None and self._anywhere.fullmatch(text.lstrip("+")) is not None
        )

    def out_of_verdict(self, verdict: Verdict) -> Verdict:
        """Give the verdict with a message, codes and a state that may be kept."""
        message = None if verdict.message is None else self.out_of(verdict.message)
        seen = verdict.observation
        if seen is not None:
            codes = {name: self.out_of_code(text) for name, text in seen.codes.items()}
            state = None if seen.session_state is None else self.out_of_code(seen.session_state)
            seen = replace(seen, session_state=state, codes=MappingProxyType(codes))
        return replace(verdict, message=message, observation=seen)
