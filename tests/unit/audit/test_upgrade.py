"""This release's trail replays without a change; every way in which a later version may differ is named."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from orchestrator.audit.chain import Story
from orchestrator.audit.exported import read_export
from orchestrator.audit.upgrade import ENDS_OF, MOST_CHANGES, Change, Rules, present_rules, replay
from orchestrator.claim import MACHINE_VERSIONS
from orchestrator.domain import machine
from orchestrator.domain.outcome import MoneyFact, Outcome
from orchestrator.domain.payment import ENDED, FACTS, Channel, HoldReason, State
from orchestrator.domain.policy import DIGITAL, PHONE, Policy
from orchestrator.orchestrator import VERSION

TRAILS = sorted((Path(__file__).parents[2] / "fixtures/trails").glob("*.jsonl"))
POLICIES = {Channel.PHONE: PHONE, Channel.DIGITAL: DIGITAL}


@cache
def stories(trail: Path) -> tuple[Story, ...]:
    with trail.open("rb") as file:
        return tuple(read_export(file, trail.name))


@pytest.fixture
def present() -> tuple[Story, ...]:
    """This release's own."""
    return stories(TRAILS[0].with_name(f"{VERSION}.jsonl"))


@pytest.fixture(params=TRAILS, ids=lambda trail: trail.stem)
def kept(request: pytest.FixtureRequest) -> tuple[Story, ...]:
    return stories(request.param)


def rules(told: tuple[Story, ...], policies: dict[Channel, Policy] = POLICIES) -> Rules:
    """What this software knows, with the trail's own definitions."""
    pinned = {digest for story in told for digest in (story.facts.get("definitions") or {}).values()}
    return present_rules(
        versions=MACHINE_VERSIONS, definitions=pinned,
        policy=lambda account, channel: policies.get(channel) if account == "emea" else None,
    )  # fmt: skip


def kinds(changes: tuple[Change, ...]) -> set[tuple[str, str]]:
    return {(change.kind, change.what) for change in changes}


def test_there_is_a_trail_of_this_release_and_the_definitions_of_each() -> None:
    assert VERSION in {trail.stem for trail in TRAILS}, "write it: `python -m tests.support.golden DIRECTORY`"
    assert all(trail.with_suffix(".definitions.json").exists() for trail in TRAILS)


def test_what_earlier_releases_have_written_goes_on_unchanged(kept: tuple[Story, ...]) -> None:
    replayed = replay(kept, rules(kept))

    assert replayed.changes == ()
    assert replayed.counts["payments"] > 80
    assert replayed.counts["in_flight"] > 10


WITHOUT_END = {Outcome.REVIEW, Outcome.INDETERMINATE}
"""Doubts: a payment is held with them and ends as something else."""
UNHELD = {Channel.PHONE: set[HoldReason](), Channel.DIGITAL: {HoldReason.NUMBER_NOT_ALLOWED}}
"""Nothing is dialled for a digital payment."""


@pytest.mark.parametrize("channel", Channel)
def test_the_trail_has_every_end_and_every_hold_of_a_channel(channel: Channel, present: tuple[Story, ...]) -> None:
    told = [story for story in present if story.facts.get("channel") == channel]
    ends = {story.facts.get("outcome") for story in told if story.state in ENDED}
    held = {story.facts.get("hold") for story in told}
    released = {body["resolved"] for story in told for body in story.bodies if "resolved" in body}

    assert ends == set(Outcome) - WITHOUT_END
    assert held - {None} == set(HoldReason) - UNHELD[channel], "each hold is somebody's last word"
    assert released >= {"session_unknown", "poison", "review", "late_money", "answer_mismatch", "indeterminate"}
    assert {story.facts["money"] for story in told} == set(MoneyFact)


def test_the_trail_has_payments_in_flight_in_every_state(present: tuple[Story, ...]) -> None:
    standing = {
        (str(story.facts["channel"]), story.state, story.facts.get("open_attempt") is not None)
        for story in present
        if story.facts.get("channel") and (story.state not in ENDED or story.facts.get("watch_until"))
    }
    everywhere = {
        (channel.value, state, opened)
        for channel in Channel
        for state, opened in (
            ("collecting", False), ("authorized", False), ("authorized", True), ("awaiting_payment", False),
            ("failed", False),
        )
    }  # fmt: skip

    assert standing == everywhere | {("phone", "session_started", False)}, "a hand-over follows in the same commit"


def test_the_trail_has_every_transition_and_every_fact(present: tuple[Story, ...]) -> None:
    bodies = [body for story in present if story.facts.get("channel") for body in story.bodies]

    assert {(body["trigger"], body["from"], body["to"]) for body in bodies} == set(machine.edges())
    assert {fact for body in bodies for fact in body["facts"]} == set(FACTS)
    assert {body.get("event") for body in bodies} >= {"resolution_proposed", "session_superseded", "cancel"}
    assert "database_restored" in {body["facts"].get("reason") for body in bodies}


def only(told: tuple[Story, ...], change: Callable[[Rules], Rules]) -> set[tuple[str, str]]:
    return kinds(replay(told, change(rules(told))).changes)


def test_a_removed_edge_is_named(kept: tuple[Story, ...]) -> None:
    gone = ("late_result", "failed", "failed")

    assert only(kept, lambda now: replace(now, edges=now.edges - {gone})) == {
        ("edge", "late_result from failed to failed is gone")
    }


def test_a_removed_state_is_named(kept: tuple[Story, ...]) -> None:
    def without(now: Rules) -> Rules:
        return replace(now, edges=frozenset(edge for edge in now.edges if "session_started" not in edge[1:]))

    assert ("state", "session_started is gone") in only(kept, without)


