"""Numbers for monitoring: each driven by one event of the log, none by an id."""

import re
import urllib.request

import pytest
from prometheus_client import CollectorRegistry

from orchestrator.domain.errors import ConfigurationError
from orchestrator.domain.outcome import Outcome
from orchestrator.domain.payment import Channel, HoldReason
from orchestrator.domain.verdict import VerdictKind
from orchestrator.events import EVENTS
from orchestrator.metrics import COUNTERS, GAUGES, Metrics
from orchestrator.telemetry import emit, listened

CASES = [
    ("payment.ended", {"channel": Channel.PHONE, "outcome": Outcome.PAID, "money": "taken"},
     "payments_ended_total", {"channel": "phone", "outcome": "paid"}, 1),
    ("payment.held", {"channel": Channel.DIGITAL, "hold": HoldReason.POISON},
     "holds_total", {"channel": "digital", "hold": "poison"}, 1),
    ("call.answered", {"account": "emea", "operation": "look", "verdict": VerdictKind.UNKNOWN},
     "provider_calls_total", {"account": "emea", "operation": "look", "verdict": "unknown"}, 1),
    ("call.waited", {"account": "emea", "operation": "start", "duration_s": 0.25},
     "budget_wait_seconds_total", {"account": "emea", "operation": "start"}, 0.25),
    ("breaker.opened", {"account": "emea", "operation": "token", "reason": "x"},
     "breaker_opened_total", {"account": "emea", "operation": "token"}, 1),
    ("evidence.lost", {"account": "emea", "payment_id": "pay-1", "since_s": 9},
     "evidence_lost_total", {"account": "emea"}, 1),
    ("webhook.heard", {"account": "emea", "result": "unmatched", "reason": "unknown"},
     "webhooks_total", {"account": "emea", "result": "unmatched"}, 1),
    ("webhook.refused", {"account": "emea", "reason": "body is not JSON"},
     "webhooks_refused_total", {"account": "emea"}, 1),
    ("claim.fenced", {"payment_id": "pay-1", "worker_id": "w"}, "fenced_total", {}, 1),
    ("claim.rescued", {"count": 17}, "rescued_total", {}, 17),
    ("seal.made", {"size": 500}, "seals_total", {}, 1),
    ("control.failed", {"control": "export", "reason": "disk"}, "controls_failed_total", {"control": "export"}, 1),
    ("seal.measured", {"waiting": 40, "since_s": 1.5}, "seal_waiting", {}, 40),
    ("seal.measured", {"waiting": 40, "since_s": 1.5}, "seal_lag_seconds", {}, 1.5),
    ("database.unavailable", {"operation": "claim"}, "database_unavailable_total", {"operation": "claim"}, 1),
    ("account.measured", {"account": "emea", "waiting": 20_000, "at_risk": 3}, "waiting", {"account": "emea"}, 20_000),
    ("account.measured", {"account": "emea", "waiting": 20_000, "at_risk": 3},
     "evidence_at_risk", {"account": "emea"}, 3),
]  # fmt: skip


@pytest.fixture
def metrics():
    each = Metrics()
    with each.counting():
        yield each


def test_every_metric_has_a_case_here():
    named = {metric.name.removeprefix("orchestrator_") + "_total" for metric in COUNTERS}
    named |= {metric.name.removeprefix("orchestrator_") for metric in GAUGES}
    assert {case[2] for case in CASES} == named


@pytest.mark.parametrize("metric", [*COUNTERS, *GAUGES], ids=lambda metric: metric.name)
def test_what_drives_a_metric_is_in_the_table_of_events(metric):
    assert EVENTS[metric.event] >= {*metric.labels, *filter(None, [metric.field])}
    assert not {"payment_id", "worker_id", "session_id", "trace_id"} & set(metric.labels)
    assert re.fullmatch(r"orchestrator_[a-z_]+", metric.name)


@pytest.mark.parametrize(("event", "fields", "name", "labels", "number"), CASES)
def test_an_event_is_counted_whether_its_line_is_written_or_not(metrics, event, fields, name, labels, number):  # noqa: PLR0917 - a row of the table
    for _ in range(2):
        emit(event, **fields)
    twice = 2 * number if name.endswith("_total") else number
    assert metrics.registry.get_sample_value(f"orchestrator_{name}", labels) == twice


def test_nothing_is_counted_before_or_after():
    metrics = Metrics(CollectorRegistry())
    emit("claim.fenced")
    with metrics.counting():
        emit("claim.fenced")
        emit("worker.started", worker_id="w")
        emit("unheard.of")
    emit("claim.fenced")
    assert metrics.registry.get_sample_value("orchestrator_fenced_total") == 1


def test_a_listener_that_fails_breaks_no_payment():
    def broken(event, fields):
        raise RuntimeError(event)

    with listened(broken):
        emit("claim.fenced")


def test_they_are_served_on_loopback_and_the_port_is_free_again(metrics):
    emit("claim.rescued", count=2)
    with metrics.served(0) as port:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        with pytest.raises(ConfigurationError, match="metrics-port"), metrics.served(port):
            pass
    assert "orchestrator_rescued_total 2.0" in text
    with metrics.served(port) as again:
        assert again == port
