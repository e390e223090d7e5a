"""
What a script is: how a session moves on by itself, how it ends, and which calls go wrong.

Pure data and two pure questions: which state does a session have after so many
seconds (`Script.look`), and does a fault strike this call (`Fault.strikes`).
Knows no HTTP server and no clock. The scripts themselves are in `table`, next.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

from orchestrator.domain.errors import InvalidInput

RESULT_WINDOW_S = 15 * 60.0
"""How long a result can be read after the session's end (VCC, "Get payment session status")."""

LINK_LIFE_S = 72 * 3600.0
"""How long a payment link can be paid (VCC, agent-sent links; assumed to hold for digital self-service)."""


class Channel(StrEnum):
    """The two ways to collect a card number."""

    PHONE = "phone"
    DIGITAL = "digital"


class Endpoint(StrEnum):
    """The provider's endpoints, as counted by the statistics."""

    TOKEN = "token"  # noqa: S105 - a name, not a secret
    START_PHONE = "start_phone"
    START_DIGITAL = "start_digital"
    STATUS = "status"

    @classmethod
    def start_of(cls, channel: Channel) -> "Endpoint":
        """Give the endpoint that starts sessions of the channel."""
        return cls.START_PHONE if channel is Channel.PHONE else cls.START_DIGITAL


@dataclass(frozen=True, slots=True)
class Step:
    """
    A session state and when it begins.

    Attributes:
        after_s: Seconds since the session was made.
        state: The provider's word, as `sessionState` gives it.
    """

    after_s: float
    state: str


class Charged(StrEnum):
    """Which amount the gateway's answer names."""

    ASKED = "asked"
    HALF = "half"
    ONE_MORE = "one_more"

    def of(self, minor: int) -> int:
        """Give the amount in minor units for a request of so many."""
        match self:
            case Charged.ASKED:
                return minor
            case Charged.HALF:
                return minor // 2
            case Charged.ONE_MORE:
                return minor + 1


@dataclass(frozen=True, slots=True)
class Gateway:
    """
    What the gateway says at the end (names and codes as CyberSource's, which VCC's example shows).

    Attributes:
        decision: `ACCEPT`, `REJECT`, `REVIEW` or `ERROR`.
        reason_codes: The possible codes; the reference decides which one.
        charged: The amount in the answer.
        foreign_reference: Whether the answer names another merchant reference than was sent.
        extra: Further members of the result.
    """

    decision: str
    reason_codes: tuple[str, ...]
    charged: Charged = Charged.ASKED
    foreign_reference: bool = False
    extra: Mapping[str, str] = field(default_factory=dict)


class Act(StrEnum):
    """What happens to a call that a fault strikes."""

    ANSWER = "answer"
    """The scripted answer goes out instead of the genuine one."""
    CLOSE = "close"
    """The connection ends without one byte."""
    RESET = "reset"
    """The connection is reset (RST) without one byte."""
    HALF = "half"
    """Half of the genuine body, then the connection ends."""
    WAIT = "wait"
    """The genuine answer, `Fault.wait_s` later."""
    REFUSE_TOKEN = "refuse_token"  # noqa: S105 - a name, not a secret
    """401; the token that was used stays refused for this reference."""


class RetryAfter(StrEnum):
    """The two forms of the header (RFC 9110, section 10.2.3)."""

    SECONDS = "seconds"
    DATE = "date"


@dataclass(frozen=True, slots=True)
class Fault:
    """
    One way for calls of one endpoint to go wrong.

    Attributes:
        act: What happens.
        first: How many first calls for a reference it strikes; `None` strikes all of them.
        every: If not 0, it strikes the first call and then every so-many-th instead.
        effect: Whether the call does its work although the answer is bad.
        status: HTTP status of `Act.ANSWER`.
        body: Body of `Act.ANSWER`.
        content_type: Its media type.
        retry_after: Whether and in which form the answer says when to come back.
        wait_s: The delay of `Act.WAIT`, in seconds at speed 1.
    """

    act: Act
    first: int | None = 1
    every: int = 0
    effect: bool = False
    status: int = 200
    body: str = ""
    content_type: str = "application/json"
    retry_after: RetryAfter | None = None
    wait_s: float = 0.0

    def strikes(self, call: int) -> bool:
        """Say whether the `call`-th call for a reference, from 1, goes wrong."""
        if self.every:
            return (call - 1) % self.every == 0
        return self.first is None or call <= self.first