def test_a_state_that_has_become_an_end_is_named_for_what_is_in_it(kept: tuple[Story, ...]) -> None:
    changes = replay(kept, replace(rules(kept), ends=rules(kept).ends | {"awaiting_payment"})).changes

    assert kinds(changes) == {("terminal", "awaiting_payment has become an end")}
    assert changes[0].in_flight == changes[0].chains > 0


def test_an_end_that_is_none_any_more_is_named(kept: tuple[Story, ...]) -> None:
    assert only(kept, lambda now: replace(now, ends=now.ends - {"failed"})) == {
        ("reopened", "failed is no end any more")
    }


@pytest.mark.parametrize(
    ("fact", "word"), [("outcome", "declined"), ("hold", "review"), ("money", "partial"), ("channel", "digital")]
)
def test_a_removed_word_is_named(fact: str, word: str, kept: tuple[Story, ...]) -> None:
    def without(now: Rules) -> Rules:
        return replace(now, words={**now.words, fact: now.words[fact] - {word}})

    assert (fact, f"{fact} {word} is gone") in only(kept, without)


def test_a_removed_operation_is_named(kept: tuple[Story, ...]) -> None:
    assert only(kept, lambda now: replace(now, operations=now.operations - {"hand_over"})) == {
        ("operation", "hand_over is gone")
    }


def test_a_machine_version_that_nobody_knows_is_named(kept: tuple[Story, ...]) -> None:
    assert only(kept, lambda now: replace(now, versions=frozenset({7}))) == {
        ("version", f"machine version {machine.VERSION} is not known here")
    }


def test_a_guard_that_now_forbids_is_named(kept: tuple[Story, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    allows = machine.allows
    monkeypatch.setattr(machine, "allows", lambda payment, trigger: trigger != "supersede" and allows(payment, trigger))

    assert kinds(replay(kept, rules(kept)).changes) == {("guard", "a guard now forbids supersede from authorized")}


def test_a_deadline_that_would_be_another_today_is_named(kept: tuple[Story, ...]) -> None:
    shorter = POLICIES | {Channel.DIGITAL: replace(DIGITAL, awaiting_s=3600)}

    changes = replay(kept, rules(kept, shorter)).changes

    assert {change.kind for change in changes} == {"deadline"}
    assert all("emea, digital, deadline_at" in change.what and change.in_flight for change in changes)


def until(story: Story, reason: str) -> Story:
    """The story as it stood with the first entry of this reason."""
    last = next(number for number, body in enumerate(story.bodies, 1) if body["facts"].get("reason") == reason)
    bodies = story.bodies[:last]
    facts = {name: value for body in bodies for name, value in body["facts"].items()}
    return replace(story, bodies=bodies, facts=facts, state=bodies[-1]["to"], seq=last)


def test_the_life_of_an_unseen_session_is_compared_where_the_policy_gave_it(present: tuple[Story, ...]) -> None:
    shorter = rules(present, POLICIES | {Channel.PHONE: replace(PHONE, session_life_s=60)})
    story = next(story for story in present if story.facts.get("reference") == "phone-restored-unseen")
    doubted, restored = until(story, "session_unknown"), until(story, "database_restored")
    assert restored.facts["unseen_until"] > doubted.facts["unseen_until"]

    found = replay([doubted], shorter).changes

    assert kinds(found) == {("deadline", "emea, phone, unseen_until: 3600 s then, session_life_s is 60 s now")}
    assert replay([restored], rules(present)).changes == ()


def test_a_definition_that_is_nowhere_is_named_for_what_is_in_flight(kept: tuple[Story, ...]) -> None:
    changes = replay(kept, replace(rules(kept), definitions=frozenset())).changes

    assert {change.kind for change in changes} == {"definition"}
    assert all(change.in_flight for change in changes)


def test_an_account_that_is_not_configured_is_named(kept: tuple[Story, ...]) -> None:
    assert only(kept, lambda now: replace(now, policy=lambda _account, _channel: None)) == {
        ("account", "emea is not configured")
    }


def test_facts_that_can_not_be_read_are_named(kept: tuple[Story, ...]) -> None:
    story = next(each for each in kept if each.facts.get("state", each.state) == "completed")
    body: dict[str, Any] = story.bodies[1]
    odd = replace(story, bodies=[story.bodies[0], body | {"facts": body["facts"] | {"failures": [], "paused_s": {}}}])
    odd.bodies[1]["facts"]["deadline_at"] = "tomorrow"

    assert ("fact", f"the facts at {body['trigger']} from {body['from']} can't be read") in kinds(
        replay([odd], rules(kept)).changes
    )


def test_an_administrative_entry_with_another_trigger_is_named() -> None:
    story = Story("admin-2026-11-24", [{"trigger": "shout", "from": "", "to": "open", "facts": {}, "seq": 1}], seq=1)

    assert kinds(replay([story], rules(())).changes) == {("edge", "shout from  to open is gone")}


def test_what_is_in_flight_comes_first_and_the_list_is_bounded(kept: tuple[Story, ...]) -> None:
    narrow = replace(rules(kept), versions=frozenset(), operations=frozenset(), definitions=frozenset())
    changes = replay(kept, narrow).changes

    assert [bool(change.in_flight) for change in changes] == sorted((bool(c.in_flight) for c in changes), reverse=True)
    assert len(changes) <= MOST_CHANGES


def test_every_released_version_says_what_it_called_an_end() -> None:
    assert machine.VERSION in ENDS_OF
    assert ENDS_OF[machine.VERSION] == {State.COMPLETED, State.FAILED}
