"""
Ids are judged by their format: of each kind at most one in a thousand is taken for card data.

20,000 of each in every run, 100,000 with `make prove`.
"""

import hashlib
import os
import random
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.domain.entry import instant
from orchestrator.domain.fields import payment_id
from orchestrator.privacy.guard import redact_card_data

COUNT = 100_000 if os.environ.get("ORCHESTRATOR_TEST_FULL") else 20_000
MOST = 0.001

_DAY = datetime(2026, 11, 24, tzinfo=UTC)


def _e164(chance: random.Random) -> str:
    # ITU-T E.164: at most 15 digits, the country code with them; the shortest that are dialled have 8.
    return f"+{chance.randint(1, 9)}{''.join(chance.choices('0123456789', k=chance.randint(7, 14)))}"


def _moment(chance: random.Random) -> datetime:
    return _DAY + timedelta(microseconds=chance.randrange(10 * 365 * 86400 * 10**6))


KINDS: dict[str, Callable[[random.Random], str]] = {
    "session id": lambda chance: str(uuid.UUID(int=chance.getrandbits(128), version=4)),
    "session id in capitals": lambda chance: str(uuid.UUID(int=chance.getrandbits(128), version=4)).upper(),
    "session id without dashes": lambda chance: uuid.UUID(int=chance.getrandbits(128), version=4).hex,
    "session id in braces": lambda chance: f"{{{uuid.UUID(int=chance.getrandbits(128), version=4)}}}",
    "phone number": _e164,
    "phone number in a URL": lambda chance: "https://host/to?n=%2B" + _e164(chance)[1:] + "&x=1",
    "payment id": lambda chance: payment_id("emea", str(chance.random())),
    "worker id": lambda chance: f"worker-{chance.randbytes(8).hex()}",
    "key id": lambda chance: chance.randbytes(8).hex(),
    "digest": lambda chance: hashlib.sha256(chance.randbytes(8)).hexdigest(),
    "keyed digest": lambda chance: f"{chance.randbytes(8).hex()}:{chance.randbytes(32).hex()}",
    "incarnation": lambda chance: chance.randbytes(16).hex(),
    "request id": lambda chance: "".join(chance.choices("0123456789", k=22)),
    "link id": lambda chance: "".join(chance.choices("0123456789", k=chance.randint(6, 12))),
    "instant": lambda chance: instant(_moment(chance)),
    "instant with an offset": lambda chance: _moment(chance).isoformat(),
    "seconds of an epoch": lambda chance: f"{_moment(chance).timestamp():.6f}",
    "origin": lambda chance: f"host-{chance.randint(1, 999)}:{chance.randint(1, 4_194_304)}",
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_id_is_not_taken_for_card_data(kind: str, record_property: Callable[[str, object], None]) -> None:
    chance = random.Random(f"{kind} of 2026")
    make = KINDS[kind]

    hit = sum(redact_card_data(text) != text for text in (make(chance) for _ in range(COUNT)))

    print(f"{kind}: {hit} of {COUNT}")
    record_property("hits", hit)
    assert hit <= COUNT * MOST


@pytest.mark.parametrize("kind", ["session id", "payment id", "request id", "instant"])
def test_nor_in_the_company_of_others(kind: str) -> None:
    chance = random.Random(kind)
    texts = [f"{KINDS[kind](chance)} {KINDS[kind](chance)}" for _ in range(COUNT // 10)]

    assert sum(redact_card_data(text) != text for text in texts) <= len(texts) * MOST
