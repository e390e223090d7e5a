"""
What is kept about the trail and its controls, as values: leaves, seals, failures, reviews, books.

Frozen and without behaviour, so that the auditor and the store can speak of them without knowing
each other. Next: `ports`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Self

from orchestrator.domain.entry import Entry, instant

Unreadable = Callable[[str, int | None], None]
"""Told the chain or payment id, and the entry's number, of a row that holds no value of ours."""


class Leaf(NamedTuple):
    """
    An entry's place in the sealed log.

    Attributes:
        idx: The place, from 0 and without gaps.
        chain_id: The entry's chain.
        seq: Its number there.
        hash: Its hash.
    """

    idx: int
    chain_id: str
    seq: int
    hash: bytes


class Placed(NamedTuple):
    """
    An entry as it is stored, column by column, and what the seal has of it; a plain tuple, since there are millions.

    Attributes:
        chain_id, seq, trigger, from_state, to_state: Of the entry.
        at: The instant in the form in which bodies keep it.
        actor, origin, kind, result, about, prev_hash, hash, body: Of the entry.
        idx: The place of its leaf; `None` without one.
        leaf: The hash of its leaf; `None` without one.
        waiting: Whether it waits for its leaf.
    """

    chain_id: str
    seq: int
    trigger: str
    from_state: str
    to_state: str
    at: str
    actor: str
    origin: str
    kind: str
    result: str
    about: str
    prev_hash: bytes
    hash: bytes
    body: str
    idx: int | None = None
    leaf: bytes | None = None
    waiting: bool = False

    @classmethod
    def of(cls, entry: Entry, idx: int | None = None, leaf: bytes | None = None, *, waiting: bool = False) -> Self:
        """Give an entry in this form."""
        return cls(
            entry.chain_id, entry.seq, entry.trigger, entry.from_state, entry.to_state, instant(entry.at), entry.actor,
            entry.origin, entry.kind, entry.result, entry.about, entry.prev_hash, entry.hash, entry.body,
            idx, leaf, waiting,
        )  # fmt: skip

    @property
    def entry(self) -> Entry:
        """The entry; raises `TypeError` or `ValueError` for a row that can't be one."""
        if any(type(text) is not str for text in (self.chain_id, *self[2:11])):
            raise TypeError("a text is none")
        return Entry(
            self.chain_id, self.seq, self.trigger, self.from_state, self.to_state, datetime.fromisoformat(self.at),
            self.actor, self.origin, self.kind, self.result, self.about, self.prev_hash, self.hash, self.body,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seal:
    """
    A checkpoint as it is stored.

    Attributes:
        size: How many leaves it is over.
        root: Their root.
        nodes: The roots of the perfect subtrees, the largest first, 32 bytes each.
        note: The signed note, which says origin, size and root.
        created_at: When it was made, UTC.
    """

    size: int
    root: bytes
    nodes: bytes
    note: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Lag:
    """
    How far the seal is behind.

    Attributes:
        waiting: How many entries wait, counted up to 10,000.
        since: When the oldest of these was written; `None` when none waits.
        newest: The newest seal, if there is one.
    """

    waiting: int
    since: datetime | None
    newest: Seal | None


@dataclass(frozen=True, slots=True)
class Failure:
    """
    A security control that has failed: what PCI DSS v4.0.1, 10.7.3 has written down of it.

    Attributes:
        id: Its number.
        control: Which control.
        started_at: Since when, UTC.
        ended_at: Until when; `None` while it is open.
        cause: Why it failed.
        remediation: What was done about it.
        issues: What came of it while it lasted.
        further_action: What is still to be done.
        prevention: What keeps it from happening again.
        resumed_at: When a person said that the control works again.
        owner: Who said so.
    """

    id: int
    control: str
    started_at: datetime
    ended_at: datetime | None
    cause: str
    remediation: str | None
    issues: str | None
    further_action: str | None
    prevention: str | None
    resumed_at: datetime | None
    owner: str | None


@dataclass(frozen=True, slots=True)
class Closing:
    """
    What a person says to close a failure; nothing may be empty, and nothing of the payer's may be in it.

    Attributes:
        ended_at: Until when it lasted, UTC.
        remediation, issues, further_action, prevention: As in `Failure`.
    """

    ended_at: datetime
    remediation: str
    issues: str
    further_action: str
    prevention: str


@dataclass(frozen=True, slots=True)
class Booked:
    """
    A payment as it is compared with somebody else's books.

    Attributes:
        id: The payment's id.
        account, reference, minor, currency: What it was for.
        session_id: The provider's session, once it is known.
        money: What is known of the money: `none`, `taken`, `partial` or `unknown`.
        open: Whether it has not ended, or is held, so that its money may still change.
        created_at: When it was submitted, UTC.
        changed_at: When its newest entry was written, UTC.
    """

    id: str
    account: str
    reference: str
    minor: int
    currency: str
    session_id: str | None
    money: str
    open: bool
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Signed:
    """
    What a person signs about a period.

    Attributes:
        since, until: The period, `until` excluded.
        rules_version: Of the rules that were run.
        checkpoint_size: The newest checkpoint when they were run; `None` if nothing was sealed.
        findings: What they found, as canonical JSON.
        sha256: Of `findings`, in hexadecimal.
        count: How many findings.
        sealed: How many leaves there were when the period's actors were looked through.
    """

    since: datetime
    until: datetime
    rules_version: str
    checkpoint_size: int | None
    findings: str
    sha256: str
    count: int
    sealed: int


@dataclass(frozen=True, slots=True)
class Review:
    """
    A signed review, as it is stored: PCI DSS v4.0.1, 10.4.

    Attributes:
        id: Its number.
        period_from, period_to: The period, `period_to` excluded.
        reviewer: Who signed.
        reviewed_at: When, UTC.
        rules_version: Of the rules that were run.
        checkpoint_size: The newest checkpoint at that time.
        findings: Canonical JSON.
        disposition: What became of the findings; `None` while it is open, as all below.
        ticket: Where that is followed up.
        closed_by: Who closed it.
        closed_at: When, UTC.
    """

    id: int
    period_from: datetime
    period_to: datetime
    reviewer: str
    reviewed_at: datetime
    rules_version: str
    checkpoint_size: int | None
    findings: str
    disposition: str | None
    ticket: str | None
    closed_by: str | None
    closed_at: datetime | None
