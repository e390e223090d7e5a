"""
The demo's promises, and whether each was kept.

Pure: payments, timelines, the auditor's report and the sandbox's statistics in,
promises out. The demo's exit status is the conjunction of them. Next: `demo_view`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.audit.verify import Report
from orchestrator.cli.demo_script import Cast, as_expected
from orchestrator.domain.entry import Entry
from orchestrator.domain.payment import Payment, State


@dataclass(frozen=True, slots=True)
class Promise:
    """
    One promise.

    Attributes:
        text: What was promised.
        broken: What was found instead, one line each; empty when it was kept.
    """

    text: str
    broken: tuple[str, ...] = ()

    @property
    def kept(self) -> bool:
        """Whether it was kept."""
        return not self.broken


@dataclass(frozen=True, slots=True)
class Told:
    """
    All that is known when the demo is over.

    Attributes:
        cast: What was submitted.
        payments: How each payment is, by reference.
        timelines: Each payment's entries, by reference.
        stats: The sandbox's statistics.
        report: The auditor's report.
        killed: Process id and exit status of the worker that was killed; `None` if none was.
        second: Process id and exit status of the worker after it; `None` if there was none.
    """

    cast: Sequence[Cast]
    payments: Mapping[str, Payment]
    timelines: Mapping[str, Sequence[Entry]]
    stats: Mapping[str, Any]
    report: Report
    killed: tuple[int, int | None] | None
    second: tuple[int, int | None] | None


def promises(told: Told) -> list[Promise]:
    """Check every promise."""
    return [_ends(told), _killed(told), _taken_over(told), _idle(told), _one_session(told), _clean(told)]


def taken_over(told: Told) -> list[str]:
    """Give the references of payments that the first worker began and the second one finished."""
    if told.killed is None or told.second is None:
        return []
    first, second = f":{told.killed[0]}", f":{told.second[0]}"
    found = []
    for reference, entries in told.timelines.items():
        begun = any(entry.origin.endswith(first) for entry in entries)
        ended = [entry for entry in entries if entry.to_state in (State.COMPLETED, State.FAILED)]
        if begun and ended and ended[0].origin.endswith(second):
            found.append(reference)
    return found


def doubted(entries: Sequence[Entry]) -> bool:
    """Tell whether nobody knew, of some start, whether it had made a session."""
    return any(_says(entry, operation="start_session", verdict="unknown") for entry in entries)


def _ends(told: Told) -> Promise:
    broken, excused = [], 0
    for member in told.cast:
        payment, part = told.payments.get(member.reference), member.part
        if payment is None:
            broken.append(f"{member.reference}: is not there")
        elif not as_expected(part, payment, doubted=doubted(told.timelines[member.reference])):
            is_, must = (payment.state, payment.outcome, payment.hold), (part.state, part.outcome, part.hold)
            broken.append(f"{member.reference}: is {_words(*is_)}, must be {_words(*must)}")
        else:
            excused += not as_expected(part, payment, doubted=False)
    text = f"all {len(told.cast)} payments ended, or are held, as the design says"
    return Promise(text + (f"; {excused} held because a start was in doubt" if excused else ""), tuple(broken))


def _killed(told: Told) -> Promise:
    text = "a worker was killed with SIGKILL in the middle"
    if told.killed is None:
        return Promise(text, ("no worker was killed",))
    return Promise(text, () if told.killed[1] == -9 else (f"it ended with {told.killed[1]}",))


def _taken_over(told: Told) -> Promise:
    found = taken_over(told)
    text = f"{len(found)} payments that it had begun were finished by another worker"
    return Promise(text, () if found else ("none was",))


def _idle(told: Told) -> Promise:
    text = "the second worker left nothing undone and stopped by itself"
    if told.second is None:
        return Promise(text, ("there was none",))
    return Promise(text, () if told.second[1] == 0 else (f"it ended with {told.second[1]}",))


def _one_session(told: Told) -> Promise:
    """I1, by what the provider counted."""
    digital: Mapping[str, int] = told.stats["digital_sessions_per_reference"]
    made: Mapping[str, int] = told.stats["sessions_per_reference"]
    broken = [f"{name}: {count} digital sessions" for name, count in digital.items() if count > 1]
    for name, count in made.items():
        given_up = sum(entry.trigger == "supersede" for entry in told.timelines.get(name, ()))
        if name not in digital and count > 1 + given_up:
            broken.append(f"{name}: {count} phone sessions, {given_up} of them superseded")
    text = f"the provider made {sum(made.values())} sessions, never two digital ones for one payment"
    return Promise(text, tuple(broken))


def _clean(told: Told) -> Promise:
    findings = tuple(f"{found.chain_id} {found.seq or ''}: {found.what}" for found in told.report.findings[:10])
    counts = told.report.counts
    sealed = f", {counts.get('leaves', 0)} of them sealed under {counts.get('checkpoints', 0)} checkpoints"
    return Promise(f"the trail of {counts['entries']} entries verifies{sealed}", findings)


def _says(entry: Entry, **words: str) -> bool:
    body = json.loads(entry.body)
    return all(body.get(name) == word for name, word in words.items())


def _words(*values: object) -> str:
    return "/".join(str(value) for value in values if value is not None)
