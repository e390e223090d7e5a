"""
What an older release's trail tells of this release: would every payment go on?

Replays each payment's chain through this software's machine and holds what is in
flight against this software's words, definitions and policy. Pure: whoever calls
reads the file and the settings. Next: `orchestrator.cli`.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from orchestrator.audit.chain import PAYMENT_CHAIN, Story
from orchestrator.domain import machine
from orchestrator.domain.entry import ADMIN_EDGES, instant
from orchestrator.domain.errors import OrchestratorError
from orchestrator.domain.machine import Operation
from orchestrator.domain.money import Money
from orchestrator.domain.outcome import MoneyFact, Outcome
from orchestrator.domain.payment import FACTS, Channel, HoldReason, Payment, State
from orchestrator.domain.policy import Policy
from orchestrator.domain.restoring import REASON as RESTORED

ENDS_OF = MappingProxyType({1: frozenset({"completed", "failed"})})
"""What each released version of the machine calls an end; a version is added and never changed."""

MOST_CHANGES = 1000

Edge = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Rules:
    """
    What this software knows; get it from `present_rules`.

    Attributes:
        edges: The machine's (trigger, from, to).
        ends: The states that no edge leaves.
        words: Fact to the values that it may have.
        operations: What an entry may have tried.
        versions: The machine versions whose payments can be driven.
        definitions: Digests of the definitions that are known and can be read.
        policy: Of an account and channel; `None` if the account is not configured.
    """

    edges: frozenset[Edge]
    ends: frozenset[str]
    words: Mapping[str, frozenset[str]]
    operations: frozenset[str]
    versions: frozenset[int]
    definitions: frozenset[str]
    policy: Callable[[str, Channel], Policy | None]

    @property
    def states(self) -> frozenset[str]:
        """Every state, the one before the first entry included."""
        return frozenset(state for _, *both in self.edges for state in both)


@dataclass(frozen=True, slots=True)
class Change:
    """
    Something that an older trail needs and this software does otherwise.

    Attributes:
        kind: A machine-readable word: `edge`, `guard`, `state`, `operation`, `terminal`, `reopened`,
            `outcome`, `hold`, `money`, `channel`, `deadline`, `version`, `definition`, `account`, `fact`.
        what: What exactly; no payer data.
        chains: How many chains show it.
        in_flight: How many of them are payments that are not over.
        example: The first such chain, one in flight if there is any.
    """

    kind: str
    what: str
    chains: int
    in_flight: int
    example: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """The replay's result: changes, those with payments in flight first; and how much was looked at."""

    changes: tuple[Change, ...]
    counts: dict[str, int]


def present_rules(
    *, versions: Collection[int], definitions: Collection[str], policy: Callable[[str, Channel], Policy | None]
) -> Rules:
    """Give what this software's domain knows, with what only its surroundings know."""
    edges = frozenset(machine.edges())
    states = {target for _, _, target in edges}
    left = {source for _, source, target in edges if source != target}
    return Rules(
        edges,
        frozenset(states - left),
        {
            "outcome": frozenset(Outcome), "hold": frozenset(HoldReason), "money": frozenset(MoneyFact),
            "channel": frozenset(Channel),
        },
        frozenset(machine.Operation),
        frozenset(versions),
        frozenset(definitions),
        policy,
    )  # fmt: skip


@dataclass(slots=True)
class _Seen:
    chains: int = 0
    in_flight: int = 0
    example: str = ""
    examples_in_flight: list[str] = field(default_factory=list)


def replay(chains: Iterable[Story], rules: Rules) -> Replayed:
    """
    Replay every chain.

    Args:
        chains: As `exported.read_export` gives them; whole and undamaged.
        rules: What this software knows.

    Returns:
        At most 1,000 different changes; `counts["changes"]` has all.
    """
    counts: Counter[str] = Counter(chains=0, entries=0, payments=0, in_flight=0, changes=0)
    seen: dict[tuple[str, str], _Seen] = {}
    for story in chains:
        ours = story.chain_id.startswith(PAYMENT_CHAIN)
        flying = ours and _in_flight(story, rules)
        counts.update(chains=1, entries=story.seq, payments=int(ours), in_flight=int(flying))
        for key in set(_payment(story, rules, flying=flying) if ours else _other(story)):
            counts["changes"] += key not in seen
            if key in seen or len(seen) < MOST_CHANGES:
                _count(seen.setdefault(key, _Seen()), story.chain_id, flying=flying)
    changes = (
        Change(*key, each.chains, each.in_flight, (each.examples_in_flight or [each.example])[0])
        for key, each in seen.items()
    )
    return Replayed(tuple(sorted(changes, key=lambda one: (not one.in_flight, one.kind, one.what))), dict(counts))


def _count(seen: _Seen, chain_id: str, *, flying: bool) -> None:
    seen.chains += 1
    seen.in_flight += flying
    seen.example = seen.example or chain_id
    if flying and not seen.examples_in_flight:
        seen.examples_in_flight.append(chain_id)


_Found = Iterator[tuple[str, str]]


def _in_flight(story: Story, rules: Rules) -> bool:
    """Whether somebody, a worker or a person, still has to do something about the payment."""
    waits = story.facts.get("hold") is not None or story.facts.get("watch_until") is not None
    return waits or story.state not in _old_ends(story, rules)


def _old_ends(story: Story, rules: Rules) -> frozenset[str]:
    version = story.facts.get("machine_version")
    return ENDS_OF.get(version, rules.ends) if isinstance(version, int) else rules.ends


