"""
Rescue: what a crashed or lapsed worker leaves behind goes on by the same road.

Its claims become due again, with jitter, so that a restart is no stampede. An
attempt it left open is decided with the verdict `unknown`: a crash is one more
verdict, and nothing is sent again blindly. Next: `worker`.
"""

from datetime import timedelta

from orchestrator.claim import Claims
from orchestrator.domain.decide import decide
from orchestrator.domain.decision import Decision
from orchestrator.domain.entry import Context
from orchestrator.domain.machine import Operation
from orchestrator.domain.payment import Payment
from orchestrator.domain.policy import Policy
from orchestrator.domain.verdict import crashed
from orchestrator.ports import Store
from orchestrator.telemetry import emit

PAGE = 1000
"""Claims freed in one transaction; a huge backlog must not hold locks for long."""


async def free_lapsed(store: Store, claims: Claims, *, thorough: bool) -> int:
    """
    Make the claims of lapsed workers due again.

    Args:
        store: Where they are.
        claims: Who frees them.
        thorough: Whether to look for claims of workers that are not known any more, too; that is
            a look at every claim, and not only at the workers.

    Returns:
        How many were freed.

    Crash: what one page freed stays free; the rest lapses as before.
    """
    freed = 0
    if not thorough and not await store.lapsed(before=claims.present() - timedelta(seconds=claims.rhythm.life_s)):
        return 0
    while True:
        now = claims.present()
        page = await store.reap(
            lapsed_before=now - timedelta(seconds=claims.rhythm.life_s), now=now,
            jitter_s=claims.rhythm.poll_s, limit=PAGE,
        )  # fmt: skip
        freed += page
        if page < PAGE:
            break
    if freed:
        emit("claim.rescued", worker_id=claims.worker_id, count=freed)
    return freed


def settle_open_attempt(payment: Payment, context: Context, policy: Policy) -> Decision:
    """Decide an attempt whose worker is gone, whatever entries lie after its intent."""
    return decide(payment, Operation.START_SESSION, crashed(), context, policy, attempt=payment.open_attempt)