@dataclass(frozen=True, slots=True)
class Telling:
    """
    How a session's end is told by webhook, where one is wanted.

    Attributes:
        times: How often, though it was taken.
        late_s: How long after the end, in seconds at speed 1.
        overtaken: Whether the session's first state is told after its end.
    """

    times: int = 1
    late_s: float = 0.0
    overtaken: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """
    A session at one moment.

    Attributes:
        state: The provider's word for it.
        since_s: When that state began, in seconds since the session was made.
        ended: Whether it is over.
        gateway: What the gateway said, if it was reached.
    """

    state: str
    since_s: float
    ended: bool = False
    gateway: Gateway | None = None

    def readable_at(self, elapsed_s: float) -> bool:
        """Say whether the provider still tells it, so many seconds after the session was made."""
        return not self.ended or elapsed_s < self.since_s + RESULT_WINDOW_S


@dataclass(frozen=True, slots=True)
class Script:
    """
    What happens to every payment whose merchant reference begins with a prefix.

    Attributes:
        prefix: Upper case; the reference up to its first `-`, ignoring case.
        what: What happens, in one line for people.
        ends: How it ends, in the words of the session's state and the gateway's decision.
        steps: The session's states; the first begins at 0, `after_s` grows.
        endless: Whether the last step is no end.
        gateway: What the gateway says at the end; `None` when it is never reached.
        start: What goes wrong at the two endpoints that start sessions.
        status: What goes wrong when the status is read.
        foreign_session: Whether the status names another session than was asked for.
        telling: How its webhook comes.

    Raises:
        InvalidInput: For steps that don't begin at 0 or don't grow, or a prefix that no reference can have.
    """

    prefix: str
    what: str
    ends: str
    steps: tuple[Step, ...]
    endless: bool = False
    gateway: Gateway | None = None
    start: Fault | None = None
    status: Fault | None = None
    foreign_session: bool = False
    telling: Telling = Telling()

    def __post_init__(self) -> None:
        if not (self.prefix.isascii() and self.prefix.isalnum() and self.prefix == self.prefix.upper()):
            raise InvalidInput("prefix", "is not upper-case letters and digits", "use a word such as DECLINED")
        times = [step.after_s for step in self.steps]
        if times[:1] != [0] or any(later <= earlier for earlier, later in pairwise(times)):
            raise InvalidInput("steps", "do not begin at 0 or do not grow", "give each state a later beginning")

    def look(self, elapsed_s: float, channel: Channel) -> Look:
        """
        Give the session's state so many seconds after it was made.

        Args:
            elapsed_s: Seconds at speed 1; less than 0 counts as 0.
            channel: A digital session that has not ended by itself expires with its link.

        Returns:
            The state, since when, and the gateway's word once the session is over.
        """
        current = next((step for step in reversed(self.steps) if step.after_s <= elapsed_s), self.steps[0])
        if current is self.steps[-1] and not self.endless:
            return Look(current.state, current.after_s, ended=True, gateway=self.gateway)
        if channel is Channel.DIGITAL and elapsed_s >= LINK_LIFE_S:
            return Look("Expired", LINK_LIFE_S, ended=True)
        return Look(current.state, current.after_s)

    def end_s(self, channel: Channel) -> float | None:
        """Give when the session is over, in seconds since it was made; `None` for never."""
        last = None if self.endless else self.steps[-1].after_s
        if channel is Channel.DIGITAL:
            return LINK_LIFE_S if last is None else min(last, LINK_LIFE_S)
        return last

    def fault(self, endpoint: Endpoint, call: int) -> Fault | None:
        """Give what goes wrong with the `call`-th call of the endpoint for one reference, if anything."""
        fault = self.status if endpoint is Endpoint.STATUS else self.start
        return fault if fault is not None and fault.strikes(call) else None
