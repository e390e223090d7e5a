"""
What payments are submitted with here: an account, its policies in small, a vault without cryptography.

Every time is a policy, so an hour can be a minute: the flow is the same, and a session's
whole life fits into a simulation. Seeds of the kind `whole` have the real policies.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from types import MappingProxyType

from orchestrator.domain.account import Account, ChannelTerms
from orchestrator.domain.payment import Channel
from orchestrator.domain.policy import DIGITAL, PHONE, OnUnknownStart, OnWebhookAlone, Policy

CANARIES = ("Canary Person", "+447700900321")
FIELDS = {
    Channel.PHONE: {"CallGuid": "", "cardholderName": CANARIES[0]},
    Channel.DIGITAL: {"CustomerPhoneNumber": CANARIES[1], "cardholderName": CANARIES[0]},
}
MAX_CLAIMS = 4
MAX_SESSIONS = 3
SMALL = {
    Channel.PHONE: replace(
        PHONE, collecting_s=45, awaiting_s=40, session_life_s=150, absent_grace_s=5, poll_factor=2, poll_max_s=16,
        poll_retry_s=8, evidence_s=60, max_claims=MAX_CLAIMS, dial_prefixes=("+44",),
    ),
    Channel.DIGITAL: replace(
        DIGITAL, collecting_s=45, start_s=60, start_pause_s=200, awaiting_s=120, session_life_s=400, absent_grace_s=5,
        poll_first_s=2, poll_factor=2, poll_max_s=30, poll_retry_s=10, evidence_s=90, max_claims=MAX_CLAIMS,
    ),
}  # fmt: skip


class OpenVault:
    """Keeps fields as they are."""

    def seal(self, fields: Mapping[str, str], *, payment_id: str) -> bytes:
        return json.dumps([payment_id, dict(fields)]).encode()

    def unseal(self, sealed: bytes, *, payment_id: str) -> dict[str, str]:
        owner, fields = json.loads(sealed)
        assert owner == payment_id
        return dict(fields)

    def digest(self, content: bytes) -> str:
        return hashlib.sha256(content).hexdigest()

    def same_content(self, content: bytes, digest: str) -> bool:
        return self.digest(content) == digest


class OpenDoor:
    """Lets every text in."""

    def text(self, field: str, value: object) -> str:
        del field
        return str(value)

    def phone_number(self, field: str, value: str) -> str:
        del field
        return value


def account_of(random: Random) -> Account:
    """Draw a seed's policies."""
    persons = 2 if random.random() < 0.2 else 1
    alone = OnWebhookAlone.TRUST if random.random() < 0.5 else OnWebhookAlone.HOLD
    phone = OnUnknownStart.SUPERSEDE if random.random() < 0.8 else OnUnknownStart.HOLD

    def backoff(failures: int) -> float:
        return min(0.5 * 2.0 ** min(failures, 6), 15.0) * random.uniform(0.5, 1.0)

    def terms(channel: Channel, policy: Policy) -> ChannelTerms:
        policy = replace(policy, resolve_persons=persons, webhook_alone=alone, backoff=backoff)
        return ChannelTerms(policy, tuple(FIELDS[channel]), frozenset(), MappingProxyType({"start": "d" * 64}))

    return Account(
        "emea",
        {
            Channel.PHONE: terms(
                Channel.PHONE, replace(SMALL[Channel.PHONE], on_unknown_start=phone, max_sessions=MAX_SESSIONS)
            ),
            Channel.DIGITAL: terms(Channel.DIGITAL, SMALL[Channel.DIGITAL]),
        },
    )
