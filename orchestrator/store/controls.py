"""
The register of security controls that have failed: opened by ourselves, closed by a person.

Owns the rows of PCI DSS v4.0.1, 10.7.3, each with its entry in the trail; the database itself
refuses to close one without all that is asked for. Next: `admin`.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, case, exists, insert, literal, select, update

from orchestrator.compliance import Closing, Failure
from orchestrator.domain.entry import Context
from orchestrator.domain.errors import NotFound
from orchestrator.store.admin import Admin
from orchestrator.store.registers import control_failure

_OPEN = control_failure.c.ended_at.is_(None)
_COLUMNS = tuple(Failure.__slots__)


class Controls(Admin):
    """The verbs of failed controls."""

    async def fail_control(self, control: str, cause: str, context: Context) -> bool:
        """
        Write down that a control has failed, unless that is known; with an entry `control.failed`.

        Args:
            control: Which.
            cause: Why; no payer data.
            context: Who noticed, when, from where.

        Returns:
            `False` if a failure of it is open already: nothing was written.

        Raises:
            Unavailable: The database does not answer; the same call again is safe.

        Crash: row and entry are written together or not at all.
        """
        already = exists().where(control_failure.c.control == control, _OPEN)
        row = select(literal(control), literal(context.now, control_failure.c.started_at.type), literal(cause))
        statement = insert(control_failure).from_select(["control", "started_at", "cause"], row.where(~already))

        def change(connection: Connection) -> bool:
            return connection.execute(statement).rowcount == 1

        details = {"cause": cause}
        noted = await self.note(
            "control.failed", about=control, context=context, details=details, result="failure", change=change
        )  # fmt: skip
        return noted is not None

    async def failures(self, *, only_open: bool = False, limit: int = 1000) -> Sequence[Failure]:
        """
        Give the failures of controls, the newest first.

        Raises:
            Unavailable: The database does not answer.
        """
        statement = select(control_failure).order_by(control_failure.c.id.desc()).limit(limit)
        chosen = statement.where(_OPEN) if only_open else statement

        def work(connection: Connection) -> Sequence[Failure]:
            rows = connection.execute(chosen).mappings()
            return [Failure(**{name: row[name] for name in _COLUMNS}) for row in rows]

        return await self._database.read(work)

    async def close_failure(self, failure_id: int, closing: Closing, context: Context) -> None:
        """
        Close one failure with a person's word on it, with an entry `control.restored`.

        Args:
            failure_id: Its number.
            closing: What PCI DSS 10.7.3 asks for.
            context: Who closes it (`actor`), when, from where.

        Raises:
            NotFound: There is no open failure of this number.
            IntegrityViolated: The database refuses it, as for an empty text.
            Unavailable: The database does not answer; the same call again is safe.

        Crash: row and entry are written together or not at all.
        """
        begun = control_failure.c.started_at
        ended = literal(closing.ended_at, begun.type)
        done = {
            # Whose clock is behind may not end a failure before it began.
            "ended_at": case((begun > ended, begun), else_=ended),
            "resumed_at": context.now, "remediation": closing.remediation, "issues": closing.issues,
            "further_action": closing.further_action, "prevention": closing.prevention, "owner": context.actor,
        }  # fmt: skip
        here = (control_failure.c.id == failure_id, _OPEN)

        def change(connection: Connection) -> bool:
            return connection.execute(update(control_failure).where(*here).values(**done)).rowcount == 1

        about = str(failure_id)
        details = {"remediation": closing.remediation, "prevention": closing.prevention}
        if await self.note("control.restored", about=about, context=context, details=details, change=change) is None:
            raise NotFound(f"no open failure of a control has the number {failure_id}")
