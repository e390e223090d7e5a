"""Which definition, which values, which digest: everything before a byte is sent."""

from typing import Any

import pytest

from orchestrator.domain.errors import ConfigurationError, InvalidInput
from orchestrator.domain.machine import Operation
from orchestrator.domain.money import Money
from orchestrator.domain.payment import Channel
from orchestrator.interactions import Definition, bundled, parse
from orchestrator.ports import Prepared, Provider, Providers
from orchestrator.provider.account import AccountProvider
from orchestrator.provider.client import ProviderPool
from orchestrator.provider.config import ROLE_FIELDS, RoleNames
from tests.support.provider import DEFINITIONS, PAYER, SECRET, account, payment, pool

START, STATUS = Operation.START_SESSION, Operation.QUERY_STATUS
BASE = "http://127.0.0.1:9"
PHONE_FIELDS = ("CallGuid", "cardholderName", "cardholderPostCode", "cardholderAddress")


def providers(load: Any = None, **changes: Any) -> ProviderPool:
    return pool(account(BASE, **changes), load=load)


def with_definition(name: str, old: str, new: str) -> dict[str, Definition]:
    text = bundled(name)
    assert old in text
    return DEFINITIONS | {name: parse(text.replace(old, new), name=name)}


def body(asked: Any, token: str | None = None) -> bytes:
    return asked.rendered(token).body


async def test_the_pool_and_its_providers_have_the_shape_that_the_flow_asks_for():
    async with providers() as each:
        as_port: Providers = each
        provider: Provider = as_port.of(payment())
        asked: Prepared = provider.prepare(START, payment(), PAYER)
        assert len(asked.digest) == 64
        with pytest.raises(TypeError, match="prepare"):
            await provider.send(object())  # type: ignore[arg-type]


def test_the_fields_to_collect_are_those_that_no_step_and_no_role_supplies():
    each = providers(optional_fields=frozenset({"cardholderAddress"}))
    assert each.fields_used("emea", Channel.PHONE) == PHONE_FIELDS
    assert each.fields_to_collect("emea", Channel.PHONE) == PHONE_FIELDS[:3]
    assert set(each.fields_used("emea", Channel.DIGITAL)) == {"CustomerPhoneNumber", *PHONE_FIELDS[1:]}
    assert set(each.pins("emea", Channel.DIGITAL)) == {"authorize", "start_digital_session", "session_status"}


@pytest.mark.parametrize(
    ("changes", "amount", "sent"),
    [
        ({}, Money("12.40", "GBP"), b'"amount":"12.40"'),
        ({"amount_unit": "minor"}, Money("12.40", "GBP"), b'"amount":"1240"'),
        ({}, Money("1240", "JPY"), b'"amount":"1240"'),
        ({}, Money("1.5", "KWD"), b'"amount":"1.500"'),
    ],
)
def test_the_amount_is_sent_in_the_accounts_unit(changes, amount, sent):
    asked = payment(amount=amount)
    assert sent in body(providers(**changes).of(asked).prepare(START, asked, PAYER))


def test_the_payments_own_values_win_over_fields_of_the_same_name():
    asked = payment()
    lies = {"amount": "0.01", "merchantTxnRef": "INV-2", "AccessToken": "mine", "GlobalPCI|SessionId": "other"}
    provider = providers().of(asked)
    sent = body(provider.prepare(START, asked, PAYER | lies))
    assert b"0.01" not in sent
    assert b"INV-2" not in sent
    look = provider.prepare(STATUS, asked, lies).rendered("token-1")
    assert look.url == f"{BASE}/globalpci/v1/session/s-1"
    assert ("Authorization", "Bearer token-1") in look.headers


def test_roles_may_have_other_names():
    roles = RoleNames(amount="Total", reference="OrderId", currency="Ccy")
    swapped = '"OrderId":"$(OrderId)", "Total":"$(Total) $(Ccy)"'
    definitions = with_definition(
        "start_phone_session", '"merchantTxnRef":"$(merchantTxnRef)", "amount":"$(amount)"', swapped
    )
    each = providers(roles=roles, definitions=definitions)
    assert b'"OrderId":"INV-1", "Total":"12.40 GBP"' in body(each.of(payment()).prepare(START, payment(), PAYER))
    assert each.fields_to_collect("emea", Channel.PHONE) == PHONE_FIELDS
    assert set(ROLE_FIELDS) >= {"amount", "session_id", "access_token"}


def test_a_missing_or_unfit_field_is_refused_before_anything_is_sent_and_an_optional_one_is_left_out():
    asked = payment()
    without = {name: value for name, value in PAYER.items() if name != "cardholderAddress"}
    with pytest.raises(InvalidInput, match="cardholderAddress"):
        providers().of(asked).prepare(START, asked, without)
    optional = providers(optional_fields=frozenset({"cardholderAddress"}))
    assert b'"cardholder Address": ""' in body(optional.of(asked).prepare(START, asked, without))
    with pytest.raises(InvalidInput) as refused:
        providers().of(asked).prepare(START, asked, PAYER | {"cardholderName": "Ada\ud800"})
    assert "Ada" not in str(refused.value)
    unstarted = payment(session_id=None)
    with pytest.raises(InvalidInput, match="SessionId"):
        providers().of(unstarted).prepare(STATUS, unstarted, {})


