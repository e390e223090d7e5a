"""
What compliance staff read: views with the same columns on both databases.

None shows payer data, nor what dials into a session. Owns their columns, which `docs/views.md`
explains one by one: they are an interface, so columns are added and never renamed. Whatever
may be so or not says `yes` or `no`, because the two databases print truth in two ways.
Next: `ddl`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_PAYMENT = (
    "id", "account", "channel", "reference", "round", "amount_minor", "currency", "state", "outcome", "reason",
    "money", "hold", "held_at", "overdue", "cancel_requested", "created_at", "due_at", "deadline_at", "watch_until",
    "call_guid", "session_id", "session_state", "session_at", "attempts", "open_attempt", "sessions",
    "acknowledged_at", "unseen_until", "version", "claimed_by", "claim_no", "machine_version", "codes",
)  # fmt: skip
_TIMELINE = (
    "payment_id", "seq", "at", "actor", "origin", "kind", "trigger", "from_state", "to_state", "result", "operation",
    "verdict", "cause", "why", "message", "method", "url", "trace", "software", "attempt", "status", "sends",
    "duration_ms", "reason", "looks", "hash",
)  # fmt: skip
_CALLS = (
    "payment_id", "account", "reference", "seq", "at", "actor", "origin", "trigger", "step", "operation", "attempt",
    "verdict", "result", "cause", "why", "method", "url", "status", "sends", "duration_ms", "looks", "looks_failed",
    "session_id", "trace",
)  # fmt: skip
_UNKNOWN = (
    "payment_id", "account", "channel", "reference", "round", "amount_minor", "currency", "state", "outcome", "reason",
    "money", "money_unknown", "open_attempt", "attempt_open", "hold", "held_at", "held", "unseen_until",
    "session_unseen", "session_id", "created_at", "due_at", "version",
)  # fmt: skip
_OVERLAP = (
    "payment_id", "account", "reference", "earlier_seq", "earlier_at", "earlier_attempt", "payable_until", "seq", "at",
    "attempt", "actor", "supersede_seq", "explained",
)  # fmt: skip
_NOTES = ("chain_id", "seq", "at", "actor", "origin", "kind", "result", "about", "reason")

COLUMNS: Mapping[str, Sequence[str]] = {
    "v_payment": _PAYMENT,
    "v_timeline": _TIMELINE,
    "v_provider_calls": _CALLS,
    "v_unknown": _UNKNOWN,
    "v_session_overlap": _OVERLAP,
    "v_audit_access": (*_NOTES, "entries", "sha256", "count"),
    "v_admin_actions": (*_NOTES, "trigger", "body", "hash"),
}
"""Every view with its columns, in their order."""
VIEWS = tuple(COLUMNS)

_IS_PAYMENT = "substr(chain_id, 1, 4) = 'pay-'"
NO_PERSON = ("host", "webhook")
"""Actors that are programs, besides workers: whoever else acts on a payment is taken for a person."""


@dataclass(frozen=True, slots=True)
class _Speech:
    """How one database takes a body apart."""

    sqlite: bool

    def text(self, *path: str, row: str = "") -> str:
        """Give what stands at a path, as text."""
        if self.sqlite:
            return f"json_extract({row}body, '$.{'.'.join(path)}')"
        return f"{self._above(path, row)} ->> '{path[-1]}'"

    def number(self, *path: str, row: str = "") -> str:
        """Give the integer at a path."""
        return self.text(*path, row=row) if self.sqlite else f"cast({self.text(*path, row=row)} as bigint)"

    def is_null(self, *path: str, row: str = "") -> str:
        """Tell whether a null stands at a path, and not nothing at all."""
        if self.sqlite:
            return f"json_type({row}body, '$.{'.'.join(path)}') = 'null'"
        return f"jsonb_typeof({self._above(path, row)} -> '{path[-1]}') = 'null'"

    def instant(self, text: str) -> str:
        """Give a text as what instants are kept as."""
        return text if self.sqlite else f"cast({text} as timestamptz)"

    def hexed(self, column: str) -> str:
        """Give bytes as small hexadecimal digits."""
        return f"lower(hex({column}))" if self.sqlite else f"encode({column}, 'hex')"

    def _above(self, path: Sequence[str], row: str) -> str:
        return " -> ".join([f"cast({row}body as jsonb)", *(f"'{name}'" for name in path[:-1])])


def views(dialect: str) -> list[str]:
    """Give every view's statement for `sqlite` or `postgresql`."""
    say = _Speech(dialect == "sqlite")
    made = {
        "v_payment": (dict.fromkeys(_PAYMENT, ""), "payment"),
        "v_timeline": _timeline(say),
        "v_provider_calls": _calls(say),
        "v_unknown": _unknown(),
        "v_session_overlap": _overlap(say),
        "v_audit_access": _access(say),
        "v_admin_actions": _actions(say),
    }
    return [_view(name, *made[name]) for name in VIEWS]


def _view(name: str, meanings: Mapping[str, str], source: str) -> str:
    columns = (f"{meanings[column]} as {column}" if meanings.get(column) else column for column in COLUMNS[name])
    return f"create view {name} as select {', '.join(columns)} from {source}"  # noqa: S608 - our own words


def _yes(condition: str) -> str:
    return f"case when {condition} then 'yes' else 'no' end"


