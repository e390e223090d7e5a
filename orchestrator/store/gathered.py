"""
The two reads that every payment needs, for many payments in one statement.

Owns that concurrent callers share a statement, as `group` has writes share a transaction; an
idle store reads at once. Next: `notifications`.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, select, text, tuple_

from orchestrator.domain.payment import Payment
from orchestrator.store.access import Database
from orchestrator.store.group import Group
from orchestrator.store.prepared import Prepared, within
from orchestrator.store.reads import Reads
from orchestrator.store.rows import made_of
from orchestrator.store.schema import payer_data, payment

GATHER_S = 0.004
"""As `writes.GATHER_S`."""

_PAIRS = {
    "sqlite": "select a.value, r.value from json_each(:accounts) a join json_each(:references) r using (key)",
    "postgresql": "select * from unnest(cast(:accounts as text[]), cast(:references as text[]))",
}
_OF = Prepared(
    lambda dialect: (
        select(payment)
        .where(tuple_(payment.c.account, payment.c.reference).in_(text(_PAIRS[dialect])))
        .order_by(payment.c.round)
    ),
    payment.columns,
)
_SEALED = Prepared(
    lambda dialect: select(payer_data.c.payment_id, payer_data.c.sealed).where(
        within(payer_data.c.payment_id, "ids", dialect)
    )
)


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

    async def _of_references(self, wanted: Sequence[tuple[str, str]]) -> Sequence[Sequence[Payment]]:
        pairs = sorted(set(wanted))
        accounts, references = [pair[0] for pair in pairs], [pair[1] for pair in pairs]

        def work(connection: Connection) -> Sequence[Payment]:
            return [made_of(row) for row in _OF.rows(connection, accounts=accounts, references=references)]

        found: dict[tuple[str, str], list[Payment]] = {}
        for each in await self._database.read(work):
            found.setdefault((each.account, each.reference), []).append(each)
        return [found.get(one, []) for one in wanted]

    async def _sealed_of(self, wanted: Sequence[str]) -> Sequence[bytes | None]:
        def work(connection: Connection) -> dict[str, bytes]:
            return {row[0]: bytes(row[1]) for row in _SEALED.rows(connection, ids=list(wanted))}

        found = await self._database.read(work)
        return [found.get(one) for one in wanted]
