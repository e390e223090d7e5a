"""
The traffic to the provider, as a worker watches it: breakers, and evidence at risk.

Owns when a change of an account's condition becomes an entry of the administrative
chain, so that health in any process can read it, and the account's capacity for
waiting payments. Must not know how a breaker decides. Next: `waiting`.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from orchestrator.domain.account import Account
from orchestrator.domain.condition import Condition
from orchestrator.domain.entry import Context, Entry
from orchestrator.domain.verdict import Verdict
from orchestrator.ports import Clock, Store, Traffic
from orchestrator.telemetry import emit

RENEWED_S = 300.0
"""A condition that lasts is noted anew so often; the note of a worker that is gone thus grows old."""
OLD_S = 2 * RENEWED_S + 60
"""From this age on a note is no word on the present."""

BEGUN = {"breaker": "breaker.opened", "evidence": "evidence.endangered"}
OVER = {"breaker": "breaker.closed", "evidence": "evidence.secured"}
"""What is noted of an account's breaker and of its evidence: kinds of entries `about` the account's name."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """
    What was noted of an account and is not over.

    Attributes:
        reason: The newest note's word.
        troubled: Whether it is the account's own trouble; see `Condition`.
        since: The first note of it.
        told: The newest.
    """

    reason: str
    troubled: bool
    since: datetime
    told: datetime


class Free:
    """Traffic without limits: for a flow whose provider has none."""

    def barred(self, account: str) -> Verdict | None:
        """Keep nothing back."""
        del account
        return None

    def condition(self, account: str) -> Condition:
        """Say that all is well."""
        return Condition(account)

    def shared_by(self, workers: int) -> None:
        """Have nothing to divide."""


def capacity(account: Account, per_second: float | None) -> float:
    """Give how many waiting payments can be looked at twice before their evidence is lost."""
    window_s = min(terms.policy.evidence_s for terms in account.terms.values())
    return float("inf") if per_second is None else per_second * window_s / 2


def standing(entries: Iterable[Entry], now: datetime) -> dict[tuple[str, str], Trouble]:
    """
    Read from administrative entries what troubles stand.

    Args:
        entries: Of the last hours at least, in order.
        now: The present.

    Returns:
        (`breaker` or `evidence`, account) to what stands.
    """
    found: dict[tuple[str, str], Trouble] = {}
    old = timedelta(seconds=OLD_S)
    for entry in entries:
        for word, begun in BEGUN.items():
            before = found.get((word, entry.about))
            if entry.kind == begun:
                since = before.since if before is not None and entry.at - before.told < old else entry.at
                body = json.loads(entry.body)
                told = str(body.get("reason", "")), bool(body.get("troubled"))
                found[word, entry.about] = Trouble(*told, since, entry.at)
            elif entry.kind == OVER[word]:
                found.pop((word, entry.about), None)
    return {key: trouble for key, trouble in found.items() if now - trouble.told < old}


@dataclass(slots=True)
class Watch:
    """
    Watches every account of one worker; take a `turn` at each beat.

    Attributes:
        store, clock, traffic, accounts: Of the worker's bench.
        context: Who notes.
        counts: An account to how many of its payments wait for a look here.
        at_risk: An account to how many of them are beyond its capacity.
    """

    store: Store
    clock: Clock
    traffic: Traffic
    accounts: Mapping[str, Account]
    context: Callable[[], Context]
    counts: Callable[[], Mapping[str, int]]
    at_risk: dict[str, int] = field(default_factory=dict)
    _noted: dict[tuple[str, str], tuple[float, bool]] = field(default_factory=dict)

    async def turn(self) -> None:
        """
        Measure every account; note what has changed.

        Raises:
            Unavailable: The database does not answer; what was not noted is noted in a later turn.

        Crash: a note is there or not, and grows old.
        """
        counts = self.counts()
        for name, account in self.accounts.items():
            condition = self.traffic.condition(name)
            waiting, most = counts.get(name, 0), capacity(account, condition.per_second)
            risk = int(max(0.0, waiting - most))
            self._tell_risk(name, risk, most)
            emit("account.measured", account=name, waiting=waiting, at_risk=risk)
            kept_back = condition.reason or "opened" if condition.open_for else ""
            await self._note("breaker", name, kept_back, troubled=condition.troubled)
            await self._note("evidence", name, f"beyond_capacity:{risk}" if risk else "")

    def _tell_risk(self, name: str, risk: int, most: float) -> None:
        before, self.at_risk[name] = self.at_risk.get(name, 0), risk
        if risk and not before:
            emit("evidence.endangered", account=name, count=risk, capacity=int(most))
        elif before and not risk:
            emit("evidence.secured", account=name)

    async def _note(self, word: str, name: str, reason: str, *, troubled: bool = False) -> None:
        noted, now = self._noted.get((word, name)), self.clock.monotonic()
        if reason and (noted is None or now - noted[0] >= RENEWED_S or noted[1] is not troubled):
            details = {"account": name, "reason": reason} | ({"troubled": True} if troubled else {})
            await self.store.note(BEGUN[word], about=name, context=self.context(), details=details, result="failure")
            self._noted[word, name] = now, troubled
        elif noted is not None and not reason:
            await self.store.note(OVER[word], about=name, context=self.context(), details={"account": name})
            del self._noted[word, name]
