"""
The documented table: the prefix of a merchant reference, and what it brings about.

`PAID-1001` is paid, `DECLINED-7` is declined, `LOSTANSWER-x` makes the session
and cuts the line; a prefix that is not listed is paid. Printed by the command
line and served at `/_sandbox/scripts`, so the text here is the documentation.
Owns the data and its lookup; what the words mean is in `script`. Next: `clock`.

Unless a line says otherwise, a session at speed 1 is `Created`, after 0.1 s
`Started`, after 0.3 s `InProgress` and after 0.6 s over; a fault strikes the
first call only, and what follows is as with PAID.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from orchestrator.domain.errors import ConfigurationError, InvalidInput
from orchestrator.sandbox.script import Act, Charged, Fault, Gateway, RetryAfter, Script, Step, Telling

_BEFORE = (Step(0, "Created"), Step(0.1, "Started"), Step(0.3, "InProgress"))
_ACCEPT = Gateway("ACCEPT", ("100",))
_PAID = "Finished, ACCEPT 100"


def _to(state: str) -> tuple[Step, ...]:
    return (*_BEFORE, Step(0.6, state))


def _gateway(prefix: str, what: str, ends: str, gateway: Gateway | None) -> Script:
    return Script(prefix, what, ends, _to("Finished"), gateway=gateway)


def _unpaid(prefix: str, what: str, state: str) -> Script:
    return Script(prefix, what, f"{state}, the gateway was never asked", _to(state))


def _start(prefix: str, what: str, fault: Fault, ends: str = _PAID) -> Script:
    return Script(prefix, what, ends, _to("Finished"), gateway=_ACCEPT, start=fault)


def _status(prefix: str, what: str, fault: Fault) -> Script:
    return Script(prefix, what, _PAID, _to("Finished"), gateway=_ACCEPT, status=fault)


def _told(prefix: str, what: str, telling: Telling) -> Script:
    return Script(prefix, what, _PAID, _to("Finished"), gateway=_ACCEPT, telling=telling)


def _refusal(status: int, message: str, *, first: int | None = 1, effect: bool = False) -> Fault:
    return Fault(Act.ANSWER, first=first, effect=effect, status=status, body=f'{{"Message":"{message}"}}')


_NOBODY = "no session"
_DOWN = "The service is temporarily unavailable"
_NO_KEY = "Provider's authorization endpoint returned error message 'invalid_client_key'"
_SIGN_IN = "<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Sign in</h1></body></html>"

_ENDINGS = (
    _gateway("PAID", "the payer pays", _PAID, _ACCEPT),
    _gateway("DECLINED", "the bank declines", "Finished, REJECT 203 or 204", Gateway("REJECT", ("203", "204"))),
    _gateway("REVIEW", "the gateway holds it for review", "Finished, REVIEW 480", Gateway("REVIEW", ("480",))),
    _gateway(
        "PARTIAL",
        "the bank approves half of the amount",
        "Finished, ACCEPT 110, Amount halved",
        Gateway("ACCEPT", ("110",), charged=Charged.HALF),
    ),
    _gateway(
        "ATTEMPTS",
        "three cards are tried, none is accepted",
        "Finished, REJECT 204, attempts 3",
        Gateway("REJECT", ("204",), extra={"attempts": "3"}),
    ),
    _gateway("GATEWAYERROR", "the gateway itself fails", "Finished, ERROR 150", Gateway("ERROR", ("150",))),
    _unpaid("HUNGUP", "the caller hangs up", "Abandoned"),
    _unpaid("CANCELLED", "the payer cancels", "Cancelled"),
    _unpaid("EXPIRED", "nobody pays in time", "Expired"),
    _unpaid("TIMEOUT", "the caller keys nothing in", "TimedOut"),
    _unpaid("FAILED", "the session fails at the provider", "Failed"),
    Script(
        "SLOW",
        "the payer takes 5 s",
        _PAID,
        (Step(0, "Created"), Step(0.5, "Started"), Step(1, "InProgress"), Step(5, "Finished")),
        gateway=_ACCEPT,
    ),
    Script(
        "NEVER",
        "the payer never does anything",
        "stays Started; a digital session is Expired after 72 h",
        (Step(0, "Created"), Step(0.1, "Started")),
        endless=True,
    ),
    Script(
        "UNKNOWNSTATE",
        "a state that nobody knows for 1 s, then paid",
        f"Quantum, then {_PAID}",
        (*_BEFORE, Step(0.6, "Quantum"), Step(1.6, "Finished")),
        gateway=_ACCEPT,
    ),
    _gateway("NORESULT", "the session ends without a word from the gateway", "Finished, no gateway fields", None),
    _gateway(
        "WRONGAMOUNT",
        "the result names an amount one minor unit higher",
        "Finished, ACCEPT 100, another Amount",
        Gateway("ACCEPT", ("100",), charged=Charged.ONE_MORE),
    ),
    _gateway(
        "WRONGREF",
        "the result names another merchant reference",
        "Finished, ACCEPT 100, another reference",
        Gateway("ACCEPT", ("100",), foreign_reference=True),
    ),
    Script(
        "WRONGSESSION",
        "the status names another session",
        "Finished, ACCEPT 100, another sessionGuid",
        _to("Finished"),
        gateway=_ACCEPT,
        foreign_session=True,
    ),
)

_START_FAULTS = (
    _start("SLOWANSWER", "the session is made, its answer takes 1 s", Fault(Act.WAIT, None, effect=True, wait_s=1.0)),
    _start("ERRORBEFORE", "500, no session is made", _refusal(500, "An error has occurred")),
    _start("ERRORAFTER", "500, but the session is made", _refusal(500, "An error has occurred", effect=True)),
    _start("LOSTANSWER", "the session is made, then the line is closed", Fault(Act.CLOSE, effect=True)),
    _start("RESETBEFORE", "the line is reset, no session is made", Fault(Act.RESET)),
    _start("CUTBODY", "the session is made, half of the answer arrives", Fault(Act.HALF, effect=True)),
    _start(
        "HTML", "200 with a web page, no session is made", Fault(Act.ANSWER, body=_SIGN_IN, content_type="text/html")
    ),
    _start("TOKENEXPIRES", "401 until another token is used", Fault(Act.REFUSE_TOKEN)),
    _start(
        "INVALID",
        "400 with a Message, every time",
        _refusal(400, "PaymentData is not valid for the payment provider", first=None),
        _NOBODY,
    ),
    _start(
        "CONFIG",
        "400 with the plain text invalid_client_key, every time",
        Fault(Act.ANSWER, None, status=400, body=_NO_KEY, content_type="text/plain"),
        _NOBODY,
    ),
    _start("FORBIDDEN", "403, every time", _refusal(403, "Access is denied", first=None), _NOBODY),
    _start(
        "NOID",
        "200 with a Message and sessionId null, every time",
        Fault(Act.ANSWER, None, body='{"sessionId":null,"Message":"The session could not be created"}'),
        _NOBODY,
    ),
)

_STATUS_FAULTS = (
    _status("STATUS404", "the first two status calls answer 404", _refusal(404, "Session not found", first=2)),
    _status("STATUS5XX", "the first two status calls answer 503", _refusal(503, _DOWN, first=2)),
)

_BOTH_FAULTS = (
    Script(
        "FLAKY",
        "the first call of each endpoint answers 503, without effect",
        _PAID,
        _to("Finished"),
        gateway=_ACCEPT,
        start=_refusal(503, _DOWN),
        status=_refusal(503, _DOWN),
    ),
    Script(
        "THROTTLED",
        "429 at first, Retry-After in seconds; status calls 1, 4, 7 .. answer 429 with a date",
        _PAID,
        _to("Finished"),
        gateway=_ACCEPT,
        start=replace(_refusal(429, "Too many requests"), retry_after=RetryAfter.SECONDS),
        status=replace(_refusal(429, "Too many requests"), every=3, retry_after=RetryAfter.DATE),
    ),
)

_WEBHOOK_FAULTS = (
    _told("TOLDTWICE", "its webhook is sent twice", Telling(times=2)),
    _told("TOLDLATE", "its webhook comes 20 minutes after the end", Telling(late_s=20 * 60)),
    _told("OVERTAKEN", "a webhook of its beginning comes after that of its end", Telling(overtaken=True)),
)

SCRIPTS: tuple[Script, ...] = (*_ENDINGS, *_START_FAULTS, *_STATUS_FAULTS, *_BOTH_FAULTS, *_WEBHOOK_FAULTS)
"""The documented table, in reading order."""


def by_prefix(scripts: Iterable[Script]) -> Mapping[str, Script]:
    """Index scripts by prefix; of two with the same one the later wins."""
    return {script.prefix: script for script in scripts}


_TABLE = by_prefix(SCRIPTS)


def script_for(reference: str, table: Mapping[str, Script] = _TABLE) -> Script:
    """
    Find what happens to a payment.

    Args:
        reference: The merchant reference, such as `DECLINED-1001`.
        table: The scripts by prefix; the documented ones if not given.

    Returns:
        The script of the prefix up to the first `-`, ignoring case; PAID for a prefix that is not listed.
    """
    return table.get(reference.partition("-")[0].upper(), _TABLE["PAID"])


def load_faults(path: Path) -> tuple[Script, ...]:
    """
    Read further prefixes from a TOML file.

    The file has one table, which maps a prefix to the documented script that it
    behaves like, for example to try an existing numbering scheme:

        [prefixes]
        ACME = "DECLINED"

    Args:
        path: The file.

    Returns:
        One script for each line, to be given as `SandboxOptions.faults`.

    Raises:
        ConfigurationError: For a file that can't be read, is no TOML, or names no documented script.

    Crash:
        Reads only; nothing is left behind.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(
            "sandbox.faults", f"the file can't be read as TOML ({type(error).__name__})"
        ) from error
    prefixes = content.get("prefixes")
    if set(content) != {"prefixes"} or not isinstance(prefixes, dict):
        raise ConfigurationError("sandbox.faults", "is not one table named prefixes", 'write [prefixes] and X = "PAID"')
    return tuple(_like(prefix, name) for prefix, name in prefixes.items())


def _like(prefix: str, name: object) -> Script:
    key = f"sandbox.faults.prefixes.{prefix}"
    model = _TABLE.get(name.upper()) if isinstance(name, str) else None
    if model is None:
        raise ConfigurationError(key, "names no documented script", f"use one of {', '.join(_TABLE)}")
    try:
        return replace(model, prefix=prefix.upper())
    except InvalidInput as error:
        raise ConfigurationError(key, error.problem, error.fix) from error