def _timeline(say: _Speech) -> tuple[dict[str, str], str]:
    texts = ("operation", "verdict", "cause", "why", "message", "method", "url", "trace", "software")
    meanings = {name: say.text(name) for name in texts}
    meanings |= {name: say.number(name) for name in ("attempt", "status", "sends", "duration_ms")}
    meanings |= {
        "payment_id": "chain_id", "reason": say.text("facts", "reason"), "looks": say.number("looks", "count"),
        "hash": say.hexed("hash"),
    }  # fmt: skip
    return meanings, f"audit_entry where {_IS_PAYMENT}"


def _calls(say: _Speech) -> tuple[dict[str, str], str]:
    """Every entry that tells of a call: the intent before it, its answer, and looks that were summed up."""
    own = ("seq", "at", "actor", "origin", "trigger", "result")
    meanings = {name: f"e.{name}" for name in own} | {name: f"p.{name}" for name in ("account", "reference")}
    texts = ("operation", "verdict", "cause", "why", "method", "url", "trace")
    meanings |= {name: say.text(name, row="e.") for name in texts}
    meanings |= {name: say.number(name, row="e.") for name in ("attempt", "status", "sends", "duration_ms")}
    verdict, looks = say.text("verdict", row="e."), say.number("looks", "count", row="e.")
    meanings |= {
        "payment_id": "e.chain_id", "session_id": say.text("facts", "session_id", row="e."), "looks": looks,
        "looks_failed": say.number("looks", "failed", row="e."),
        "step": f"case when e.trigger = 'request' then 'intent' when {verdict} is not null then 'answer'"
        " else 'looks' end",
    }  # fmt: skip
    tells = f"e.trigger = 'request' or {verdict} is not null or {looks} is not null"
    return meanings, f"audit_entry e join payment p on p.id = e.chain_id where {tells}"


def _unknown() -> tuple[dict[str, str], str]:
    """Every payment of which something is not known, and what."""
    doubts = {
        "money_unknown": "money = 'unknown'", "attempt_open": "open_attempt is not null", "held": "hold is not null",
        "session_unseen": "unseen_until is not null",
    }  # fmt: skip
    meanings = {"payment_id": "id"} | {name: _yes(doubt) for name, doubt in doubts.items()}
    return meanings, f"payment where {' or '.join(doubts.values())}"


def _overlap(say: _Speech) -> tuple[dict[str, str], str]:
    """
    Every start after an earlier one whose session may still be payable.

    It can't be when the earlier attempt came to nothing (`retry`), when a person said so (a `release` that takes
    `unseen_until` away), or when its life was over.
    """
    between = "b.chain_id = a.chain_id and b.seq > a.seq and b.seq < e.seq"
    attempt, earlier = say.number("attempt", row="e."), say.number("attempt", row="a.")
    same = f"{say.number('attempt', row='b.')} = {earlier}"
    until = say.instant(
        f"(select max({say.text('facts', 'unseen_until', row='b.')}) from audit_entry b where {between})"  # noqa: S608
    )
    superseded = f"(select max(b.seq) from audit_entry b where {between} and b.trigger = 'supersede' and {same})"  # noqa: S608
    meanings = {
        "payment_id": "p.id", "account": "p.account", "reference": "p.reference", "earlier_seq": "a.seq",
        "earlier_at": "a.at", "earlier_attempt": earlier, "payable_until": until, "seq": "e.seq", "at": "e.at",
        "attempt": attempt, "actor": "e.actor", "supersede_seq": superseded,
        "explained": _yes(f"{superseded} is not null"),
    }  # fmt: skip
    over = say.is_null("facts", "unseen_until", row="b.")
    settled = f"(b.trigger = 'retry' and {same}) or (b.trigger = 'release' and {over})"
    unsettled = f"not exists (select 1 from audit_entry b where {between} and ({settled}))"  # noqa: S608
    source = (
        "audit_entry e join audit_entry a on a.chain_id = e.chain_id and a.seq < e.seq and a.trigger = 'request'"
        " join payment p on p.id = e.chain_id where e.trigger = 'request'"
        f" and {unsettled} and ({until} is null or {until} > e.at)"
    )
    return meanings, source


def _access(say: _Speech) -> tuple[dict[str, str], str]:
    """Who looked, or tried to: by the families of kinds, so that a new kind needs no new view."""
    meanings = {
        "reason": say.text("reason"), "entries": say.number("entries"), "sha256": say.text("sha256"),
        "count": say.number("count"),
    }  # fmt: skip
    looked = "substr(kind, 1, 6) = 'audit.' or substr(kind, 1, 7) = 'access.' or kind = 'webhook.refused'"
    return meanings, f"audit_entry where not {_IS_PAYMENT} and ({looked})"


def _actions(say: _Speech) -> tuple[dict[str, str], str]:
    """Every administrative and security entry, and what persons did to payments."""
    programs = ", ".join(f"'{name}'" for name in NO_PERSON)
    person = f"substr(actor, 1, 7) <> 'worker-' and actor not in ({programs})"
    # A person's own words first: on a payment they are `why`, beside the machine's reason.
    reasons = ", ".join((say.text("reason"), say.text("why"), say.text("facts", "reason")))
    meanings = {"reason": f"coalesce({reasons})", "hash": say.hexed("hash")}
    return meanings, f"audit_entry where not {_IS_PAYMENT} or ({person})"
