"""Every condition has its colour, its word and its fix; a database that does not answer is one of them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.compliance import Failure, Lag, Seal
from orchestrator.domain.condition import Condition
from orchestrator.domain.entry import NO_HASH, Context, Entry, sealed_entry
from orchestrator.domain.errors import DatabaseDamaged, Unavailable, WentBack
from orchestrator.health import Colour, Health, Terms, examine
from orchestrator.records import Holds, Pause

NOW = datetime(2026, 11, 24, 0, 5, tzinfo=UTC)
TERMS = Terms(hold_age_s=3600, worker_life_s=8, seal_late_s=120)


class Stopped:
    def now(self) -> datetime:
        return NOW


@dataclass
class Database:
    """Answers as it is told to."""

    offset: float = 0.0
    alive: int = 1
    waiting: int = 0
    holds: Holds = field(default=Holds(0, None))
    pauses: dict[str, Pause] = field(default_factory=dict)
    notes: list[Entry] = field(default_factory=list)
    mark_trouble: str = ""
    error: Exception | None = None
    asked: dict[str, Any] = field(default_factory=dict)
    failed: tuple[Failure, ...] = ()
    sealing: Lag = field(default=Lag(0, None, None))

    async def failures(self, *, only_open: bool) -> tuple[Failure, ...]:
        assert only_open
        return self.failed

    async def lag(self) -> Lag:
        return self.sealing

    async def check_life(self) -> None:
        if self.error is not None:
            raise self.error

    async def clock_offset(self, _clock: object) -> float:
        return self.offset

    async def living(self, *, since: datetime) -> int:
        self.asked["living"] = since
        return self.alive

    async def unended(self) -> int:
        return self.waiting

    async def held_before(self, at: datetime) -> Holds:
        self.asked["held_before"] = at
        return self.holds

    async def paused_accounts(self) -> dict[str, Pause]:
        return self.pauses

    async def noted(self, kinds: Any, *, since: datetime) -> list[Entry]:
        self.asked["kinds"] = set(kinds)
        return [note for note in self.notes if note.at >= since]


class Providers:
    def __init__(self, **condition: Any) -> None:
        self._condition = condition

    def condition(self, account: str) -> Condition:
        return Condition(account, **self._condition)


def note(kind: str, minutes_ago: float, reason: str = "http_403", **more: Any) -> Entry:
    at = NOW - timedelta(minutes=minutes_ago)
    return sealed_entry(
        chain_id=f"admin-{at:%Y-%m-%d}", seq=1, prev_hash=NO_HASH, trigger="note", from_state="", to_state="open",
        kind=kind, result="failure", about="emea", context=Context(at, "worker-1", "host"),
        details={"reason": reason} | more,
    )  # fmt: skip


async def found(database: Database, providers: Providers | None = None) -> Health:
    accounts: Any = {"emea": None}
    store: Any = database
    known: Any = providers or Providers()
    clock: Any = Stopped()
    return await examine(store, known, accounts, clock, TERMS)


CASES = {
    "clock": (Database(offset=-6.5), None, Colour.RED, "clock_wrong", ""),
    "nobody works": (Database(alive=0, waiting=3), None, Colour.RED, "no_worker", ""),
    "mark": (Database(mark_trouble="can't be written"), None, Colour.AMBER, "mark_not_kept", ""),
    "old holds": (Database(holds=Holds(2, NOW)), None, Colour.AMBER, "holds_old", ""),
    "paused": (
        Database(pauses={"emea": Pause("j.doe", "audit", NOW)}), None, Colour.AMBER, "account_paused", "emea",
    ),
    "our breaker": (
        Database(), Providers(open_for="start", reason="http_403", troubled=True), Colour.RED, "account_refused",
        "emea",
    ),
    "our breaker, not our fault": (
        Database(), Providers(open_for="start", reason="http_503"), Colour.AMBER, "provider_troubled", "emea",
    ),
    "another's breaker": (
        Database(notes=[note("breaker.opened", 6, troubled=True)]), None, Colour.RED, "account_refused", "emea",
    ),
    "another's breaker, not our fault": (
        Database(notes=[note("breaker.opened", 6, "http_503")]), None, Colour.AMBER, "provider_troubled", "emea",
    ),
    "evidence": (
        Database(notes=[note("evidence.endangered", 1, "beyond_capacity:3")]), None, Colour.AMBER, "evidence_at_risk",
        "emea",
    ),
    "stray webhooks": (
        Database(notes=[note("webhook.unmatched", 600)]), None, Colour.AMBER, "webhooks_unmatched", "emea",
    ),
    "went back": (Database(error=WentBack("it lost an entry")), None, Colour.RED, "database_rewound", ""),
    "damaged": (Database(error=DatabaseDamaged("malformed")), None, Colour.RED, "database_damaged", ""),
    "no database": (Database(error=Unavailable("no answer")), None, Colour.RED, "database_unavailable", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
async def test_a_condition_has_its_colour_its_word_and_its_fix(name: str) -> None:
    database, providers, colour, what, about = CASES[name]

    health = await found(database, providers)

    assert [(each.colour, each.what, each.about) for each in health.findings] == [(colour, what, about)]
    assert health.colour is colour
    assert health.findings[0].fix
    assert health.told()["findings"][0]["what"] == what


async def test_without_a_condition_all_is_green_and_the_right_times_were_asked_for() -> None:
    database = Database(offset=4.9, alive=2, waiting=7, notes=[note("breaker.opened", 60), note("breaker.closed", 1)])

    health = await found(database)

    assert (health.colour, health.told()) == (Colour.GREEN, {"health": "green", "findings": []})
    assert database.asked["living"] == NOW - timedelta(seconds=8)
    assert database.asked["held_before"] == NOW - timedelta(hours=1)


async def test_it_is_told_since_when() -> None:
    database = Database(
        holds=Holds(2, NOW - timedelta(hours=5)), pauses={"emea": Pause("j.doe", "audit", NOW - timedelta(days=1))},
        notes=[note("breaker.opened", minutes) for minutes in (12, 7, 2)],
    )  # fmt: skip

    told = (await found(database)).told()["findings"]

    assert {each["what"]: each["since"] for each in told} == {
        "provider_troubled": "2026-11-23T23:53:00.000000Z",
        "account_paused": "2026-11-23T00:05:00.000000Z",
        "holds_old": "2026-11-23T19:05:00.000000Z",
    }


async def test_the_worst_comes_first() -> None:
    health = await found(Database(alive=0, waiting=1, holds=Holds(1, NOW)))

    assert [each.what for each in health.findings] == ["no_worker", "holds_old"]
    assert health.colour is Colour.RED


async def test_nobody_needs_to_work_where_nothing_waits() -> None:
    assert (await found(Database(alive=0, waiting=0))).colour is Colour.GREEN


async def test_a_control_that_failed_is_red_until_a_person_closes_it():
    failure = Failure(7, "export", NOW, None, "the disk is full", None, None, None, None, None, None)

    health = await examine(Database(failed=(failure,)), Providers(), {}, Stopped(), TERMS)

    (finding,) = health.findings
    assert (finding.colour, finding.what, finding.about) == (Colour.RED, "control_failed", "export")
    assert "audit close 7" in finding.fix


@pytest.mark.parametrize(("waited_s", "colour"), [(119, Colour.GREEN), (121, Colour.RED)])
async def test_a_seal_that_is_late_is_red(waited_s, colour):
    lag = Lag(3, NOW - timedelta(seconds=waited_s), None)

    assert (await examine(Database(sealing=lag), Providers(), {}, Stopped(), TERMS)).colour is colour


async def test_a_trail_that_nobody_seals_is_amber():
    nobody = Terms(3600, 8, 120, seals=False)
    health = await examine(Database(), Providers(), {}, Stopped(), nobody)
    elsewhere = Lag(1, NOW - timedelta(seconds=121), Seal(1, bytes(32), bytes(32), "note", NOW))

    assert [(found.colour, found.what) for found in health.findings] == [(Colour.AMBER, "not_sealed")]
    health = await examine(Database(sealing=elsewhere), Providers(), {}, Stopped(), nobody)
    assert [(found.colour, found.what) for found in health.findings] == [(Colour.RED, "seal_late")]
