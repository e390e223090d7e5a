"""The vendor's own four texts, pasted into files as they stand, run unchanged to `completed` on both channels."""

import io
from pathlib import Path

import pytest

from orchestrator import Channel, Money, Orchestrator, Settings, State, load_settings
from orchestrator.domain.machine import Operation
from orchestrator.sandbox import Sandbox, SandboxOptions
from orchestrator.telemetry import configure
from tests.fixtures.definitions import PEOPLE, seed
from tests.support.flow import DIGITAL_POLICY, FAST, PHONE_POLICY, assert_clean, fields_of

SECRET = "s3cr3t/with+signs=&more"


def settings(base_url: str, directory: Path) -> Settings:
    """An administrator's files: only `~~~REPLACE~~~` filled in, the secret in clear as in the vendor's example."""
    pasted = {
        "authorize": seed("authorize", base_url, "sandbox-client", SECRET.replace("&", "%26").replace("+", "%2B")),
        "start_phone_session": seed("start_phone_session", base_url, "4242", *PEOPLE),
        "start_digital_session": seed("start_digital_session", base_url, "4242", "CustomerPhoneNumber", *PEOPLE),
        "session_status": seed("session_status", base_url),
    }
    for name, text in pasted.items():
        (directory / f"{name}.xml").write_text(text, encoding="utf-8")
    account = {
        "base_url": base_url,
        "dial_prefixes": ["+44"],
        "start_deadline_s": 0.9,
        "definitions": {name: f"{name}.xml" for name in pasted},
        "policy": {"phone": PHONE_POLICY, "digital": DIGITAL_POLICY},
    }
    overrides = {
        "database_url": f"sqlite:///{directory / 'orchestrator.db'}", "worker": FAST, "accounts": {"seed": account},
    }  # fmt: skip
    return load_settings(environ={}, cwd=directory, overrides=overrides)


@pytest.fixture
async def sandbox() -> Sandbox:
    async with Sandbox(SandboxOptions(speed=20, client_secret=SECRET)) as twin:
        yield twin


@pytest.mark.usefixtures("own_logging")
@pytest.mark.parametrize("channel", list(Channel))
async def test_the_seeds_texts_run_unchanged_to_completed_and_the_secret_is_nowhere(
    sandbox: Sandbox, tmp_path: Path, channel: Channel, capfd: pytest.CaptureFixture[str]
) -> None:
    log = io.StringIO()
    configure(level="debug", fmt="json", stream=log)
    async with Orchestrator(settings(sandbox.base_url, tmp_path)) as orchestrator:
        orchestrator.on("handed_over", lambda payment: None)
        payment = await orchestrator.submit(
            account="seed", channel=channel, reference="PAID-1", amount=Money("12.40", "GBP"), fields=fields_of(channel)
        )
        async with orchestrator.worker():
            ended = await orchestrator.wait(payment.id, timeout=20)

        assert (ended.state, ended.outcome) == (State.COMPLETED, "paid")
        entries = await orchestrator.timeline(payment.id)
        assert [entry.trigger for entry in entries if entry.trigger in set(Operation)] == [
            "authorize", "start_session", "hand_over",
        ]  # fmt: skip
        assert sandbox.stats()["session_calls"] == 1
        await assert_clean(orchestrator)
        shown = repr(orchestrator.settings) + str(orchestrator.settings.describe()) + repr(ended) + repr(entries)

    output = capfd.readouterr()
    everything = (
        b"".join(path.read_bytes() for path in tmp_path.glob("orchestrator.db*") if path.suffix != ".key")
        + (log.getvalue() + shown + output.out + output.err).encode()
    )
    for secret in (SECRET, "s3cr3t", "with%2Bsigns", fields_of(channel)["cardholderName"]):
        assert secret.encode() not in everything
    assert log.getvalue().count("payment.recorded") >= 5
