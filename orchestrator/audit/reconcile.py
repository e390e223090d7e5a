"""
The provider's report against ours, in bounded memory.

It is the one control that sees an entry which is valid in every respect and not true, such as a
payment "completed" with a worker's credentials that the provider never took. Both books are dealt
into parts by the reference, through temporary files without names, and compared part by part;
the report is read once, so that its digest is of what was compared. Owns no rule: `matching`
does. Next: `orchestrator.cli`.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import IO, Any
from zlib import crc32

from orchestrator.audit.matching import FINE, Pair, Result, match
from orchestrator.audit.periods import Books, Period
from orchestrator.audit.statement import Line, Statement
from orchestrator.compliance import Booked
from orchestrator.domain.entry import instant
from orchestrator.domain.errors import InvalidInput

PARTS = 64
"""A million lines make parts of 16,000, which are a few megabytes each."""
IN_MEMORY = 1 << 18
"""Bytes of a part that are kept without a file."""
MOST_OF_ONE = 10_000
"""Lines of one reference: more of them can't be told apart anyway, and would have to be held at once."""
MOST_FINDINGS = 1000
BEFORE, AFTER = timedelta(days=5), timedelta(days=1)
"""How far outside the period payments of ours may lie that a line in it can speak of: a link lives for 72 h."""

_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True)
class Reconciled:
    """
    What came of the comparison.

    Attributes:
        period: What both books were compared for.
        sha256: Of the report.
        lines, payments: How many of theirs and of ours were looked at.
        counts: Verdicts; a pair of a line and a payment is one.
        findings: All that is not as it should be, at most 1,000.
    """

    period: Period
    sha256: str = ""
    lines: int = 0
    payments: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[Pair] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many verdicts are not as they should be."""
        return sum(number for result, number in self.counts.items() if Result(result) not in FINE)

    def add(self, pair: Pair) -> None:
        """Take one more verdict."""
        self.counts[pair.result.value] += 1
        if pair.result not in FINE and len(self.findings) < MOST_FINDINGS:
            self.findings.append(pair)


async def reconcile(books: Books, statement: Statement, period: Period, account: str | None = None) -> Reconciled:
    """
    Compare a report with the payments of its period.

    Args:
        books: A store.
        statement: The report, not read yet.
        period: What it is about; an end that is not given is the midnight beyond the report's first or last line.
        account: Only payments of this account; of all without it.

    Raises:
        InvalidInput: The report does not fit, by line and column; or it has no line, and no period is given.
        Unavailable: The database does not answer.

    Crash: nothing is written; the temporary files have no name and are gone with the process.
    """
    with ExitStack() as stack:
        theirs, ours = (_Parts(stack) for _ in range(2))
        found = Reconciled(period)
        span = _deal(statement, theirs, found)
        found.period = _period(period, span)
        found.sha256 = statement.sha256
        since, until = _widened(found.period)
        async with books.ledger() as ledger:
            async for payment in ledger.booked(since, until, account):
                found.payments += 1
                ours.put(payment.reference, _row_of(payment))
        for number in range(PARTS):
            for pair in _compare(theirs.rows(number), ours.rows(number), found.period):
                found.add(pair)
    return found


class _Parts:
    """Rows dealt by a key, each part in memory while it is small, then in a file without a name."""

    def __init__(self, stack: ExitStack) -> None:
        self._files: list[IO[str]] = [
            stack.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY, "w+", encoding="utf-8"))  # noqa: SIM115
            for _ in range(PARTS)
        ]

    def put(self, key: str, row: list[Any]) -> None:
        self._files[crc32(key.encode()) % PARTS].write(json.dumps(row) + "\n")

    def rows(self, number: int) -> Iterator[list[Any]]:
        self._files[number].seek(0)
        for text in self._files[number]:
            yield json.loads(text)


def _deal(statement: Statement, theirs: _Parts, found: Reconciled) -> tuple[datetime, datetime] | None:
    """Read the whole report, and give the times of its first and last line."""
    first = last = None
    for line in statement:
        found.lines += 1
        first = line.at if first is None or line.at < first else first
        last = line.at if last is None or line.at > last else last
        theirs.put(line.reference, [*_fields(line)])
    return None if first is None or last is None else (first, last)


def _fields(line: Line) -> Iterable[Any]:
    return line.number, line.reference, line.minor, line.currency, line.status, instant(line.at), line.session_id


def _row_of(payment: Booked) -> list[Any]:
    return [
        payment.id, payment.account, payment.reference, payment.minor, payment.currency, payment.session_id,
        payment.money, payment.open, instant(payment.created_at), instant(payment.changed_at),
    ]  # fmt: skip


def _period(period: Period, span: tuple[datetime, datetime] | None) -> Period:
    """Give the period with both ends: whole days around the report where one is not given."""
    since, until = period.since, period.until
    if (since is None or until is None) and span is None:
        raise InvalidInput("--from", "is needed for a report without lines", "give --from and --to")
    if since is None and span is not None:
        since = _midnight(span[0])
    if until is None and span is not None:
        until = _midnight(span[1]) + timedelta(days=1)
    if since is not None and until is not None and since >= until:
        raise InvalidInput("--to", "is not after the report's first line", "give the report's period")
    return Period(since, until)


def _midnight(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _widened(period: Period) -> tuple[datetime, datetime]:
    assert period.since is not None  # noqa: S101 - `_period` has seen to both
    assert period.until is not None  # noqa: S101
    return max(period.since, _FIRST + BEFORE) - BEFORE, min(period.until, _LAST - AFTER) + AFTER


def _compare(theirs: Iterator[list[Any]], ours: Iterator[list[Any]], period: Period) -> Iterator[Pair]:
    """Compare one part, reference by reference in their order."""
    by_reference: dict[str, tuple[list[Line], list[Booked]]] = {}
    for number, reference, minor, currency, status, at, session in theirs:
        lines = by_reference.setdefault(reference, ([], []))[0]
        lines.append(Line(number, reference, minor, currency, status, datetime.fromisoformat(at), session))
        if len(lines) > MOST_OF_ONE:
            problem = f"is the reference of more than {MOST_OF_ONE} lines"
            raise InvalidInput(f"line {number}, reference", problem, "check --columns: is it another column?")
    for row in ours:
        times = [datetime.fromisoformat(text) for text in row[-2:]]
        payment = Booked(*row[:-2], *times)
        by_reference.setdefault(payment.reference, ([], []))[1].append(payment)
    for _, (lines, payments) in sorted(by_reference.items()):
        yield from match(lines, payments, period)
