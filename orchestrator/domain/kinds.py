"""
Every kind of entry that the trail can hold, with what it means.

Kinds of a payment's chain are `payment.` and the machine's trigger; all others are
administrative or security events and stand in the day's chain. The store's `note`
refuses a kind that is not here, so that a reviewer can know all of them. `docs/views.md`
prints the table. Next: `entry`.
"""

from collections.abc import Mapping
from types import MappingProxyType

from orchestrator.domain.machine import TABLE

ADMIN: Mapping[str, str] = MappingProxyType({
    "access.denied": "somebody came to the service with no token, or a wrong one",
    "account.paused": "an operator paused an account",
    "account.resumed": "an operator ended an account's pause",
    "audit.exported": "the trail was exported",
    "audit.reconciled": "the provider's report was compared with the payments",
    "audit.sampled": "payments were drawn for an auditor",
    "audit.verified": "the trail was verified",
    "breaker.closed": "calls to an account's provider go out again",
    "breaker.opened": "calls to an account's provider are kept back, because they fail",
    "card_data.refused": "card data was refused on its way in, or taken out of an answer",
    "clock.skew": "a worker's clock is too far from the database's",
    "control.failed": "a security control has failed",
    "control.restored": "a person said that a failed control works again",
    "database.restored": "a person said that the database was put back from a copy; a new life of it begins",
    "definition.published": "a definition of a provider call came into use",
    "evidence.endangered": "looks come too late: the provider's evidence may be lost",
    "evidence.secured": "looks come in time again",
    "key.rotated": "payer data was sealed anew with another key",
    "key.used": "a key signs checkpoints for the first time",
    "resolution.refused": "a person's word on a held payment was refused, as one person can't be two",
    "review.closed": "the exceptions of a review were closed",
    "review.signed": "a person signed the review of a period",
    "roles.granted": "the database's roles were installed, or made what they should be",
    "schema.upgraded": "the database was brought to another revision",
    "subject.erased": "what a payer had given was erased",
    "webhook.refused": "a webhook was refused",
    "webhook.unmatched": "a webhook speaks of a session that no payment has",
    "worker.started": "a worker began to drive payments, and so to write the trail",
    "worker.stopped": "a worker stopped in good order",
})  # fmt: skip
"""Administrative and security events."""

PAYMENT: Mapping[str, str] = MappingProxyType(
    {"payment.submit": "the payment was submitted"} | {f"payment.{row.trigger}": row.does for row in TABLE}
)
"""What happens to a payment: one kind for each trigger."""

KINDS: Mapping[str, str] = MappingProxyType({**ADMIN, **PAYMENT})
"""All of them."""


def known(kind: str) -> str:
    """
    Give an administrative kind back.

    Raises:
        ValueError: It is none: a defect of the caller.
    """
    if kind not in ADMIN:
        raise ValueError(f"no administrative entry has the kind {kind}")
    return kind
