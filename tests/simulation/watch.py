"""
The one who watches the simulation from outside: the store as a process reaches it, and what was seen.

`Wire` is a process's way to the database, with the faults of the weather on it. `Watch`
keeps what no database can tell, in the words of `audit.observed`: acknowledged entries,
lost claims, answers that were heard, attempts that were rightly in doubt.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from orchestrator.audit.observed import Heard, Limits, Observed, ProviderSession
from orchestrator.domain.errors import Fenced, Unavailable
from orchestrator.domain.payment import Payment
from orchestrator.domain.verdict import Verdict, VerdictKind
from orchestrator.records import Birth, Record
from tests.simulation.lives import Life
from tests.simulation.loop import SimLoop
from tests.simulation.vendor import Vendor

IN_HAND_S = 40.0
"""What a process heard less than so long before its death may have died with it."""
SHAKEN_S = 20.0
"""For so long after trouble of its own a worker may rightly be taken for dead."""
FREEING = ("reap", "retire", "record")


@dataclass
class Watch:
    """What was seen."""

    store: Any
    vendor: Vendor
    acknowledged: dict[str, list[tuple[int, bytes]]] = field(default_factory=lambda: defaultdict(list))
    lost_claims: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    answers: list[tuple[Life, float, str, Heard]] = field(default_factory=list)
    doubts: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    claims: dict[str, int] = field(default_factory=dict)
    late_deliveries: Counter[str] = field(default_factory=Counter)
    flying: list[tuple[Life, str]] = field(default_factory=list)
    worker_lives: dict[str, Life] = field(default_factory=dict)

    def intended(self, payment_id: str, attempt: int) -> bool:
        """Tell whether the attempt's intent is committed."""
        return sum(entry.trigger == "request" for entry in self.store.chain(payment_id)) >= attempt

    @contextmanager
    def under_way(self, life: Life, payment_id: str) -> Iterator[None]:
        """A start that has not been answered; those of the dead never reach the provider any more."""
        mark = (life, payment_id)
        self.flying.append(mark)
        try:
            yield
        finally:
            self.flying.remove(mark)

    def may_yet_start(self, payment_id: str) -> bool:
        flying = any(of == payment_id and not life.dead for life, of in self.flying)
        return flying or self.vendor.pending[payment_id] > 0

    def heard(self, life: Life, payment: Payment, attempt: int | None, verdict: Verdict) -> None:
        """A process was told an answer, and lives."""
        seen = verdict.observation
        if attempt is not None and verdict.kind is VerdictKind.UNKNOWN:
            self.doubts[payment.id].add(attempt)
        if not life.worker_ids or (attempt is None and (seen is None or not seen.ended)):
            return
        session = verdict.session.id if verdict.session else None
        codes = dict(seen.codes) if seen is not None and seen.ended else {}
        now = asyncio.get_running_loop().time()
        self.answers.append((life, now, payment.id, Heard(attempt, verdict.kind.value, session, codes)))

    def killed(self, life: Life) -> None:
        """What a dead worker held is in doubt."""
        for payment in self.store.everybody():
            if payment.open_attempt is not None and payment.claimed_by in life.worker_ids:
                self.doubts[payment.id].add(payment.open_attempt)

    def holders(self) -> dict[str, tuple[str | None, int]]:
        return {
            one.id: (one.claimed_by, one.open_attempt)
            for one in self.store.everybody()
            if one.open_attempt is not None and one.claimed_by is not None
        }

    def freed(self, before: dict[str, tuple[str | None, int]]) -> None:
        """A claim was taken from its worker with a start under way: rightly, if the worker was in trouble."""
        loop: SimLoop = asyncio.get_running_loop()  # type: ignore[assignment]
        now = loop.time()
        for payment_id, (worker_id, attempt) in before.items():
            after = self.store.look(payment_id)
            life = self.worker_lives.get(worker_id or "")
            shaken = life is None or life.dead or life.stopped
            shaken = shaken or now - max(life.disturbed_at, loop.stood_still_at) < SHAKEN_S  # type: ignore[union-attr]
            if after.claimed_by != worker_id and after.open_attempt == attempt and shaken:
                self.doubts[payment_id].add(attempt)

    def written(self, item: Record | Birth, stored: Payment | None, grew: int) -> None:
        """One write was committed, whoever will learn of it."""
        entries = item.decision.entries
        if isinstance(item, Birth) or not grew or stored is None:
            return
        before = item.decision.before
        lost = (stored.claimed_by, stored.claim_no) != (before.claimed_by, before.claim_no)
        acts = item.held_claim or any(entry.trigger == "request" for entry in entries)
        if lost and acts:
            self.lost_claims[before.id].append(entries[-1].seq)

    def claimed(self, taken: Sequence[Payment]) -> None:
        for payment in taken:
            self.claims[payment.id] = max(payment.fruitless, self.claims.get(payment.id, 0))

    def unanswered(self, verb: str, args: Any) -> None:
        """A commit's answer was lost for good: whoever wrote an intent does not know that it is there."""
        if verb == "record" and any(entry.trigger == "request" for entry in args[0].decision.entries):
            payment = args[0].decision.payment
            self.doubts[payment.id].add(payment.open_attempt)

    def told(self, item: Record | Birth) -> None:
        """The commit was answered."""
        self.acknowledged[item.decision.payment.id] += [(entry.seq, entry.hash) for entry in item.decision.entries]

    def observed(self, *, limits: Limits, canaries: tuple[str, ...], texts: tuple[str, ...]) -> Observed:
        """Give everything, for the invariants."""
        heard: dict[str, list[Heard]] = defaultdict(list)
        for life, at, payment_id, answer in self.answers:
            if life.died_at - at > IN_HAND_S:
                heard[payment_id].append(answer)
        sessions: dict[str, list[ProviderSession]] = defaultdict(list)
        for made in self.vendor.sessions.values():
            sessions[made.payment_id].append(ProviderSession(made.id, made.intended, made.paid))
        return Observed(
            acknowledged=self.acknowledged, lost_claims=self.lost_claims, sessions=sessions, heard=heard,
            doubts=self.doubts, looks=self.vendor.looks, calls=self.vendor.calls, canaries=canaries, texts=texts,
            claims=self.claims, late_deliveries=self.late_deliveries, limits=limits, over=True,
        )  # fmt: skip


