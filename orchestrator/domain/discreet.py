"""
Values that are known and must not be kept, taken out of texts that somebody else wrote.

A provider may quote what it was sent, or what it knows of the payer. Card data is found by its
shape elsewhere; these are found by themselves. Next: `verdict`.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
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
        self._longest_first = sorted((value for value in values if len(value) >= SHORTEST), key=len, reverse=True)
        # Among ASCII a plain search finds whatever the patterns would: they are nearly never needed, and dear to make.
        self._lowered = [value.lower() for value in self._longest_first]
        self._ascii = all(map(str.isascii, self._lowered))

    def out_of(self, text: str) -> str:
        """Give a text for people without the values, wherever they stand in it."""
        return self._anywhere.sub(REMOVED, text) if self._may_be_in(text) else text

    def out_of_code(self, text: str) -> str:
        """Give a code or a state without them; within a longer word one is chance, and evidence stays whole."""
        return self._words.sub(REMOVED, text) if self._may_be_in(text) else text

    def hold(self, text: str | None) -> bool:
        """Tell whether the text is one of the values, and nothing else."""
        if text is None or not self._may_be_in(text):
            return False
        return self._anywhere.fullmatch(text.lstrip("+")) is not None

    def _may_be_in(self, text: str) -> bool:
        if not (self._ascii and text.isascii()):
            return bool(self._lowered)
        lowered = text.lower()
        return any(value in lowered for value in self._lowered)

    @cached_property
    def _anywhere(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, self._longest_first)), re.IGNORECASE)

    @cached_property
    def _words(self) -> re.Pattern[str]:
        long = "|".join(re.escape(value) for value in self._longest_first if len(value) >= SHORTEST_IN_CODES)
        return re.compile(rf"(?<!\w)(?:{long or '(?!)'})(?!\w)", re.IGNORECASE)

    def out_of_verdict(self, verdict: Verdict) -> Verdict:
        """Give the verdict with a message, codes and a state that may be kept."""
        message = None if verdict.message is None else self.out_of(verdict.message)
        seen = verdict.observation
        if seen is not None:
            codes = {name: self.out_of_code(text) for name, text in seen.codes.items()}
            state = None if seen.session_state is None else self.out_of_code(seen.session_state)
            if state != seen.session_state or codes != seen.codes:
                seen = replace(seen, session_state=state, codes=MappingProxyType(codes))
        if message == verdict.message and seen is verdict.observation:
            return verdict
        return replace(verdict, message=message, observation=seen)
