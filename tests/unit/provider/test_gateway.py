"""What a body means: every state with every decision, amounts, and what may be kept."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.outcome import MONEY_OF, MoneyFact, Outcome
from orchestrator.provider.gateway import MAX_TEXT, VCC, GatewayProfile, UnreadableBody, observe, read
from orchestrator.provider.profile import STATES, Meaning, normalised

O = Outcome  # noqa: E741 - the table below is wide


def body(state: Any = "Finished", **result: Any) -> bytes:
    return json.dumps({"sessionGuid": "s-1", "sessionState": state, "paymentResultData": result}).encode()


def outcome(raw: bytes, profile: GatewayProfile = VCC) -> Outcome | None:
    return observe(profile, raw, "GBP").outcome


DECISIONS: dict[str, dict[str, str]] = {
    "none": {},
    "paid": {"decision": "ACCEPT", "reasonCode": "100"},
    "partial": {"decision": "ACCEPT", "reasonCode": "110"},
    "declined": {"decision": "REJECT", "reasonCode": "203"},
    "review": {"decision": "REVIEW", "reasonCode": "480"},
    "error": {"decision": "ERROR", "reasonCode": "102"},
    "doubt": {"decision": "ERROR", "reasonCode": "151"},
    "unheard": {"decision": "PROBABLY"},
}
# A positive decision in a session that ended badly is a contradiction, an unheard one may be positive: a person looks.
BADLY = {"paid": O.INDETERMINATE, "partial": O.INDETERMINATE, "declined": O.DECLINED, "review": O.REVIEW,
         "error": O.PROVIDER_ERROR, "doubt": O.INDETERMINATE, "unheard": O.INDETERMINATE}  # fmt: skip
GRID: dict[str, dict[str, Outcome | None]] = {
    "Started": dict.fromkeys(DECISIONS),
    "Quantum": dict.fromkeys(DECISIONS),
    "Finished": BADLY | {"none": O.INDETERMINATE, "paid": O.PAID, "partial": O.PARTIALLY_PAID},
    "Failed": BADLY | {"none": O.PROVIDER_ERROR},
    "Rejected": BADLY | {"none": O.PROVIDER_ERROR},
    "Cancelled": BADLY | {"none": O.CANCELLED_BY_PAYER},
    "Aborted": BADLY | {"none": O.CANCELLED_BY_PAYER},
    "Abandoned": BADLY | {"none": O.HUNG_UP},
    "Expired": BADLY | {"none": O.EXPIRED},
    "TimedOut": BADLY | {"none": O.INPUT_TIMEOUT},
    "too-many-failed-attempts": BADLY | {"none": O.ATTEMPTS_EXHAUSTED, "declined": O.ATTEMPTS_EXHAUSTED},
    "MessageFailed": BADLY | {"none": O.LINK_UNDELIVERABLE},
    "NotAttempted": BADLY | {"none": O.NOT_ATTEMPTED},
}


@pytest.mark.parametrize(("state", "decision"), [(state, decision) for state in GRID for decision in DECISIONS])
def test_state_and_decision_together_make_the_outcome(state, decision):
    assert outcome(body(state, **DECISIONS[decision])) is GRID[state][decision]


def test_every_meaning_is_in_the_grid():
    assert {VCC.meaning(state) for state in GRID} == {None, *Meaning}


@pytest.mark.parametrize("spelling", ["finished", "FINISHED", " Fin ished", "fin_ished", "Fin-Ished\n"])
def test_case_spaces_and_dashes_do_not_tell_states_apart(spelling):
    assert outcome(body(spelling, decision="accept ")) is O.PAID


@pytest.mark.parametrize("spelling", STATES)
def test_every_bundled_spelling_is_in_its_normal_form(spelling):
    assert normalised(spelling) == spelling


@pytest.mark.parametrize(("state", "known"), [("Quantum", False), (None, False), ("", False), ("Started", True)])
def test_an_unlisted_or_absent_state_is_not_known_and_never_an_end(state, known):
    seen = observe(VCC, body(state, decision="ACCEPT"), "GBP")
    assert (seen.known, seen.outcome, seen.session_state) == (known, None, state or None)


@pytest.mark.parametrize(
    ("changes", "result", "expected"),
    [
        ({"finished_means_paid": True}, {}, O.PAID),
        ({"finished_means_paid": True}, {"decision": "PROBABLY"}, O.INDETERMINATE),
        ({"finished_means_paid": True}, {"decision": "REJECT"}, O.DECLINED),
        ({"finished_means_paid": True}, {"Amount": "?"}, O.INDETERMINATE),
        ({"attempts_exhausted_codes": ("204",)}, {"decision": "REJECT", "reasonCode": 204}, O.ATTEMPTS_EXHAUSTED),
        ({"decision_field": "ApprovalStatus", "paid": ("1",), "declined": ("0",)}, {"ApprovalStatus": 1}, O.PAID),
        ({"decision_field": "ApprovalStatus", "paid": ("1",), "declined": ("0",)}, {"ApprovalStatus": 0}, O.DECLINED),
        ({"decision_field": "ok", "paid": ("true",)}, {"ok": True}, O.PAID),
        ({"code_fields": ("RespCode",)}, {"decision": "ACCEPT", "RespCode": "110"}, O.PARTIALLY_PAID),
        ({"doubtful_codes": ()}, {"decision": "ERROR", "reasonCode": "151"}, O.PROVIDER_ERROR),
        ({}, {"decision": {"nested": "ACCEPT"}}, O.INDETERMINATE),
        ({}, {"decision": ["ACCEPT"]}, O.INDETERMINATE),
        ({}, {"decision": ""}, O.INDETERMINATE),
        ({}, {"decision": None}, O.INDETERMINATE),
    ],
)
def test_an_account_may_read_its_gateway_otherwise(changes, result, expected):
    assert outcome(body(**result), GatewayProfile(**changes)) is expected


def test_own_states_are_compared_like_bundled_ones_and_a_wrong_meaning_is_refused_at_once():
    profile = GatewayProfile(states={"All Done": "ended", "on-hold": "running"})
    assert outcome(body("ALL_DONE", decision="ACCEPT"), profile) is O.PAID
    assert outcome(body("On Hold", decision="ACCEPT"), profile) is None
    with pytest.raises(ValueError, match="over"):
        GatewayProfile(states={"done": "over"})


def test_a_result_may_lie_in_the_body_itself():
    raw = json.dumps({"sessionState": "Finished", "decision": "ACCEPT", "Amount": "1240"}).encode()
    assert outcome(raw) is O.INDETERMINATE
    assert outcome(raw, GatewayProfile(result_field="")) is O.PAID


@pytest.mark.parametrize(
    ("amount", "unit", "currency", "minor"),
    [
        ("1240", "minor", "GBP", 1240), (1240, "minor", "GBP", 1240), ("0", "minor", "GBP", 0),
        ("12.40", "major", "GBP", 1240), ("12.4", "major", "GBP", 1240), ("12", "major", "GBP", 1200),
        (12.40, "major", "GBP", 1240), ("1240", "major", "JPY", 1240), ("1.234", "major", "KWD", 1234),
        (None, "minor", "GBP", None), ("", "major", "GBP", None),
    ],
)  # fmt: skip
def test_amounts_are_read_exactly_in_the_profiles_unit(amount, unit, currency, minor):
    profile = GatewayProfile(amount_unit=unit)
    seen = observe(profile, body(decision="ACCEPT", Amount=amount), currency)
    assert (seen.amount_minor, seen.outcome, "Amount" in seen.codes) == (minor, O.PAID, False)


@pytest.mark.parametrize(
    ("amount", "unit", "currency"),
    [
        ("12.40", "minor", "GBP"), ("-1240", "minor", "GBP"), ("1,240", "minor", "GBP"), ("1e3", "minor", "GBP"),
        ("١٢٤٠", "minor", "GBP"), ("9" * 16, "minor", "GBP"), (["1240"], "minor", "GBP"), (True, "minor", "GBP"),
        ("12.405", "major", "GBP"), ("12.4", "major", "JPY"), ("NaN", "major", "GBP"), ("12.40", "major", "???"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("decision", "ended"), [("ACCEPT", O.INDETERMINATE), ("REJECT", O.DECLINED)])
def test_an_amount_that_cannot_be_read_never_passes_as_confirmed(amount, unit, currency, decision, ended):
    seen = observe(GatewayProfile(amount_unit=unit), body(decision=decision, Amount=amount), currency)
    assert (seen.amount_minor, seen.outcome, seen.codes["Amount"]) == (None, ended, "unreadable")


def test_what_the_result_confirms_is_read_and_only_listed_fields_are_kept():
    seen = observe(
        VCC,
        body(
            decision="ACCEPT", reasonCode="100", requestID="5" * 22, Currency="GBP", MerchantReferenceCode="INV-1",
            Street1="1 Canary Wharf", requestToken="secret", Email="ada@example.org",
        ),
        "GBP",
    )  # fmt: skip
    assert (seen.reference, seen.currency, seen.session_id) == ("INV-1", "GBP", "s-1")
    assert dict(seen.codes) == {"decision": "ACCEPT", "reasonCode": "100", "requestID": "5" * 22}
    assert observe(VCC, body(Currency="826"), "GBP").currency is None


def test_what_is_kept_is_short_printable_and_without_card_data():
    seen = observe(
        VCC,
        body("Odd\x00\u202e" + "x" * 100, decision="4111111111111111", reasonCode="a\nb" * 50),
        "GBP",
        redact=lambda text: text.replace("4111111111111111", "[card data removed]"),
    )
    assert seen.codes["decision"] == "[card data removed]"
    assert seen.codes["reasonCode"].startswith("a ba b")
    assert seen.session_state is not None
    assert seen.session_state.startswith("Odd  xx")
    assert {len(seen.session_state), len(seen.codes["reasonCode"])} == {MAX_TEXT}


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"<html>", b"[]", b'"Finished"', b"null", b"{", b'{"a": NaN}', b'{"a": Infinity}', b"\xff\xfe{}",
        b"[" * 100_000, b'{"sessionState": "Started", "sessionState": "Finished"}',
        b'{"sessionState": "Finished", "paymentResultData": {"decision": "REJECT", "decision": "ACCEPT"}}',
    ],
)  # fmt: skip
def test_a_body_that_says_nothing_or_two_things_is_refused(raw):
    with pytest.raises(UnreadableBody):
        observe(VCC, raw, "GBP")


def test_a_mark_in_front_and_an_equal_value_twice_do_no_harm_and_numbers_stay_as_sent():
    assert read(b'\xef\xbb\xbf{"a": 12.40, "a": 12.40, "b": 1e3}') == {"a": "12.40", "b": "1e3"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
STATE = st.sampled_from([*GRID, None, "", 7]) | JSON
RESULT = st.dictionaries(
    st.sampled_from(["decision", "reasonCode", "Amount", "Currency", "MerchantReferenceCode"]),
    st.sampled_from(["ACCEPT", "REJECT", "REVIEW", "ERROR", "100", "110", "151", "1240", "12.4"]) | JSON,
)


@given(state=STATE, result=RESULT | JSON, paid=st.booleans())
def test_money_is_taken_only_in_an_ended_session_with_a_positive_decision_and_a_readable_amount(state, result, paid):
    raw = json.dumps({"sessionState": state, "paymentResultData": result}).encode()
    seen = observe(GatewayProfile(finished_means_paid=paid), raw, "GBP")
    if MONEY_OF.get(seen.outcome, MoneyFact.NONE) in (MoneyFact.TAKEN, MoneyFact.PARTIAL):
        decision = result.get("decision") if isinstance(result, dict) else None
        assert VCC.meaning(seen.session_state) is Meaning.ENDED
        assert (isinstance(decision, str) and decision.strip().lower() == "accept") or (paid and decision in (None, ""))
        assert "Amount" not in seen.codes
    if VCC.meaning(seen.session_state) in (None, Meaning.RUNNING):
        assert seen.outcome is None
    assert all(len(text) <= MAX_TEXT for text in seen.codes.values())


@given(st.binary(max_size=64))
def test_no_bytes_do_more_than_be_refused(raw):
    try:
        observe(VCC, raw, "GBP")
    except UnreadableBody:
        return
    assert isinstance(json.loads(raw.decode("utf-8-sig")), dict)
