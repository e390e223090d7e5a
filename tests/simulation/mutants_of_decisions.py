"""
Mistakes in what an answer leads to, and in the trail: each a mutant that the simulation must catch.

A generator gives what to patch: (owner, name, value).
"""

from dataclasses import replace
from typing import Any

from orchestrator import execute, webhook
from orchestrator.domain import asking, hearing, looking, operation, starting
from orchestrator.domain.decision import Walk, quiet
from orchestrator.domain.money import Money
from orchestrator.domain.outcome import MoneyFact, Outcome
from orchestrator.domain.payment import HoldReason
from orchestrator.domain.policy import Policy
from orchestrator.domain.verdict import Verdict
from tests.simulation.door import CANARIES
from tests.simulation.lives import ALL, FICKLE, SILENT
from tests.simulation.memory import Memory
from tests.simulation.mutant import mutant

# --- what a look says ---------------------------------------------------------------------------


@mutant("I9", weather=replace(FICKLE, trouble=0.7, slow=0))
def fail_on_404() -> Any:
    """A session that the provider does not know has failed."""

    def absent(walk: Walk, policy: Policy, told: Any) -> Any:
        del policy
        return walk.step("fail", **told, outcome=Outcome.EXPIRED, reason="absent", hold=None).due(None)

    yield looking, "_absent", absent


@mutant("I9", seed=2, weather=replace(ALL, hooks=False))
def fail_at_the_deadline() -> Any:
    """A session that is overdue has failed, though it runs."""
    real = looking._running

    def running(walk: Walk, seen: Any, policy: Policy, told: Any) -> Any:
        payment = walk.payment
        if payment.deadline_at is not None and walk.now >= payment.deadline_at and payment.hold is None:
            return looking._fail(walk, Outcome.EXPIRED, "overdue", told, seen, policy=policy)
        return real(walk, seen, policy, told)

    yield looking, "_running", running


@mutant("I8", "I7", "I9", weather=replace(ALL, cancels=0.9))
def drop_a_late_result() -> Any:
    """What comes after the end is not written down."""
    real = looking._late

    def late(walk: Walk, seen: Any, policy: Policy, told: Any) -> Any:
        due = None if seen.ended else walk.payment.due_at
        return quiet(walk.payment, due) if seen.ended else real(walk, seen, policy, told)

    yield looking, "_late", late


@mutant("I8", weather=FICKLE)
def write_equal_evidence_twice() -> Any:
    """Nobody looks whether the trail has it already."""
    yield looking, "_told_already", lambda _payment, _seen: False


@mutant("I9")
def complete_without_evidence() -> Any:
    """A session that runs is taken for paid."""

    def running(walk: Walk, seen: Any, policy: Policy, told: Any) -> Any:
        del policy
        return looking._complete(walk, seen, told | {"verdict": None})

    yield looking, "_running", running


@mutant("I9", weather=replace(SILENT, trouble=0.7))
def fail_from_silence() -> Any:
    """A look that is not answered fails the payment."""

    def silence(walk: Walk, verdict: Verdict, policy: Policy, told: Any) -> Any:
        del verdict, policy
        if walk.payment.ended:
            return quiet(walk.payment, None)
        return walk.step("fail", **told, outcome=Outcome.EXPIRED, reason="silence", hold=None).due(None)

    yield looking, "_silence", silence


@mutant("I9", weather=replace(FICKLE, odd=0.6, trouble=0.1))
def accept_another_reference() -> Any:
    """An answer about somebody else's payment is taken for ours."""
    yield looking, "mismatch", lambda _payment, _seen: ""


@mutant("I9", seed=5, weather=replace(FICKLE, odd=0, trouble=0.6))
def release_without_a_person() -> Any:
    """A hold for a session that nobody saw ends by itself, at once."""
    real = operation.lapse
    doubts = (HoldReason.UNSEEN_SESSION, HoldReason.SESSION_UNKNOWN)

    def lapse(payment: Any, now: Any, policy: Any) -> str:
        return "unseen_session_over" if payment.hold in doubts else real(payment, now, policy)

    yield operation, "lapse", lapse


