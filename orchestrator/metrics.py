"""
Every metric once: its name, what it counts, and which event of the log drives it.

Owns the numbers for a Prometheus server; prometheus-client has its home here. Nothing
is counted anywhere but in `telemetry.emit`, so that log and metrics tell one story.
Labels are names and words of fixed sets, never an id. Next: `events`.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest, start_http_server

from orchestrator.domain.errors import ConfigurationError
from orchestrator.telemetry import listened


class _Metric(NamedTuple):
    """One metric: the event that drives it, its labels among the event's fields, the field with the number."""

    name: str
    event: str
    labels: tuple[str, ...]
    what: str
    field: str = ""


COUNTERS = (
    _Metric("orchestrator_payments_ended", "payment.ended", ("channel", "outcome"), "Payments that ended."),
    _Metric("orchestrator_holds", "payment.held", ("channel", "hold"), "Payments held for a person."),
    _Metric(
        "orchestrator_provider_calls", "call.answered", ("account", "operation", "verdict"),
        "Requests to the provider, by what the transport knows of each.",
    ),
    _Metric("orchestrator_budget_wait_seconds", "call.waited", ("account", "operation"), "Waits.", "duration_s"),
    _Metric("orchestrator_breaker_opened", "breaker.opened", ("account", "operation"), "Breakers that opened."),
    _Metric("orchestrator_evidence_lost", "evidence.lost", ("account",), "Looks that came too late."),
    _Metric("orchestrator_webhooks", "webhook.heard", ("account", "result"), "Webhooks that were taken."),
    _Metric("orchestrator_webhooks_refused", "webhook.refused", ("account",), "Webhooks that were refused."),
    _Metric("orchestrator_fenced", "claim.fenced", (), "Writes refused because the claim was lost."),
    _Metric("orchestrator_rescued", "claim.rescued", (), "Claims freed of workers that were gone.", "count"),
    _Metric("orchestrator_seals", "seal.made", (), "Checkpoints that were signed."),
    _Metric("orchestrator_controls_failed", "control.failed", ("control",), "Failures of controls that were noticed."),
    _Metric("orchestrator_database_unavailable", "database.unavailable", ("operation",), "Turns that met no database."),
)  # fmt: skip
"""Prometheus adds `_total` to their names."""

GAUGES = (
    _Metric("orchestrator_waiting", "account.measured", ("account",), "Payments that wait for a look.", "waiting"),
    _Metric(
        "orchestrator_evidence_at_risk", "account.measured", ("account",),
        "Of those, how many the account's budget can't look at twice in time.", "at_risk",
    ),
    _Metric("orchestrator_seal_waiting", "seal.measured", (), "Entries that wait for their seal.", "waiting"),
    _Metric("orchestrator_seal_lag_seconds", "seal.measured", (), "How long the oldest of them has waited.", "since_s"),
)  # fmt: skip


class Metrics:
    """
    Counts what the log tells, from `counting` on.

    Args:
        registry: Where a host's own exporter finds them; its own by default.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._driven: dict[str, list[tuple[_Metric, Counter | Gauge]]] = {}
        for kind, metrics in ((Counter, COUNTERS), (Gauge, GAUGES)):
            for metric in metrics:
                made = kind(metric.name, metric.what, metric.labels, registry=self.registry)
                self._driven.setdefault(metric.event, []).append((metric, made))

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Count until the block ends."""
        with listened(self.count):
            yield

    def count(self, event: str, fields: Mapping[str, Any]) -> None:
        """Count one event; what is no metric's costs a look-up."""
        for metric, made in self._driven.get(event, ()):
            number = float(fields.get(metric.field, 1)) if metric.field else 1.0
            labelled = made.labels(*(_word(fields.get(label)) for label in metric.labels)) if metric.labels else made
            if isinstance(labelled, Gauge):
                labelled.set(number)
            else:
                labelled.inc(number)

    def text(self) -> tuple[bytes, str]:
        """Give the numbers as Prometheus reads them, and their content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    @contextlib.contextmanager
    def served(self, port: int, host: str = "127.0.0.1") -> Iterator[int]:
        """
        Serve `/metrics` until the block ends; without a token, so not to the world.

        Args:
            port: 0 takes a free one.
            host: Loopback by default.

        Yields:
            The port.

        Raises:
            ConfigurationError: The port can't be had.
        """
        try:
            server, thread = start_http_server(port, addr=host, registry=self.registry)
        except (OSError, OverflowError) as error:
            raise ConfigurationError(
                "metrics-port", f"can't be used ({type(error).__name__})", "take another"
            ) from None
        try:
            yield int(server.server_port)
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _word(value: object) -> str:
    return "" if value is None else str(getattr(value, "value", value))
