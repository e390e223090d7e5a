"""
How an account fares with its provider, as one process sees it. Pure.

Owns the words for it, which the flow reads before an effect and health reads for
people. Knows neither requests nor how a breaker decides. Next: `policy`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Condition:
    """
    One account's condition in this process.

    Attributes:
        account: Its name.
        open_for: While calls are kept back: of what (`token`, `look` or `start`, and what builds
            upon it); empty while the breaker is closed.
        reason: The newest trouble's word, such as `http_403` or `connect_refused`; empty without one.
        troubled: Whether that is the account's trouble: credentials, scope, configuration.
        since_s: For how many seconds calls have been kept back.
        told_to_wait_s: Seconds until the provider's own Retry-After is over; 0 without one.
        waiting: Calls that wait for their turn.
        per_second: This process's share of the account's budget; `None` without a limit.
    """

    account: str
    open_for: str = ""
    reason: str = ""
    troubled: bool = False
    since_s: float = 0.0
    told_to_wait_s: float = 0.0
    waiting: int = 0
    per_second: float | None = None
