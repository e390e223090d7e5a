"""Settings: their order, their checks, and errors that a person can act on."""

import dataclasses
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from orchestrator.domain.errors import ConfigurationError
from orchestrator.privacy.secret import Secret
from orchestrator.provider.profile import VCC
from orchestrator.settings import AccountSettings, GatewaySettings, Settings, WorkerSettings, load_settings

CANARY = "s3cr3t-canary"
URL = "https://emea.cc.vonage.com"


@pytest.fixture
def load(tmp_path):
    """Load from a TOML text, variables and overrides, in a directory of its own."""

    def load(toml="", overrides=None, path=None, /, **environ):
        if toml:
            (tmp_path / "orchestrator.toml").write_text(toml, encoding="utf-8")
        return load_settings(path, environ, tmp_path, overrides)

    return load


def emea(text="", /, **more):
    """Give an account's table; `more` is written as strings."""
    lines = [f'{key} = "{value}"' for key, value in {"base_url": URL, **more}.items()]
    return "\n".join(["[accounts.emea]", *lines, text])


def refused(load, *arguments, **environ):
    """Give the text of the error, which never shows a secret."""
    with pytest.raises(ConfigurationError) as caught:
        load(*arguments, **environ)
    chain, error = [], caught.value
    while error is not None:
        chain.append(str(error))
        error = error.__cause__ or error.__context__
    assert CANARY not in " ".join(chain)
    return str(caught.value)


def test_without_anything_the_documented_defaults_hold(load):
    settings = load()
    assert settings == Settings()
    assert settings.database_url == "sqlite+aiosqlite:///orchestrator.db"
    assert settings.sealing_key is None
    assert settings.accounts == {}
    assert settings.worker == WorkerSettings(
        concurrency=200,
        heartbeat_s=2,
        claim_life_s=8,
        claim_trust_s=6,
        poll_interval_s=0.25,
        claim_batch=100,
        drain_s=20,
    )
    account = AccountSettings(base_url=URL)
    assert (account.call_deadline_s, account.start_deadline_s, account.body_limit_bytes) == (10, 5, 262144)
    assert (account.transport, account.amount_unit, account.dial_prefixes) == ("aiohttp", "major", ())
    assert account.roles.session_id == "GlobalPCI|SessionId"
    assert account.gateway.profile == "vcc"


def test_overrides_win_over_variables_over_the_file(load):
    toml = "log_level = 'debug'\n[worker]\nconcurrency = 1\nclaim_batch = 1\ndrain_s = 1\n"
    settings = load(
        toml,
        {"worker": {"drain_s": 3, "claim_batch": None}, "database_url": None},
        ORCHESTRATOR_WORKER__CLAIM_BATCH="2",
        ORCHESTRATOR_WORKER__DRAIN_S="2",
        ORCHESTRATOR_LOG_FORMAT="json",
        ORCHESTRATOR_HANDLERS="",
        UNRELATED="x",
    )
    assert (settings.worker.concurrency, settings.worker.claim_batch, settings.worker.drain_s) == (1, 2, 3)
    assert (settings.log_level, settings.log_format) == ("debug", "json")


def test_a_whole_account_can_come_from_variables(load):
    account = load(
        ORCHESTRATOR_ACCOUNTS__EMEA__BASE_URL=URL,
        ORCHESTRATOR_ACCOUNTS__EMEA__CLIENT_ID="client-1",
        ORCHESTRATOR_ACCOUNTS__EMEA__CLIENT_SECRET="env:ORCHESTRATOR_EMEA_SECRET",
        ORCHESTRATOR_EMEA_SECRET=CANARY,
        ORCHESTRATOR_ACCOUNTS__EMEA__CONFIG__MerchantName="Shop",
        ORCHESTRATOR_ACCOUNTS__EMEA__DIAL_PREFIXES="+44, +49",
        ORCHESTRATOR_ACCOUNTS__EMEA__OPTIONAL_FIELDS='["a, b", "c"]',
        ORCHESTRATOR_ACCOUNTS__EMEA__POLICY__PHONE__POLL_FIRST_S="0.5",
        ORCHESTRATOR_ACCOUNTS__EMEA__POLICY__PHONE__MAX_SESSIONS="2",
        ORCHESTRATOR_ACCOUNTS__EMEA__POLICY__PHONE__ON_UNKNOWN_START="hold",
        ORCHESTRATOR_ACCOUNTS__EMEA__GATEWAY='{"paid": ["OK"]}',
    ).accounts["emea"]
    assert account.client_secret == Secret(CANARY)
    assert account.config_values()["MerchantName"] == "Shop"
    assert account.dial_prefixes == ("+44", "+49")
    assert account.optional_fields == ("a, b", "c")
    assert account.policy == {"phone": {"poll_first_s": 0.5, "max_sessions": 2, "on_unknown_start": "hold"}}
    assert account.gateway.paid == ("OK",)


