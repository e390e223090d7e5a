"""
Card numbers, codes, tracks, secrets, names and phone numbers through every text that comes in: none is left anywhere.

300 of them here, 10,000 with ORCHESTRATOR_TEST_FULL=1. Looked through are the database, its log, the
sink, an export, the log output and the tracebacks. Every kind of canary has a shape that nothing else
has, so that one look through a file finds any of them, whole or in part.
"""

import asyncio
import io
import json
import os
import random
import re
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Money, Orchestrator, load_settings
from orchestrator.audit.export import export
from orchestrator.domain.errors import OrchestratorError
from orchestrator.domain.payment import State
from orchestrator.privacy.cards import is_card_number
from orchestrator.records import Query
from orchestrator.sandbox import Sandbox, SandboxOptions, Script
from orchestrator.sandbox.script import Act, Fault, Gateway, Step
from tests.support.flow import FAST, account, assert_clean

COUNT = 10_000 if os.environ.get("ORCHESTRATOR_TEST_FULL") else 300
SHARE = 0.4
"""How many of them come from the provider."""

BRANDS = (
    ("4", 16),
    ("51", 16),
    ("2221", 16),
    ("34", 15),
    ("36", 14),
    ("6011", 16),
    ("62", 19),
    ("4", 13),
    ("3528", 16),
)
SCRIPTS = {"arabic": 0x0660, "wide": 0xFF10}
SECRET, TOKEN_MARK, NAME_MARK = "Qzsecret-5f1e", "Qztoken", "Qzname"


@dataclass(frozen=True)
class Canary:
    """`text` as it is written; `digits` of a card's, whatever it is written in."""

    kind: str
    text: str
    digits: str = ""

    @property
    def refused(self) -> bool:
        """Whether it must not come in at all; the others may, as the payer's own fields."""
        return self.kind in ("card", "code", "track")


def _number(chance: random.Random) -> str:
    prefix, length = chance.choice(BRANDS)
    body = prefix + "".join(chance.choices("0123456789", k=length - len(prefix) - 1))
    return next(body + last for last in "0123456789" if is_card_number(body + last))


def _written(chance: random.Random, number: str) -> str:
    way = chance.choice(["plain", "plain", "spaces", "dashes", "arabic", "wide", "words"])
    match way:
        case "spaces" | "dashes" if len(number) == 16:
            return " -"[way == "dashes"].join(number[low : low + 4] for low in range(0, 16, 4))
        case "arabic" | "wide":
            return "".join(chr(SCRIPTS[way] + int(digit)) for digit in number)
        case "words":
            return f"my card is {number}, thanks"
    return number


def _canary(chance: random.Random, kind: str) -> Canary:
    match kind:
        case "card":
            number = _number(chance)
            return Canary(kind, _written(chance, number), number)
        case "code":
            label = chance.choice(["cvv: {}", "CVC2 {}", "security code is {}", "cvv={}", "CVV2:{}"])
            return Canary(kind, label.format(f"{chance.randrange(10_000):04}"))
        case "track":
            number = _number(chance)
            text = chance.choice([f"%B{number}^{NAME_MARK}/A^2912101000?", f";{number}=29121010000000000?"])
            return Canary(kind, text, number)
        case "phone":
            return Canary(kind, f"+4477009{chance.randrange(100_000):05}")
        case "secret":
            return Canary(kind, f"{TOKEN_MARK}{chance.randrange(16**8):08x}")
    return Canary("name", f"{NAME_MARK}{chance.randrange(16**8):08x} of Anywhere")


KINDS = ("card", "code", "track", "card", "name", "phone", "secret")


def canaries(count: int) -> Iterator[Canary]:
    chance = random.Random("canaries of 2026")
    kinds = cycle(KINDS)
    for _ in range(count):
        yield _canary(chance, next(kinds))


# --- what comes in ------------------------------------------------------------------------------

Way = Callable[[Orchestrator, str, str, str], Any]
"""Host, the canary, a reference of its own, and a payment that is there."""


async def _submit(host: Orchestrator, reference: str, **changes: Any) -> Any:
    given: dict[str, Any] = {
        "account": "test", "channel": "digital", "reference": reference, "amount": Money("12.40", "GBP"),
        "fields": {"cardholderName": "Ada"},
    }  # fmt: skip
    return await host.submit(**given | changes)


async def _actor(text: str) -> None:
    Orchestrator(load_settings(environ={}, overrides={}), actor=text)


def _notice(**members: Any) -> bytes:
    told = {"sessionGuid": "0b7e4a52-8f5c-4f0a-9d55-2a4f1b1c9e11", "sessionState": "Finished", "paymentResultData": {}}
    return json.dumps(told | members).encode()


