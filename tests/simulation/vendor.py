"""
The provider's twin at the flow's port: sessions, payers, lost and late effects, webhooks.

It lives outside every process: what reached it has its effect, whoever dies. All rows of
the verdict table come from here; the wire beneath them is the contract tests' business.
"""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from orchestrator.domain.condition import Condition
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.machine import Operation
from orchestrator.domain.outcome import Observation, Outcome
from orchestrator.domain.payment import Channel, Payment
from orchestrator.domain.verdict import Cause, Exchange, Session, Verdict, VerdictKind
from tests.simulation.lives import Life, Weather

N, R, U = VerdictKind.NOT_SENT, VerdictKind.REJECTED, VerdictKind.UNKNOWN
ROWS = (
    Verdict(N, "connect_refused"), Verdict(N, "tls_failed"), Verdict(N, "pool_timeout"),
    Verdict(R, "http_429", Cause.THROTTLED, retry_after_s=2.0), Verdict(R, "http_401", Cause.UNAUTHORIZED),
    Verdict(R, "http_403", Cause.ACCOUNT), Verdict(R, "http_404", Cause.ABSENT), Verdict(R, "http_400", Cause.INVALID),
    Verdict(U, "http_409"), Verdict(U, "answer_incomplete"), Verdict(U, "http_503", retry_after_s=1.0),
    Verdict(U, "timeout"), Verdict(U, "reset"), Verdict(U, "RuntimeError"),
)  # fmt: skip
LIFE_S = {Channel.PHONE: 80.0, Channel.DIGITAL: 300.0}
"""The longest that a session lives here; the policies allow it more, for lost and late beginnings."""
EVIDENCE_S = {Channel.PHONE: 60.0, Channel.DIGITAL: 90.0}
LATEST_EFFECT_S = 12.0
PAYERS = (
    [Outcome.PAID] * 11
    + [Outcome.DECLINED, Outcome.CANCELLED_BY_PAYER, Outcome.ATTEMPTS_EXHAUSTED, Outcome.INPUT_TIMEOUT]
    + [Outcome.PARTIALLY_PAID, Outcome.REVIEW, Outcome.INDETERMINATE]
)
WHOLE = [outcome for outcome in PAYERS if outcome is not Outcome.PARTIALLY_PAID]
"""A webhook of a part of the amount, for a session that nobody saw, matches no payment: a person reads of it."""
ODD = ({"reference": "INV-OTHER"}, {"amount_minor": 1}, {"currency": "XXX"})


@dataclass(slots=True)
class Made:
    """A session as the provider has it."""

    id: str
    payment_id: str
    channel: Channel
    reference: str
    amount_minor: int
    currency: str
    born: float
    ends_at: float
    intended: bool
    seen: bool
    """Whether its answer was sent."""
    outcome: Outcome = Outcome.EXPIRED
    odd: Mapping[str, Any] = field(default_factory=dict)
    dialled: bool = False
    announced: bool = False

    @property
    def paid(self) -> bool:
        """Whether money moved, for us: what is odd is about somebody else's payment."""
        return self.outcome in (Outcome.PAID, Outcome.PARTIALLY_PAID) and not self.odd

    def told(self, now: float) -> Observation:
        if now < self.ends_at:
            word = ("Created", "InProgress", "Odd")[int(self.ends_at * 7 + now / 9) % 3]
            return Observation(word, known=word != "Odd", reference=self.odd.get("reference"))
        codes = {"result": self.outcome.value, "tail": self.id[-3:]} | ({"paid": "yes"} if self.paid else {})
        minor = self.amount_minor - 5 if self.outcome is Outcome.PARTIALLY_PAID else self.amount_minor
        told = {"reference": self.reference, "amount_minor": minor, "currency": self.currency} | dict(self.odd)
        return Observation("Finished", outcome=self.outcome, codes=codes, **told)


@dataclass(frozen=True, slots=True)
class Order:
    """What was prepared."""

    operation: Operation
    payment: Payment
    attempt: int
    digest: str