def test_a_variable_names_the_file_and_paths_start_from_its_directory(tmp_path, load):
    home = tmp_path / "etc"
    home.mkdir()
    (home / "secret").write_text(CANARY)
    (home / "secret").chmod(0o600)
    (home / "start.xml").write_text("<x/>")
    toml = emea("definitions.start_phone_session = 'start.xml'", client_secret="file:secret")
    (home / "mine.toml").write_text(toml)
    for settings in (load(ORCHESTRATOR_CONFIG=str(home / "mine.toml")), load("", None, Path("etc/mine.toml"))):
        account = settings.accounts["emea"]
        assert account.client_secret.reveal() == CANARY
        assert account.definitions.start_phone_session == home / "start.xml"
        assert account.definitions.authorize is None


def test_the_values_of_placeholders_include_the_accounts_own_settings(load):
    toml = emea(
        "config = {Flow = '7', ApiKey = 'env:KEY'}",
        client_id="id",
        client_secret="env:S",
        account_configuration_id="4242",
    )
    account = load(toml, S=CANARY, KEY="k").accounts["emea"]
    assert account.config_values() == {
        "BaseUrl": URL,
        "ClientId": "id",
        "ClientSecret": CANARY,
        "AccountConfigurationId": "4242",
        "Flow": "7",
        "ApiKey": "k",
    }
    assert AccountSettings(base_url=URL).config_values() == {"BaseUrl": URL}


def test_no_way_of_showing_settings_shows_a_secret(load):
    toml = emea("config = {Api_Key = 'env:S'}", client_id="env:S", client_secret="env:S")
    toml = f"sealing_key = 'env:S'\ndatabase_url = 'env:DB'\n{toml}"
    settings = load(toml, S=CANARY, DB=f"postgresql://user:{CANARY}@db:5432/pay?ssl=require&password={CANARY}")
    shown = [repr(settings), str(settings), json.dumps(settings.describe()), settings.model_dump_json()]
    shown += [str(settings.model_dump()), f"{settings.accounts}"]
    assert not [text for text in shown if CANARY in text]
    assert settings.describe()["accounts"]["emea"]["client_secret"] == "*** (env:S)"
    assert settings.describe()["database_url"] == "postgresql+asyncpg://user:***@db:5432/pay?ssl=require&password=***"
    assert CANARY in settings.database_url


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("sqlite:///a.db", "sqlite+aiosqlite:///a.db"),
        ("sqlite:////var/a.db", "sqlite+aiosqlite:////var/a.db"),
        ("sqlite+aiosqlite:///a.db", "sqlite+aiosqlite:///a.db"),
        ("postgres://h/d", "postgresql+asyncpg://h/d"),
        ("postgresql://u@h:5432/d?ssl=require", "postgresql+asyncpg://u@h:5432/d?ssl=require"),
        ("postgresql+asyncpg://h/d", "postgresql+asyncpg://h/d"),
        ("postgresql+psycopg://h1,h2/d", "postgresql+psycopg://h1,h2/d"),
    ],
)
def test_a_database_url_gets_its_asynchronous_driver(load, given, taken):
    assert load(ORCHESTRATOR_DATABASE_URL=given).database_url == taken
    assert Settings(database_url=given).describe()["database_url"] == taken


@pytest.mark.parametrize(
    "given", ["mysql://h/d", "orchestrator.db", "", "postgresql+psycopg2://h/d", "sqlite://host/a.db"]
)
def test_another_database_is_refused(load, given):
    assert refused(load, "", {"database_url": given}).startswith("database_url: ")


