from dataclasses import fields
from datetime import timedelta

import pytest

from orchestrator.domain.errors import ConfigurationError
from orchestrator.domain.policy import DIGITAL, PHONE, OnUnknownStart, Policy, plain_backoff

KEY = "accounts.emea.phone"
NUMBERS = [f.name for f in fields(Policy) if f.name not in ("dial_prefixes", "backoff", "on_unknown_start")]
BAD_NUMBERS = [-1, -0.5, float("nan"), float("inf"), "20", True, None, [1], 1e300]


def refusal(name, value):
    with pytest.raises(ConfigurationError) as error:
        PHONE.with_overrides({name: value}, key=KEY)
    assert error.value.key == f"{KEY}.{name}"
    assert error.value.problem
    return error.value


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_makes_no_sense_is_refused_by_its_key(name):
    for value in BAD_NUMBERS:
        refusal(name, value)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("unheard_of", 1, "is not a policy"),
        ("backoff", 1, "is not a policy"),
        ("dial_prefixes", "+44", "is not a policy"),
        ("on_unknown_start", "retry", "is not a choice"),
        ("on_unknown_start", 1, "is not a choice"),
        ("on_unknown_start", ["hold"], "is not a choice"),
        ("max_sessions", 0, "whole number"),
        ("max_sessions", 1.5, "whole number"),
        ("max_claims", 0, "whole number"),
        ("resolve_persons", 0, "neither 1 nor 2"),
        ("resolve_persons", 3, "neither 1 nor 2"),
        ("resolve_persons", 1.5, "neither 1 nor 2"),
        ("poll_factor", 0.9, "below 1"),
        ("poll_factor", 10.5, "above 10"),
        ("session_life_s", 72 * 3600 * 1000, "to a year"),
        ("poll_first_s", 0, "is zero"),
        ("poll_max_s", 0, "is zero"),
        ("poll_retry_s", 0, "is zero"),
    ],
)
def test_each_rule_has_its_own_word(name, value, problem):
    assert problem in refusal(name, value).problem


def test_good_values_replace_only_what_they_name():
    changed = DIGITAL.with_overrides({"start_s": 30, "max_sessions": 2.0, "on_unknown_start": "supersede"}, key=KEY)
    assert (changed.start_s, changed.max_sessions, changed.on_unknown_start) == (30.0, 2, OnUnknownStart.SUPERSEDE)
    assert type(changed.max_sessions) is int
    untouched = {f.name for f in fields(Policy)} - {"start_s", "max_sessions", "on_unknown_start"}
    assert all(getattr(changed, name) == getattr(DIGITAL, name) for name in untouched)
    assert PHONE.with_overrides({}, key=KEY) == PHONE
    persons = PHONE.with_overrides({"resolve_persons": 2.0}, key=KEY).resolve_persons
    assert (persons, type(persons)) == (2, int)


def test_defaults_are_the_table_of_the_design():
    told = [
        ("collecting_s", 1800, 1800), ("start_s", 20, 600), ("start_pause_s", 0, 86400), ("hand_over_s", 20, 20),
        ("awaiting_s", 900, 259200), ("session_life_s", 3600, 260100), ("absent_grace_s", 60, 60),
        ("poll_first_s", 1, 5), ("poll_factor", 1.5, 1.5), ("poll_max_s", 5, 300), ("poll_retry_s", 30, 30),
        ("on_unknown_start", "supersede", "hold"), ("dial_prefixes", (), ()),
    ]  # fmt: skip
    assert [(name, getattr(PHONE, name), getattr(DIGITAL, name)) for name, _, _ in told] == told
    assert 2 * DIGITAL.poll_max_s < 15 * 60, "two looks fit into the evidence's life"


@pytest.mark.parametrize("policy", [PHONE, DIGITAL, PHONE.with_overrides({"poll_factor": 10}, key=KEY)])
def test_polls_slow_down_to_their_limit_and_stay_there(policy):
    delays = [policy.poll_after(looks) for looks in (*range(200), 10**9)]
    assert delays[0] == timedelta(seconds=policy.poll_first_s)
    assert delays == sorted(delays)
    assert delays[-1] == delays[64] == timedelta(seconds=policy.poll_max_s)


def test_the_plain_backoff_doubles_up_to_a_minute():
    assert [plain_backoff(n) for n in (0, 1, 2, 6, 7, 10**9)] == [0.5, 1, 2, 32, 60, 60]
