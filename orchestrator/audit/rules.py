"""
The rules of a review: what a reviewer is to look at, each with a stable id and a version.

Owns the rules that judge one entry, and those that judge a payment's whole chain; the ones that
need more than entries are in `review`. An id never changes its meaning: whoever compares
reviews of two years compares the same thing. Pure. Next: `review`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from orchestrator.audit.chain import PAYMENT_CHAIN, body_of
from orchestrator.domain.entry import Entry, instant

RULES_VERSION = "1"
"""Of all rules together; changes whenever one is added, changed or taken away."""


@dataclass(frozen=True, slots=True)
class Rule:
    """
    One rule.

    Attributes:
        id: Its stable name.
        version: Of what it looks for.
        looks_for: What it finds, in a sentence.
    """

    id: str
    version: int
    looks_for: str


RULES: Mapping[str, Rule] = {
    rule.id: rule
    for rule in (
        Rule("chain.gap", 1, "an entry whose predecessor is not there"),
        Rule("row.unreadable", 1, "a row that can't be read"),
        Rule("seal.late", 1, "entries that waited too long for their seal"),
        Rule("hold.old", 1, "a hold that was, or is, older than the limit"),
        Rule("override", 1, "a person's word that decided a payment"),
        Rule("access.denied", 1, "somebody who was refused: a webhook without its token, a second word of one person"),
        Rule(
            "session.overlap", 1, "a start after one of unknown result that neither `supersede` nor a person explains"
        ),
        Rule("clock.skew", 1, "a clock that was too far from the database's"),
        Rule("card.refused", 1, "card data that was sent to us and refused"),
        Rule("result.late", 1, "evidence that came after a payment's end"),
        Rule("account.paused", 1, "an account that a person paused"),
        Rule("database.restored", 1, "a database that was put back"),
        Rule("schema.changed", 1, "a schema that was recorded anew, as by an upgrade"),
        Rule("control.failed", 1, "a security control that failed"),
        Rule("key.used", 1, "a key that began to sign"),
    )
}

_BY_KIND = {
    "clock.skew": "clock.skew", "account.paused": "account.paused", "database.restored": "database.restored",
    "control.failed": "control.failed", "key.used": "key.used", "resolution.refused": "access.denied",
    "payment.late_result": "result.late",
}  # fmt: skip
_BY_FAMILY = {
    "access": "access.denied",
    "auth": "access.denied",
    "schema": "schema.changed",
    "card_data": "card.refused",
}
"""Kinds of these families, such as `access.denied`; of all but `schema` only those that tell of a refusal."""
_REFUSED = ("denied", "refused")
_FIRST_ATTEMPT = '"attempt":1,'
"""How the body of a first intent says so, being canonical."""


@dataclass(frozen=True, slots=True)
class Finding:
    """
    Something for a person to look at.

    Attributes:
        rule: Which rule found it.
        about: The chain, the payment, or what else it is about.
        seq: The entry, if it is one.
        at: When it happened, UTC.
        actor: Who did it; empty if nobody did.
        what: What it is, without payer data.
    """

    rule: str
    about: str
    seq: int | None
    at: datetime
    actor: str
    what: str

    @property
    def told(self) -> dict[str, Any]:
        """The finding as a signed review keeps it."""
        return {
            "rule": self.rule, "version": RULES[self.rule].version, "about": self.about, "seq": self.seq,
            "at": instant(self.at), "actor": self.actor, "what": self.what,
        }  # fmt: skip


def of_entry(entry: Entry) -> Iterator[Finding]:
    """Judge one entry by itself."""
    body = body_of(entry.body)
    rule = _rule_of(entry, body)
    if rule is not None:
        yield _finding(rule, entry, _words(entry, body))
    resolution = body.get("resolution")
    if isinstance(resolution, dict) and entry.chain_id.startswith(PAYMENT_CHAIN):
        said = " ".join(str(word) for _, word in sorted(resolution.items()))
        yield _finding("override", entry, f"{entry.trigger}: {said}"[:_LONGEST])


def _rule_of(entry: Entry, body: Mapping[str, Any]) -> str | None:
    if entry.kind == "webhook.refused":
        return "card.refused" if body.get("reason") == "card_data" else "access.denied"
    family, _, word = entry.kind.partition(".")
    if entry.kind in _BY_KIND:
        return _BY_KIND[entry.kind]
    rule = _BY_FAMILY.get(family)
    return rule if rule == "schema.changed" or word.rpartition("_")[2] in _REFUSED else None


_LONGEST = 200
_TELLING = ("reason", "refused", "cause", "offset_ms", "account", "key")


def _words(entry: Entry, body: Mapping[str, Any]) -> str:
    facts = body.get("facts")
    told = {**body, **(facts if isinstance(facts, dict) else {})}
    parts = [str(told[name]) for name in _TELLING if told.get(name) not in (None, "")]
    return f"{entry.kind}: {', '.join(parts)}"[:_LONGEST] if parts else entry.kind


def worth_reading(entry: Entry) -> bool:
    """Tell whether the entry's chain must be read whole: the end of a hold, or a start that is not the first."""
    again = entry.trigger == "request" and _FIRST_ATTEMPT not in entry.body
    return entry.chain_id.startswith(PAYMENT_CHAIN) and (again or entry.trigger == "release")


def of_chain(chain: Sequence[Entry], since: datetime, until: datetime, limit: timedelta) -> Iterator[Finding]:
    """
    Judge a payment's chain: what of it happened in the period.

    Args:
        chain: Every entry, the first one first.
        since: The period's beginning.
        until: Its end.
        limit: How old a hold may get.
    """
    held_since: datetime | None = None
    unexplained: int | None = None
    for entry in chain:
        body, here = body_of(entry.body), since <= entry.at < until
        if entry.trigger == "hold":
            held_since = held_since or entry.at
        elif entry.trigger == "release" and held_since is not None:
            if here and entry.at - held_since > limit:
                yield _finding("hold.old", entry, f"released after {_hours(entry.at - held_since)}")
            held_since = None
        if entry.trigger == "supersede" or "resolution" in body:
            unexplained = None
        elif body.get("operation") == "start_session" and body.get("verdict") == "unknown":
            unexplained = entry.seq
        elif entry.trigger == "request" and unexplained is not None:
            if here:
                yield _finding(
                    "session.overlap", entry, f"asked for though entry {unexplained} left its result unknown"
                )
            unexplained = None


def hold_of(payment_id: str, held_at: datetime, until: datetime, doubt: str) -> Finding:
    """Give the finding of a payment that is held now, and was too long at the period's end."""
    return Finding("hold.old", payment_id, None, held_at, "", f"{doubt}: held for {_hours(until - held_at)}")


def _finding(rule: str, entry: Entry, what: str) -> Finding:
    return Finding(rule, entry.chain_id, entry.seq, entry.at, entry.actor, what)


def _hours(span: timedelta) -> str:
    minutes = max(0, int(span.total_seconds())) // 60
    return f"{minutes // 60} h {minutes % 60} min"