def test_a_password_in_the_file_is_refused_but_not_in_a_variable(load):
    for url in (f"postgresql://u:{CANARY}@h/d", f"postgresql://h/d?password={CANARY}"):
        assert "database_url: holds a password in the file; use env:NAME" in refused(load, f"database_url = '{url}'")
    assert load("database_url = 'postgresql://u@h/d'").database_url == "postgresql+asyncpg://u@h/d"
    assert load(ORCHESTRATOR_DATABASE_URL=f"postgresql://u:{CANARY}@h/d").database_url.endswith("@h/d")


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (f"{URL}/", URL),
        (f"{URL}/prefix/", f"{URL}/prefix"),
        (f"{URL}:8443", f"{URL}:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://localhost:1", "http://localhost:1"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
    ],
)
def test_a_base_url_is_https_or_loopback(given, taken):
    assert AccountSettings(base_url=given).base_url == taken


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("http://emea.cc.vonage.com", "is not https"),
        ("http://localhost.evil.example", "is not https"),
        ("http://127.0.0.1.evil.example", "is not https"),
        ("http://2130706433", "is not https"),
        ("ftp://host", "absolute https"),
        ("emea.cc.vonage.com", "absolute https"),
        ("https://", "absolute https"),
        ("https://:443", "absolute https"),
        ("https://host:0", "absolute https"),
        ("https://host:99999", "is not a URL"),
        ("https://[::1", "is not a URL"),
        (f"https://user:{CANARY}@host", "user name or password"),
        ("https://host?x=1", "query or a fragment"),
        ("https://host/#", "query or a fragment"),
        ("https://host/a/../b", r"\.\. in its path"),
        ("https://ho st", "character"),
        ("https://host\\\\evil", "character"),
        ("https://h\u00f6st", "character"),
    ],
)
def test_another_base_url_is_refused(load, given, problem):
    with pytest.raises(ConfigurationError, match=problem) as caught:
        load("", {"accounts": {"emea": {"base_url": given}}})
    assert caught.value.key == "accounts.emea.base_url"
    assert CANARY not in str(caught.value)


def test_plain_http_elsewhere_must_be_asked_for():
    assert AccountSettings(base_url="http://twin.internal", allow_http=True).base_url == "http://twin.internal"


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[accounts.emea]", "accounts.emea.base_url: is missing; set it, or ORCHESTRATOR_ACCOUNTS__EMEA__BASE_URL"),
        ("databse_url = 'x'", "databse_url: is not a setting; did you mean database_url?"),
        ("[worker]\nconcurency = 1", "worker.concurency: is not a setting; did you mean concurrency?"),
        ("x = 1", "x: is not a setting; remove it from the file, or the variable ORCHESTRATOR_X"),
        (
            emea("[accounts.emea.roles]\namuont = 'x'"),
            "accounts.emea.roles.amuont: is not a setting; did you mean amount?",
        ),
        (emea("gateway = {payd = []}"), "accounts.emea.gateway.payd: is not a setting; did you mean paid?"),
        ("[worker]\nconcurrency = 'many'", "worker.concurrency: should be a valid integer"),
        ("[worker]\nconcurrency = 0", "worker.concurrency: should be greater than or equal to 1"),
        ("[worker]\nheartbeat_s = nan", "worker.heartbeat_s: should be"),
        ("[worker]\nclaim_trust_s = 8", "worker.claim_trust_s: is not shorter than claim_life_s; two workers"),
        ("[worker]\nheartbeat_s = 6", "worker.heartbeat_s: is not shorter than claim_trust_s"),
        ("[worker]\nhandlers = 'module'", "worker.handlers: should match pattern"),
        (emea("start_deadline_s = 6"), "accounts.emea.start_deadline_s: is not shorter than worker.claim_trust_s"),
        ("log_level = 'loud'", "log_level: should be 'debug', 'info', 'warning' or 'error'"),
        (emea(client_secret=CANARY), "accounts.emea.client_secret: is not a reference to a secret; give a reference"),
        (emea("client_secret = 12"), "accounts.emea.client_secret: is not a reference"),
        (
            emea(client_secret="env:NOPE"),
            "accounts.emea.client_secret: the environment variable NOPE is not set; set NOPE",
        ),
        (f"sealing_key = '{CANARY}'", "sealing_key: is not a reference"),
        (emea(f"config = {{ApiToken = '{CANARY}'}}"), "accounts.emea.config.ApiToken: looks like a secret in clear"),
        (emea(f"config = {{Merchant_Key = '{CANARY}'}}"), "accounts.emea.config.Merchant_Key: looks like a secret"),
        (
            emea("config = {BaseUrl = 'https://evil'}"),
            "accounts.emea.config.BaseUrl: has a setting of its own; set base_url",
        ),
        (emea("config = {A = 'env:NOPE'}"), "accounts.emea.config.A: the environment variable NOPE"),
        (emea("currency = 'GPB'"), "accounts.emea.currency: is not an ISO 4217 currency"),
        (emea("dial_prefixes = ['+44', 'x']"), "accounts.emea.dial_prefixes.1: should match pattern"),
        (emea("policy = {fax = {}}"), "accounts.emea.policy.fax: should be 'phone' or 'digital'"),
        (
            emea("policy = {phone = {poll_first_s = []}}"),
            "accounts.emea.policy.phone.poll_first_s: is a list; give a number",
        ),
        (emea("policy = {phone = {poll_first_s = true}}"), "accounts.emea.policy.phone.poll_first_s: is a bool"),
        (emea("gateway = 'other'"), "accounts.emea.gateway.profile: should be 'vcc'"),
        (
            emea("gateway = {states = {Odd = 'maybe'}}"),
            "accounts.emea.gateway.states.odd: should be 'running', 'ended'",
        ),
        (
            emea("gateway = {states = {'A b' = 'ended', a_B = 'ended'}}"),
            "accounts.emea.gateway.states: names one state twice",
        ),
        (emea("definitions.authorize = 'no.xml'"), "accounts.emea.definitions.authorize: there is no file"),
        (emea("transport = 'curl'"), "accounts.emea.transport: should be 'aiohttp' or 'httpx'"),
        (emea("body_limit_bytes = 1"), "accounts.emea.body_limit_bytes: should be greater than"),
        (f"[accounts.EMEA]\nbase_url = '{URL}'", "accounts.EMEA: should match pattern"),
        (f"[accounts.a__b]\nbase_url = '{URL}'", "accounts.a__b: should match pattern"),
        ("accounts = 1", "accounts: should be a valid dictionary"),
        ("database_url = 1", "database_url: is not a text"),
        (f"database_url = 'postgresql://u:{CANARY}@[h/d'", "database_url: holds a password in the file"),
        (emea("gateway = {states = 1}"), "accounts.emea.gateway.states: should be a valid dictionary"),
        (emea("optional_fields = ['']"), "accounts.emea.optional_fields.0: should have at least 1 character"),
    ],
)
def test_a_wrong_setting_is_named_in_full_with_its_fix(load, toml, message):
    assert refused(load, toml).startswith(message)


