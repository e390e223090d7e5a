"""Every row of the table of verdicts x 4 operations x 2 channels, once and for ever: 0 ends that it does not allow."""

import json
from dataclasses import replace
from datetime import timedelta
from itertools import product

import httpx
import pytest

from orchestrator.domain.decide import decide, lapsed
from orchestrator.domain.decision import Decision
from orchestrator.domain.entry import Context, Looks
from orchestrator.domain.machine import Operation
from orchestrator.domain.operation import Next, plan
from orchestrator.domain.outcome import Observation, Outcome
from orchestrator.domain.payment import Channel, Payment, State
from orchestrator.domain.starting import intend
from orchestrator.domain.verdict import Session, Verdict, VerdictKind
from orchestrator.provider.gateway import GatewayProfile
from orchestrator.provider.transport import Answer, DeadlinePassed, PoolWait
from orchestrator.provider.verdicts import of_exception, of_status
from tests.support.quality import row
from tests.unit.domain.story import POLICIES, T0, born

ANSWERED = Verdict(VerdictKind.ANSWERED)
PAYS_AFTER_S = 300.0
"""The payer takes so long; a session that nobody looked at in time has been paid all the same."""


def http(status: int, text: str = "", **headers: str) -> Verdict:
    answer = Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, text.encode())
    found = of_status(answer, account_texts=GatewayProfile().account_trouble_texts, now=T0)
    assert found is not None
    return found


def broken(error: Exception) -> Verdict:
    return of_exception(error, "httpx")


ROWS: dict[str, dict[str, Verdict]] = {
    "unsent": {
        "refused": broken(httpx.ConnectError("refused")), "connect timeout": broken(httpx.ConnectTimeout("late")),
        "pool wait": broken(PoolWait()),
    },
    "throttled": {"429": http(429), "429 with Retry-After": http(429, retry_after="5")},
    "account": {
        "401": http(401), "403": http(403), "301": http(301), "302": http(302), "307": http(307),
        "400 invalid_client_key": http(400, "returned error message 'invalid_client_key'"),
        "404 of the account": http(404, "Account configuration does not exist"),
    },
    "absent": {"404": http(404), "410": http(410)},
    "invalid": {"400": http(400), "402": http(402), "415": http(415), "422": http(422), "451": http(451)},
    "doubt": {
        **{str(status): http(status) for status in (408, 409, 423, 425, 500, 501, 502, 503, 504, 599)},
        "503 with Retry-After": http(503, retry_after="5"), "100": http(100),
        "2xx without it": Verdict(VerdictKind.UNKNOWN, "answer_incomplete"),
        "timeout": broken(httpx.ReadTimeout("late")), "reset": broken(httpx.ReadError("reset")),
        "half a body": broken(httpx.RemoteProtocolError("half")), "our deadline": broken(DeadlinePassed()),
        "nobody listed it": broken(RuntimeError("?")),
    },
}  # fmt: skip

# (operation, channel): what the row's class leads to, when it strikes once, and when it strikes for ever.
PAID, CONFIG, REFUSED, DOWN = "paid", "config_error", "invalid_request", "provider_unavailable"
UNKNOWN, SILENT, LATE = "session_unknown", "indeterminate", "late_money"
_TOKEN = {
    "unsent": (PAID, DOWN), "throttled": (PAID, DOWN), "account": (PAID, CONFIG), "absent": (PAID, CONFIG),
    "invalid": (PAID, CONFIG), "doubt": (PAID, DOWN),
}  # fmt: skip
_START = {
    "unsent": (PAID, DOWN), "throttled": (PAID, DOWN), "account": (PAID, CONFIG), "absent": (CONFIG, CONFIG),
    "invalid": (REFUSED, REFUSED),
}  # fmt: skip
_LOOK = {
    "unsent": (PAID, SILENT), "throttled": (PAID, SILENT), "account": (PAID, SILENT), "absent": (PAID, SILENT),
    "invalid": (PAID, SILENT), "doubt": (PAID, SILENT),
}  # fmt: skip
_TELL = dict.fromkeys(ROWS, (PAID, PAID))
ENDS = {
    (Operation.AUTHORIZE, Channel.PHONE): _TOKEN,
    (Operation.AUTHORIZE, Channel.DIGITAL): _TOKEN,
    # A caller on the line gets another session; when every one stays unseen, only their longest life ends it.
    (Operation.START_SESSION, Channel.PHONE): _START | {"doubt": (PAID, DOWN)},
    (Operation.START_SESSION, Channel.DIGITAL): _START | {"doubt": (UNKNOWN, UNKNOWN)},
    # A call that nobody was sent to is not attempted; should it be paid all the same, a person hears of it.
    (Operation.HAND_OVER, Channel.PHONE): _TELL | {"unsent": (LATE, LATE)},
    (Operation.HAND_OVER, Channel.DIGITAL): _TELL,
    (Operation.QUERY_STATUS, Channel.PHONE): _LOOK,
    (Operation.QUERY_STATUS, Channel.DIGITAL): _LOOK,
}
CASES = [
    (operation, channel, kind, name, for_ever)
    for (operation, channel), kind in product(ENDS, ROWS)
    for name in ROWS[kind]
    for for_ever in (False, True)
]


