"""Secrets are types that do not print, whatever asks them: repr, str, format, pickle, JSON, copies, tracebacks."""

import copy
import json
import logging
import pickle
import pprint
import traceback
from collections.abc import Callable
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Money, load_settings
from orchestrator.composition import account_config, load_definitions
from orchestrator.domain.discreet import REMOVED, PrivateValues
from orchestrator.domain.errors import ConfigurationError, InvalidInput, NotFound
from orchestrator.domain.fields import unknown_payment
from orchestrator.domain.outcome import Observation
from orchestrator.domain.verdict import Exchange, Session, Verdict, VerdictKind
from orchestrator.privacy import FieldVault, Sealer, Secret
from orchestrator.privacy.signing import SigningKey
from orchestrator.sandbox import SandboxOptions
from orchestrator.submit import Submission
from tests.support.flow import account

CANARY = "Qz-canary-of-thirty-two-bytes-00"
KEY = CANARY.encode()
SEALER = Sealer({"k": KEY}, "k")

THINGS: dict[str, Any] = {
    "secret": Secret(CANARY, "env:NAME"),
    "sealer": SEALER,
    "vault": FieldVault(SEALER),
    "signing key": SigningKey("log", KEY),
    "sandbox": SandboxOptions(client_secret=CANARY, webhook_token=CANARY),
    "submission": Submission("emea", "phone", "INV-1", Money("1.00", "GBP"), {"cardholderName": CANARY}),
}
SHOWN: dict[str, Callable[[Any], str]] = {
    "repr": repr,
    "str": str,
    "format": lambda thing: f"{thing}",
    "old format": lambda thing: "%s %r" % (thing, thing),  # noqa: UP031 - what logging does
    "pprint": pprint.pformat,
    "in a list": lambda thing: repr([thing, {"x": thing}]),
    "log record": lambda thing: logging.LogRecord("x", 20, "f", 1, "%s", (thing,), None).getMessage(),
    "exception": lambda thing: "".join(traceback.format_exception_only(ValueError(thing))),
    "JSON by str": lambda thing: json.dumps(thing, default=str),
}


def leaks(text: str | bytes) -> bool:
    raw = text if isinstance(text, bytes) else text.encode()
    return any(form in raw for form in (KEY, KEY.hex().encode(), KEY[:8]))


@pytest.mark.parametrize("how", SHOWN)
@pytest.mark.parametrize("what", THINGS)
def test_nothing_of_it_is_shown(what: str, how: str) -> None:
    assert not leaks(SHOWN[how](THINGS[what]))


@pytest.mark.parametrize("what", ["secret", "sealer", "vault", "signing key"])
def test_it_is_neither_pickled_nor_made_json(what: str) -> None:
    thing = THINGS[what]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="is not pickled"):
            pickle.dumps(thing, protocol)
    with pytest.raises(TypeError):
        json.dumps(thing)
    if what != "secret":
        with pytest.raises(TypeError):
            copy.deepcopy(thing)


def test_settings_show_references_and_no_secret(tmp_path: Path) -> None:
    settings = load_settings(
        environ={"SANDBOX_CLIENT_ID": "client", "SANDBOX_CLIENT_SECRET": CANARY, "KEY": CANARY, "TOKEN": CANARY},
        cwd=tmp_path,
        overrides={
            "accounts": {"emea": account("https://host")}, "sealing_key": "env:KEY",
            "service": {"webhook_token": "env:TOKEN"},
        },
    )  # fmt: skip
    config = account_config("emea", settings.accounts["emea"], load_definitions(settings).by_account["emea"], KEY)

    for shown in (repr(settings), str(settings), json.dumps(settings.describe()), settings.model_dump_json()):
        assert not leaks(shown)
    assert not leaks(repr(config))
    assert not leaks(str([config]))


def test_an_error_about_a_key_says_nothing_of_it() -> None:
    for text in (CANARY, f"{CANARY} {CANARY}", CANARY * 3):
        with pytest.raises(ConfigurationError) as caught:
            Sealer.parse(text)
        assert not leaks("".join(traceback.format_exception(caught.value)))


def test_an_account_is_not_named_like_a_card(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="looks like a card number") as caught:
        load_settings(
            environ={"SANDBOX_CLIENT_ID": "client", "SANDBOX_CLIENT_SECRET": CANARY},
            cwd=tmp_path,
            overrides={"accounts": {"4111111111111111": account("https://host")}},
        )
    assert "4111" not in str(caught.value)


def test_an_error_repeats_only_ids_of_ours() -> None:
    ours = "pay-" + "a2" * 13
    assert isinstance(unknown_payment(ours), NotFound)
    assert ours in str(unknown_payment(ours))
    for text in ("4111111111111111", ours.upper(), ours + "a", "Ada Canary", None):
        assert str(unknown_payment(text)) == "no payment has this id"


def test_private_values_go_from_words_for_people_anywhere_and_from_codes_as_whole_words() -> None:
    values = PrivateValues(["Ada Canary", "100", "ab", "447700900123"])
    seen = Observation("Ada canary", codes={"reasonCode": "100", "requestID": "7641003", "who": "for ADA CANARY"})
    verdict = Verdict(VerdictKind.ANSWERED, message="no Ada Canary at +447700900123, ab", observation=seen)

    kept = values.out_of_verdict(verdict)

    assert kept.message == f"no {REMOVED} at +{REMOVED}, ab"
    assert kept.observation is not None
    assert kept.observation.session_state == REMOVED
    assert kept.observation.codes == {"reasonCode": "100", "requestID": "7641003", "who": f"for {REMOVED}"}
    assert PrivateValues([]).out_of_verdict(verdict) == replace(verdict, observation=seen)
    assert (values.hold("ada canary"), values.hold("+447700900123"), values.hold("x Ada Canary")) == (True, True, False)
    assert not PrivateValues([]).hold("anything")


def test_what_a_verdict_can_tell_the_trail_is_listed_here() -> None:
    # Whoever adds a field decides whether a provider's words could come in by it, and extends the canaries.
    assert is_dataclass(Verdict)
    names = {name: set(asdict(made)) for name, made in {
        "exchange": Exchange(), "session": Session("5e55"), "observation": Observation("Created"),
    }.items()}  # fmt: skip
    assert names == {
        "exchange": {"method", "url", "status", "duration_ms", "sends"},
        "session": {"id", "number", "link_id"},
        "observation": {
            "session_state", "known", "outcome", "codes", "amount_minor", "currency", "reference", "session_id",
        },
    }  # fmt: skip


def test_refusals_name_fields_and_no_value() -> None:
    with pytest.raises(InvalidInput) as caught:
        raise InvalidInput("fields.cardholderName", "is empty", "leave it out")
    assert str(caught.value) == "fields.cardholderName: is empty; leave it out"
