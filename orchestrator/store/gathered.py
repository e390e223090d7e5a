"""
The two reads that every payment needs, for many payments in one statement.

Owns that concurrent callers share a statement, as `group` has writes share a transaction; an
idle store reads at once. Next: `notifications`.
"""

from collections.abc import Sequence

from orchestrator.domain.payment import Payment
from orchestrator.store.access import Database
from orchestrator.store.group import Group
from orchestrator.store.reads import Reads

GATHER_S = 0.004
"""As `writes.GATHER_S`."""


class Gathered(Reads):
    """`Reads` whose `of_reference` and `sealed` share statements."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._references: Group[tuple[str, str], Sequence[Payment]] = Group(
            self._of_references, key=lambda _: None, gather_s=GATHER_S
        )
        self._seals: Group[str, bytes | None] = Group(self._sealed_of, key=lambda _: None, gather_s=GATHER_S)

    async def of_reference(self, account: str, reference: str) -> Sequence[Payment]:
        """Give every payment of the reference, oldest round first."""
        return await self._references.put((account, reference))

    async def sealed(self, payment_id: str) -> bytes | None:
        """Give the payment's sealed fields; `None` if it has none, or they were erased."""
        return await self._seals.put(payment_id)
