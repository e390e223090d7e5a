"""
Mistakes on the way to a session, and with claims: each a mutant that the simulation must catch.

A generator gives what to patch: (owner, name, value).
"""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from orchestrator import execute, rescue
from orchestrator.claim import Claims
from orchestrator.domain import decide, operation, starting
from orchestrator.domain.decision import Walk, quiet
from orchestrator.domain.machine import Operation
from orchestrator.domain.outcome import Outcome
from orchestrator.domain.policy import Policy
from orchestrator.domain.verdict import Verdict, VerdictKind
from orchestrator.records import Record
from orchestrator.worker import Worker
from tests.simulation.lives import ALL, DEADLY, FICKLE, FROZEN, POISONED, Weather
from tests.simulation.memory import Memory
from tests.simulation.mutant import mutant

# --- sessions -----------------------------------------------------------------------------------


@mutant("I2", "I1")
def skip_the_intent() -> Any:
    """The start is sent before its intent is committed."""
    real = execute._record

    async def record(bench: Any, held: Any, decision: Any) -> None:
        if decision.entries[-1].trigger == "request" and not getattr(bench.providers, "sending", False):
            payment = held.payment
            order = bench.providers.prepare(Operation.START_SESSION, payment, {})
            await bench.providers.send(order)
        await real(bench, held, decision)

    yield execute, "_record", record


@mutant("I1", "I7", "I9", seed=189, weather=replace(DEADLY, cancels=0.9, slow=0.3))
def last_entry_is_an_intent() -> Any:
    """A crash is seen only where the chain ends with the intent."""
    real = operation.plan

    def plan(payment: Any, now: Any, policy: Any) -> Any:
        closed = payment.open_attempt is not None and payment.cancel_requested
        return real(replace(payment, open_attempt=None) if closed else payment, now, policy)

    def intend_closed(payment: Any, why: str, context: Any) -> Any:
        return decide.lapsed(replace(payment, open_attempt=None), why, context)

    yield execute, "plan", plan
    yield execute, "lapsed", intend_closed


@mutant("I1", seed=3, weather=DEADLY)
def send_while_one_is_open() -> Any:
    """An open attempt is taken for none, and the start is sent anew."""
    plan, intend = operation.plan, starting.intend
    yield execute, "plan", lambda payment, now, policy: plan(replace(payment, open_attempt=None), now, policy)
    yield execute, "intend", lambda payment, *args, **more: intend(replace(payment, open_attempt=None), *args, **more)


@mutant("I1", weather=replace(FICKLE, odd=0))
def retry_after_unknown() -> Any:
    """An unknown answer to a start is taken for none."""
    yield starting, "_doubt", lambda walk, policy, told: starting._no_effect(walk, told["verdict"], policy, told)


@mutant("I1", weather=replace(DEADLY, slow=0.5))
def a_crash_is_not_sent() -> Any:
    """What a dead worker had in flight is taken for not sent."""
    yield rescue, "crashed", lambda: Verdict(VerdictKind.NOT_SENT, "worker_lost")


@mutant("I12", seed=11, weather=replace(FICKLE, trouble=0.8))
def supersede_without_end() -> Any:
    """Nobody counts the sessions that were superseded."""
    real = starting._doubt
    yield starting, "_doubt", lambda walk, policy, told: real(walk, replace(policy, max_sessions=99), told)


@mutant("I9", weather=replace(FICKLE, odd=0))
def unknown_is_a_failure() -> Any:
    """An unknown answer to a start fails the payment."""

    def doubt(walk: Walk, policy: Policy, told: Any) -> Any:
        del policy
        sessions = walk.payment.sessions + 1
        return starting.fail(walk, Outcome.PROVIDER_ERROR, "unknown", **told, open_attempt=None, sessions=sessions)

    yield starting, "_doubt", doubt


# --- claims -------------------------------------------------------------------------------------