def _resolved(host: Orchestrator, payment: str, **said: Any) -> Any:
    return host.resolve(payment, **{"person": "Ada", "reason": "seen", "retry": True} | said)


FORBIDDEN: dict[str, Way] = {
    "account": lambda host, text, ref, _: _submit(host, ref, account=text),
    "channel": lambda host, text, ref, _: _submit(host, ref, channel=text),
    "reference": lambda host, text, ref, _: _submit(host, text),
    "idempotency key": lambda host, text, ref, _: _submit(host, ref, idempotency_key=text),
    "field": lambda host, text, ref, _: _submit(host, ref, fields={"cardholderName": text}),
    "call": lambda host, text, ref, _: _submit(host, ref, channel="phone", fields={"CallGuid": text}),
    "phone number": lambda host, text, ref, _: _submit(host, ref, fields={"CustomerPhoneNumber": text}),
    "field's name": lambda host, text, ref, _: _submit(host, ref, fields={text: "x"}),
    "end of a field's name": lambda host, text, ref, _: _submit(host, ref, fields={f"note {text}": "x"}),
    "collected field": lambda host, text, ref, pay: host.collect(pay, {"cardholderPostCode": text}),
    "collected name": lambda host, text, ref, pay: host.collect(pay, {f"x{text}": "1"}),
    "cancel": lambda host, text, ref, pay: host.cancel(pay, reason=text),
    "resolve: person": lambda host, text, ref, pay: _resolved(host, pay, person=text),
    "resolve: reason": lambda host, text, ref, pay: _resolved(host, pay, reason=text),
    "resolve: session": lambda host, text, ref, pay: _resolved(host, pay, retry=False, session=text),
    "resolve: outcome": lambda host, text, ref, pay: _resolved(host, pay, retry=False, outcome=text),
    "webhook: state": lambda host, text, ref, _: host.webhook("test", _notice(sessionState=text)),
    "webhook: session": lambda host, text, ref, _: host.webhook("test", _notice(sessionGuid=text)),
    "webhook: result": lambda host, text, ref, _: host.webhook("test", _notice(paymentResultData={"decision": text})),
    "webhook: key": lambda host, text, ref, _: host.webhook("test", _notice(**{text: "x"})),
    "webhook: no JSON": lambda host, text, ref, _: host.webhook("test", text.encode()),
    "webhook: account": lambda host, text, ref, _: host.webhook(text, _notice()),
    "webhook: sender": lambda host, text, ref, _: host.refuse_webhook("test", "unauthorized", text),
    "webhook: why": lambda host, text, ref, _: host.refuse_webhook("test", text),
    "id to collect": lambda host, text, ref, _: host.collect(text, {"cardholderName": "Ada"}),
    "id to cancel": lambda host, text, ref, _: host.cancel(text),
    "id to resolve": lambda host, text, ref, _: _resolved(host, text),
    "id to look at": lambda host, text, ref, _: host.get(text),
    "id to wait for": lambda host, text, ref, _: host.wait(text, timeout=0.01),
    "id of a timeline": lambda host, text, ref, _: host.timeline(text),
    "id of a page": lambda host, text, ref, _: host.list(Query(after=text)),
    "event": lambda host, text, ref, _: _event(host, text),
    "actor": lambda host, text, ref, _: _actor(text),
}
"""Nothing of a card may come in here."""

ALLOWED: dict[str, Way] = {
    "name": lambda host, text, ref, _: _submit(host, ref, fields={"cardholderName": text}),
    "address": lambda host, text, ref, pay: host.collect(pay, {"cardholderAddress": text}),
    "wrong field": lambda host, text, ref, _: _submit(host, ref, fields={"CallGuid": text}),
    "conflict": lambda host, text, ref, _: _twice(host, text, ref),
    "webhook: other member": lambda host, text, ref, _: host.webhook("test", _notice(payer=text)),
    "id to look at": lambda host, text, ref, _: host.get(text),
}
"""What is the payer's own may come in here, and is sealed or left out."""


async def _twice(host: Orchestrator, text: str, ref: str) -> None:
    await _submit(host, ref)
    await _submit(host, ref, fields={"cardholderName": text})


async def _event(host: Orchestrator, text: str) -> None:
    host.on(text, lambda _payment: None)


