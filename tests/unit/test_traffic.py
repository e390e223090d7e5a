"""What a worker notes of its accounts: breakers and evidence at risk, once per change, renewed while it lasts."""

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from orchestrator import traffic
from orchestrator.domain.condition import Condition
from orchestrator.domain.entry import Context
from orchestrator.domain.errors import Unavailable
from orchestrator.domain.policy import DIGITAL, PHONE
from orchestrator.traffic import OLD_S, RENEWED_S, Free, Trouble, Watch, capacity, standing
from tests.simulation.memory import Memory
from tests.unit.domain.story import T0

ACCOUNT = SimpleNamespace(terms={"phone": SimpleNamespace(policy=PHONE), "digital": SimpleNamespace(policy=DIGITAL)})


@dataclass
class World:
    """One account, a clock that is moved, and what is noted and logged."""

    at: float = 0.0
    condition_: Condition = field(default=Condition("emea", per_second=2.0))
    counts: Counter = field(default_factory=Counter)
    down: bool = False
    logged: list = field(default_factory=list)

    def __post_init__(self):
        self.store = Memory(self.now)
        self.watch = Watch(self, self, self, {"emea": ACCOUNT}, self.context, lambda: self.counts)

    def now(self):
        return T0 + timedelta(seconds=self.at)

    def monotonic(self):
        return self.at

    def context(self):
        return Context(self.now(), "w1", "h:1")

    def condition(self, account):
        return self.condition_

    async def note(self, kind, **more):
        if self.down:
            raise Unavailable("the test says so")
        return await self.store.note(kind, **more)

    @property
    def notes(self):
        return [entry for chain in self.store.chains.values() for entry in chain]

    @property
    def kinds(self):
        return [entry.kind for entry in self.notes]


@pytest.fixture
def world(monkeypatch):
    each = World()
    monkeypatch.setattr(traffic, "emit", lambda name, **fields: each.logged.append((name, fields)))
    return each


def test_without_limits_nothing_is_kept_back():
    free = Free()
    free.shared_by(3)
    assert (free.barred("emea"), free.condition("emea")) == (None, Condition("emea"))


@pytest.mark.parametrize(("per_second", "most"), [(None, float("inf")), (50.0, 22_500), (0.1, 45)])
def test_capacity_is_two_looks_in_the_window(per_second, most):
    assert capacity(ACCOUNT, per_second) == most


async def test_calm_is_measured_and_not_noted(world):
    world.counts["emea"] = 900
    await world.watch.turn()
    assert world.kinds == []
    assert world.logged == [("account.measured", {"account": "emea", "waiting": 900, "at_risk": 0})]


async def test_a_breaker_is_noted_once_renewed_while_it_lasts_and_noted_when_closed(world):
    calm, world.condition_ = world.condition_, replace(world.condition_, open_for="start", reason="http_403")
    for world.at in (0, 2, 4, RENEWED_S - 1):
        await world.watch.turn()
    assert world.kinds == ["breaker.opened"]
    world.at = RENEWED_S
    await world.watch.turn()
    assert world.kinds == ["breaker.opened"] * 2
    note = world.notes[0]
    assert (note.about, note.result, note.actor) == ("emea", "failure", "w1")
    assert json.loads(note.body)["reason"] == "http_403"
    world.condition_ = calm
    for _ in range(2):
        await world.watch.turn()
    assert world.kinds == ["breaker.opened"] * 2 + ["breaker.closed"]


async def test_more_waiting_than_the_budget_can_look_at_is_evidence_at_risk(world):
    for waiting, risk in ((901, 1), (1000, 100), (900, 0)):
        world.counts["emea"] = waiting
        await world.watch.turn()
        assert world.watch.at_risk == {"emea": risk}
    assert world.kinds == ["evidence.endangered", "evidence.secured"]
    assert [name for name, _ in world.logged if name != "account.measured"] == world.kinds
    assert json.loads(world.notes[0].body)["reason"] == "beyond_capacity:1"


async def test_what_could_not_be_noted_is_noted_later(world):
    world.condition_, world.down = replace(world.condition_, open_for="token", reason="x"), True
    with pytest.raises(Unavailable):
        await world.watch.turn()
    world.down = False
    await world.watch.turn()
    assert world.kinds == ["breaker.opened"]


async def test_what_stands_is_read_from_the_trail_until_it_is_over_or_old(world):
    world.condition_ = replace(world.condition_, open_for="start", reason="http_403")
    world.counts["emea"] = 1000
    await world.watch.turn()
    breaker = {("breaker", "emea"): Trouble("http_403", troubled=False, since=T0, told=T0)}
    risk = {("evidence", "emea"): Trouble("beyond_capacity:100", troubled=False, since=T0, told=T0)}
    assert standing(world.notes, world.now()) == breaker | risk
    assert standing(world.notes, world.now() + timedelta(seconds=OLD_S)) == {}
    world.counts["emea"] = 0
    await world.watch.turn()
    assert standing(world.notes, world.now()) == breaker
    assert standing([], world.now()) == {}


async def test_what_lasts_is_told_with_its_beginning_and_noted_anew_when_it_is_the_accounts_own_by_now(world):
    world.condition_ = replace(world.condition_, open_for="start", reason="http_503")
    for world.at in (0, RENEWED_S, RENEWED_S + 2):
        await world.watch.turn()
    world.condition_ = replace(world.condition_, reason="http_403", troubled=True)
    for world.at in (RENEWED_S + 4, RENEWED_S + 6):
        await world.watch.turn()
    assert world.kinds == ["breaker.opened"] * 3
    newest = T0 + timedelta(seconds=RENEWED_S + 4)
    assert standing(world.notes, world.now()) == {("breaker", "emea"): Trouble("http_403", True, T0, newest)}


async def test_a_note_that_nobody_renewed_begins_nothing_later(world):
    world.condition_ = replace(world.condition_, open_for="start", reason="http_503")
    for world.at in (0, OLD_S):
        await world.watch.turn()
    assert standing(world.notes, world.now())["breaker", "emea"].since == T0 + timedelta(seconds=OLD_S)
