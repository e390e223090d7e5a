"""
Health: what a person should know or do, summed up as green, amber or red.

Owns which condition has which colour and what to do about it. Amber is to be looked at
today; red means that payments stand still or that money may be in doubt unseen. Reads the
database and what other processes have noted there; writes nothing.
Next: `orchestrator.service`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from orchestrator.claim import SKEW_REFUSED_S
from orchestrator.compliance import Failure, Lag
from orchestrator.domain.account import Account
from orchestrator.domain.entry import instant
from orchestrator.domain.errors import DatabaseDamaged, Unavailable, WentBack
from orchestrator.ports import Clock, Providers, Store
from orchestrator.traffic import BEGUN, OVER, Trouble, standing
from orchestrator.webhook import UNMATCHED


class Colour(StrEnum):
    """How bad it is."""

    GREEN = "green"
    AMBER = "amber"
    RED = "red"


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One condition that is not as it should be.

    Attributes:
        colour: Amber or red.
        what: A machine-readable word, such as `holds_old`.
        about: An account's name, or empty.
        detail: More, in a few words; no payer data, no secret.
        fix: What to do.
        since: When it began or was first noted, UTC; `None` where nobody knows.
    """

    colour: Colour
    what: str
    about: str = ""
    detail: str = ""
    fix: str = ""
    since: datetime | None = None

    def told(self) -> dict[str, Any]:
        """Give it as JSON-ready data."""
        return asdict(self) | {
            "colour": self.colour.value,
            "since": None if self.since is None else instant(self.since),
        }


@dataclass(frozen=True, slots=True)
class Health:
    """Everything that was found, and the worst colour of it."""

    findings: tuple[Finding, ...] = ()

    @property
    def colour(self) -> Colour:
        """The worst."""
        found = {finding.colour for finding in self.findings}
        return next((colour for colour in (Colour.RED, Colour.AMBER) if colour in found), Colour.GREEN)

    def told(self) -> dict[str, Any]:
        """Give it as JSON-ready data."""
        return {"health": self.colour.value, "findings": [finding.told() for finding in self.findings]}


class Database(Store, Protocol):
    """A store that knows how it stands in time."""

    async def check_life(self) -> None:
        """Make sure that it has not gone back in time; raises `WentBack`."""
        ...

    @property
    def mark_trouble(self) -> str:
        """Why the mark outside of it can't be kept; empty if it can."""
        ...

    async def failures(self, *, only_open: bool = False) -> Sequence[Failure]:
        """Give the failures of controls, the newest first."""
        ...

    async def lag(self) -> Lag:
        """Tell how much waits to be sealed, since when, and when was sealed last."""
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """
    What is measured against.

    Attributes:
        hold_age_s: How old a hold may get.
        worker_life_s: How long after its last beat a worker counts as gone.
        seal_late_s: How long an entry may wait for its seal.
        seals: Whether this process's workers seal; else somebody else must.
    """

    hold_age_s: float
    worker_life_s: float
    seal_late_s: float = 120.0
    seals: bool = True


async def examine(
    store: Database, providers: Providers, accounts: Mapping[str, Account], clock: Clock, terms: Terms
) -> Health:
    """
    Look at everything once.

    Args:
        store: The database.
        providers: How this process fares with them.
        accounts: The configured accounts.
        clock: Our clock.
        terms: What is measured against.

    Returns:
        The findings, the worst first. A database that does not answer is a finding, no error.
    """
    now = clock.now()
    try:
        found = [
            *await _of_the_database(store, clock, terms, now),
            *await _of_controls(store, terms, now),
            *await _of_accounts(store, providers, accounts, now),
        ]
    except WentBack as error:
        found = [_went_back(error.why)]
    except DatabaseDamaged as error:
        fix = "restore a backup, then orchestrator db restored --as PERSON --reason TEXT"
        found = [Finding(Colour.RED, "database_damaged", detail=str(error), fix=fix)]
    except Unavailable as error:
        found = [Finding(Colour.RED, "database_unavailable", detail=str(error), fix="bring the database back")]
    return Health(tuple(sorted(found, key=lambda finding: finding.colour is not Colour.RED)))


def _went_back(why: str) -> Finding:
    return Finding(Colour.RED, "database_rewound", detail=why, fix="orchestrator db restored --as PERSON --reason TEXT")


