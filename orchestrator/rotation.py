"""
Payer data under another key: every value sealed anew, while payments go on.

Owns the order and what is told of it. A value knows the key that it is sealed with, so nothing
is remembered: whoever was stopped begins anew and finds what is left. Knows Protocols, no
adapter. Next: `upkeep`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from orchestrator.domain.entry import Context
from orchestrator.domain.errors import ConfigurationError, IntegrityViolated
from orchestrator.records import Census

ROTATED = "key.rotated"
"""The entry's kind."""
PAGE = 200
"""How many values are one transaction."""
_WALKS = 3
"""Lost races are tried again so often; what is left then is told."""
_KEY = "sealing_key"


class Values(Protocol):
    """The database's verbs of sealed values."""

    async def census(self, headers: Sequence[bytes], digests: str) -> Census:
        """Count what begins so."""
        ...

    async def sealed_otherwise(self, header: bytes, after: str, limit: int) -> Sequence[tuple[str, bytes]]:
        """Give a page of what does not begin so."""
        ...

    async def reseal(self, rows: Sequence[tuple[str, bytes, bytes]]) -> int:
        """Replace what is still as it was seen; tells how many."""
        ...

    async def note(self, kind: str, *, about: str, context: Context, details: Any = ...) -> Any:
        """Write the next administrative entry."""
        ...


class Keys(Protocol):
    """The vault's verbs of keys."""

    @property
    def key_ids(self) -> Sequence[str]:
        """All of them, the current one last."""
        ...

    def header(self, key_id: str = ...) -> bytes:
        """How values of this key begin; without one, how all do."""
        ...

    def reseal(self, sealed: bytes, *, payment_id: str) -> bytes:
        """The same value under the current key; raises `IntegrityViolated`."""
        ...


@dataclass(frozen=True, slots=True)
class Rotated:
    """
    What was done.

    Attributes:
        key: The current key's id.
        former: The ids of the others that are given.
        resealed: How many values were sealed anew, by this run.
        current: How many are under the current key now.
        older: How many still need another one.
        older_digests: How many payments' content digests need another one, for as long as submits may come again.
        damaged: Payments whose value can't be opened: altered, cut, or another payment's.
    """

    key: str
    former: tuple[str, ...]
    resealed: int
    current: int
    older: int
    older_digests: int
    damaged: tuple[str, ...]


async def rotate(store: Values, vault: Keys, context: Context, *, reason: str) -> Rotated:
    """
    Seal every value anew that is not under the current key, and write down what was done.

    Args:
        store: The database.
        vault: The keys.
        context: Who, when, from where.
        reason: Why, for the entry `key.rotated`.

    Raises:
        ConfigurationError: A value needs a key that is not given. Nothing was written.
        Unavailable: The database does not answer; the same call again goes on.

    Crash: each page is sealed anew or as it was, and opens under the same list of keys; without
    the entry, the same call again does the rest and writes it.
    """
    *former, key = vault.key_ids
    headers = [vault.header(), *map(vault.header, vault.key_ids)]
    ours, *known = (await store.census(headers, f"{key}:")).under
    if ours > sum(known):
        problem = f"{ours - sum(known)} stored values need a key that is not given"
        raise ConfigurationError(_KEY, problem, "add the retired keys before the current one")
    damaged: set[str] = set()
    resealed = 0
    for _ in range(_WALKS):
        done, lost = await _walk(store, vault, vault.header(key), damaged)
        resealed += done
        if not lost:
            break
    after = await store.census([vault.header(key)], f"{key}:")
    (current,) = after.under
    told = Rotated(
        key, tuple(former), resealed, current, after.total - current, after.older_digests, tuple(sorted(damaged))
    )
    details = {
        "reason": reason, "key": key, "former": former, "resealed": resealed, "current": current, "older": told.older,
        "damaged": len(damaged),
    }  # fmt: skip
    await store.note(ROTATED, about=_KEY, context=context, details=details)
    return told


async def _walk(store: Values, vault: Keys, header: bytes, damaged: set[str]) -> tuple[int, int]:
    """Go through everything once; tells how many were sealed anew, and how many changed under our hands."""
    after, done, lost = "", 0, 0
    while page := await store.sealed_otherwise(header, after, PAGE):
        anew = []
        for payment_id, sealed in page:
            try:
                anew.append((payment_id, sealed, vault.reseal(sealed, payment_id=payment_id)))
            except IntegrityViolated:
                damaged.add(payment_id)
        replaced = await store.reseal(anew)
        done, lost, after = done + replaced, lost + len(anew) - replaced, page[-1][0]
    return done, lost