async def through_inputs(host: Orchestrator, chosen: list[Canary], said: list[str]) -> Counter[str]:
    """Let each canary in by one of the ways that its kind has, in turn; what is raised is kept."""
    ways = {True: cycle(FORBIDDEN.items()), False: cycle(ALLOWED.items())}
    came: Counter[str] = Counter()
    payment = (await _submit(host, "WAITING-1")).id
    for number, canary in enumerate(chosen):
        name, way = next(ways[canary.refused])
        try:
            await way(host, canary.text, f"IN{number}-1", payment)
        except (OrchestratorError, TimeoutError):
            said.append(traceback.format_exc())
            came["refused"] += 1
        else:
            assert not canary.refused or name == "cancel", f"{name} took a {canary.kind}"
            came["taken"] += 1
    return came


# --- what the provider answers ------------------------------------------------------------------

_STEPS = (Step(0, "Created"), Step(1, "Finished"))
_ACCEPT = Gateway("ACCEPT", ("100",))


def _answer(body: Any, status: int = 200, **more: Any) -> Fault:
    text = body if isinstance(body, str) else json.dumps(body)
    return Fault(Act.ANSWER, status=status, body=text, **more)


def _start(text: str, **members: Any) -> Fault:
    told = {"sessionId": "0b7e4a52-8f5c-4f0a-9d55-2a4f1b1c9e11", "Message": None, "dtmfFallbackNumber": "+442079460101"}
    return _answer(told | {"dtmfLinkId": "123456"} | members)


def _status(**members: Any) -> Fault:
    result = {"decision": "ACCEPT", "reasonCode": "100", "Amount": "1240"} | members.pop("result", {})
    told = {"sessionGuid": None, "sessionState": "Finished", "paymentResultData": result}
    return _answer(told | members)


ANSWERS: dict[str, Callable[[str], dict[str, Any]]] = {
    "start: message": lambda text: {"start": _answer({"Message": f"refused: {text}"}, 400)},
    "start: message with a session": lambda text: {"start": _start(text, Message=text)},
    "start: session": lambda text: {"start": _start(text, sessionId=text)},
    "start: number": lambda text: {"start": _start(text, dtmfFallbackNumber=text)},
    "start: link": lambda text: {"start": _start(text, dtmfLinkId=text)},
    "start: text": lambda text: {"start": _answer(text, 500, content_type="text/plain")},
    "start: page": lambda text: {"start": _answer(f"<html><p>{text}</p></html>", 200, content_type="text/html")},
    "start: unauthorized": lambda text: {"start": _answer({"error": text}, 401)},
    "start: many": lambda text: {"start": _answer({"error": {"message": text}}, 503)},
    "status: state": lambda text: {"status": _status(sessionState=text)},
    "status: session": lambda text: {"status": _status(sessionGuid=text)},
    "status: decision": lambda text: {"status": _status(result={"decision": text})},
    "status: code": lambda text: {"status": _status(result={"reasonCode": text})},
    "status: request": lambda text: {"status": _status(result={"requestID": text})},
    "status: amount": lambda text: {"status": _status(result={"Amount": text})},
    "status: reference": lambda text: {"status": _status(result={"MerchantReferenceCode": text})},
    "status: currency": lambda text: {"status": _status(result={"currency": text})},
    "status: another member": lambda text: {"status": _status(result={"payer": text}, payer=text)},
    "status: message": lambda text: {"status": _answer({"Message": text}, 400)},
    "status: text": lambda text: {"status": _answer(text, 502, content_type="text/plain")},
    "gateway: member": lambda text: {"gateway": replace(_ACCEPT, extra={"requestToken": text, "comment": text})},
    "gateway: code": lambda text: {"gateway": replace(_ACCEPT, extra={"reasonCode": text})},
}


def scripts(chosen: list[Canary]) -> tuple[Script, ...]:
    ways = cycle(ANSWERS.values())
    return tuple(
        Script(
            f"OUT{number}", "answers with a canary", "somehow", _STEPS, **{"gateway": _ACCEPT} | next(ways)(each.text)
        )
        for number, each in enumerate(chosen)
    )


async def through_answers(host: Orchestrator, chosen: list[Canary]) -> Counter[str]:
    """Submit a payment for each canary; where it is the payer's own, the payer has given it, too."""
    payments = []
    for number, canary in enumerate(chosen):
        channel = ("digital", "phone")[number % 2]
        fields = {"cardholderName": canary.text if canary.kind == "name" else "Ada", "cardholderPostCode": "ZZ9 9ZZ"}
        fields |= {"cardholderAddress": canary.text if canary.kind in ("secret", "phone") else "1 Canary Wharf"}
        own = {"CallGuid": f"call-{number}"} if channel == "phone" else {"CustomerPhoneNumber": "+447911123456"}
        payments.append(await _submit(host, f"OUT{number}-1", channel=channel, fields=fields | own))
    # What the answers lead to may be a hold, or polls for days: everything was answered long before.
    until = time.monotonic() + 8 + len(payments) / 20
    async with host.worker():
        while time.monotonic() < until and await host.store.unended():
            await asyncio.sleep(0.2)
    found = [await host.get(payment.id) for payment in payments]
    return Counter(f"held: {each.hold}" if each.hold else str(each.state) for each in found)


