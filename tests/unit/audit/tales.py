"""
Whole stories with every entry, and how to tamper with them.

A tale is told through the domain's own door, as in `tests.unit.domain.story`, but
keeps its entries. Tampering is what somebody with the database in hand can do:
alter columns, bodies and hashes, and link everything behind anew.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.audit.chain import Finding, read_chain
from orchestrator.audit.invariants import check
from orchestrator.domain import asking
from orchestrator.domain.decide import lapsed
from orchestrator.domain.decision import Decision
from orchestrator.domain.entry import NO_HASH, Entry, body_hash, canonical
from orchestrator.domain.outcome import Outcome
from orchestrator.domain.payment import Channel, Payment
from orchestrator.domain.starting import intend
from tests.unit.domain.story import (
    ANSWERED,
    HOUR,
    NOT_SENT,
    OPENED,
    OTHER_SESSION,
    POLICIES,
    UNKNOWN,
    authorize,
    ctx,
    ended,
    fresh,
    hand_over,
    look,
    paid,
    running,
    start,
)  # fmt: skip


@dataclass
class Tale:
    """A payment, all its entries, and the decisions that made them."""

    payment: Payment
    entries: list[Entry] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)

    def tell(self, step: Callable[..., Decision], *arguments: Any, **more: Any) -> "Tale":
        decision = step(self.payment, *arguments, **more)
        self.entries += decision.entries
        self.decisions.append(decision)
        self.payment = decision.payment
        return self

    def findings(self) -> list[Finding]:
        story, wrong = read_chain(self.payment.id, self.entries)
        return wrong + check(self.payment, story)

    def found(self) -> set[tuple[str, int | None]]:
        return {(finding.kind, finding.seq) for finding in self.findings()}

    def relinked(self, begin: int = 0) -> "Tale":
        """Link the entries anew from index `begin` on, head included: what only the sealed log would show."""
        head = self.entries[begin - 1].hash if begin else NO_HASH
        for index in range(begin, len(self.entries)):
            entry = self.entries[index] = rewritten(self.entries[index], seq=index + 1, prev_hash=head)
            head = entry.hash
        self.payment = replace(self.payment, version=len(self.entries), head=head)
        return self


COLUMNS = {
    "chain_id": "chain", "seq": "seq", "trigger": "trigger", "from_state": "from", "to_state": "to", "actor": "actor",
    "origin": "origin", "kind": "kind", "result": "result", "about": "about",
}  # fmt: skip


def rewritten(entry: Entry, *, body: dict[str, Any] | None = None, **columns: Any) -> Entry:
    """Give the entry with other columns and members, its body and hash in step with them."""
    told = json.loads(entry.body) | {COLUMNS[name]: value for name, value in columns.items() if name in COLUMNS}
    if "prev_hash" in columns:
        told["prev"] = columns["prev_hash"].hex()
    text = canonical(told | (body or {}))
    return replace(entry, body=text, hash=body_hash(text), **columns)


def without(entry: Entry, *members: str) -> Entry:
    told = {name: value for name, value in json.loads(entry.body).items() if name not in members}
    text = canonical(told)
    return replace(entry, body=text, hash=body_hash(text))


def new(channel: Channel = Channel.PHONE, missing: Sequence[str] = ()) -> Tale:
    return Tale(fresh(channel, missing)).tell(asking.submit, ctx(), POLICIES[channel])


def intended(channel: Channel = Channel.PHONE) -> Tale:
    return new(channel).tell(authorize, ANSWERED, 0).tell(intend, ctx(), request_digest="r1")


def waiting(channel: Channel = Channel.PHONE) -> Tale:
    return intended(channel).tell(start, OPENED)


def completed(channel: Channel = Channel.PHONE) -> Tale:
    """submit, authorize, request, start_session, hand_over, complete: six entries."""
    return waiting(channel).tell(look, paid())


def declined(channel: Channel = Channel.PHONE) -> Tale:
    return waiting(channel).tell(look, ended(Outcome.DECLINED, codes={"result": "51"}))


def watched() -> Tale:
    """Failed for the host, its session still payable."""
    tale = waiting(Channel.DIGITAL).tell(asking.cancel, ctx(5), reason="caller left")
    return tale.tell(look, running())


def paid_late() -> Tale:
    return watched().tell(look, paid(), 20)


def superseded() -> Tale:
    tale = intended().tell(start, UNKNOWN)
    return tale.tell(intend, ctx(2), request_digest="r2").tell(start, OPENED, 2)


def silent() -> Tale:
    """A phone payment whose only session nobody ever saw; it ends when that session's longest life is over."""
    tale = intended().tell(start, UNKNOWN)
    tale.tell(lapsed, "start_deadline", ctx(30))
    return tale.tell(lapsed, "unseen_session_over", ctx(2 + HOUR))


def silent_then_answered() -> Tale:
    """As `silent`; and long after the end the fenced worker hands in that there was a session."""
    return silent().tell(start, replace(OPENED, session=OTHER_SESSION), 3 * HOUR, attempt=1)


def refused() -> Tale:
    return intended().tell(start, NOT_SENT).tell(asking.cancel, ctx(3), reason="")


def abandoned() -> Tale:
    return new(missing=("CallGuid",)).tell(lapsed, "abandoned", ctx(1801))


def acknowledged() -> Tale:
    return waiting().tell(hand_over, ANSWERED, 3).tell(look, paid())


TALES: dict[str, Callable[[], Tale]] = {
    "new": new, "missing": lambda: new(missing=("CallGuid",)), "intended": intended, "waiting": waiting,
    "completed": completed, "declined": declined, "watched": watched, "paid late": paid_late,
    "superseded": superseded, "silent": silent, "silent then answered": silent_then_answered, "refused": refused,
    "abandoned": abandoned, "acknowledged": acknowledged, "digital": lambda: completed(Channel.DIGITAL),
    "digital in doubt": lambda: intended(Channel.DIGITAL).tell(start, UNKNOWN),
}  # fmt: skip
