"""Whatever comes in is either taken whole or refused with a documented status; nothing else can happen."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.sandbox import SandboxOptions
from orchestrator.sandbox.clock import SandboxClock
from orchestrator.sandbox.intake import Refused, check_token_request, read_advance, read_bearer, read_start
from orchestrator.sandbox.script import Channel
from orchestrator.sandbox.sessions import Twin

OPTIONS = SandboxOptions()
untimed = settings(deadline=None)  # a busy machine is no failure
JSON, FORM = "application/json", "application/x-www-form-urlencoded"

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))
texts = st.text(st.characters(exclude_categories=()), max_size=12)
payments = st.fixed_dictionaries(
    {"merchantTxnRef": texts | st.just("PAID-1"), "amount": st.sampled_from(["12.40", "1", "0.01", "999999", "1e3"])},
    optional={
        "currency": st.sampled_from(["GBP", "JPY", "", "XXX"]),
        "CustomerPhoneNumber": st.sampled_from(["+447700900123", "447700900123", "x"]) | texts,
        "cardholderName": texts,
        "decision": st.just("ACCEPT"),
    },
)
requests = st.fixed_dictionaries(
    {"AccountConfigurationId": st.just("4242") | values, "CallGuid": texts | st.just("call-1") | st.none()},
    optional={"PaymentData": payments | values},
)


def body_of(request: Any) -> bytes:
    return json.dumps(request).encode()


def offer(take: Callable[..., Any], *arguments: Any) -> Any:
    """Give what was taken, or the refusal; any other exception fails the test."""
    try:
        return take(*arguments)
    except Refused as refused:
        return refused


@untimed
@given(st.binary() | requests.map(body_of) | values.map(body_of), st.sampled_from(Channel))
def test_a_start_is_taken_or_refused_and_what_is_taken_can_be_told_to_its_end(body: bytes, channel: Channel):
    start = offer(read_start, JSON, body, channel, OPTIONS)
    if isinstance(start, Refused):
        assert (start.status, set(start.body)) == (400, {"Message"})
        return
    assert start.reference.strip()
    assert start.money.minor > 0
    clock = SandboxClock(lambda: 0.0, lambda: 0.0, 1.0)
    twin = Twin(OPTIONS, clock, seed=1)
    session = twin.make_session(channel, start)
    clock.advance(10)
    found = twin.find(session.id)
    assert found is not None
    told = json.loads(json.dumps(twin.status_of(*found)))["paymentResultData"]
    assert {name: told[name] for name in start.inputs.keys() - {"decision", "merchantTxnRef"}} == {
        name: text for name, text in start.inputs.items() if name not in {"decision", "merchantTxnRef"}
    }


@untimed
@given(requests, st.sampled_from(Channel))
def test_no_refusal_repeats_what_the_payer_said(request_: dict[str, Any], channel: Channel):
    secret = "4417-secret-name"
    if isinstance(request_.get("PaymentData"), dict):
        request_["PaymentData"]["cardholderName"] = secret
    taken = offer(read_start, JSON, body_of(request_), channel, OPTIONS)
    assert not isinstance(taken, Refused) or secret not in json.dumps(taken.body)


@untimed
@given(st.binary(), st.none() | st.text(st.characters(codec="latin-1")))
def test_a_token_request_of_any_bytes_is_refused_with_an_oauth_error(body: bytes, authorization: str | None):
    with pytest.raises(Refused) as refused:
        check_token_request(FORM, body, authorization, OPTIONS)
    assert refused.value.status == 400
    assert refused.value.body["error"]


@untimed
@given(st.binary() | values.map(body_of))
def test_an_advance_of_any_bytes_is_a_sane_number_or_refused(body: bytes):
    taken = offer(read_advance, JSON, body)
    assert taken.status == 400 if isinstance(taken, Refused) else 0 <= taken <= 315_360_000


@untimed
@given(st.text() | st.text().map("Bearer {}".format))
def test_only_a_bearer_header_has_a_token(text: str):
    taken = offer(read_bearer, text)
    if isinstance(taken, Refused):
        assert taken.status == 401
    else:
        assert taken
        assert text.lower().startswith("bearer ")


@pytest.mark.parametrize("body", ['{"seconds":%s}' % ("9" * 5000), '{"seconds":1e999}'])
def test_numbers_beyond_all_bounds_are_refused(body: str):
    with pytest.raises(Refused):
        read_advance(JSON, body.encode())
