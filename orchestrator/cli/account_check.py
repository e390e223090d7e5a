"""
What `accounts check` looks at: everything that can be known without a payment.

Owns which checks there are and what they say; the rules themselves are the
settings', `interactions.lint`'s and the provider's. The only request that is
sent is the token call, which has no effect. Next: `database`.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any

from orchestrator import composition
from orchestrator.clock import SystemClock
from orchestrator.domain.errors import ConfigurationError
from orchestrator.domain.payment import Channel
from orchestrator.domain.verdict import Cause, Verdict, VerdictKind
from orchestrator.interactions import bundled, lint
from orchestrator.provider.config import AUTHORIZE, SESSION_STATUS, START
from orchestrator.settings import AccountSettings, Settings

CLOCK_S = 10.0
"""How far clocks may be apart: a Date header has whole seconds, and its answer was on the way."""


class Standing(StrEnum):
    """How a check ended."""

    OK = "ok"
    FINDING = "finding"
    UNREACHABLE = "unreachable"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """
    One line.

    Attributes:
        account: The account's name.
        name: What was looked at.
        standing: How it ended.
        what: What was found; no secret, no payer data.
        fix: What to do about it.
    """

    account: str
    name: str
    standing: Standing
    what: str
    fix: str = ""


async def check_account(settings: Settings, name: str, channels: Sequence[Channel]) -> list[Check]:
    """
    Look at one account.

    Args:
        settings: All settings; their references to secrets have been followed.
        name: Which account.
        channels: The channels that it has to serve.

    Crash: at most a token was fetched, which expires by itself.
    """
    account = settings.accounts[name]
    found = [_secrets(name, account), *_definitions(name, account, channels)]
    if Channel.PHONE in channels:
        found.append(_dial_prefixes(name, account))
    return [*found, *await _provider(settings, name)]


def _secrets(name: str, account: AccountSettings) -> Check:
    references = sorted(_references(account.model_dump(mode="json")))
    what = f"resolved: {', '.join(references)}" if references else "none is by reference"
    return Check(name, "secrets", Standing.OK, what)


def _references(value: Any) -> Iterator[str]:
    """Find where masked secrets come from."""
    if isinstance(value, dict):
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, str) and value.startswith("*** ("):
        yield value.removeprefix("*** (").removesuffix(")")


def _definitions(name: str, account: AccountSettings, channels: Sequence[Channel]) -> Iterator[Check]:
    for operation in (AUTHORIZE, *(START[channel] for channel in channels), SESSION_STATUS):
        path = getattr(account.definitions, operation)
        try:
            text = bundled(operation) if path is None else path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            problem = f"{operation} can't be read ({type(error).__name__})"
            yield Check(name, "definitions", Standing.FINDING, problem, "give a UTF-8 file")
            continue
        found = lint(text, name=operation)
        source = "bundled" if path is None else path.name
        for each in found:
            if each.severity == "error":
                what = f"{source}:{each.line} {each.element}: {each.message}"
                yield Check(name, "definitions", Standing.FINDING, what, f"mend the document of {operation}")
        warnings = sum(each.severity == "warning" for each in found)
        if warnings == len(found):
            more = f", {warnings} warnings: `orchestrator definitions check {source}`" if warnings else ""
            yield Check(name, "definitions", Standing.OK, f"{operation} ({source}){more}")


def _dial_prefixes(name: str, account: AccountSettings) -> Check:
    if account.dial_prefixes:
        return Check(name, "dial prefixes", Standing.OK, ", ".join(account.dial_prefixes))
    problem, fix = "no number may be dialled: phone payments would be held", f"set accounts.{name}.dial_prefixes"
    return Check(name, "dial prefixes", Standing.FINDING, problem, f"{fix}, or check with --channel digital")


async def _provider(settings: Settings, name: str) -> list[Check]:
    """Fetch a token and compare clocks; a start is never sent."""
    alone = settings.model_copy(update={"accounts": {name: settings.accounts[name]}})
    try:
        pool = composition.build_providers(
            alone, composition.load_definitions(alone), {},
            clock=SystemClock(), random=Random(secrets.token_bytes(8)), digest_key=secrets.token_bytes(32),  # noqa: S311 - jitter
        )  # fmt: skip
        for channel in Channel:
            composition.policy_of(name, settings.accounts[name], channel)
    except ConfigurationError as error:
        problem = f"{error.key}: {error.problem}"
        skipped = Check(name, "token", Standing.SKIPPED, "not asked for: the settings don't fit together")
        return [Check(name, "settings", Standing.FINDING, problem, error.fix), skipped]
    async with pool:
        provider = pool.current(name)
        verdict = await provider.authorize()
        return [_token(name, verdict), _clock(name, provider.clock_ahead_s)]


def _token(name: str, verdict: Verdict) -> Check:
    key = f"accounts.{name}"
    said = f"{verdict.reason}: {verdict.message}" if verdict.message else verdict.reason
    if verdict.kind is VerdictKind.ANSWERED:
        return Check(name, "token", Standing.OK, f"fetched in {verdict.exchange.duration_ms} ms")
    if verdict.kind is VerdictKind.REJECTED and verdict.cause is not Cause.THROTTLED:
        fix = f"mend {key}.client_id, client_secret or base_url, or the client's scope at the provider"
        return Check(name, "token", Standing.FINDING, f"refused, {said}", fix)
    return Check(name, "token", Standing.UNREACHABLE, said, f"check {key}.base_url, the network and TLS; try again")


def _clock(name: str, ahead_s: float | None) -> Check:
    if ahead_s is None:
        return Check(name, "clock", Standing.SKIPPED, "the provider told no time")
    what = f"{abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the provider's"
    if abs(ahead_s) <= CLOCK_S:
        return Check(name, "clock", Standing.OK, "agrees with the provider's" if abs(ahead_s) < 2 else what)
    return Check(name, "clock", Standing.FINDING, what, "synchronise this machine's clock")
