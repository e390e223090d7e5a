"""
A provider's report, read line by line.

Owns which columns are looked for and what a cell may hold. Accepts what spreadsheets write:
a byte order mark, commas, semicolons or tabs, quoted cells, any line ends. The first thing that
doesn't fit is named by line and column, never by its value. Knows no file system: it is given an
open file, and a guard against card data. Next: `matching`.
"""

import csv
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO

from orchestrator.domain.errors import CardDataRefused, InvalidInput
from orchestrator.domain.money import Money

Guard = Callable[[str, str], None]
"""Raises `CardDataRefused` for a text with card data in it; told what errors call the text."""

LONGEST_LINE, LONGEST_CELL, MOST_COLUMNS = 1 << 16, 1 << 12, 200
NEEDED = ("reference", "amount", "currency", "status", "time")
NAMES: Mapping[str, Sequence[str]] = {
    "reference": ("reference", "merchant reference", "order reference"),
    "amount": ("amount",),
    "currency": ("currency", "currency code"),
    "status": ("status", "outcome", "result"),
    "time": ("time", "date", "timestamp", "date time", "datetime", "created at"),
    "session": ("session id", "session", "sessionid"),
}
"""What a column may be called, upper and lower case and `_` or `-` for blanks alike."""

PAID, UNPAID, OPEN = "paid", "unpaid", "open"
_WORDS = {
    PAID: "paid completed complete success successful succeeded approved accepted authorised authorized"
    " captured settled",
    UNPAID: "unpaid declined failed failure cancelled canceled expired abandoned refused rejected error timeout voided"
    " attempts_exhausted input_timeout cancelled_by_payer cancelled_by_host hung_up not_attempted",
    OPEN: "open pending processing review indeterminate unknown partially_paid",
}
STATUSES = {word: meaning for meaning, words in _WORDS.items() for word in words.split()}
"""What the words of a status mean; others are given by the caller."""

_FORMULA = re.compile(r"[\t\r]| *[=@]| *[+\-](?![\d .()\-/]*$)")
"""How a cell begins that a spreadsheet would run; a signed number and a phone number are none."""
_FIX_TIME = "write ISO 8601, like 2026-11-24T15:46:40Z; without a zone it is UTC"


@dataclass(frozen=True, slots=True)
class Line:
    """
    One line of the report.

    Attributes:
        number: In the file, from 1.
        reference: The merchant reference.
        minor, currency: The amount.
        status: `paid`, `unpaid` or `open`.
        at: When, UTC.
        session_id: The provider's session; `None` if it says none.
    """

    number: int
    reference: str
    minor: int
    currency: str
    status: str
    at: datetime
    session_id: str | None