def _other(story: Story) -> _Found:
    for body in story.bodies:
        edge = (body["trigger"], body["from"], body["to"])
        if edge not in ADMIN_EDGES:
            yield "edge", _told(edge)


def _payment(story: Story, rules: Rules, *, flying: bool) -> _Found:
    yield from _moves(story, rules)
    for body in story.bodies:
        operation = body.get("operation")
        if operation is not None and operation not in rules.operations:
            yield "operation", f"{operation} is gone"
        for fact, words in rules.words.items():
            value = body["facts"].get(fact)
            if value is not None and value not in words:
                yield fact, f"{fact} {value} is gone"
    version = story.facts.get("machine_version")
    if version not in rules.versions:
        yield "version", f"machine version {version} is not known here"
    if flying:
        yield from _standing(story, rules)


def _moves(story: Story, rules: Rules) -> _Found:
    """Take every transition anew: by the table, and then by its guards."""
    facts: dict[str, Any] = {}
    for body in story.bodies:
        edge = trigger, source, target = body["trigger"], body["from"], body["to"]
        facts |= body["facts"]
        for state in {source, target} - rules.states:
            yield "state", f"{state} is gone"
        if edge not in rules.edges:
            yield "edge", _told(edge)
        elif source != machine.START:
            try:
                payment = _payment_of(story, facts, State(source))
            except (KeyError, TypeError, ValueError, OrchestratorError):
                yield "fact", f"the facts at {trigger} from {source} can't be read"
                continue
            if not machine.allows(payment, trigger):
                yield "guard", f"a guard now forbids {trigger} from {source}"


def _told(edge: Edge) -> str:
    return f"{edge[0]} from {edge[1]} to {edge[2]} is gone"


def _standing(story: Story, rules: Rules) -> _Found:
    """Look at where a payment in flight stands."""
    old = _old_ends(story, rules)
    if story.state in rules.ends - old:
        yield "terminal", f"{story.state} has become an end"
    if story.state in old - rules.ends and story.state in rules.states:
        yield "reopened", f"{story.state} is no end any more"
    pinned = story.facts.get("definitions")
    for name, digest in sorted(pinned.items() if isinstance(pinned, dict) else ()):
        if digest not in rules.definitions:
            yield "definition", f"{name} {str(digest)[:16]} is neither in the settings nor in the database"
    account, channel = story.facts.get("account"), story.facts.get("channel")
    if channel not in frozenset(Channel):
        return
    policy = rules.policy(str(account), Channel(channel))
    if policy is None:
        yield "account", f"{account} is not configured"
    else:
        yield from _deadlines(story, policy, f"{account}, {channel}")


def _deadlines(story: Story, policy: Policy, whose: str) -> _Found:
    """Hold the recorded deadlines against those that today's policy would give at the same entries."""
    facts: dict[str, Any] = {}
    last: dict[str, tuple[str, float]] = {}
    for body in story.bodies:
        facts |= body["facts"]
        begun = datetime.fromisoformat(body["at"])
        for name in ("deadline_at", "unseen_until", "watch_until"):
            if body["facts"].get(name) is None or (name == "unseen_until" and not _by_policy(body)):
                continue
            since = facts.get("session_at") if name == "watch_until" else None
            base = begun if since is None else datetime.fromisoformat(since)
            seconds = (datetime.fromisoformat(body["facts"][name]) - base) / timedelta(seconds=1)
            last[name] = (_phase(name, body["to"], facts), seconds)
    for name, (phase, seconds) in last.items():
        today = float(getattr(policy, phase))
        passed = name == "deadline_at" and facts.get("overdue")
        if facts.get(name) is not None and not passed and round(seconds - today, 3):
            yield "deadline", f"{whose}, {name}: {seconds:g} s then, {phase} is {today:g} s now"


def _by_policy(body: Mapping[str, Any]) -> bool:
    """Tell whether an unseen session's life was counted from this entry on; a person's word or a copy sets others."""
    return body.get("operation") == Operation.START_SESSION and body["facts"].get("reason") != RESTORED


def _phase(name: str, state: str, facts: Mapping[str, Any]) -> str:
    """Give the policy's number that decides this deadline."""
    if name != "deadline_at":
        return "session_life_s"
    if state in (State.COLLECTING, State.AUTHORIZED):
        return "collecting_s" if facts.get("missing") else "start_s"
    return "awaiting_s"


_INSTANTS = frozenset(one.name for one in fields(Payment) if "datetime" in str(one.type))
_WORDS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {"channel": Channel, "hold": HoldReason, "money": MoneyFact, "outcome": Outcome, "missing": tuple}
)


def _payment_of(story: Story, facts: Mapping[str, Any], state: State) -> Payment:
    """Give the payment as the facts tell it: the other direction of `entry.fact`."""
    values = {name: _value(name, facts[name]) for name in FACTS if name in facts}
    amount = Money.of_minor(values.pop("amount_minor"), values.pop("currency"))
    created_at = datetime.fromisoformat(story.bodies[0]["at"])
    return Payment(id=story.chain_id, state=state, amount=amount, created_at=created_at, **values)


def _value(name: str, told: Any) -> Any:
    if told is None:
        return None
    if name in _INSTANTS:
        value = datetime.fromisoformat(told)
        if instant(value) != told:
            raise ValueError("not one of our instants")
        return value
    return _WORDS[name](told) if name in _WORDS else told
