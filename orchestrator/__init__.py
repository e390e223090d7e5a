"""
An embeddable, durable payment orchestrator for Vonage Contact Center IVR Secure Payments.

Read the package in the order of its flow:

1. `domain`: what a payment is, the machine, `plan` and `decide`. Pure.
2. `ports`: what the flow asks of the outside.
3. `submit`, `resolve`, `claim`, `execute`, `rescue`, `worker`, `notify`, `webhook`: the flow; `explain`: its next step
   in words; `health`: what a person should know.
   `waiting`, `suspects`, `traffic`, `rounds`: whose turn it is in a worker, and how it keeps its rhythm.
4. `interactions`, `provider`, `store`, `privacy`: the adapters.
5. `orchestrator`, `assembly`, `composition`: where they meet. `service`: HTTP. `cli`: the command line.

Everything a host needs is named here.
"""

from orchestrator.domain.entry import Entry
from orchestrator.domain.errors import (
    ConfigurationError,
    Conflict,
    DatabaseMismatch,
    DefinitionError,
    Fenced,
    IntegrityViolated,
    InvalidInput,
    NotFound,
    OrchestratorError,
    Unavailable,
)
from orchestrator.domain.money import Money
from orchestrator.domain.outcome import MoneyFact, Outcome
from orchestrator.domain.payment import Channel, HoldReason, Payment, State
from orchestrator.handlers import EVENTS
from orchestrator.health import Finding, Health
from orchestrator.orchestrator import Orchestrator
from orchestrator.records import Query
from orchestrator.settings import AccountSettings, Settings, WorkerSettings, load_settings
from orchestrator.store.schema import OWN_TABLES as TABLES
from orchestrator.upgrading import upgrade_database
from orchestrator.webhook import Heard

__all__ = [
    "EVENTS",
    "TABLES",
    "AccountSettings",
    "Channel",
    "ConfigurationError",
    "Conflict",
    "DatabaseMismatch",
    "DefinitionError",
    "Entry",
    "Fenced",
    "Finding",
    "Health",
    "Heard",
    "HoldReason",
    "IntegrityViolated",
    "InvalidInput",
    "Money",
    "MoneyFact",
    "NotFound",
    "Orchestrator",
    "OrchestratorError",
    "Outcome",
    "Payment",
    "Query",
    "Settings",
    "State",
    "Unavailable",
    "WorkerSettings",
    "load_settings",
    "upgrade_database",
]