def test_several_wrong_settings_are_one_error_with_a_line_each(load):
    toml = f"log_level = 'x'\n{emea(client_secret=CANARY)}\n[worker]\nconcurrency = 0\n"
    lines = refused(load, toml, ORCHESTRATOR_TYPO="x").splitlines()
    assert lines[0] == "settings: 4 are wrong"
    assert sorted(line.split(":")[0].strip() for line in lines[1:]) == [
        "accounts.emea.client_secret",
        "log_level",
        "typo",
        "worker.concurrency",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = \n[x]", r"orchestrator\.toml: is not TOML: .*line 1"),
        (b"a = '\xff'", r"orchestrator\.toml: is not UTF-8"),
    ],
)
def test_an_unreadable_file_is_named(tmp_path, load, content, message):
    (tmp_path / "orchestrator.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        load()


@pytest.mark.parametrize("named", [{"ORCHESTRATOR_CONFIG": "nowhere.toml"}, {}])
def test_a_file_that_was_asked_for_must_exist(load, named):
    assert "there is no file" in refused(load, "", None, None if named else Path("nowhere.toml"), **named)


def test_variables_that_contradict_each_other_are_refused(load):
    assert "ORCHESTRATOR_WORKER__DRAIN_S: contradicts" in refused(
        load, ORCHESTRATOR_WORKER="{}x", ORCHESTRATOR_WORKER__DRAIN_S="1"
    )


def test_a_variable_that_only_looks_like_json_is_text(load):
    account = load(
        ORCHESTRATOR_ACCOUNTS__EMEA__BASE_URL=URL, ORCHESTRATOR_ACCOUNTS__EMEA__CONFIG__Note="[sic"
    ).accounts["emea"]
    assert account.config_values()["Note"] == "[sic"


def test_settings_are_frozen_and_read_no_variable_by_themselves(monkeypatch):
    monkeypatch.setenv("ORCHESTRATOR_LOG_LEVEL", "debug")
    monkeypatch.setenv("MY_SECRET", CANARY)
    settings = Settings(accounts={"emea": AccountSettings(base_url=URL, client_secret="env:MY_SECRET")})
    assert settings.log_level == "info"
    assert settings.accounts["emea"].client_secret == Secret(CANARY)
    for change in (lambda: setattr(settings, "log_level", "x"), lambda: setattr(settings.worker, "drain_s", 1)):
        with pytest.raises(ValidationError):
            change()


def test_the_bundled_profile_is_the_one_that_answers_are_read_by():
    told = GatewaySettings().model_dump(exclude={"profile"})
    read = {field.name: getattr(VCC, field.name) for field in dataclasses.fields(VCC)}
    assert told == read | {"states": dict(VCC.states)}


def test_an_accounts_own_states_are_laid_over_the_bundled_ones():
    states = GatewaySettings(states={"Gone-Away": "hung_up", "Abandoned": "cancelled"}).states
    assert [states[word] for word in ("goneaway", "abandoned", "finished")] == ["hung_up", "cancelled", "ended"]


def test_no_member_that_may_be_stored_is_personal_or_secret():
    assert set(GatewaySettings().keep_fields) == {"decision", "reasonCode", "requestID"}
