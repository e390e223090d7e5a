"""
Signed reviews of the trail: written once, closed once by a person.

Owns the rows of PCI DSS v4.0.1, 10.4, each with its entry in the trail, and that nobody signs
for a period in which he acted. Must not know what a review looks for. Next: `store`.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, and_, insert, select, update

from orchestrator.compliance import Review, Signed
from orchestrator.domain.entry import Context, instant
from orchestrator.domain.errors import InvalidInput, NotFound
from orchestrator.store.admin import Admin
from orchestrator.store.ledger import Ledger, Ledgers
from orchestrator.store.registers import log_leaf, review
from orchestrator.store.schema import audit_entry, unsealed

_COLUMNS = tuple(Review.__slots__)


def same_person(person: str, actor: str) -> bool:
    """Tell whether an entry's actor is this person, also as the command line's user of the same name."""
    named, acted = (" ".join(name.split()).casefold().removeprefix("cli:") for name in (person, actor))
    return named == acted


class Reviews(Admin, Ledgers):
    """The verbs of reviews."""

    async def sign_review(self, signed: Signed, context: Context) -> int:
        """
        Write down that a person has reviewed a period, with an entry `review.signed`.

        Args:
            signed: What is signed; `signed.sealed` must have been read in the moment in which
                `demand_unbiased` looked through the period, or before.
            context: Who signs (`actor`), when, from where.

        Returns:
            The review's number.

        Raises:
            InvalidInput: The person acted in the period, or it has not ended. Nothing was written.
            Unavailable: The database does not answer; the same call again may sign twice, which does no harm.

        Crash: row and entry are written together or not at all.
        """
        _demand_over(signed.until, context.now)
        numbers: list[int] = []
        row = {
            "period_from": signed.since, "period_to": signed.until, "reviewer": context.actor,
            "reviewed_at": context.now, "rules_version": signed.rules_version,
            "checkpoint_size": signed.checkpoint_size, "findings": signed.findings,
        }  # fmt: skip

        def change(connection: Connection) -> bool:
            # What came in since the period was looked through: it waits for its leaf, or got one since then.
            for actor in _newcomers(connection, signed):
                if same_person(context.actor, actor):
                    raise _biased()
            numbers.append(connection.execute(insert(review).returning(review.c.id), [row]).scalar_one())
            return True

        period = f"{instant(signed.since)}/{instant(signed.until)}"
        details = {
            "since": instant(signed.since), "until": instant(signed.until), "rules": signed.rules_version,
            "checkpoint": signed.checkpoint_size, "findings": signed.count, "sha256": signed.sha256,
        }  # fmt: skip
        await self.note("review.signed", about=period, context=context, details=details, change=change)
        return numbers[-1]

    async def demand_unbiased(self, ledger: Ledger, since: datetime, until: datetime, context: Context) -> None:
        """
        Make sure that whoever is to sign may.

        Raises:
            InvalidInput: The person acted in the period, or it has not ended.
            Unavailable: The database does not answer.
        """
        _demand_over(until, context.now)
        async for actor in ledger.actors(since, until):
            if same_person(context.actor, actor):
                raise _biased()

    async def close_review(self, number: int, disposition: str, ticket: str, context: Context) -> None:
        """
        Close a review, once, with an entry `review.closed`.

        Args:
            number: The review's.
            disposition: What became of its findings; not empty, no payer data.
            ticket: Where that is followed up; not empty.
            context: Who closes it (`actor`), when, from where.

        Raises:
            NotFound: There is no open review of this number.
            IntegrityViolated: The database refuses it, as for an empty text.
            Unavailable: The database does not answer; the same call again is safe.

        Crash: row and entry are written together or not at all.
        """
        done = {"disposition": disposition, "ticket": ticket, "closed_by": context.actor, "closed_at": context.now}
        here = (review.c.id == number, review.c.closed_at.is_(None))

        def change(connection: Connection) -> bool:
            return connection.execute(update(review).where(*here).values(**done)).rowcount == 1

        details = {"disposition": disposition, "ticket": ticket}
        noted = await self.note("review.closed", about=str(number), context=context, details=details, change=change)
        if noted is None:
            raise NotFound(f"no open review has the number {number}; `orchestrator audit review list` gives them")

    async def reviews(self, *, limit: int = 1000) -> Sequence[Review]:
        """
        Give the signed reviews, the newest first.

        Raises:
            Unavailable: The database does not answer.
        """
        statement = select(review).order_by(review.c.id.desc()).limit(limit)

        def work(connection: Connection) -> Sequence[Review]:
            rows = connection.execute(statement).mappings()
            return [Review(**{name: row[name] for name in _COLUMNS}) for row in rows]

        return await self._database.read(work)


def _demand_over(until: datetime, now: datetime) -> None:
    if until > now:
        raise InvalidInput("--to", "is not over yet", "sign a period when it has ended")


def _biased() -> InvalidInput:
    return InvalidInput("--as", "acted in this period", "let somebody review it who did nothing in it")


def _newcomers(connection: Connection, signed: Signed) -> set[str]:
    period = (audit_entry.c.at >= signed.since, audit_entry.c.at < signed.until)
    named: set[str] = set()
    for table, more in ((unsealed, ()), (log_leaf, (log_leaf.c.idx >= signed.sealed,))):
        same = and_(table.c.chain_id == audit_entry.c.chain_id, table.c.seq == audit_entry.c.seq)
        statement = select(audit_entry.c.actor).join(table, same).where(*period, *more).distinct()
        named |= set(connection.scalars(statement))
    return named
