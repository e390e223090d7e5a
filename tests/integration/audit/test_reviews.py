"""Reviews on both databases: what the rules find, who may sign, and that a review is closed once."""

import hashlib
import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from orchestrator.audit import verify
from orchestrator.audit.completeness import completeness
from orchestrator.audit.periods import Period
from orchestrator.audit.review import MOST_FINDINGS, Limits, Reviewed, review, review_of
from orchestrator.audit.rules import Finding
from orchestrator.compliance import Signed
from orchestrator.domain.entry import Context, canonical
from orchestrator.domain.errors import IntegrityViolated, InvalidInput, NotFound
from orchestrator.domain.payment import HoldReason
from orchestrator.records import Record
from orchestrator.store import SqlStore
from orchestrator.store.reviews import same_person
from tests.integration.audit.books import DAY, MIDNIGHT, TRUSTED, Paged, cut, read_only, seal, stories, url
from tests.integration.store.conftest import postgresql_host, sqlite_template, store
from tests.integration.store.makers import T0, at, birth, context, walk
from tests.integration.store.test_record import lost_commits

__all__ = ["postgresql_host", "sqlite_template", "store", "url"]

NOON = MIDNIGHT + DAY + timedelta(hours=12)
LIMITS = Limits(timedelta(hours=4), timedelta(minutes=2), NOON)


def signer(name: str = "vera", now: datetime = NOON) -> Context:
    return Context(now, name, "desk-1:1")


async def found_in(store: SqlStore, since: datetime = MIDNIGHT, until: datetime = MIDNIGHT + DAY) -> Reviewed:
    return await review(Paged(store), since, until, LIMITS)


async def signed_by(
    store: SqlStore, context: Context, since: datetime = MIDNIGHT, until: datetime | None = None
) -> int:
    """Sign as the command does: look, judge, sign."""
    until = until or since + DAY
    async with store.ledger() as ledger:
        await store.demand_unbiased(ledger, since, until, context)
        found = await review_of(ledger, since, until, LIMITS)
    return await store.sign_review(signed(found), context)


def signed(found: Reviewed, **changes: Any) -> Signed:
    text = found.text("all explained")
    facts: dict[str, Any] = {
        "since": found.since, "until": found.until, "rules_version": "1", "checkpoint_size": None, "findings": text,
        "sha256": hashlib.sha256(text.encode()).hexdigest(), "count": found.count, "sealed": 0,
    }  # fmt: skip
    return Signed(**facts | changes)


async def test_a_quiet_day_has_no_finding(store: SqlStore) -> None:
    await store.submit(birth())
    await seal(store)

    found = await found_in(store)

    assert (found.count, found.findings) == (0, [])
    assert found.checkpoint is not None
    assert found.checkpoint.size == 1


async def test_what_happened_is_found_once_in_its_period(store: SqlStore) -> None:
    await stories(store)
    await store.pause_account("emea", reason="maintenance", context=context(10, actor="ada"))
    await store.note("clock.skew", about="h", context=context(11), details={"offset_ms": 9000}, result="failure")
    await store.note("webhook.refused", about="emea", context=context(12), details={"reason": "unauthorized"})
    await store.note("webhook.refused", about="emea", context=context(13), details={"reason": "card_data"})
    await store.fail_control("export", "no disk", context(14))
    await seal(store, T0 + timedelta(minutes=5))

    found = await found_in(store)

    assert found.counts == {
        "seal.late": 1, "account.paused": 1, "clock.skew": 1, "access.denied": 1, "card.refused": 1,
        "control.failed": 1, "hold.old": 1,
    }  # fmt: skip
    paused = next(finding for finding in found.findings if finding.rule == "account.paused")
    assert (paused.actor, paused.at, paused.what) == ("ada", at(10), "account.paused: maintenance, emea")
    assert (await found_in(store, MIDNIGHT + DAY, NOON)).counts == {"hold.old": 1}, "the hold goes on"
    assert (await found_in(store, MIDNIGHT - DAY, MIDNIGHT)).count == 0


async def test_the_same_period_gives_the_same_text(store: SqlStore) -> None:
    await stories(store)
    for number in range(5):
        await store.note("clock.skew", about="h", context=context(number), details={"offset_ms": number})

    first, again = [await review(books, MIDNIGHT, MIDNIGHT + DAY, LIMITS) for books in (store, Paged(store))]

    assert first.text() == again.text()
    assert json.loads(first.text("said"))["exceptions"] == "said"
    assert canonical(json.loads(first.text())) == first.text()


async def test_many_findings_are_counted_and_the_digest_is_over_all() -> None:
    found, fewer = (Reviewed(MIDNIGHT, MIDNIGHT + DAY) for _ in range(2))
    finding = Finding("clock.skew", "admin-2026-11-24", 1, T0, "w", "clock.skew")
    for number in range(MOST_FINDINGS + 2):
        found.add(finding)
        if number <= MOST_FINDINGS:
            fewer.add(finding)
    assert (found.count, len(found.findings)) == (MOST_FINDINGS + 2, MOST_FINDINGS)
    assert found.digest != fewer.digest


async def test_a_missing_predecessor_is_found(store: SqlStore, url: str) -> None:
    await stories(store)
    await seal(store)
    await store.close()
    await cut(url, "delete from audit_entry where chain_id = 'pay-paid' and seq = 3")
    changed = await read_only(url)

    found = await found_in(changed)

    await changed.close()
    assert [(each.about, each.seq) for each in found.findings if each.rule == "chain.gap"] == [("pay-paid", 4)]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_row_that_holds_nothing_of_ours_is_told_and_passed_over(store: SqlStore, url: str) -> None:
    await stories(store)
    await seal(store)
    await store.close()
    await cut(url, "update audit_entry set kind = x'00' where chain_id = 'pay-paid' and seq = 3")
    changed = await read_only(url)

    found = await found_in(changed)
    complete = await completeness(Paged(changed), Period(), TRUSTED)

    await changed.close()
    assert [(each.about, each.seq) for each in found.findings if each.rule == "row.unreadable"] == [("pay-paid", 3)]
    assert {(gap.kind, gap.about) for gap in complete.gaps} == {("unreadable", "pay-paid"), ("chain", "pay-paid")}


