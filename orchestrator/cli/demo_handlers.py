"""
What the demo's workers do when a call is to be transferred.

Shows what a host writes: a module with a function that registers handlers,
named by the setting `worker.handlers`. Next: `orchestrator.orchestrator`.
"""

from orchestrator.domain.payment import Payment
from orchestrator.orchestrator import Orchestrator


def register(orchestrator: Orchestrator) -> None:
    """Register the handlers; called once by each worker at its start."""
    orchestrator.on("handed_over", transfer_call)


async def transfer_call(payment: Payment) -> None:
    """
    Take the hand-over: returning is the acknowledgement.

    A real host transfers the call `payment.call_guid` to `payment.number` and
    lets it send `payment.link_id` as tones. Called at least once, so a host
    that has transferred the call already returns at once.

    Raises:
        RuntimeError: There is nothing to dial; the orchestrator calls again later.

    Crash:
        Before the return the hand-over is delivered again while it is valid.
    """
    if not (payment.number and payment.link_id):
        raise RuntimeError("the hand-over names nothing to dial")