async def _of_the_database(store: Database, clock: Clock, terms: Terms, now: datetime) -> Iterable[Finding]:
    found = []
    await store.check_life()
    if store.mark_trouble:
        found.append(Finding(Colour.AMBER, "mark_not_kept", detail=store.mark_trouble, fix="make `mark_file` writable"))
    offset = await store.clock_offset(clock)
    if abs(offset) > SKEW_REFUSED_S:
        detail = f"{offset:+.1f} s against the database's"
        found.append(Finding(Colour.RED, "clock_wrong", detail=detail, fix="synchronize both with one time server"))
    alive = await store.living(since=now - timedelta(seconds=terms.worker_life_s))
    if not alive and (waiting := await store.unended()):
        found.append(Finding(Colour.RED, "no_worker", detail=f"{waiting} payments wait", fix="start a worker"))
    old = await store.held_before(now - timedelta(seconds=terms.hold_age_s))
    if old.count:
        fix = "orchestrator list --held; orchestrator explain ID; orchestrator resolve ID"
        found.append(Finding(Colour.AMBER, "holds_old", detail=f"{old.count} held", fix=fix, since=old.oldest))
    return found


async def _of_controls(store: Database, terms: Terms, now: datetime) -> Iterable[Finding]:
    """Look at what PCI DSS v4.0.1, 10.7 asks for: failures that nobody has closed, and a seal that is late."""
    found = [
        Finding(
            Colour.RED, "control_failed", failure.control, failure.cause,
            f"orchestrator audit failures; mend it; orchestrator audit close {failure.id}", failure.started_at,
        )
        for failure in await store.failures(only_open=True)
    ]  # fmt: skip
    lag = await store.lag()
    if lag.newest is None and not terms.seals:
        fix = "set seal.signing_key, or run `orchestrator audit seal` with it elsewhere, again and again"
        return [*found, Finding(Colour.AMBER, "not_sealed", detail="nothing was ever sealed", fix=fix)]
    if lag.since is not None and lag.since < now - timedelta(seconds=terms.seal_late_s):
        detail = f"{lag.waiting} entries wait"
        found.append(Finding(Colour.RED, "seal_late", "", detail, "orchestrator audit seal; start a worker", lag.since))
    return found


async def _of_accounts(
    store: Database, providers: Providers, accounts: Mapping[str, Account], now: datetime
) -> Iterable[Finding]:
    noted = await store.noted((*BEGUN.values(), *OVER.values(), UNMATCHED), since=now - timedelta(days=1))
    troubles = standing(noted, now)
    for name in accounts:
        condition = providers.condition(name)
        if condition.open_for:
            since = now - timedelta(seconds=condition.since_s)
            troubles["breaker", name] = Trouble(condition.reason, condition.troubled, since, now)
    found = [_of_trouble(word, name, troubles[word, name]) for word, name in sorted(troubles)]
    for name, pause in sorted((await store.paused_accounts()).items()):
        fix = f"orchestrator accounts resume {name}"
        found.append(Finding(Colour.AMBER, "account_paused", name, f"by {pause.person}", fix, pause.paused_at))
    strays = [entry for entry in noted if entry.kind == UNMATCHED]
    for name, count in sorted(Counter(entry.about for entry in strays).items()):
        first = next(entry.at for entry in strays if entry.about == name)
        fix = "look their references up at the provider; orchestrator audit export has the notes"
        found.append(Finding(Colour.AMBER, "webhooks_unmatched", name, f"{count} within a day", fix, first))
    return found


def _of_trouble(word: str, name: str, trouble: Trouble) -> Finding:
    if word == "evidence":
        fix = "raise requests_per_second, or have the provider send webhooks"
        return Finding(Colour.AMBER, "evidence_at_risk", name, trouble.reason, fix, trouble.since)
    if trouble.troubled:
        fix = f"mend credentials or configuration; orchestrator accounts check {name}"
        return Finding(Colour.RED, "account_refused", name, trouble.reason, fix, trouble.since)
    fix = "ask the provider; payments wait, and go on by themselves when it answers"
    return Finding(Colour.AMBER, "provider_troubled", name, trouble.reason, fix, trouble.since)
