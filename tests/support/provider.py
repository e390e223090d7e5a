"""What provider tests are made of: an account on a loopback address, payments, a clock that never waits."""

import asyncio
import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any

from orchestrator.domain.machine import Operation
from orchestrator.domain.money import Money
from orchestrator.domain.payment import Channel, Payment
from orchestrator.interactions import BUNDLED, bundled, parse
from orchestrator.provider.client import ProviderPool
from orchestrator.provider.config import AccountConfig

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SECRET = "s3cret-of-the-client"
PAYER = {
    "cardholderName": "Ada Canary",
    "cardholderPostCode": "ZZ9 9ZZ",
    "cardholderAddress": "1 Canary Wharf",
    "CallGuid": "call-000001",
    "CustomerPhoneNumber": "+447700900123",
}
CONTEXT = ssl.create_default_context()  # made once: reading the authorities takes longer than most tests
DEFINITIONS = {name: parse(bundled(name), name=name) for name in BUNDLED}
TOKEN = {"access_token": "token-1", "token_type": "Bearer", "expires_in": 3600}
PHONE_SESSION = {"dtmfFallbackNumber": "+442079460000", "dtmfLinkId": "0097", "sessionId": "s-1", "Message": None}
DIGITAL_SESSION = {"sessionId": "s-2", "Message": None}
PAID = {
    "sessionGuid": "s-1",
    "sessionState": "Finished",
    "paymentResultData": {
        "decision": "ACCEPT", "reasonCode": "100", "requestID": "5305", "Amount": "1240",
        "MerchantReferenceCode": "INV-1", "cardholderName": "Ada Canary",
    },
}  # fmt: skip


class FakeClock:
    """A wall clock that stands, a monotonic clock that is real unless moved, sleeps that are only noted."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


def redact(text: str) -> str:
    return text.replace("4111111111111111", "[card data removed]")


def account(base_url: str, **changes: Any) -> AccountConfig:
    config = {
        "BaseUrl": base_url,
        "ClientId": "client-77",
        "ClientSecret": SECRET,
        "AccountConfigurationId": "4242",
    } | changes.pop("config", {})
    return AccountConfig(name="emea", config=config, **({"definitions": DEFINITIONS, "verify": CONTEXT} | changes))


def pool(config: AccountConfig, clock: FakeClock | None = None, load: Any = None) -> ProviderPool:
    return ProviderPool(
        [config], load=load or (lambda _: None), clock=clock or FakeClock(), random=Random(7), redact=redact
    )


def payment(channel: Channel = Channel.PHONE, **changes: Any) -> Payment:
    facts = {
        "id": "pay-1", "account": "emea", "channel": channel, "reference": "INV-1", "round": 1,
        "amount": Money("12.40", "GBP"), "created_at": NOW, "machine_version": 1, "content_digest": "x",
        "call_guid": "call-000001" if channel is Channel.PHONE else None, "session_id": "s-1",
    }  # fmt: skip
    return Payment(**(facts | changes))


async def send(
    providers: ProviderPool, operation: Operation, channel: Channel = Channel.PHONE, fields: Mapping[str, str] = PAYER
) -> Any:
    asked = payment(channel)
    provider = providers.of(asked)
    return await provider.send(provider.prepare(operation, asked, fields))
