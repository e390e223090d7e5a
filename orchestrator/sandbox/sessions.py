"""
What the twin remembers: tokens, sessions, and how often it was called.

Owns all state of a sandbox, in memory only; every method is synchronous, so
that within one event loop none can see another's half. Knows no HTTP. Ids and
tokens come from a seed and from what they name, never from the order of
arrival. Next: `webhooks`.
"""

import base64
import hashlib
import json
import uuid
from collections import Counter
from typing import Any

from orchestrator.sandbox import bodies
from orchestrator.sandbox.bodies import ProviderSession
from orchestrator.sandbox.clock import SandboxClock
from orchestrator.sandbox.intake import StartRequest, unauthorized
from orchestrator.sandbox.options import SandboxOptions
from orchestrator.sandbox.script import Channel, Endpoint, Fault, Look, Script
from orchestrator.sandbox.table import SCRIPTS, by_prefix, script_for

_SWEEP_EVERY = 512
"""After so many new sessions or tokens the dead ones are dropped: the memory of a long run stays bounded."""


class Twin:
    """
    The provider's memory.

    Args:
        options: What is accepted, and how long things live.
        clock: The sandbox's time.
        seed: What ids and tokens are drawn from.

    Crash:
        Everything is in memory and gone; a new start knows no token and no session.
    """

    def __init__(self, options: SandboxOptions, clock: SandboxClock, seed: int) -> None:
        self._options = options
        self._clock = clock
        self._seed = seed
        self._table = by_prefix((*SCRIPTS, *options.faults))
        self._issued = 0
        self._made = 0
        self._ever: Counter[tuple[Channel, str]] = Counter()  # numbers the sessions of a reference, past resets
        self.reset()

    def reset(self) -> None:
        """Forget tokens, sessions and counts. Ids go on: a provider never repeats one."""
        self._tokens: dict[str, float] = {}
        self._sessions: dict[str, ProviderSession] = {}
        self._refused: dict[str, str] = {}
        self._arrived: Counter[Endpoint] = Counter()
        self._answered: dict[Endpoint, Counter[str]] = {endpoint: Counter() for endpoint in Endpoint}
        self._calls: Counter[tuple[Endpoint, str]] = Counter()
        self._made_for: dict[Channel, Counter[str]] = {channel: Counter() for channel in Channel}

    def script_of(self, reference: str) -> Script:
        """Find the script, further prefixes first."""
        return script_for(reference, self._table)

    def issue_token(self) -> dict[str, Any]:
        """Make a new token and give the answer that carries it; older ones stay good until their time."""
        self._issued += 1
        now = self._clock.token_now()
        if self._issued % _SWEEP_EVERY == 0:
            self._tokens = {token: until for token, until in self._tokens.items() if until > now}
        claims = {"client_id": self._options.client_id, "scope": self._options.scope, "jti": self._issued}
        token = ".".join((_base64({"alg": "HS256", "typ": "JWT"}), _base64(claims), self._signature(self._issued)))
        self._tokens[token] = now + self._options.token_life_s
        return {"token_type": "Bearer", "access_token": token, "expires_in": self._options.token_life_s}

    def check_token(self, token: str, reference: str | None = None) -> None:
        """
        Check a token, for one reference if given.

        Raises:
            Refused: 401, when it is unknown, too old, or refused for this reference.
        """
        good = self._tokens.get(token, 0.0) > self._clock.token_now()
        if not good or (reference is not None and self._refused.get(reference) == token):
            raise unauthorized()

    def refuse_token(self, token: str, reference: str) -> None:
        """Refuse a token for one reference from now on."""
        self._refused[reference] = token

    def fault_of(self, endpoint: Endpoint, reference: str) -> Fault | None:
        """Count a call for the reference and give what goes wrong with it, if anything."""
        self._calls[endpoint, reference] += 1
        return self.script_of(reference).fault(endpoint, self._calls[endpoint, reference])

    def make_session(self, channel: Channel, start: StartRequest) -> ProviderSession:
        """Make a session: on a phone the payer can now key in, digitally a text with a link is on its way."""
        self._made += 1
        if self._made % _SWEEP_EVERY == 0:
            self._sessions = {key: kept for key, kept in self._sessions.items() if self._look(kept) is not None}
        self._made_for[channel][start.reference] += 1
        self._ever[channel, start.reference] += 1
        nth = self._ever[channel, start.reference]
        digest = self._digest("session", channel, start.reference, nth, start.call_guid)
        session = ProviderSession(
            id=str(uuid.UUID(bytes=digest[:16], version=4)),
            provider_id=str(uuid.UUID(bytes=digest[16:32], version=4)),
            link_id=f"{int.from_bytes(digest[32:36]) % 10_000:04d}",
            request_id=f"{int.from_bytes(digest[36:48]) % 10**22:022d}",
            channel=channel,
            start=start,
            script=self.script_of(start.reference),
            made_s=self._clock.now(),
            made_wall=self._clock.wall(),
        )
        self._sessions[session.id] = session
        return session

    def find(self, session_id: str) -> tuple[ProviderSession, Look] | None:
        """Find a session and its state now; `None` when it is unknown or its result is no longer told."""
        session = self._sessions.get(session_id.lower())
        look = None if session is None else self._look(session)
        return None if session is None or look is None else (session, look)

    def status_of(self, session: ProviderSession, look: Look) -> dict[str, Any]:
        """Give the answer to a status call."""
        return dict(bodies.status(session, look, session.made_wall + self._clock.real_s(look.since_s)))

    def told(self, reference: str) -> list[dict[str, Any]]:
        """
        Give the bodies of the webhooks that the provider would send for a reference's sessions, oldest first.

        It sends them for hours, also when a status call no longer tells the result.
        """
        found = []
        for session in self._sessions.values():
            if session.start.reference == reference:
                look = session.script.look(self._clock.now() - session.made_s, session.channel)
                found.append(self.status_of(session, look))
        return found

    def arrived(self, endpoint: Endpoint) -> None:
        """Count a call, whatever becomes of it."""
        self._arrived[endpoint] += 1

    def answered(self, endpoint: Endpoint, how: str) -> None:
        """Count an answer: its HTTP status, or `cut`."""
        self._answered[endpoint][how] += 1

    def stats(self) -> dict[str, Any]:
        """
        Give the counts since the start or the last reset.

        Returns:
            `token_calls`, `session_calls`, `status_calls` (all that arrived),
            `sessions_per_reference` (sessions made, over both channels),
            `digital_sessions_per_reference`, and `answers`: for each endpoint how
            often it answered with which HTTP status, `cut` for none or half of one.
        """
        phone, digital = self._made_for[Channel.PHONE], self._made_for[Channel.DIGITAL]
        return {
            "token_calls": self._arrived[Endpoint.TOKEN],
            "session_calls": self._arrived[Endpoint.START_PHONE] + self._arrived[Endpoint.START_DIGITAL],
            "status_calls": self._arrived[Endpoint.STATUS],
            "sessions_per_reference": dict(phone + digital),
            "digital_sessions_per_reference": dict(digital),
            "answers": {endpoint.value: dict(counts) for endpoint, counts in self._answered.items()},
        }

    def _look(self, session: ProviderSession) -> Look | None:
        elapsed = self._clock.now() - session.made_s
        look = session.script.look(elapsed, session.channel)
        return look if look.readable_at(elapsed) else None

    def _digest(self, *parts: object) -> bytes:
        return hashlib.blake2b(json.dumps([self._seed, *parts]).encode()).digest()

    def _signature(self, number: int) -> str:
        return base64.urlsafe_b64encode(self._digest("token", number)[:32]).rstrip(b"=").decode()


def _base64(claims: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