class Wire:
    """The store, as one process reaches it."""

    def __init__(self, store: Any, life: Life, watch: Watch, random: Random, away: Any) -> None:
        self._store = store
        self._life = life
        self._watch = watch
        self._random = random
        self._away = away
        """Tells whether the database is away just now."""
        self.listen = store.listen

    def __getattr__(self, verb: str) -> Any:
        real = getattr(self._store, verb)

        async def called(*args: Any, **kwargs: Any) -> Any:
            return await self._call(verb, real, args, kwargs)

        setattr(self, verb, called)
        return called

    async def _call(self, verb: str, real: Any, args: Any, kwargs: Any) -> Any:
        life, random, weather = self._life, self._random, self._life.weather
        await life.touch()
        drawn = random.random()
        await asyncio.sleep(random.uniform(0.01, 1.5) if drawn < weather.sluggish else 0)
        await life.alive()
        drawn = random.random()
        if drawn < weather.silent or self._away():
            life.disturbed_at = max(life.disturbed_at, asyncio.get_running_loop().time())
            raise Unavailable("the simulation says so")
        if verb == "record" and drawn > 1 - weather.fenced:
            raise Fenced("the simulation says so")
        result = await self._committed(verb, real, args, kwargs)
        if random.random() < weather.lost:
            life.disturbed_at = max(life.disturbed_at, asyncio.get_running_loop().time())
            self._watch.unanswered(verb, args)
            raise Unavailable("the simulation has lost the answer")
        if verb in ("record", "submit"):
            self._watch.told(args[0])
        if verb == "register":
            life.worker_ids.add(args[0])
            self._watch.worker_lives[args[0]] = life
        await life.touch()
        return result

    async def _committed(self, verb: str, real: Any, args: Any, kwargs: Any) -> Any:
        """Do the verb, in one moment, and look at what it did."""
        watch, store = self._watch, self._store
        holders = watch.holders() if verb in FREEING else None
        if verb in ("record", "submit"):
            id_ = args[0].decision.payment.id
            stored, length = store.look(id_), len(store.chain(id_))
            result = await real(*args, **kwargs)
            watch.written(args[0], stored, len(store.chain(id_)) - length)
        else:
            result = await real(*args, **kwargs)
        if holders:
            watch.freed(holders)
        if verb == "claim":
            watch.claimed(result)
        return result
