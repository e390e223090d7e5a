"""
The webhooks that the twin sends, to one address, until they are taken.

Owns when a session's end is told, how often, and what became of it. Asks nobody for
leave: a receiver that does not answer 200 is told again every few minutes for twelve
hours, as VCC documents it. Knows no routes. Next: `app`.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

from orchestrator.sandbox.bodies import ProviderSession
from orchestrator.sandbox.clock import SandboxClock
from orchestrator.sandbox.options import SandboxOptions
from orchestrator.sandbox.script import Look

AGAIN_S = 180.0
"""VCC says every few minutes."""
GIVES_UP_S = 12 * 3600.0
ANSWER_S = 30.0
"""How long an answer may take, in real seconds."""


class Webhooks:
    """
    Tells how sessions ended.

    Args:
        options: Where to; nowhere by default.
        clock: The sandbox's time.
        body_of: Gives the body for a session in a state.

    Attributes:
        answers: How often which answer came: an HTTP status, or `cut` for none.

    Crash:
        What was not told yet is never told.
    """

    def __init__(
        self,
        options: SandboxOptions,
        clock: SandboxClock,
        body_of: Callable[[ProviderSession, Look], Mapping[str, Any]],
    ) -> None:
        self.answers: Counter[str] = Counter()
        self._url = options.webhook_url
        self._headers = {"Authorization": f"Bearer {options.webhook_token}", "Content-Type": "application/json"}
        self._clock = clock
        self._body_of = body_of
        self._http: aiohttp.ClientSession | None = None
        self._owed: set[asyncio.Task[None]] = set()

    def owe(self, session: ProviderSession) -> None:
        """Tell this session's end when it comes, if anybody wants to hear of it."""
        if self._url:
            task = asyncio.create_task(self._tell(session))
            self._owed.add(task)
            task.add_done_callback(self._owed.discard)

    async def aclose(self) -> None:
        """Tell nobody any more."""
        for task in self._owed:
            task.cancel()
        await asyncio.gather(*self._owed, return_exceptions=True)
        if self._http is not None:
            await self._http.close()

    async def _tell(self, session: ProviderSession) -> None:
        script, telling = session.script, session.script.telling
        end_s = script.end_s(session.channel)
        if end_s is None:
            return
        await self._clock.sleep(session.made_s + end_s + telling.late_s - self._clock.now())
        end = self._body_of(session, script.look(end_s, session.channel))
        before = self._body_of(session, script.look(0, session.channel))
        for body in (*[end] * telling.times, *[before] * telling.overtaken):
            await self._send(body)

    async def _send(self, body: Mapping[str, Any]) -> None:
        until = self._clock.now() + GIVES_UP_S
        while not await self._taken(body) and self._clock.now() < until:
            await self._clock.sleep(AGAIN_S)

    async def _taken(self, body: Mapping[str, Any]) -> bool:
        self._http = self._http or aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(ANSWER_S))
        try:
            async with self._http.post(
                self._url, data=json.dumps(body), headers=self._headers, allow_redirects=False
            ) as answer:
                how = str(answer.status)
        except (aiohttp.ClientError, TimeoutError, OSError):
            how = "cut"
        self.answers[how] += 1
        return how == "200"