@mutant("I7", "I4", seed=3, weather=replace(FROZEN, stop=0.004))
def skip_the_fence() -> Any:
    """Whoever has the right version writes, whoever holds the claim."""

    def fits(stored: Any, record: Any) -> bool:
        return bool((stored.version, stored.head) == (record.decision.before.version, record.decision.before.head))

    yield Memory, "fits", staticmethod(fits)


@mutant("I7", weather=replace(FROZEN, stop=0.006), names=lambda number: f"worker-{number}")
def match_without_claim_no() -> Any:
    """The claim's number is no part of the fence; and a worker keeps its name."""

    def fits(stored: Any, record: Any) -> bool:
        before = record.decision.before
        same = (stored.version, stored.head) == (before.version, before.head)
        return same and (not record.held_claim or stored.claimed_by == before.claimed_by)

    yield Memory, "fits", staticmethod(fits)


@mutant("I7", weather=replace(FROZEN, stop=0.004, slow=0.4))
def throw_a_fenced_answer_away() -> Any:
    """A worker that has lost its claim forgets what it was told."""

    async def knowledge(bench: Any, held: Any, learnt: Any) -> None:
        del bench, held, learnt

    yield execute, "_knowledge", knowledge


@mutant("I7", seed=10, weather=replace(FROZEN, stop=0.004, slow=0.4))
def throw_a_second_session_away() -> Any:
    """A session that came too late to be ours is not written down."""
    yield (
        starting, "_keep_in_sight",
        lambda walk, session, policy, told: quiet(walk.payment, walk.payment.due_at),
    )  # fmt: skip


@mutant("I13", seed=2, weather=replace(ALL, kill=0, stop=0, slow=0.6, silent=0, lost=0, outages=0, jumps=0))
def no_heartbeat_during_a_call() -> Any:
    """The heart stands still while a call is in flight."""
    real = Worker._beat

    async def beat(self: Any) -> bool:
        return False if self._driving else await real(self)

    yield Worker, "_beat", beat


@mutant("I12", "I5", seed=4, weather=replace(POISONED, poison=0.9))
def forget_the_claim_counter() -> Any:
    """Nobody counts the claims that brought no progress."""
    real = operation.lapse

    def lapse(payment: Any, now: Any, policy: Any) -> str:
        return real(payment, now, replace(policy, max_claims=10**6))

    yield operation, "lapse", lapse


@mutant("I5", weather=replace(DEADLY, trouble=0.6))
def forget_when_it_is_due() -> Any:
    """A try that came to nothing says no time for the next."""
    yield starting, "_retry_at", lambda *_: None


@mutant("I12", weather=replace(DEADLY, kill=0.001))
def poll_without_back_off() -> Any:
    """Every look is followed by the next at once."""
    yield Policy, "poll_after", lambda _self, _looks: timedelta(seconds=0.3)


@mutant("I13", seed=9, weather=Weather(cancels=1.0, slow=0.6))
def a_cancel_takes_the_claim() -> Any:
    """A cancel frees the payment while its start is in flight."""
    yield Record, "keeps_claim", property(lambda self: self.held_claim and self.keep_claim)


@mutant("I9", "I5", seed=8, weather=Weather(jumps=14, slow=0.6, hooks=False))
def believe_the_wall_clock() -> Any:
    """A step under way goes by a wall clock that has jumped."""
    yield Claims, "present", lambda self: self._clock.now()


@mutant("I5", seed=3, weather=Weather(stalls=0.06, trouble=0.1, cancels=0), payments=16)
def ask_the_clock_twice() -> Any:
    """What was not due yet when it was planned, and is when it is put aside, is put aside for ever."""
    real = Worker._park

    async def park(self: Any, held: Any, again_at: Any) -> bool:
        passed = again_at is not None and again_at <= self._bench.clock.now()
        return await real(self, held, None if passed else again_at)

    yield Worker, "_park", park
