"""What flow tests are made of: settings for a sandbox, submits of every kind, the verified end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator import Money, Orchestrator, Payment, Settings, load_settings
from orchestrator.audit import verify

FAST = {"heartbeat_s": 0.2, "claim_trust_s": 4.0, "claim_life_s": 5.0, "poll_interval_s": 0.02, "drain_s": 5}
PHONE_POLICY = {"poll_first_s": 0.05, "poll_max_s": 0.2, "poll_retry_s": 0.2}
DIGITAL_POLICY = {"poll_first_s": 0.05, "poll_max_s": 0.2, "poll_retry_s": 0.2}

PAYER = {"cardholderName": "Ada Canary", "cardholderPostCode": "ZZ9 9ZZ", "cardholderAddress": "1 Canary Wharf"}


def fields_of(channel: str, number: int = 1) -> dict[str, str]:
    if channel == "phone":
        return PAYER | {"CallGuid": f"call-{number:06d}"}
    return PAYER | {"CustomerPhoneNumber": "+447700900123"}


def account(base_url: str, **changes: Any) -> dict[str, Any]:
    return {
        "base_url": base_url,
        "client_id": "env:SANDBOX_CLIENT_ID",
        "client_secret": "env:SANDBOX_CLIENT_SECRET",
        "account_configuration_id": "4242",
        "dial_prefixes": ["+44"],
        "start_deadline_s": 3.0,
        "call_deadline_s": 5.0,
        "requests_per_second": 0,
        "policy": {"phone": dict(PHONE_POLICY), "digital": dict(DIGITAL_POLICY)},
    } | changes


def settings_for(
    base_url: str, directory: Path, *, worker: Mapping[str, Any] | None = None, **changes: Any
) -> Settings:
    return load_settings(
        environ={"SANDBOX_CLIENT_ID": "sandbox-client", "SANDBOX_CLIENT_SECRET": "sandbox-secret"},
        cwd=directory,
        overrides={
            "database_url": f"sqlite:///{directory / 'orchestrator.db'}",
            "worker": FAST | dict(worker or {}),
            "accounts": {"test": account(base_url, **changes)},
        },
    )


async def submit(orchestrator: Orchestrator, reference: str, channel: str, number: int = 1, **more: Any) -> Payment:
    given = {"amount": Money("12.40", "GBP"), "fields": fields_of(channel, number)} | more
    return await orchestrator.submit(account="test", channel=channel, reference=reference, **given)


async def triggers(orchestrator: Orchestrator, payment: Payment) -> list[str]:
    return [entry.trigger for entry in await orchestrator.timeline(payment.id)]


async def assert_clean(orchestrator: Orchestrator) -> dict[str, int]:
    report = await verify(orchestrator.store)

    assert report.findings == ()
    return report.counts