@mutant("I9", weather=replace(ALL, cancels=1.0, trouble=0.1))
def a_cancel_ends_a_live_session() -> Any:
    """A cancel ends the payment without a last look."""

    def cancel(payment: Any, context: Any, *, reason: str, hung_up: bool = False) -> Any:
        del reason, hung_up
        if payment.ended or payment.open_attempt is not None:
            return quiet(payment, payment.due_at)
        walk = Walk(payment, context)
        walk.release("cancelled")
        return walk.step("fail", outcome=Outcome.CANCELLED_BY_HOST, reason="cancelled", money=MoneyFact.NONE).due(None)

    yield asking, "cancel", cancel


@mutant("I9", "I8", seed=3, weather=replace(FICKLE, trouble=0.6, odd=0, astray=0.9))
def a_webhook_about_another_session_is_nothing() -> Any:
    """What a webhook tells of a session that nobody saw is not written down."""
    real = hearing.after_webhook

    def after(payment: Any, verdict: Any, context: Any, policy: Any) -> Any:
        if not payment.has_session(verdict.observation.session_id or ""):
            return quiet(payment, payment.due_at)
        return real(payment, verdict, context, policy)

    yield webhook, "after_webhook", after


# --- the trail ----------------------------------------------------------------------------------


@mutant("I11")
def change_the_amount() -> Any:
    """The amount is rounded when the session is there."""
    real = starting._adopt

    def adopt(walk: Walk, session: Any, policy: Policy, told: Any) -> Any:
        walk.payment = replace(walk.payment, amount=Money.of_minor(walk.payment.amount.minor + 1, "GBP"))
        walk.step("observe", amount=Money.of_minor(1000, "GBP"))
        return real(walk, session, policy, told)

    yield starting, "_adopt", adopt


@mutant("I10")
def payer_data_in_the_trail() -> Any:
    """The intent's entry names the payer."""
    real = starting.intend

    def intend(payment: Any, context: Any, *, request_digest: str) -> Any:
        return real(payment, context, request_digest=f"{request_digest} {CANARIES[0]}")

    yield execute, "intend", intend


@mutant("I6", "I4", "I3")
def acknowledge_before_the_commit() -> Any:
    """One write in ten is acknowledged and never made."""
    real = Memory._write
    count = [0]

    def write(self: Any, written: Any, decision: Any, sealed: Any) -> None:
        count[0] += 1
        if count[0] % 10 or decision.before.version == 0:
            real(self, written, decision, sealed)

    yield Memory, "_write", write


@mutant("I4", "I3")
def a_row_without_its_entry() -> Any:
    """Row and entries are two transactions, and sometimes only the first is made."""
    real = Memory._write
    count = [0]

    def write(self: Any, written: Any, decision: Any, sealed: Any) -> None:
        count[0] += 1
        real(self, written, decision if count[0] % 15 else replace(decision, entries=decision.entries[:-1]), sealed)

    yield Memory, "_write", write


@mutant("I3")
def a_fact_without_its_entry() -> Any:
    """The row is told that money moved, and the trail is not."""
    real = Memory._write

    def write(self: Any, written: Any, decision: Any, sealed: Any) -> None:
        real(self, replace(written, overdue=True) if written.session_id else written, decision, sealed)

    yield Memory, "_write", write


@mutant("I12", seed=8, weather=replace(ALL, outages=4, kill=0.004))
def hand_over_after_its_validity() -> Any:
    """A hand-over is delivered however late it is."""

    def unending(notice: Any) -> Any:
        return replace(notice, expires_at=None)

    real = Memory._write

    def write(self: Any, written: Any, decision: Any, sealed: Any) -> None:
        real(self, written, replace(decision, notices=tuple(map(unending, decision.notices))), sealed)

    yield Memory, "_write", write
