"""`orchestrator serve` as a real process over real HTTP, and `orchestrator health`."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.sandbox import Sandbox, SandboxOptions
from tests.support.cli import SECRET, SETTINGS, Command, assert_discreet, environment, submission

TOKEN = "t0ken-of-the-providers-webhooks"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
CARD = "4111111111111111"


def configure(home: Path, url: str) -> None:
    text = SETTINGS.format(url=url) + '\n[service]\nwebhook_token = "env:WEBHOOK_TOKEN"\nport = 0\n'
    slow = text.replace("poll_first_s = 0.05", "poll_first_s = 600").replace("poll_max_s = 0.2", "poll_max_s = 600")
    (home / "orchestrator.toml").write_text(slow)


@contextmanager
def serving(home: Path) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "serve"],
        cwd=home, env=environment(WEBHOOK_TOKEN=TOKEN), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), process.communicate()[1]
        yield url, process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def stopped(process: "subprocess.Popen[str]") -> list[dict[str, Any]]:
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert_discreet(out, err)
    assert TOKEN not in err
    assert process.returncode == 0
    return [json.loads(line) for line in err.splitlines()]


async def test_a_webhook_completes_a_payment_that_no_worker_drives(
    command: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBHOOK_TOKEN", TOKEN)
    async with Sandbox(SandboxOptions(client_secret=SECRET)) as sandbox, httpx.AsyncClient(headers=BEARER) as client:
        configure(home, sandbox.base_url)
        payment = await in_thread(command, "submit", "--json", **submission(channel="digital"))
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "orchestrator", "worker",
            cwd=home, env=environment(WEBHOOK_TOKEN=TOKEN), stderr=subprocess.PIPE,
        )  # fmt: skip
        while not sandbox.webhooks("PAID-1"):
            await pause()
        while (await in_thread(command, "show", payment.json["id"], "--json")).json["payment"]["session_id"] is None:
            await pause()
        worker.send_signal(signal.SIGTERM)
        await worker.communicate()
        sandbox.advance(10)
        body = sandbox.webhooks("PAID-1")[0]
        with serving(home) as (url, process):
            first = await client.post(f"{url}/webhooks/emea", content=body)
            second = await client.post(f"{url}/webhooks/emea", content=body)
            stray = await client.post(f"{url}/webhooks/emea", content=body.replace(b"PAID-1", b"PAID-9").replace(
                json.loads(body)["sessionGuid"].encode(), b"0b7e4a52-8f5c-4f0a-9d55-2a4f1b1c9e11"))  # fmt: skip
            health = await client.get(f"{url}/health")
            metrics = await client.get(f"{url}/metrics")
            log = await in_thread(stopped, process)

    assert (first.status_code, first.json()) == (200, {"result": "recorded", "payment": payment.json["id"]})
    assert (second.status_code, second.json()["result"]) == (200, "nothing_new")
    assert (stray.status_code, stray.json()) == (200, {"result": "unmatched", "payment": None})
    assert (health.status_code, health.json()["health"]) == (200, "amber")
    assert [finding["what"] for finding in health.json()["findings"]] == ["webhooks_unmatched"]
    assert metrics.status_code == 200
    assert 'orchestrator_webhooks_total{account="emea",result="unmatched"} 1.0' in metrics.text
    events = [line["event"] for line in log]
    assert (events[0], events[-1]) == ("service.started", "service.stopped")
    assert "webhook.heard" in events
    shown = (await in_thread(command, "show", payment.json["id"], "--json")).json
    assert (shown["payment"]["state"], shown["payment"]["outcome"]) == ("completed", "paid")
    assert (await in_thread(command, "audit", "verify")).status == 0
    told = await in_thread(command, "health")
    assert (told.status, told.out.split()[0]) == (0, "amber")


async def test_who_has_no_token_or_sends_no_webhook_gets_a_clear_answer(
    command: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBHOOK_TOKEN", TOKEN)
    configure(home, "http://127.0.0.1:9")
    with serving(home) as (url, process):
        async with httpx.AsyncClient() as client:
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
                refused = await client.post(f"{url}/webhooks/emea", content=b"{}", headers=headers)
                assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
            post = f"{url}/webhooks/emea"
            answers = {
                "not JSON": await client.post(post, content=b"<xml/>", headers=BEARER),
                "card": await client.post(
                    post, headers=BEARER,
                    content=b'{"sessionGuid":"s","sessionState":"x","paymentResultData":{"a":"%s"}}' % CARD.encode(),
                ),
                "too large": await client.post(post, content=b"x" * 100_000, headers=BEARER),
                "no account": await client.post(f"{url}/webhooks/apac", content=b"{}", headers=BEARER),
                "no route": await client.get(f"{url}/docs"),
                "no method": await client.get(post),
                "metrics": await client.get(f"{url}/metrics"),
            }  # fmt: skip
            in_pieces = await client.post(post, content=pieces(), headers=BEARER)
        log = await in_thread(stopped, process)

    assert {name: answer.status_code for name, answer in answers.items()} == {
        "not JSON": 400, "card": 400, "too large": 413, "no account": 404, "no route": 404, "no method": 405,
        "metrics": 401,
    }  # fmt: skip
    assert in_pieces.status_code == 413
    assert CARD not in "".join(answer.text for answer in answers.values()) + json.dumps(log)
    assert answers["card"].json()["problem"] == "body: holds card data"
    assert [line["reason"] for line in log if line["event"] == "webhook.refused"][:3] == ["unauthorized"] * 3
    notes = [json.loads(line) for line in await in_thread(command_export, command, home)]
    (refusal,) = [note for note in notes if note["kind"] == "card_data.refused"]
    assert refusal["about"] == "emea"
    denied = [(note["about"], note["sender"], note["count"]) for note in notes if note["kind"] == "access.denied"]
    assert denied == [("webhooks", "127.0.0.1", 1), ("metrics", "127.0.0.1", 3)], "one a minute, the rest at the end"


def command_export(command: Command, home: Path) -> list[str]:
    """The administrative entries' bodies."""
    assert command("audit", "export", "--output", str(home / "trail.jsonl")).status == 0
    rows = [json.loads(line) for line in (home / "trail.jsonl").read_text().splitlines()]
    return [row["body"] for row in rows if "body" in row]