@pytest.mark.parametrize("operation", [Operation.AUTHORIZE, Operation.HAND_OVER])
def test_only_requests_of_a_payment_are_prepared(operation):
    with pytest.raises(ValueError, match=operation.value):
        providers().of(payment()).prepare(operation, payment(), PAYER)


def test_the_digest_depends_on_the_request_and_the_key_and_not_on_the_token():
    asked = payment()

    def digest(fields: dict[str, str] = PAYER, token: str | None = None, **changes: Any) -> str:
        prepared = providers(**changes).of(asked).prepare(START, asked, fields)
        prepared.rendered(token)
        return prepared.digest

    same = digest()
    assert digest(token="token-2") == digest(PAYER | {"AccessToken": "mine"}) == same
    assert digest(PAYER | {"cardholderName": "Bob"}) != same
    assert digest(digest_key=b"k" * 32) not in (same, digest(digest_key=b"l" * 32))


def test_what_is_prepared_and_configured_shows_no_payer_and_no_secret():
    asked = payment()
    config = account(BASE)
    prepared = pool(config).of(asked).prepare(START, asked, PAYER)
    assert "Canary" not in f"{prepared!r}{prepared}{prepared.rendered('token-1')!r}"
    assert SECRET not in repr(config)
    assert "token-1" not in repr(prepared.rendered("token-1"))


def test_a_payment_keeps_the_definitions_it_was_pinned_to():
    old = parse(bundled("session_status").replace("/v1/session/", "/v0/session/"), name="old.xml")
    loads: list[str] = []

    def load(digest: str) -> Definition | None:
        loads.append(digest)
        return old if digest == old.digest else None

    each = providers(load)
    pinned = payment(definitions=each.pins("emea", Channel.PHONE) | {"session_status": old.digest})
    for _ in range(3):
        assert each.of(pinned).prepare(STATUS, pinned, {}).url == f"{BASE}/globalpci/v0/session/s-1"
    assert each.of(payment()).prepare(STATUS, payment(), {}).url == f"{BASE}/globalpci/v1/session/s-1"
    assert loads == [old.digest]
    assert each.of(pinned) is each.of(pinned)


def test_payments_with_one_authorize_definition_share_its_tokens():
    old = parse(bundled("session_status").replace("/v1/session/", "/v0/session/"), name="old.xml")
    each = providers({old.digest: old}.get)
    pinned = payment(definitions={"session_status": old.digest})
    assert each.of(pinned) is not each.current("emea")
    assert each.of(pinned)._authorizer is each.current("emea")._authorizer


def test_a_stored_definition_gets_its_lifted_secrets_from_the_accounts_own():
    text = bundled("authorize").replace("#(ClientSecret)", "a-literal-secret")
    own = parse(text, name="authorize.xml")
    stored = parse(own.text.replace("globalpci", "older"), name="authorize.xml")
    assert not stored.lifted
    each = providers({stored.digest: stored}.get, definitions=DEFINITIONS | {"authorize": own})
    provider = each.of(payment(definitions={"authorize": stored.digest}))
    assert b"scope=older" in provider._authorizer._rendered.body
    assert b"client_secret=a-literal-secret" in provider._authorizer._rendered.body


PROBLEMS = {
    "a setting": ({"config": {"ClientSecret": ""}}, "accounts.emea.config.ClientSecret"),
    "another": ({"config": {"AccountConfigurationId": ""}}, "accounts.emea.config.AccountConfigurationId"),
    "no status": (
        {"definitions": {k: v for k, v in DEFINITIONS.items() if k != "session_status"}},
        "accounts.emea.definitions.session_status",
    ),
    "no authorize": (
        {"definitions": {k: v for k, v in DEFINITIONS.items() if k != "authorize"}},
        "accounts.emea.definitions.authorize",
    ),
    "payer data in authorize": (
        {"definitions": with_definition("authorize", "#(ClientId)", "$(cardholderName)")},
        "accounts.emea.definitions.authorize",
    ),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_an_account_that_cannot_work_is_refused_at_once_by_the_settings_name(problem):
    changes, key = PROBLEMS[problem]
    with pytest.raises(ConfigurationError) as refused:
        providers(**changes)
    assert refused.value.key == key


def test_what_is_asked_for_and_not_configured_is_named():
    each = providers(definitions={k: v for k, v in DEFINITIONS.items() if k != "start_digital_session"})
    for refused in (
        lambda: each.current("apac"),
        lambda: each.of(payment(account="apac")),
        lambda: each.pins("emea", Channel.DIGITAL),
        lambda: each.of(payment(Channel.DIGITAL)).prepare(START, payment(Channel.DIGITAL), PAYER),
        lambda: each.of(payment(definitions={"session_status": "f" * 64})),
    ):
        with pytest.raises(ConfigurationError, match=r"accounts\.(apac|emea\.definitions)"):
            refused()
    assert isinstance(each.current("emea"), AccountProvider)