class Vendor:
    """The provider."""

    def __init__(self, random: Random, weather: Weather, announce: Callable[[Made], None], log: Any) -> None:
        self.random = random
        self.weather = weather
        self.sessions: dict[str, Made] = {}
        self.looks: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.pending: Counter[str] = Counter()
        """Starts that may still have an effect."""
        self.intended: Callable[[str, int], bool] = lambda _payment_id, _attempt: True
        self._announce = announce
        self._log = log

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def of(self, payment_id: str) -> list[Made]:
        return [made for made in self.sessions.values() if made.payment_id == payment_id]

    def row(self) -> Verdict | None:
        """Draw what a call comes to; `None` is a plain answer."""
        return self.random.choice(ROWS) if self.random.random() < self.weather.trouble else None

    def delay(self) -> float:
        slow = self.random.random() < self.weather.slow
        return self.random.uniform(7, 15) if slow else self.random.uniform(0.05, 1.2)

    def make(self, order: Order, *, intended: bool, seen: bool) -> Made:
        payment, random = order.payment, self.random
        life = LIFE_S[payment.channel]
        made = Made(
            f"S{len(self.sessions) + 1:03d}-{payment.id[-4:]}", payment.id, payment.channel, payment.reference,
            payment.amount.minor, payment.amount.currency, self.now, self.now + life, intended, seen,
        )  # fmt: skip
        self.sessions[made.id] = made
        if random.random() < self.weather.odd:
            made.odd = random.choice(ODD)
        if payment.channel is Channel.DIGITAL and random.random() < 0.85 and (seen or self.weather.hooks):
            made.outcome, made.ends_at = (
                random.choice(PAYERS if seen else WHOLE),
                self.now + random.uniform(2, life * 0.9),
            )
        self._log("session made", id=made.id, payment=payment.id, outcome=made.outcome, ends=round(made.ends_at, 3))
        self._later(made)
        return made

    def dial(self, payment: Payment) -> None:
        """Let the caller in: usually to the session whose number was dialled."""
        open_ = [made for made in self.of(payment.id) if made.ends_at > self.now]
        if not open_ or any(made.dialled for made in self.of(payment.id)):
            return
        mine = next((made for made in open_ if made.id == payment.session_id), None)
        if self.weather.hooks and self.random.random() < self.weather.astray:
            mine = open_[0]
        if mine is None:
            return
        mine.dialled, mine.outcome = True, self.random.choice(PAYERS if mine.id == payment.session_id else WHOLE)
        mine.ends_at = self.now + self.random.uniform(2, 60)
        self._log("dialled", id=mine.id, outcome=mine.outcome, ends=round(mine.ends_at, 3))
        self._later(mine)

    def _later(self, made: Made) -> None:
        asyncio.get_running_loop().call_at(made.ends_at, self._over, made, made.ends_at)

    def _over(self, made: Made, at: float) -> None:
        if made.ends_at == at and not made.announced:
            made.announced = True
            self._announce(made)

    def body(self, made: Made) -> bytes:
        """Give the webhook's body."""
        seen = made.told(self.now)
        told = {"id": made.id, "state": seen.session_state, "outcome": made.outcome.value, "codes": dict(seen.codes)}
        told |= {"reference": seen.reference, "amount": seen.amount_minor, "currency": seen.currency}
        return json.dumps(told).encode()

    def start(self, order: Order) -> tuple[float, Callable[[], Verdict]]:
        """Take a start; give when it is answered, and what with."""
        payment, row, delay = order.payment, self.row(), self.delay()
        self.calls[payment.id] += 1
        intended = self.intended(payment.id, order.attempt)
        if row is None:
            made = self.make(order, intended=intended, seen=True)
            phone = made.channel is Channel.PHONE
            session = Session(made.id, "+4420", "77") if phone else Session(made.id)
            told = Verdict(VerdictKind.ANSWERED, "http_200", session=session, exchange=Exchange("POST", "u", 200, 9, 1))
            return delay, lambda: told
        drawn = self.random.random()
        if row.kind is U and drawn < 0.65:
            late = self.random.uniform(1, LATEST_EFFECT_S) if drawn < 0.15 else 0.0
            self.pending[payment.id] += 1
            asyncio.get_running_loop().call_later(late, self._effect, order, intended)
        return delay, lambda: row

    def _effect(self, order: Order, intended: bool) -> None:
        self.pending[order.payment.id] -= 1
        self.make(order, intended=intended, seen=False)

    def look(self, payment: Payment) -> tuple[float, Callable[[], Verdict]]:
        """Take a look; it is answered with what is so when the answer leaves."""
        self.looks[payment.id] += 1
        row = self.row()
        if row is not None and (row.cause in (Cause.ABSENT, Cause.INVALID)) and self.random.random() < 0.8:
            row = None  # the provider knows its sessions but for a lag: these two are rare
        return self.delay(), lambda: row or self._told(payment)

    def _told(self, payment: Payment) -> Verdict:
        made = self.sessions.get(payment.session_id or "")
        if made is None or self.now > made.ends_at + EVIDENCE_S[made.channel]:
            return Verdict(R, "http_404", Cause.ABSENT, exchange=Exchange("GET", "u", 404, 9, 1))
        seen = made.told(self.now)
        return Verdict(VerdictKind.ANSWERED, "http_200", observation=seen, exchange=Exchange("GET", "u", 200, 9, 1))


class Port:
    """The provider as one process has it: `ports.Providers` and `ports.Provider` in one."""

    def __init__(self, vendor: Vendor, life: Life, watch: Any, poison: Callable[[str], bool]) -> None:
        self._vendor = vendor
        self._life = life
        self._watch = watch
        self._poison = poison

    def of(self, payment: Payment) -> "Port":
        if self._poison(payment.id):
            self._life.kill()
        return self

    def prepare(self, operation: Operation, payment: Payment, fields: Mapping[str, str]) -> Order:
        del fields
        digest = hashlib.sha256(f"{operation}{payment.id}{payment.session_id}".encode()).hexdigest()
        return Order(operation, payment, payment.attempts + 1, digest)

    async def send(self, prepared: Order, *, by: object = None) -> Verdict:
        del by
        start = prepared.operation is Operation.START_SESSION
        payment, vendor = prepared.payment, self._vendor
        with self._watch.under_way(self._life, payment.id if start else ""):
            await self._life.touch()
            delay, answer = vendor.start(prepared) if start else vendor.look(payment)
            await asyncio.sleep(delay)
            verdict = answer()
            await self._life.touch()
        self._watch.heard(self._life, payment, prepared.attempt if start else None, verdict)
        return verdict

    async def authorize(self) -> Verdict:
        await self._life.touch()
        row = self._vendor.row()
        if self._vendor.random.random() < 0.3:
            await asyncio.sleep(self._vendor.random.uniform(0.05, 1))
            await self._life.touch()
        return row or Verdict(VerdictKind.ANSWERED, "token")

    def notice(self, account: str, body: bytes) -> Callable[[str], Observation]:
        del account
        told = json.loads(body)
        if not isinstance(told, dict):
            raise InvalidInput("body", "is not a notice")
        seen = Observation(
            told["state"], outcome=Outcome(told["outcome"]), codes=told["codes"], amount_minor=told["amount"],
            currency=told["currency"], reference=told["reference"], session_id=told["id"],
        )  # fmt: skip
        return lambda _currency: seen

    def condition(self, account: str) -> Condition:
        return Condition(account)
