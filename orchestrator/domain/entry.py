"""
One row of the audit trail, its canonical bytes, and the chain they form.

An entry answers the six questions of PCI DSS v4.0.1 requirement 10.2.2 (who,
what kind of event, when, success or failure, from where, about what) and adds
what moved. Its body is RFC 8785 canonical JSON restricted to ASCII keys,
integers, strings, booleans and null, for which the standard library's sorted
compact encoding is byte-equal; the stored bytes are the hashed bytes:

    hash = SHA-256(0x00 || body)        the leaf hash of RFC 6962; `prev` is in the body

Chains are `pay-...` (a payment's own id), `worker-...` and `admin-...`. No payer
data, no secret and no card data is in a body. Next: `decide`.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any

from orchestrator.domain.machine import START, Operation
from orchestrator.domain.payment import FACTS, Payment, State
from orchestrator.domain.verdict import Verdict, VerdictKind

BODY_VERSION = 1
NO_HASH = bytes(32)
"""What the first entry of a chain extends."""

ADMIN_EDGES = (
    ("worker_started", START, "running"),
    ("worker_stopped", "running", "stopped"),
    ("worker_lapsed", "running", "stopped"),
    ("note", START, "open"),
    ("note", "open", "open"),
)
"""The edges of the chains that are not a payment's."""


@dataclass(frozen=True, slots=True)
class Looks:
    """
    The polls since the last entry that learnt nothing and so wrote nothing.

    Attributes:
        count: How many looks.
        failed: How many of them got no usable answer.
        since: When the first was.
        states: The provider's raw states seen, in order, each once.
    """

    count: int = 0
    failed: int = 0
    since: datetime | None = None
    states: tuple[str, ...] = ()

    def plus(self, *, at: datetime, failed: bool, state: str | None) -> "Looks":
        """Give this summary with one more look."""
        states = self.states if state is None or state in self.states else (*self.states, state)
        return Looks(self.count + 1, self.failed + failed, self.since or at, states[-8:])


@dataclass(frozen=True, slots=True)
class Context:
    """
    Who decides, when and from where: what a decision takes from outside the payment.

    Attributes:
        now: The present, UTC.
        actor: Who: a worker id, `host`, or a person.
        origin: From where: host name and process id.
        trace: Trace id of the request, if any.
        version: The software's version.
        looks: The unwritten polls to sum up.
    """

    now: datetime
    actor: str
    origin: str
    trace: str | None = None
    version: str = ""
    looks: Looks = field(default=Looks())


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the trail; the columns say what the body says."""

    chain_id: str
    seq: int
    trigger: str
    from_state: str
    to_state: str
    at: datetime
    actor: str
    origin: str
    kind: str
    result: str
    about: str
    prev_hash: bytes
    hash: bytes
    body: str


def canonical(value: Mapping[str, Any]) -> str:
    """
    Encode as RFC 8785 JSON, for the values that entries are made of.

    Raises:
        ValueError: For floats, non-ASCII keys and what JSON doesn't know: they would
            not be byte-equal in another implementation.
    """
    document = dict(value)
    _check(document)
    return _encode(document)


_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode
"""One encoder for all: `json.dumps` would make one for each call."""


def _check(value: Mapping[Any, Any] | Sequence[Any]) -> None:
    """Check the members of a container; one call for each, because every entry comes by here."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or not key.isascii():
                raise ValueError("keys are ASCII text")
        members: Iterable[Any] = value.values()
    else:
        members = value
    for member in members:
        if type(member) is str and member.isascii():
            continue
        match member:
            case str():
                member.encode()  # a lone surrogate has no bytes
            case None | bool():
                pass
            case int():
                if abs(member) >= 2**53:
                    raise ValueError("an integer beyond 2^53 is not exact in JSON")
            case dict() | list() | tuple():  # no other mapping: the encoder knows none
                _check(member)
            case _:
                raise ValueError(f"a {type(member).__name__} has no canonical form here")


def body_hash(body: str) -> bytes:
    """Give the entry's hash: the RFC 6962 leaf hash of its body."""
    return hashlib.sha256(b"\x00" + body.encode()).digest()


@lru_cache(maxsize=256)
def instant(at: datetime) -> str:
    """Give the instant as `2026-11-24T15:46:40.000000Z`; UTC, always 27 characters, sorts by time."""
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    return at.isoformat(timespec="microseconds")[:26] + "Z"