class Life:
    """One payment through plan, send and decide in virtual time, under one fault."""

    def __init__(self, channel: Channel, struck: Operation, verdict: Verdict, *, for_ever: bool) -> None:
        self.payment: Payment = born(channel)
        # Fewer looks at a session that lives for three days, for the test's own speed.
        self.policy = replace(POLICIES[channel], poll_retry_s=1800, poll_max_s=1800)
        self.now = T0
        self.looks = Looks()
        self.struck, self.verdict = struck, verdict
        self.strikes = 1_000_000 if for_ever else 1
        self.decisions: list[Decision] = []
        self.sessions = 0

    def answer(self, operation: Operation) -> Verdict:
        if operation is self.struck and self.strikes:
            self.strikes -= 1
            return self.verdict
        if operation is Operation.START_SESSION:
            self.sessions += 1
            return Verdict(VerdictKind.ANSWERED, session=Session(f"s-{self.sessions}", "+442071234567", "1234"))
        if operation is Operation.QUERY_STATUS:
            return Verdict(VerdictKind.ANSWERED, observation=self.session_now())
        return ANSWERED

    def session_now(self) -> Observation:
        assert self.payment.session_at is not None
        if self.now < self.payment.session_at + timedelta(seconds=PAYS_AFTER_S):
            return Observation("Started")
        return Observation("Finished", outcome=Outcome.PAID, codes={"decision": "ACCEPT"}, amount_minor=1240)

    @property
    def context(self) -> Context:
        return Context(self.now, "worker-1", "host-1:1", looks=self.looks)

    def apply(self, decision: Decision) -> None:
        self.payment = decision.payment
        self.decisions.append(decision)
        if not decision.quiet:
            self.looks = Looks()
        if any(notice.event == "handed_over" for notice in decision.notices):
            self.apply(decide(self.payment, Operation.HAND_OVER, self.delivered(), self.context, self.policy))

    def delivered(self) -> Verdict:
        """What a delivery comes to: the flow makes such a verdict of its own, whatever befell it."""
        return self.answer(Operation.HAND_OVER)

    def send(self, operation: Operation) -> None:
        attempt = None
        if operation is Operation.START_SESSION:
            self.apply(intend(self.payment, self.context, request_digest="r"))
            attempt = self.payment.open_attempt
        verdict = self.answer(operation)
        decision = decide(self.payment, operation, verdict, self.context, self.policy, attempt=attempt)
        if decision.quiet:
            self.looks = self.looks.plus(at=self.now, failed=verdict.kind is not VerdictKind.ANSWERED, state=None)
        self.apply(decision)

    def live(self) -> None:
        """Go on until only a person, or nobody, can move it."""
        for _ in range(20_000):
            planned = plan(self.payment, self.now, self.policy)
            if planned.next is Next.SEND:
                assert planned.operation is not None
                self.send(planned.operation)
            elif planned.next is Next.LAPSE:
                self.apply(lapsed(self.payment, planned.why, self.context))
            elif self.payment.due_at is None:
                return
            else:
                assert planned.next is Next.WAIT
                assert self.payment.due_at > self.now, "it would turn for ever"
                self.now = self.payment.due_at
        raise AssertionError(f"no end in sight: {self.payment.state} {self.payment.reason}")

    @property
    def end(self) -> str:
        return str(self.payment.hold or self.payment.outcome)


def lived(operation: Operation, channel: Channel, verdict: Verdict, *, for_ever: bool) -> Life:
    life = Life(channel, operation, verdict, for_ever=for_ever)
    life.live()
    return life


def wrong(life: Life, expected: str) -> list[str]:
    """Give what must not be, whatever the row."""
    payment, found = life.payment, []
    if life.end != expected:
        found.append(f"ends as {life.end} ({payment.reason}), not {expected}")
    if payment.state is State.COMPLETED and not any(
        entry.trigger == "complete" and json.loads(entry.body).get("verdict") == "answered"
        for decision in life.decisions
        for entry in decision.entries
    ):
        found.append("completed without evidence")
    if payment.channel is Channel.DIGITAL and payment.sessions > 1:
        found.append("a second digital session")
    if payment.sessions > life.policy.max_sessions:
        found.append("more sessions than the policy allows")
    silent = payment.state is State.FAILED and payment.hold is None and payment.session_id is not None
    if silent and life.struck is Operation.QUERY_STATUS:
        found.append("failed, and nobody had looked")
    return found


@pytest.mark.parametrize(("operation", "channel"), ENDS, ids=lambda value: value.value)
def test_no_row_of_the_table_leads_to_an_end_that_it_does_not_allow(operation: Operation, channel: Channel) -> None:
    cases = [case for case in CASES if case[:2] == (operation, channel)]
    found = {}
    for _, _, kind, name, for_ever in cases:
        life = lived(operation, channel, ROWS[kind][name], for_ever=for_ever)
        what = wrong(life, ENDS[operation, channel][kind][for_ever])
        if what:
            found[name, "for ever" if for_ever else "once"] = what
    row(
        f"provider faults: {operation}, {channel}", "0 wrong terminal states",
        f"{len(cases)} cases (every row, once and for ever), {len(found)} wrong",
    )  # fmt: skip

    assert found == {}


def test_the_rows_are_of_the_kind_that_they_are_listed_under() -> None:
    kinds = {
        "unsent": VerdictKind.NOT_SENT, "throttled": VerdictKind.REJECTED, "account": VerdictKind.REJECTED,
        "absent": VerdictKind.REJECTED, "invalid": VerdictKind.REJECTED, "doubt": VerdictKind.UNKNOWN,
    }  # fmt: skip

    assert {kind: {verdict.kind for verdict in rows.values()} for kind, rows in ROWS.items()} == {
        kind: {expected} for kind, expected in kinds.items()
    }
