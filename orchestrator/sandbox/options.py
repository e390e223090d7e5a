"""
What a sandbox is started with.

Owns the defaults and their validation. Knows nothing of sockets or sessions.
Next: `script`.
"""

import math
from dataclasses import dataclass, field

from orchestrator.domain.currencies import EXPONENTS
from orchestrator.domain.errors import ConfigurationError
from orchestrator.sandbox.script import Script


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """
    Settings of one sandbox; every default works for a demo on one machine.

    Attributes:
        host: The address to listen on.
        port: The port; 0 takes a free one.
        client_id: The only client that gets a token.
        client_secret: Its secret.
        scope: The only scope that gets a token.
        account_configuration_id: The only configuration that starts sessions.
        currency: The account's currency, for payments that name none.
        token_life_s: Life of a token in seconds, as `expires_in` says; not changed by `speed`.
        speed: How many times faster than documented the sessions, the result
            window, the links and the delays run.
        seed: Chooses all ids and tokens: the same seed, the same ids for the same
            references in any order. 0 draws a new seed at every start, because a
            real provider never repeats a session id, not even after a restart.
        faults: Further scripts, looked up before the documented ones (`load_faults`).
        webhook_url: Where the end of each session is told, such as
            `http://127.0.0.1:8088/webhooks/emea`; nowhere if empty.
        webhook_token: The bearer token that goes with it.

    Raises:
        ConfigurationError: For a value no server could run with.
    """

    host: str = "127.0.0.1"
    port: int = 0
    client_id: str = "sandbox-client"
    client_secret: str = field(default="sandbox-secret", repr=False)
    scope: str = "globalpci"
    account_configuration_id: str = "4242"
    currency: str = "GBP"
    token_life_s: int = 3600
    speed: float = 1.0
    seed: int = 0
    faults: tuple[Script, ...] = ()
    webhook_url: str = ""
    webhook_token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigurationError("sandbox.port", "is not a port", "use 0 for any free one, or 1 to 65535")
        if not (math.isfinite(self.speed) and self.speed > 0):
            raise ConfigurationError("sandbox.speed", "is not a positive number", "1 is the documented pace")
        if self.token_life_s <= 0:
            raise ConfigurationError("sandbox.token_life_s", "is not positive", "give seconds, such as 3600")
        if self.webhook_url and not self.webhook_url.startswith(("http://", "https://")):
            raise ConfigurationError("sandbox.webhook_url", "is not an http or https URL", "give the whole address")
        if self.currency not in EXPONENTS:
            raise ConfigurationError("sandbox.currency", "is not an ISO 4217 currency", "use a code such as GBP")
