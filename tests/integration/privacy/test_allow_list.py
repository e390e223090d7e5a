"""Only declared fields reach entries and log lines, whatever became of a payment."""

import asyncio
import io
import json
from pathlib import Path

import pytest

from orchestrator import Orchestrator
from orchestrator.domain.errors import CardDataRefused, InvalidInput
from orchestrator.domain.payment import FACTS
from orchestrator.events import EVENTS
from orchestrator.sandbox import Sandbox, SandboxOptions
from tests.support.flow import PAYER, settings_for, submit

ALWAYS = {
    *("v", "software", "chain", "seq", "trigger", "from", "to", "at", "actor", "origin", "kind", "result", "about"),
    "prev",
}
TOLD = {
    *("operation", "attempt", "looks", "trace", "facts", "verdict", "cause", "why", "message", "method", "url"),
    *("status", "sends", "duration_ms", "digest", "deadline", "request", "request_digest"),
}
"""What else a payment's entry may carry; everything in it is a word, a number or a text that was cleaned."""
LOGGED_ALWAYS = {"at", "event", "level"}
REFERENCES = ("PAID-1", "DECLINED-1", "INVALID-1", "LOSTANSWER-1", "SERVERERROR-1", "EXPIRED-1")


async def test_entries_and_log_lines_carry_declared_fields_alone(tmp_path: Path, log: io.StringIO) -> None:
    async with (
        Sandbox(SandboxOptions(speed=100)) as sandbox,
        Orchestrator(settings_for(sandbox.base_url, tmp_path)) as host,
    ):
        payments = [await submit(host, reference, "digital") for reference in REFERENCES]
        async with host.worker():
            await asyncio.gather(*(host.wait(each.id, until="settled", timeout=20) for each in payments))
        with pytest.raises(CardDataRefused):
            await submit(host, "CARD-1", "digital", fields={"cardholderName": "4111 1111 1111 1111"})
        entries = [each async for each in host.store.all_entries()]

    assert {each.kind for each in entries} >= {"payment.submit", "payment.complete", "card_data.refused"}
    for entry in entries:
        body = json.loads(entry.body)
        assert set(body.get("facts", {})) <= set(FACTS)
        if entry.chain_id.startswith("pay-"):
            assert set(body) - ALWAYS <= TOLD, entry.kind
        assert not [value for value in PAYER.values() if value in entry.body]
    for line in log.getvalue().splitlines():
        told = json.loads(line)
        assert set(told) - LOGGED_ALWAYS <= EVENTS[told["event"]], told["event"]
        assert not [value for value in PAYER.values() if value in line]


async def test_refused_card_data_in_a_hosts_transaction_is_noted_when_that_is_over(tmp_path: Path) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine

    async with Sandbox(SandboxOptions(speed=100)) as sandbox:
        settings = settings_for(sandbox.base_url, tmp_path)
        async with Orchestrator(settings) as host:
            engine = create_async_engine(settings.database_url)
            async with engine.connect() as connection:
                await connection.exec_driver_sql("begin immediate")  # the one writer, until the host is done
                with pytest.raises(InvalidInput):
                    await submit(
                        host,
                        "CARD-1",
                        "digital",
                        fields={"cardholderName": "4111 1111 1111 1111"},
                        connection=connection,
                    )
                await connection.rollback()
            await engine.dispose()
        async with Orchestrator(settings) as host:
            noted = [each async for each in host.store.all_entries() if each.kind == "card_data.refused"]

    assert [(each.about, json.loads(each.body)["field"]) for each in noted] == [("test", "fields.cardholderName")]