async def pieces() -> Any:
    for _ in range(10):
        yield b"x" * 10_000


@pytest.mark.parametrize(("token", "word"), [(None, "is missing"), ("short", "is shorter")])
def test_it_does_not_serve_without_a_token_that_nobody_guesses(
    token: str | None, word: str, command: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if token is not None:
        monkeypatch.setenv("WEBHOOK_TOKEN", token)
        configure(home, "http://127.0.0.1:9")

    result = command("serve")

    assert result.status == 2
    assert "service.webhook_token" in result.err
    assert word in result.err


def test_an_address_that_can_not_be_had_is_named(command: Command, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_TOKEN", TOKEN)
    configure(home, "http://127.0.0.1:9")

    result = command("serve", "--host", "192.0.2.1")

    assert (result.status, "service.host" in result.err) == (2, True)


def test_health_is_red_when_payments_wait_and_no_worker_lives(command: Command, home: Path) -> None:
    assert command("health", "--json").json == {"health": "green", "findings": []}
    assert command("submit", **submission()).status == 0

    result = command("health", "--json")

    assert result.status == 1
    assert [(each["colour"], each["what"]) for each in result.json["findings"]] == [("red", "no_worker")]


def test_health_of_a_database_that_does_not_answer_is_unavailable(
    command: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("health").status == 0
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    monkeypatch.setenv("ORCHESTRATOR_SEALING_KEY", "file:orchestrator.db.key")

    result = command("health", "--json")

    assert (result.status, result.out) == (3, "")


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (["--webhook-url", "127.0.0.1:8088"], "sandbox.webhook_url"),
        (["--webhook-url", "http://127.0.0.1:8088/webhooks/emea", "--webhook-token", "in-clear"], "webhook_token"),
        (["--webhook-token", "env:NO_SUCH_VARIABLE"], "webhook_token"),
    ],
)
def test_a_sandbox_whose_webhooks_can_not_be_sent_does_not_start(
    options: list[str], key: str, command: Command, home: Path
) -> None:
    result = command("sandbox", "--port", "0", *options)

    assert (result.status, key in result.err, "in-clear" in result.err) == (2, True, False)


async def in_thread(function: Any, *args: Any, **kwargs: Any) -> Any:
    """A command brings its own event loop."""
    return await asyncio.to_thread(function, *args, **kwargs)


async def pause() -> None:
    await asyncio.sleep(0.05)
