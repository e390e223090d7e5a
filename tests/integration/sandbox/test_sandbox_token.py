"""The token endpoint, and who gets in with what it gave."""

import base64
import json

import pytest

FORM = "application/x-www-form-urlencoded"


def basic(text: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


@pytest.mark.parametrize("path", ["/auth/connect/token", "/Auth/connect/token"])
async def test_both_spellings_of_the_path_give_a_bearer_token(stranger, path):
    body = "grant_type=client_credentials&scope=globalpci&client_id=sandbox-client&client_secret=sandbox-secret"
    response = await stranger.http.post(path, content=body, headers={"Content-Type": FORM})
    answer = response.json()
    assert (response.status_code, answer["token_type"], answer["expires_in"]) == (200, "Bearer", 3600)
    assert response.headers["Cache-Control"] == "no-store"
    header, claims, signature = answer["access_token"].split(".")
    assert json.loads(base64.urlsafe_b64decode(header + "=="))["typ"] == "JWT"
    assert json.loads(base64.urlsafe_b64decode(claims + "=="))["scope"] == "globalpci"
    assert signature


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": ""}, "unsupported_grant_type"),
        ({"scope": ""}, "invalid_scope"),
        ({"scope": "interactions"}, "invalid_scope"),
        ({"scope": "globalpci interactions"}, "invalid_scope"),
        ({"client_id": "somebody"}, "invalid_client"),
        ({"client_secret": "wrong"}, "invalid_client"),
        ({"client_id": "", "client_secret": ""}, "invalid_client"),
        ({"client_secret": "s\N{LATIN SMALL LETTER E WITH ACUTE}cret"}, "invalid_client"),
    ],
)
async def test_a_wrong_grant_scope_or_client_gets_no_token(stranger, change, error):
    response = await stranger.authorize(**change)
    assert (response.status_code, response.json()["error"]) == (400, error)
    assert response.headers["Content-Type"].startswith("application/json")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", '{"grant_type":"client_credentials"}'),
        ("", "grant_type=client_credentials"),
        (FORM, "grant_type=client_credentials&grant_type=client_credentials"),
        (FORM, "grant_type"),
        (FORM, "scope=%ff"),
        (FORM, b"scope=\xc3\xa9"),
    ],
)
async def test_a_body_that_is_no_plain_form_is_an_invalid_request(stranger, content_type, body):
    response = await stranger.http.post("/auth/connect/token", content=body, headers={"Content-Type": content_type})
    assert (response.status_code, response.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("client_id", "secret", "credentials"),
    [
        ("sandbox-client", "sandbox-secret", "sandbox-client:sandbox-secret"),
        ("id", "a:b", "id:a:b"),
        ("id", "p+q%", "id:p+q%"),
        ("id", "p+q%", "id:p%2Bq%25"),
    ],
)
async def test_http_basic_is_accepted_encoded_or_not(run, client_id, secret, credentials):
    caller = await run(client_id=client_id, client_secret=secret)
    form = {"grant_type": "client_credentials", "scope": "globalpci"}
    response = await caller.http.post("/auth/connect/token", data=form, headers=basic(credentials))
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("headers", "more", "error"),
    [
        (basic("sandbox-client:wrong"), {}, "invalid_client"),
        (basic("sandbox-client"), {}, "invalid_client"),
        ({"Authorization": "Basic ***"}, {}, "invalid_client"),
        ({"Authorization": "Basic /w=="}, {}, "invalid_client"),
        ({"Authorization": "Bearer x"}, {}, "invalid_client"),
        ({"Authorization": "Bearer x"}, {"client_id": "sandbox-client"}, "invalid_client"),
        (basic("sandbox-client:sandbox-secret"), {"client_id": "sandbox-client"}, "invalid_request"),
    ],
)
async def test_bad_or_doubled_basic_credentials_are_refused(stranger, headers, more, error):
    form = {"grant_type": "client_credentials", "scope": "globalpci"} | more
    response = await stranger.http.post("/auth/connect/token", data=form, headers=headers)
    assert (response.status_code, response.json()["error"]) == (400, error)


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer made-up", "Basic c2FuZGJveA=="])
@pytest.mark.parametrize("call", ["start", "status"])
async def test_without_a_good_token_nothing_is_done(stranger, authorization, call):
    if authorization is not None:
        stranger.http.headers["Authorization"] = authorization
    response = await (stranger.start("PAID-1") if call == "start" else stranger.status("x"))
    assert response.status_code == 401
    assert response.json() == {"Message": "The access token is invalid or has expired"}
    assert stranger.sessions_of("PAID-1") == 0


async def test_the_scheme_is_compared_ignoring_case(caller):
    caller.http.headers["Authorization"] = caller.http.headers["Authorization"].replace("Bearer", "bearer")
    assert (await caller.start("PAID-1")).status_code == 200


async def test_a_token_lives_as_long_as_it_says_and_a_new_one_takes_over(run):
    caller = await run(token_life_s=60)
    assert (await caller.authorize()).json()["expires_in"] == 60
    session = await caller.started("NEVER-1")
    caller.sandbox.advance(59.5)
    assert (await caller.status(session)).status_code == 200
    caller.sandbox.advance(0.5)
    assert (await caller.status(session)).status_code == 401
    await caller.authorize()
    assert (await caller.status(session)).status_code == 200


async def test_a_newer_token_leaves_the_older_one_good(caller):
    older = caller.http.headers["Authorization"]
    await caller.authorize()
    assert caller.http.headers["Authorization"] != older
    caller.http.headers["Authorization"] = older
    assert (await caller.start("PAID-1")).status_code == 200


async def test_speed_leaves_the_life_of_a_token_alone(run):
    real = [0.0]
    caller = await run(clock=lambda: real[0], speed=1000.0, token_life_s=60)
    await caller.authorize()
    session = await caller.started("NEVER-1")
    real[0] = 59.0
    assert (await caller.status(session)).status_code == 200
    real[0] = 60.0
    assert (await caller.status(session)).status_code == 401


async def test_many_old_tokens_are_dropped_and_good_ones_kept(run, monkeypatch):
    monkeypatch.setattr("orchestrator.sandbox.sessions._SWEEP_EVERY", 3)
    caller = await run(token_life_s=60)
    old = (await caller.authorize()).json()["access_token"]
    caller.sandbox.advance(60)
    kept = (await caller.authorize()).json()["access_token"]
    await caller.authorize()
    assert old not in caller.sandbox._twin._tokens
    caller.http.headers["Authorization"] = f"Bearer {kept}"
    assert (await caller.start("PAID-1")).status_code == 200
