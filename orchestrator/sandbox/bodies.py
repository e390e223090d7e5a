"""
The provider's genuine answers, member by member as VCC's pages show them.

Owns the shapes: the token, the started session, the status. Pure: values in, a
JSON object out. Mind the provider's traps, kept here on purpose: a session's id
is `sessionId` when it starts and `sessionGuid` in its status; an amount goes in
as `12.40` and comes out as `1240`. Next: `sessions`.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from orchestrator.sandbox.intake import REFERENCE_NAMES, StartRequest
from orchestrator.sandbox.script import Channel, Gateway, Look, Script

FALLBACK_NUMBER = "+442079460101"
"""The number to dial: from the range that the United Kingdom keeps free for fiction."""


@dataclass(frozen=True, slots=True)
class ProviderSession:
    """
    One session at the provider.

    Attributes:
        id: The session's GUID.
        provider_id: The GUID that the platform behind has for it.
        link_id: The digits that tie a call to it.
        request_id: The gateway's id of its one request.
        channel: How the card number is collected.
        start: What was asked for.
        script: What happens to it.
        made_s: When it was made, in sandbox seconds.
        made_wall: The same moment, in seconds since 1970-01-01 UTC.
    """

    id: str
    provider_id: str
    link_id: str
    request_id: str
    channel: Channel
    start: StartRequest
    script: Script
    made_s: float
    made_wall: float


def started(session: ProviderSession) -> Mapping[str, Any]:
    """Give the answer to a granted start: number and link id for a phone session only."""
    body: dict[str, Any] = {"sessionId": session.id, "Message": None}
    if session.channel is Channel.PHONE:
        body |= {"dtmfFallbackNumber": FALLBACK_NUMBER, "dtmfLinkId": session.link_id}
    return body


def status(session: ProviderSession, look: Look, state_wall: float) -> Mapping[str, Any]:
    """
    Give the answer to a status call.

    Args:
        session: The session that was asked for.
        look: Its state.
        state_wall: When that state began, in seconds since 1970-01-01 UTC.
    """
    inputs = dict(session.start.inputs)
    return {
        "lastUpdatedOn": _timestamp(state_wall),
        "createdOn": _timestamp(session.made_wall),
        "callGuid": session.start.call_guid,
        "sessionGuid": session.provider_id if session.script.foreign_session else session.id,
        "providerSessionGuid": session.provider_id,
        "sessionState": look.state,
        "paymentResultData": inputs if look.gateway is None else _result(session, look.gateway, inputs),
    }


def _result(session: ProviderSession, gateway: Gateway, inputs: dict[str, str]) -> Mapping[str, str]:
    reference = session.start.reference
    if gateway.foreign_reference:
        reference = f"OTHER-{session.link_id}"
        inputs |= {name: reference for name in REFERENCE_NAMES if name in inputs}
    codes = gateway.reason_codes
    return inputs | {
        "decision": gateway.decision,
        "reasonCode": codes[zlib.crc32(session.start.reference.encode()) % len(codes)],
        "requestID": session.request_id,
        "requestToken": f"Ahj-{session.request_id[::-1]}",
        "transactionType": "Capture",
        "createSubscription": "false",
        "clientApplicationUser": "pcipal",
        "Amount": str(gateway.charged.of(session.start.money.minor)),
        "MerchantReferenceCode": reference,
        **gateway.extra,
    }


def _timestamp(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