async def test_a_hold_that_lasted_too_long_is_found_when_it_is_released(store: SqlStore) -> None:
    payment = await store.submit(birth())
    payment = await store.record(Record(walk(payment).hold(HoldReason.REVIEW).due(None), held_claim=False))
    later = walk(payment, seconds=5 * 3600).release("settled", extra={"resolution": {"kind": "outcome"}})
    await store.record(Record(later.due(at(5 * 3600)), held_claim=False))
    await seal(store, at(5 * 3600 + 1))

    counts = (await found_in(store)).counts

    assert (counts["hold.old"], counts["override"]) == (1, 1)


async def test_a_review_is_a_row_and_an_entry(store: SqlStore) -> None:
    await stories(store)
    await seal(store)

    number = await signed_by(store, signer())

    (row,) = await store.reviews()
    (entry,) = await store.entries("admin-2026-11-25")
    body = json.loads(entry.body)
    assert (row.id, row.reviewer, row.period_from, row.period_to) == (number, "vera", MIDNIGHT, MIDNIGHT + DAY)
    assert (row.reviewed_at, row.disposition, row.closed_at) == (NOON, None, None)
    assert json.loads(row.findings)["count"] == body["findings"]
    assert body["sha256"] == hashlib.sha256(row.findings.encode()).hexdigest(), "the entry pins the row"
    assert (entry.kind, entry.actor) == ("review.signed", "vera")
    assert (await verify(store)).clean


@pytest.mark.parametrize("name", ["ada", "Ada", " ada ", "ADA"])
@pytest.mark.parametrize("actor", ["ada", "cli:ada"])
async def test_nobody_signs_for_a_period_in_which_he_acted(store: SqlStore, name: str, actor: str) -> None:
    await store.pause_account("emea", reason="why", context=context(actor=actor))

    with pytest.raises(InvalidInput, match="acted in this period"):
        await signed_by(store, signer(name))

    assert await store.reviews() == []
    assert await store.entries("admin-2026-11-25") == []
    assert await signed_by(store, signer(name), MIDNIGHT - DAY), "the day before he did nothing"
    assert await signed_by(store, signer("ada-2")), "another name is another person"


@pytest.mark.parametrize("sealed_meanwhile", [True, False])
async def test_what_came_in_after_the_look_counts_too(store: SqlStore, sealed_meanwhile: bool) -> None:
    await store.submit(birth())
    await seal(store)
    found = await found_in(store)
    await store.pause_account("emea", reason="why", context=context(actor="vera"))
    if sealed_meanwhile:
        await seal(store)

    with pytest.raises(InvalidInput, match="acted in this period"):
        await store.sign_review(signed(found, sealed=1), signer())

    assert await store.reviews() == []
    assert [entry.kind for entry in await store.entries("admin-2026-11-24")] == ["account.paused"]


async def test_a_period_that_has_not_ended_is_not_signed(store: SqlStore) -> None:
    with pytest.raises(InvalidInput, match="not over yet"):
        await signed_by(store, signer(now=MIDNIGHT + DAY - timedelta(seconds=1)))
    found = await found_in(store)
    with pytest.raises(InvalidInput, match="not over yet"):
        await store.sign_review(signed(found), signer(now=T0))

    assert await store.reviews() == []


@pytest.mark.parametrize("effect", [True, False], ids=["written", "not written"])
async def test_a_lost_answer_signs_once(store: SqlStore, effect: bool) -> None:
    found = await found_in(store)
    with lost_commits(store, 1, effect=effect):
        number = await store.sign_review(signed(found), signer())
    with lost_commits(store, 1, effect=effect):
        await store.close_review(number, "fine", "T-1", signer("max"))

    (row,) = await store.reviews()
    assert (row.id, row.closed_by) == (number, "max")


async def test_a_review_is_closed_once_with_all_that_is_asked_for(store: SqlStore, url: str) -> None:
    number = await signed_by(store, signer())
    for disposition, ticket in (("", "T-1"), ("fine", "")):
        with pytest.raises(IntegrityViolated, match="tr_review_said"):
            await store.close_review(number, disposition, ticket, signer("max"))
    with pytest.raises(NotFound):
        await store.close_review(number + 1, "fine", "T-1", signer("max"))

    await store.close_review(number, "all explained", "T-1", signer("max"))

    with pytest.raises(NotFound):
        await store.close_review(number, "other", "T-2", signer("max"))
    (row,) = await store.reviews()
    assert (row.disposition, row.ticket, row.closed_by, row.closed_at) == ("all explained", "T-1", "max", NOON)
    kinds = [entry.kind for entry in await store.entries("admin-2026-11-25")]
    assert kinds == ["review.signed", "review.closed"]


@pytest.mark.parametrize(
    ("person", "actor", "same"),
    [
        ("ada", "ada", True), ("Ada  Lovelace", "ada lovelace", True), ("ada", "cli:ADA", True),
        ("cli:ada", "ada", True), ("ada", "worker-1", False), ("ada", "adam", False),
    ],
)  # fmt: skip
def test_a_person_is_known_by_the_name(person: str, actor: str, same: bool) -> None:
    assert same_person(person, actor) is same
