"""
Every log event once: its name, how severe it is, and the fields it may carry.

The page to read before writing a log alert. A name is `noun.past_tense`. A field
that isn't listed here is not logged. Fields are ids, names, counts, states and
times; none may hold payer data, a secret or an answer's body. Next: `telemetry`.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Level = Literal["debug", "info", "warning", "error"]

CONTEXT = ("payment_id", "account", "worker_id", "trace_id")
"""What ties lines together; bound once with `telemetry.correlated` and allowed in every event."""

ALWAYS = frozenset((*CONTEXT, "error"))
"""Allowed in every event: the context, and the exception that the line is about."""


class _Event(NamedTuple):
    level: Level
    fields: frozenset[str]


def _event(level: Level, fields: str = "") -> _Event:
    return _Event(level, ALWAYS | frozenset(fields.split()))


_TABLE: dict[str, _Event] = {
    # a payment's life, in its order
    "payment.submitted": _event("info", "channel reference round attempt amount_minor currency state created missing"),
    "payment.collected": _event("info", "channel names missing"),
    "payment.claimed": _event("debug", "claim_no state count"),
    "operation.sent": _event("debug", "operation attempt channel method"),
    "operation.answered": _event("info", "operation attempt channel verdict status code duration_s session_id reason"),
    "payment.recorded": _event(
        "info",
        "trigger from_state to_state state version seq entry_hash reason outcome due_at operation verdict channel",
    ),
    "payment.superseded": _event("warning", "channel session_id sessions reason"),
    "payment.overdue": _event("warning", "channel state since_s"),
    "payment.held": _event("warning", "channel state hold outcome reason money"),
    "payment.released": _event("info", "state reason person"),
    "payment.ended": _event("info", "channel state outcome reason money duration_s"),
    "payment.poisoned": _event("error", "claim_no state"),
    "payment.cancelled": _event("info", "state reason"),
    "result.late": _event("error", "state outcome money session_id"),
    "state.unknown": _event("warning", "session_state operation"),
    "webhook.heard": _event("info", "result reason state"),
    "webhook.postponed": _event("warning", "reason"),
    "webhook.refused": _event("warning", "reason origin"),
    "access.denied": _event("warning", "reason origin"),
    "webhook.failed": _event("error"),
    "card_data.refused": _event("info", "reason"),
    "payer_data.erased": _event("info", "count reason"),
    # claims and workers
    "claim.fenced": _event("warning", "claim_no version operation verdict count"),
    "claim.rescued": _event("warning", "claim_no former_worker state count operation"),
    "drive.failed": _event("error", "reason"),
    "claim.failed": _event("warning", "count reason"),
    "worker.started": _event("info", "host pid version concurrency database"),
    "worker.lapsed": _event("error", "since_s former_worker in_flight"),
    "worker.draining": _event("info", "in_flight timeout_s signal"),
    "worker.stopped": _event("info", "in_flight drained duration_s reason"),
    "service.started": _event("info", "port host"),
    "service.stopped": _event("info"),
    "metrics.served": _event("info", "port host"),
    "worker.failed": _event("error", "reason"),
    "clock.skewed": _event("warning", "offset_s"),
    "hint.failed": _event("warning", "reason"),
    # several processes on one machine
    "process.started": _event("info", "pid"),
    "process.replaced": _event("info", "pid former_pid"),
    "process.refused": _event("error", "pid status"),
    "process.ended": _event("error", "pid status retry_in_s"),
    "process.failed": _event("error"),
    "process.killed": _event("error", "pid"),
    "processes.crowded": _event("warning", "count reason"),
    # the provider
    "token.renewed": _event("info", "expires_in_s duration_s waiting"),
    "token.refused": _event("warning", "status code reason"),
    "call.waited": _event("debug", "operation duration_s"),
    "call.answered": _event("debug", "operation verdict"),
    "breaker.opened": _event("error", "operation reason"),
    "breaker.closed": _event("warning", "operation since_s"),
    "evidence.lost": _event("error", "since_s"),
    "evidence.endangered": _event("warning", "count capacity"),
    "evidence.secured": _event("info", "capacity"),
    "account.measured": _event("debug", "waiting at_risk"),
    "account.paused": _event("warning", "reason person"),
    "account.resumed": _event("info", "reason person"),
    # telling the host
    "notification.delivered": _event("info", "kind tries notification_id duration_s"),
    "notification.expired": _event("warning", "kind tries notification_id"),
    "notification.failed": _event("warning", "kind tries notification_id retry_in_s"),
    "handler.registered": _event("info", "kind name"),
    "handler.failed": _event("error", "kind name notification_id tries"),
    # the database and its keys
    "database.upgraded": _event("info", "from_revision to_revision dialect"),
    "database.unavailable": _event("error", "reason retry_in_s operation"),
    "database.recovered": _event("info", "since_s reason"),
    "database.rewound": _event("error", "reason fix"),
    "control.failed": _event("error", "control reason"),
    "seal.made": _event("info", "size"),
    "trail.verified": _event("debug", "count findings"),
    "seal.measured": _event("debug", "waiting since_s"),
    "seal.off": _event("warning", "reason"),
    "signing_key.created": _event("warning", "path key"),
    "mark.missing": _event("warning", "reason"),
    "mark.failed": _event("error", "reason"),
    "record.split": _event("warning", "count reason"),
    "sealing_key.created": _event("warning", "path key_id"),
    "settings.loaded": _event("info", "file accounts database"),
    # everything else in the process
    "sandbox.started": _event("info", "url seed"),
    "sandbox.stopped": _event("info", "token_calls session_calls status_calls"),
    "library.logged": _event("warning", "logger message"),
    "log.refused": _event("warning", "name"),
}

EVENTS: Mapping[str, frozenset[str]] = {name: event.fields for name, event in _TABLE.items()}
"""Name to the fields that the event may carry."""

LEVELS: Mapping[str, Level] = {name: event.level for name, event in _TABLE.items()}
"""Name to its severity."""
