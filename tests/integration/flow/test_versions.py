"""A payment goes on with the definitions that it was begun under, whatever the settings say by then."""

import json
from pathlib import Path

import pytest

from orchestrator import Orchestrator, Payment
from orchestrator.interactions import bundled
from orchestrator.sandbox import Sandbox
from tests.support.flow import assert_clean, fields_of, settings_for, submit

EDITION = "?edition=first"
TOLD = "?edition="
"""The trail has the names in a query, and no values."""
NAMES = ("start_phone_session", "start_digital_session", "session_status")


@pytest.fixture
def first_edition(tmp_path: Path) -> dict[str, str]:
    """An account's own documents, whose calls can be told from those of the bundled ones."""
    paths = {name: tmp_path / f"{name}.xml" for name in NAMES}
    for name, path in paths.items():
        text = bundled(name).replace("</Url>", f"{EDITION}</Url>", 1)
        assert EDITION in text
        path.write_text(text)
    return {name: str(path) for name, path in paths.items()}


async def asked(orchestrator: Orchestrator, payment: Payment) -> dict[str, bool]:
    """Which calls there were, and whether they were those of the first edition."""
    bodies = [json.loads(entry.body) for entry in await orchestrator.timeline(payment.id)]
    calls = [body for body in bodies if body.get("operation") in ("start_session", "query_status") and "url" in body]
    return {body["operation"]: TOLD in body["url"] for body in calls}


@pytest.mark.parametrize("channel", ["phone", "digital"])
async def test_a_payment_goes_on_with_the_definitions_that_it_was_begun_under(
    channel: str, sandbox: Sandbox, tmp_path: Path, first_edition: dict[str, str]
) -> None:
    old = settings_for(sandbox.base_url, tmp_path, definitions=first_edition)
    async with Orchestrator(old) as before:
        collected = await submit(before, "PAID-1", channel, 1)
        collecting = await submit(before, "PAID-2", channel, 2, fields={})
        assert collecting.missing
    for path in first_edition.values():
        Path(path).unlink()

    async with Orchestrator(settings_for(sandbox.base_url, tmp_path)) as after, after.worker():
        fresh = await submit(after, "PAID-3", channel, 3)
        await after.collect(collecting.id, fields_of(channel, 2))
        for payment in (collected, collecting, fresh):
            assert (await after.wait(payment.id, timeout=30)).outcome == "paid"

        for payment in (collected, collecting):
            assert await asked(after, payment) == {"start_session": True, "query_status": True}
        assert await asked(after, fresh) == {"start_session": False, "query_status": False}
        await assert_clean(after)


async def test_a_worker_drives_what_newer_settings_have_begun_meanwhile(
    sandbox: Sandbox, tmp_path: Path, first_edition: dict[str, str]
) -> None:
    older = settings_for(sandbox.base_url, tmp_path)
    newer = settings_for(sandbox.base_url, tmp_path, definitions=first_edition)
    async with Orchestrator(older) as before, before.worker(), Orchestrator(newer) as after:
        payment = await submit(after, "PAID-1", "phone")

        assert (await before.wait(payment.id, timeout=20)).outcome == "paid"
        assert await asked(before, payment) == {"start_session": True, "query_status": True}
