"""What tests of the command line are made of: settings, canaries, a submission's arguments."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

SECRET = "canary-secret-5f1e"
PAYER = {
    "cardholderName": "Ada Canary",
    "cardholderPostCode": "ZZ9 9ZZ",
    "cardholderAddress": "1 Canary Wharf",
}
CANARIES = (SECRET, *PAYER.values(), "+447700900877", "Canary")
"""Nothing of these may be in any output, ever."""

SETTINGS = """
[worker]
heartbeat_s = 0.2
claim_trust_s = 2.0
claim_life_s = 3.0
poll_interval_s = 0.02

[accounts.emea]
base_url = "{url}"
client_id = "sandbox-client"
client_secret = "env:CANARY_SECRET"
account_configuration_id = "4242"
currency = "GBP"
dial_prefixes = ["+44"]
start_deadline_s = 1.8

[accounts.emea.policy.phone]
poll_first_s = 0.05
poll_max_s = 0.2

[accounts.emea.policy.digital]
poll_first_s = 0.05
poll_max_s = 0.2
"""


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Result]


def environment(**more: str) -> dict[str, str]:
    """A child's environment without any setting of the machine's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    return kept | {"CANARY_SECRET": SECRET} | more


def assert_discreet(*texts: str) -> None:
    for text in texts:
        assert not [canary for canary in CANARIES if canary in text]


def submission(channel: str = "phone", fields: Mapping[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    """Arguments for `command("submit", ...)`; payer data through standard input, `None` leaves an option out."""
    own = {"CallGuid": "call-1"} if channel == "phone" else {"CustomerPhoneNumber": "+447700900877"}
    given = PAYER | own if fields is None else dict(fields)
    options = {"account": "emea", "channel": channel, "reference": "PAID-1", "amount": "12.40", "currency": "GBP"}
    chosen = {name: value for name, value in (options | changes).items() if value is not None}
    return {"stdin": json.dumps(given), "fields_file": "-"} | chosen
