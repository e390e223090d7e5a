"""
What somebody who watched a system saw beside its database.

A database alone can't tell what it forgot, what a provider did, or which workers
died. A simulation, a crash test or a demo can, and hands it to the invariants as
an `Observed`; what is left out is not checked. Pure. Next: `invariants`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ProviderSession:
    """
    A session as the provider's own list has it.

    Attributes:
        id: Its id, as the provider writes it.
        intended: Whether the intent of its call was committed when the call came; `None` where nobody looked.
        paid: Whether money moved in it.
    """

    id: str
    intended: bool | None = None
    paid: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """
    An answer that reached a worker which lived on to write it down.

    Attributes:
        attempt: Which start it was about; `None` for a look.
        verdict: What the transport made of it: `not_sent`, `rejected`, `answered`, `unknown`.
        session_id: The session that an answered start told of.
        codes: What an answered look told of a session that is over; empty for one that is not.
    """

    attempt: int | None
    verdict: str
    session_id: str | None = None
    codes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """
    The most that one payment may have cost.

    Attributes:
        sessions: Intents that may have made a session.
        claims: Claims in a row without progress.
        looks: Status calls.
        calls: Start calls that were put on the wire.
    """

    sessions: int
    claims: int
    looks: int
    calls: int


@dataclass(frozen=True, slots=True)
class Observed:
    """
    What was seen; every member that is `None` was not looked at. Mappings are by payment id.

    Attributes:
        acknowledged: Number and hash of each entry whose commit was answered.
        lost_claims: Numbers of the entries that were written under a claim which was lost by then.
        sessions: The provider's sessions.
        heard: What workers heard and lived to write down.
        doubts: Attempts that were open when their worker died or lost touch, or were answered `unknown`.
        looks: Status calls that were made.
        calls: Start calls that were made.
        claims: The most claims in a row without progress that were seen.
        late_deliveries: Hand-overs that a handler was given after their validity.
        canaries: Secrets and payer data that were put in, to be found nowhere.
        texts: Logs, error texts and exports to look for them in.
        limits: The most that one payment may have cost.
        over: Whether everything has had the time to come to its end: then nothing may be waiting any more.
    """

    acknowledged: Mapping[str, Sequence[tuple[int, bytes]]] | None = None
    lost_claims: Mapping[str, Sequence[int]] | None = None
    sessions: Mapping[str, Sequence[ProviderSession]] | None = None
    heard: Mapping[str, Sequence[Heard]] | None = None
    doubts: Mapping[str, Collection[int]] | None = None
    looks: Mapping[str, int] | None = None
    calls: Mapping[str, int] | None = None
    claims: Mapping[str, int] | None = None
    late_deliveries: Mapping[str, int] | None = None
    canaries: Sequence[str] = ()
    texts: Sequence[str] = ()
    limits: Limits | None = None
    over: bool = False


NOTHING = Observed()
"""Nobody watched: only what the database itself can tell is checked."""
