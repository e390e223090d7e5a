"""What a script says, as pure data."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.errors import ConfigurationError, InvalidInput
from orchestrator.sandbox import SCRIPTS, SandboxOptions, Script, load_faults, script_for
from orchestrator.sandbox.script import (
    LINK_LIFE_S,
    RESULT_WINDOW_S,
    Act,
    Channel,
    Charged,
    Endpoint,
    Fault,
    Step,
)

BY_PREFIX = {script.prefix: script for script in SCRIPTS}
PAID = BY_PREFIX["PAID"]
PROMISED = """
    PAID DECLINED REVIEW PARTIAL HUNGUP CANCELLED EXPIRED ATTEMPTS TIMEOUT SLOW SLOWANSWER FLAKY THROTTLED
    ERRORBEFORE ERRORAFTER LOSTANSWER RESETBEFORE CUTBODY HTML INVALID CONFIG FORBIDDEN UNKNOWNSTATE NORESULT
    WRONGAMOUNT WRONGREF WRONGSESSION NEVER NOID STATUS404 STATUS5XX TOKENEXPIRES GATEWAYERROR FAILED
    TOLDTWICE TOLDLATE OVERTAKEN
"""

untimed = settings(deadline=None)  # a busy machine is no failure
scripts = st.sampled_from(SCRIPTS)
channels = st.sampled_from(Channel)
moments = st.floats(0, LINK_LIFE_S + 2 * RESULT_WINDOW_S) | st.floats(0, 10)


def test_the_table_has_every_promised_prefix_once_and_explains_it():
    assert sorted(script.prefix for script in SCRIPTS) == sorted(PROMISED.split())
    for script in SCRIPTS:
        assert script.what
        assert script.ends
        assert len(f"{script.prefix} {script.what} {script.ends}") < 130, "a line of the printed table"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.prefix)
def test_the_printed_end_names_the_state_and_the_codes_that_come(script: Script):
    if script.ends == "no session":
        assert script.start is not None
        assert script.start.first is None
        return
    assert script.steps[-1].state in script.ends
    if script.gateway is not None:
        assert script.gateway.decision in script.ends
        assert all(code in script.ends for code in script.gateway.reason_codes) or script.foreign_session


@pytest.mark.parametrize(
    ("reference", "prefix"),
    [
        ("PAID-1001", "PAID"),
        ("DECLINED-7", "DECLINED"),
        ("declined-7", "DECLINED"),
        ("Declined-7-PAID", "DECLINED"),
        ("DECLINED", "DECLINED"),
        ("DECLINED_7", "PAID"),
        ("INV-1001", "PAID"),
        ("-DECLINED", "PAID"),
        ("", "PAID"),
        ("\N{LATIN SMALL LETTER SHARP S}-1", "PAID"),
    ],
)
def test_the_prefix_up_to_the_first_hyphen_chooses_the_script(reference: str, prefix: str):
    assert script_for(reference).prefix == prefix


@untimed
@given(st.text(), st.text())
def test_any_reference_has_a_script_and_its_rest_does_not_matter(prefix: str, rest: str):
    head = prefix.replace("-", "")
    assert script_for(f"{head}-{rest}") is script_for(head)


@pytest.mark.parametrize(
    ("prefix", "channel", "elapsed", "state", "since", "ended"),
    [
        ("PAID", Channel.PHONE, -1, "Created", 0, False),
        ("PAID", Channel.PHONE, 0, "Created", 0, False),
        ("PAID", Channel.PHONE, 0.1, "Started", 0.1, False),
        ("PAID", Channel.DIGITAL, 0.59, "InProgress", 0.3, False),
        ("PAID", Channel.DIGITAL, 0.6, "Finished", 0.6, True),
        ("SLOW", Channel.PHONE, 4.99, "InProgress", 1, False),
        ("SLOW", Channel.PHONE, 5, "Finished", 5, True),
        ("UNKNOWNSTATE", Channel.PHONE, 1.5, "Quantum", 0.6, False),
        ("UNKNOWNSTATE", Channel.PHONE, 1.6, "Finished", 1.6, True),
        ("NEVER", Channel.PHONE, 10 * LINK_LIFE_S, "Started", 0.1, False),
        ("NEVER", Channel.DIGITAL, LINK_LIFE_S - 1, "Started", 0.1, False),
        ("NEVER", Channel.DIGITAL, LINK_LIFE_S, "Expired", LINK_LIFE_S, True),
    ],
)
def test_a_session_moves_on_by_the_clock(
    prefix: str, channel: Channel, elapsed: float, *, state: str, since: float, ended: bool
):
    look = BY_PREFIX[prefix].look(elapsed, channel)
    assert (look.state, look.since_s, look.ended) == (state, since, ended)


@untimed
@given(scripts, channels, moments, moments)
def test_a_session_never_goes_back_and_an_end_is_final(script: Script, channel: Channel, one: float, two: float):
    earlier, later = (script.look(moment, channel) for moment in sorted((one, two)))
    assert earlier.since_s <= later.since_s
    assert later.since_s <= max(one, two)
    if earlier.ended:
        assert later == earlier


@untimed
@given(scripts, channels, moments)
def test_a_result_is_readable_for_exactly_the_window_after_the_end(script: Script, channel: Channel, elapsed: float):
    look = script.look(elapsed, channel)
    assert look.readable_at(elapsed) is (not look.ended or elapsed - look.since_s < RESULT_WINDOW_S)
    assert look.gateway is None or look.ended, "no word of the gateway before the end"


@untimed
@given(scripts, channels)
def test_every_session_but_an_endless_one_ends_and_a_link_always_does(script: Script, channel: Channel):
    assert script.look(LINK_LIFE_S, channel).ended is (not script.endless or channel is Channel.DIGITAL)


@pytest.mark.parametrize(
    ("fault", "struck"),
    [
        (Fault(Act.CLOSE), [1]),
        (Fault(Act.CLOSE, first=3), [1, 2, 3]),
        (Fault(Act.CLOSE, first=None), [1, 2, 3, 4, 5, 6, 7]),
        (Fault(Act.CLOSE, every=3), [1, 4, 7]),
    ],
)
def test_a_fault_strikes_the_calls_it_names(fault: Fault, struck: list[int]):
    assert [call for call in range(1, 8) if fault.strikes(call)] == struck


def test_faults_of_starting_and_of_looking_are_apart():
    lost, late = BY_PREFIX["LOSTANSWER"], BY_PREFIX["STATUS404"]
    assert lost.fault(Endpoint.START_PHONE, 1) is lost.fault(Endpoint.START_DIGITAL, 1) is lost.start
    assert lost.fault(Endpoint.STATUS, 1) is None
    assert lost.fault(Endpoint.START_PHONE, 2) is None
    assert late.fault(Endpoint.STATUS, 2) is late.status
    assert late.fault(Endpoint.STATUS, 3) is None
    assert late.fault(Endpoint.START_PHONE, 1) is None


@untimed
@given(st.integers(2, 10**12))
def test_charged_amounts_differ_in_the_promised_direction(minor: int):
    assert Charged.ASKED.of(minor) == minor
    assert 0 < Charged.HALF.of(minor) < minor
    assert Charged.ONE_MORE.of(minor) == minor + 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"prefix": "paid"}, "prefix"),
        ({"prefix": "PA-ID"}, "prefix"),
        ({"prefix": ""}, "prefix"),
        ({"prefix": "\N{GREEK CAPITAL LETTER PI}"}, "prefix"),
        ({"steps": ()}, "steps"),
        ({"steps": (Step(0.1, "Created"),)}, "steps"),
        ({"steps": (Step(0, "Created"), Step(1, "Started"), Step(1, "Finished"))}, "steps"),
        ({"steps": (Step(0, "Created"), Step(2, "Started"), Step(1, "Finished"))}, "steps"),
    ],
)
def test_a_script_that_can_not_be_played_is_refused(change: dict[str, object], field: str):
    with pytest.raises(InvalidInput) as error:
        replace(PAID, **change)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("prefix", "channel", "end_s"),
    [
        ("PAID", "phone", 0.6),
        ("PAID", "digital", 0.6),
        ("NEVER", "phone", None),
        ("NEVER", "digital", LINK_LIFE_S),
    ],
)
def test_a_webhook_is_due_when_the_session_is_over(prefix: str, channel: str, end_s: float | None):
    script = BY_PREFIX[prefix]
    assert script.end_s(Channel(channel)) == end_s
    assert script.look(end_s or 1e6, Channel(channel)).ended is (end_s is not None)


def test_the_steps_of_every_script_grow():
    for script in SCRIPTS:
        assert all(one.after_s < two.after_s for one, two in pairwise(script.steps)), script.prefix


def test_further_prefixes_come_from_a_file(tmp_path: Path):
    path = tmp_path / "faults.toml"
    path.write_text('[prefixes]\nacme = "declined"\nX9 = "LOSTANSWER"\n', encoding="utf-8")
    acme, lost = load_faults(path)
    assert acme == replace(BY_PREFIX["DECLINED"], prefix="ACME")
    assert lost == replace(BY_PREFIX["LOSTANSWER"], prefix="X9")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (None, "sandbox.faults"),
        ("not toml", "sandbox.faults"),
        (b"\xff\xfe", "sandbox.faults"),
        ("", "sandbox.faults"),
        ("prefixes = 1", "sandbox.faults"),
        ('[prefixes]\nA = "PAID"\n[other]\n', "sandbox.faults"),
        ('[prefixes]\nACME = "NOSUCH"', "sandbox.faults.prefixes.ACME"),
        ("[prefixes]\nACME = 1", "sandbox.faults.prefixes.ACME"),
        ('[prefixes]\n"AC-ME" = "PAID"', "sandbox.faults.prefixes.AC-ME"),
    ],
)
def test_a_file_of_prefixes_that_can_not_be_used_names_the_key(tmp_path: Path, text: str | bytes | None, key: str):
    path = tmp_path / "faults.toml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError) as error:
        load_faults(path)
    assert error.value.key == key


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("port", -1),
        ("port", 65536),
        ("speed", 0.0),
        ("speed", -1.0),
        ("speed", float("nan")),
        ("speed", float("inf")),
        ("token_life_s", 0),
        ("currency", "gbp"),
        ("webhook_url", "localhost:8088/webhooks/emea"),
    ],
)
def test_options_that_no_server_can_run_with_name_the_key(option: str, value: float | str):
    with pytest.raises(ConfigurationError) as error:
        SandboxOptions(**{option: value})
    assert error.value.key == f"sandbox.{option}"