def fact(payment: Payment, name: str) -> Any:
    """Give one fact of the payment in the form in which entries keep it."""
    match name:
        case "currency":
            return payment.amount.currency
        case "amount_minor":
            return payment.amount.minor
    value = getattr(payment, name)
    match value:
        case datetime():
            return instant(value)
        case Mapping():
            return dict(value)
        case tuple():
            return list(value)
        case str():
            return str(value)
    return value


def changed_facts(before: Payment | None, after: Payment) -> dict[str, Any]:
    """Give every fact that differs, as entries keep it; all that is set for a birth."""
    new = _facts_of(after)
    if before is None:
        return {name: fact(after, name) for name, value in zip(FACTS, new, strict=True) if value}
    old = _facts_of(before)
    if new == old:
        return {}
    return {
        name: fact(after, name)
        for name, value, former in zip(FACTS, new, old, strict=True)
        if value is not former and value != former
    }


_facts_of = attrgetter(*({"currency": "amount.currency", "amount_minor": "amount.minor"}.get(name, name)
                         for name in FACTS))  # fmt: skip


def extend(
    before: Payment | None,
    after: Payment,
    trigger: str,
    context: Context,
    *,
    to_state: State | None = None,
    operation: Operation | None = None,
    attempt: int | None = None,
    verdict: Verdict | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Entry:
    """
    Write the entry that takes the payment from `before` to `after`.

    Args:
        before: The payment as its newest entry left it; `None` for the first entry.
        after: The payment as it will be; version and head are ignored.
        trigger: The machine's trigger.
        context: Who, when, from where.
        to_state: The state it will be in, if not the one in `after`.
        operation: What was tried, if anything.
        attempt: Which attempt.
        verdict: What came of it.
        extra: More for the body: ASCII keys; no payer data.
    """
    details: dict[str, Any] = dict(extra or {})
    if operation is not None:
        details["operation"] = operation.value
    if attempt is not None:
        details["attempt"] = attempt
    if verdict is not None:
        details |= _told(verdict)
    if context.looks.count:
        details["looks"] = _summed_up(context.looks)
    if context.trace:
        details["trace"] = context.trace
    details["facts"] = changed_facts(before, after)
    return sealed_entry(
        chain_id=after.id,
        seq=1 if before is None else before.version + 1,
        prev_hash=NO_HASH if before is None else before.head,
        trigger=trigger,
        from_state=START if before is None else before.state.value,
        to_state=(to_state or after.state).value,
        kind=f"payment.{trigger}",
        result=_result(trigger, verdict),
        about=after.id,
        context=context,
        details=details,
    )


def sealed_entry(
    *, chain_id: str, seq: int, prev_hash: bytes, trigger: str, from_state: str, to_state: str,
    kind: str, result: str, about: str, context: Context, details: Mapping[str, Any],
) -> Entry:  # fmt: skip
    """Put columns and details into one body and hash it; `result` is success, failure or unknown."""
    columns = {
        "chain": chain_id, "seq": seq, "trigger": trigger, "from": from_state, "to": to_state,
        "at": instant(context.now), "actor": context.actor, "origin": context.origin,
        "kind": kind, "result": result, "about": about, "prev": prev_hash.hex(),
    }  # fmt: skip
    body = canonical({"v": BODY_VERSION, "software": context.version, **details, **columns})
    return Entry(
        chain_id, seq, trigger, from_state, to_state, context.now, context.actor, context.origin,
        kind, result, about, prev_hash, body_hash(body), body,
    )  # fmt: skip


def _result(trigger: str, verdict: Verdict | None) -> str:
    if verdict is not None and verdict.kind is VerdictKind.UNKNOWN:
        return "unknown"
    if trigger in ("fail", "retry", "supersede") or (verdict is not None and verdict.kind is not VerdictKind.ANSWERED):
        return "failure"
    return "unknown" if trigger == "hold" else "success"


def _told(verdict: Verdict) -> dict[str, Any]:
    exchange = verdict.exchange
    told: dict[str, Any] = {"verdict": verdict.kind.value}
    optional = {
        "cause": None if verdict.cause == "none" else verdict.cause.value,
        "why": verdict.reason or None,
        "message": verdict.message,
        "method": exchange.method or None,
        "url": exchange.url or None,
        "status": exchange.status,
        "sends": exchange.sends or None,
        "duration_ms": exchange.duration_ms if exchange.sends else None,
    }
    return told | {name: value for name, value in optional.items() if value is not None}


def _summed_up(looks: Looks) -> dict[str, Any]:
    summary: dict[str, Any] = {"count": looks.count, "failed": looks.failed, "states": list(looks.states)}
    if looks.since is not None:
        summary["since"] = instant(looks.since)
    return summary
