"""A provider's report: what spreadsheets write is read, and what does not fit is named by line and column."""

import hashlib
from io import BytesIO
from typing import Any

import pytest

from orchestrator.audit.statement import Line, Statement
from orchestrator.domain.errors import CardDataRefused, InvalidInput
from orchestrator.privacy.guard import refuse_card_data
from tests.integration.store.makers import T0

HEADER = "reference,amount,currency,status,time"
ROW = "INV-1,12.40,GBP,paid,2026-11-24T15:46:40Z"
CARD = "4111 1111 1111 1111"


def read(text: str | bytes, **more: Any) -> list[Line]:
    raw = text if isinstance(text, bytes) else text.encode()
    return list(Statement(BytesIO(raw), "report.csv", refuse_card_data, **more))


def line(**changes: Any) -> Line:
    facts = {
        "number": 2, "reference": "INV-1", "minor": 1240, "currency": "GBP", "status": "paid", "at": T0,
        "session_id": None,
    }  # fmt: skip
    return Line(**facts | changes)


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}\n{ROW}\n",
        f"{HEADER}\n{ROW}",
        f"\ufeff{HEADER}\r\n{ROW}\r\n",
        f"{HEADER}\n{ROW}\n".replace(",", ";"),
        f"{HEADER}\n{ROW}\n".replace(",", "\t"),
        f'{HEADER}\n"INV-1","12.40","GBP","paid","2026-11-24T15:46:40Z"\n',
        "Merchant_Reference,AMOUNT,Currency-Code,Result,Date\nINV-1,12.4,gbp,Captured,2026-11-24 16:46:40+01:00\n",
        f"{HEADER},note\n{ROW},\n\n",
        f'{HEADER},note\n{ROW},"a ""quoted"", word"\n',
        f"{HEADER},phone,change\n{ROW},+44 7700 900877,-3.20\n",
    ],
    ids=["plain", "no last line end", "Windows", "semicolons", "tabs", "quoted", "other names", "empty line", "quotes",
         "signs"],
)  # fmt: skip
def test_what_spreadsheets_write_is_read(text: str) -> None:
    assert read(text) == [line()]


def test_columns_and_words_can_be_named() -> None:
    text = "Ref;Value;currency;state;time;link\nINV-1;12.40;GBP;Bezahlt;2026-11-24T15:46:40;S-1\n"
    columns = {"reference": "ref", "amount": "VALUE", "status": "state", "session": "link"}

    assert read(text, columns=columns, statuses={"bezahlt": "paid"}) == [line(session_id="S-1")]


def test_a_cell_may_have_a_line_end_in_it_and_the_count_goes_on() -> None:
    text = f'{HEADER},note\n{ROW},"two\nlines"\nINV-2,1.00,GBP,declined,2026-11-24T15:46:40Z,\n'

    assert [found.number for found in read(text)] == [3, 4]


def test_the_digest_is_the_files() -> None:
    raw = f"{HEADER}\r\n{ROW}\r\n".encode()
    statement = Statement(BytesIO(raw), "report.csv", refuse_card_data)
    list(statement)
    assert statement.sha256 == hashlib.sha256(raw).hexdigest()


@pytest.mark.parametrize(
    ("text", "where", "problem"),
    [
        ("", "line 1", "no column for reference"),
        (f"{HEADER.replace('amount', 'sum')}\n{ROW}\n", "line 1", "no column for amount"),
        (f"{HEADER},amount\n{ROW},1\n", "line 1", "more than one column for amount"),
        (f"{HEADER}\n{ROW},surplus\n", "line 2", "has 6 columns, the header 5"),
        (f"{HEADER}\n{ROW}\nINV-2,12.40\n", "line 3", "has 2 columns"),
        (f"{HEADER}\n{ROW.replace('12.40', '12,40')}\n", "line 2", "has 6 columns"),
        (f"{HEADER}\n{ROW.replace('12.40', 'twelve')}\n", "line 2, amount", "plain decimal"),
        (f"{HEADER}\n{ROW.replace('12.40', '-12.40')}\n", "line 2, amount", "plain decimal"),
        (f"{HEADER}\n{ROW.replace('12.40', '0.00')}\n", "line 2, amount", "not more than zero"),
        (f"{HEADER}\n{ROW.replace('12.40', '12.405')}\n", "line 2, amount", "decimals of GBP"),
        (f"{HEADER}\n{ROW.replace('GBP', 'pounds')}\n", "line 2, currency", "three capital letters"),
        (f"{HEADER}\n{ROW.replace('paid', 'gone')}\n", "line 2, status", "not known"),
        (f"{HEADER}\n{ROW.replace('2026-11-24T', '24/11/2026 ')}\n", "line 2, time", "not an instant"),
        (f"{HEADER}\n{ROW.replace('2026', '0001')}\n", "line 2, time", "no time of a payment"),
        (f"{HEADER}\n,{ROW.partition(',')[2]}\n", "line 2, reference", "is empty"),
        (f"{HEADER}\n{ROW.replace('INV-1', '=1+1')}\n", "line 2, reference", "formula"),
        (f"{HEADER},note\n{ROW},@SUM(A1)\n", "line 2, column 6", "formula"),
        (f"{HEADER},note\n{ROW}, -cmd|calc\n", "line 2, column 6", "formula"),
        (f"{HEADER},note\n{ROW},{CARD}\n", "line 2, column 6", "card number"),
        (f"{HEADER}\n{ROW.replace('INV-1', CARD)}\n", "line 2, reference", "card number"),
        (f"{HEADER},{CARD}\n{ROW},\n", "line 1, column 6", "card number"),
        (f'{HEADER}\n"{ROW}\n', "line 2", "quote"),
        (f"{HEADER}\n{ROW}\n{'x' * 70000}\n", "line 3", "too long"),
        (f"{HEADER},note\n{ROW},{'x' * 5000}\n", "line 2, column 6", "too long"),
        (f"{HEADER}\n{ROW}\x00\n", "line 2", "NUL"),
        (f"{HEADER}\nM\u00fcller,{ROW.partition(',')[2]}\n".encode("latin-1"), "line 2", "not UTF-8"),
        (f"{HEADER}\n{ROW}\n".encode("utf-16"), "line 1", "not UTF-8"),
    ],
)  # fmt: skip
def test_the_first_thing_that_does_not_fit_is_named_by_line_and_column(
    text: str | bytes, where: str, problem: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(text)

    assert refused.value.field == f"report.csv, {where}"
    assert problem in refused.value.problem
    assert refused.value.fix
    assert CARD not in str(refused.value)


def test_card_data_is_refused_as_card_data() -> None:
    with pytest.raises(CardDataRefused):
        read(f"{HEADER},note\n{ROW},{CARD}\n")