# --- where nothing may be -----------------------------------------------------------------------

_MARKS = re.compile(rf"{NAME_MARK}|{TOKEN_MARK}|{SECRET}|4477009\d{{5}}".encode(), re.IGNORECASE)
_CODES = re.compile(rb"(?:cv[vc]2?|security code)(?: is)?[\s:=\"]{0,4}\d{4}\b", re.IGNORECASE)
_OTHER_DIGITS = re.compile(rb"(?:\xd9[\xa0-\xa9]|\xef\xbc[\x90-\x99]){4}")
"""Four digits in a row of the other two scripts, in UTF-8."""
_ESCAPED = re.compile(rb"\\u(?:066\d|ff1\d)", re.IGNORECASE)
_RUNS = re.compile(rb"\d(?:[ -]?\d){12,}")


def left_in(content: bytes, numbers: frozenset[str]) -> list[str]:
    """Name what is found of any canary."""
    patterns = (_MARKS, _CODES, _OTHER_DIGITS, _ESCAPED)
    found = [
        f"{content[max(match.start() - 80, 0) : match.end() + 20]!r}"
        for pattern in patterns
        for match in pattern.finditer(content)
    ]
    for run in _RUNS.finditer(content):
        digits = re.sub(rb"\D", b"", run[0]).decode()
        windows = (digits[low : low + length] for length in range(13, 20) for low in range(len(digits) - length + 1))
        found += [window for window in windows if window in numbers]
    return found


def _settings(base_url: str, directory: Path) -> Any:
    policy = {"poll_first_s": 0.02, "poll_max_s": 0.05, "poll_retry_s": 0.05}
    chosen = account(base_url, policy={"phone": policy, "digital": policy}, call_deadline_s=3.0)
    return load_settings(
        environ={"SANDBOX_CLIENT_ID": "sandbox-client", "SANDBOX_CLIENT_SECRET": SECRET},
        cwd=directory,
        overrides={
            "database_url": f"sqlite:///{directory / 'orchestrator.db'}", "worker": FAST, "accounts": {"test": chosen},
        },
    )  # fmt: skip


async def _exported(host: Orchestrator, file: Path) -> None:
    async def told(_: Any) -> None:
        await asyncio.sleep(0)

    await export(host.store, file, told)


def test_the_look_finds_every_kind_of_canary() -> None:
    for canary in canaries(7 * 40):
        found = left_in(f'{{"text":"{canary.text}"}}'.encode(), frozenset({canary.digits} - {""}))
        assert found, canary


@pytest.mark.timeout(1200)
async def test_no_canary_is_left_anywhere(tmp_path: Path, log: io.StringIO) -> None:
    begun = time.perf_counter()
    every = list(canaries(COUNT))
    chosen = random.Random(1).sample(every, len(every))
    answered, given = chosen[: int(COUNT * SHARE)], chosen[int(COUNT * SHARE) :]
    said: list[str] = []
    options = SandboxOptions(speed=200, faults=scripts(answered), client_secret=SECRET)

    async with Sandbox(options) as sandbox, Orchestrator(_settings(sandbox.base_url, tmp_path)) as host:
        came = await through_inputs(host, given, said)
        ends = await through_answers(host, answered)
        await _exported(host, tmp_path / "trail.jsonl")
        noted = [each async for each in host.store.all_entries() if each.kind == "card_data.refused"]
        await assert_clean(host)
        numbers = frozenset(each.digits for each in every if each.digits)
        files = [path for path in sorted(tmp_path.iterdir()) if path.is_file()]
        assert any(path.suffix == ".db-wal" or path.name.endswith("-wal") for path in files)
        places = {path.name: path.read_bytes() for path in files}

    places |= {"log": log.getvalue().encode(), "tracebacks": "\n".join(said).encode()}
    size = sum(map(len, places.values()))
    print(
        f"{COUNT} canaries in {time.perf_counter() - begun:.1f} s: {dict(came)}, {dict(ends)}, {len(noted)} noted;"
        f" {size} bytes in {len(places)} places"
    )
    left = {name: found for name, content in places.items() if (found := left_in(content, numbers))}
    assert left == {}, json.dumps({name: found[:40] for name, found in left.items()}, indent=1)
    assert ends[State.COMPLETED] > len(answered) / 10
    assert not ends[State.COLLECTING]
    assert noted