class Statement:
    """
    A report; iterate over it once.

    Args:
        file: Opened in binary.
        name: What errors call it.
        guard: Looks for card data in every cell.
        columns: Other names of columns, by what they hold.
        statuses: More words of a status, in lower case, and what they mean.
    """

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        guard: Guard,
        columns: Mapping[str, str] | None = None,
        statuses: Mapping[str, str] | None = None,
    ) -> None:
        self._file = file
        self._name = name
        self._guard = guard
        self._columns = columns or {}
        self._statuses = STATUSES | dict(statuses or {})
        self._digest = hashlib.sha256()
        self._line = 0

    @property
    def sha256(self) -> str:
        """Of what was read so far, in hexadecimal."""
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[Line]:
        """
        Give the lines.

        Raises:
            InvalidInput: What does not fit, by line and column.
        """
        lines = self._texts()
        first = next(lines, "")
        try:
            (header,) = csv.reader([first], delimiter=_delimiter(first), strict=True)
        except (csv.Error, ValueError):
            raise self._wrong("is no header", "give a CSV file whose first line names its columns") from None
        places = self._places([cell.strip() for cell in header])
        names = {place: name for name, place in places.items()}
        for cells in self._rows(lines, _delimiter(first)):
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise self._wrong(f"has {len(cells)} columns, the header {len(header)}", "quote cells with separators")
            for place, cell in enumerate(cells):
                self._check(cell, names.get(place) or f"column {place + 1}")
            yield self._line_of({name: cells[place].strip() for name, place in places.items()})

    def _texts(self) -> Iterator[str]:
        """Give the file's lines as texts, counted and digested."""
        while raw := self._file.readline(LONGEST_LINE + 1):
            self._digest.update(raw)
            self._line += 1
            if len(raw) > LONGEST_LINE:
                raise self._wrong("is too long", "give a CSV file with one payment a line")
            try:
                text = raw.decode("utf-8-sig" if self._line == 1 else "utf-8")
            except UnicodeDecodeError:
                raise self._wrong("is not UTF-8", "save the file as CSV in UTF-8") from None
            if "\x00" in text:
                raise self._wrong("holds a NUL", "save the file as CSV in UTF-8")
            yield text

    def _rows(self, lines: Iterator[str], delimiter: str) -> Iterator[list[str]]:
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
        while True:
            try:
                cells = next(rows, None)
            except csv.Error:
                raise self._wrong("has a quote that does not end", 'double a quote inside quotes: ""') from None
            if cells is None:
                return
            yield cells

    def _places(self, header: Sequence[str]) -> dict[str, int]:
        """Find the columns; each must be there once."""
        if len(header) > MOST_COLUMNS:
            raise self._wrong(f"has more than {MOST_COLUMNS} columns", "give the report's own columns")
        for place, cell in enumerate(header):
            self._check(cell, f"column {place + 1}")
        plain = [_plain(cell) for cell in header]
        found: dict[str, int] = {}
        for name, known in NAMES.items():
            wanted = [_plain(self._columns[name])] if name in self._columns else known
            places = [place for place, cell in enumerate(plain) if cell in wanted]
            if len(places) > 1:
                raise self._wrong(f"has more than one column for {name}", f"choose one: --columns {name}=NAME")
            if places:
                found[name] = places[0]
            elif name in NEEDED or name in self._columns:
                raise self._wrong(f"has no column for {name}", f"name it: --columns {name}=NAME")
        if len(set(found.values())) < len(found):
            raise self._wrong("has one column for two things", "name another with --columns")
        return found

    def _check(self, cell: str, column: str) -> None:
        if len(cell) > LONGEST_CELL:
            raise self._wrong("is too long", f"at most {LONGEST_CELL} characters", column)
        if _FORMULA.match(cell):
            raise self._wrong("looks like a formula", "export values, not formulas", column)
        try:
            self._guard(column, cell)
        except CardDataRefused as refused:
            raise CardDataRefused(self._where(column), refused.problem, refused.fix) from None

    def _line_of(self, cells: Mapping[str, str]) -> Line:
        if not cells["reference"] or not cells["reference"].isprintable():
            raise self._wrong("is empty or no plain text", "each line names a merchant reference", "reference")
        currency = cells["currency"].upper()
        try:
            money = Money(cells["amount"], currency)
        except InvalidInput as error:
            raise self._wrong(error.problem, error.fix, error.field) from None
        status = self._statuses.get(cells["status"].casefold())
        if status is None:
            raise self._wrong("is a word that is not known", "say what it means: --statuses WORD=paid", "status")
        return Line(
            self._line, cells["reference"], money.minor, currency, status, self._at(cells["time"]),
            cells.get("session") or None,
        )  # fmt: skip

    def _at(self, text: str) -> datetime:
        try:
            at = datetime.fromisoformat(text)
            at = (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            raise self._wrong("is not an instant", _FIX_TIME, "time") from None
        if not 2000 <= at.year < 2200:
            raise self._wrong("is no time of a payment", _FIX_TIME, "time")
        return at

    def _where(self, column: str = "") -> str:
        return f"{self._name}, line {max(self._line, 1)}" + (f", {column}" if column else "")

    def _wrong(self, problem: str, fix: str, column: str = "") -> InvalidInput:
        return InvalidInput(self._where(column), problem, fix)


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").split()).casefold()


def _delimiter(header: str) -> str:
    """Give what separates the header's cells: the most frequent of the usual ones."""
    return max(",;\t", key=header.count)
