"""When an account's calls are kept back, who tries first, and what ends it."""

from datetime import timedelta
from random import Random

import pytest

from orchestrator.domain.verdict import Cause, Verdict, VerdictKind
from orchestrator.provider import breaker
from orchestrator.provider.breaker import FIRST_S, MAX_S, NEAR_GAP_S, NEAR_LOSS_S, REASON, THRESHOLD, Breaker, Kind
from tests.support.provider import NOW

TOKEN, LOOK, START = Kind
NOT_SENT, REJECTED, UNKNOWN = VerdictKind.NOT_SENT, VerdictKind.REJECTED, VerdictKind.UNKNOWN
LOST = Verdict(UNKNOWN, "timeout")
FORBIDDEN = Verdict(REJECTED, "http_403", Cause.ACCOUNT)


class Clock:
    def __init__(self):
        self.at = 100.0

    def now(self):
        return NOW + timedelta(seconds=self.at - 100)

    def monotonic(self):
        return self.at

    async def sleep(self, seconds):
        raise AssertionError("a breaker never waits")


@pytest.fixture
def events(monkeypatch):
    told = []
    monkeypatch.setattr(breaker, "emit", lambda name, **fields: told.append((name, fields)))
    return told


@pytest.fixture
def made(events):
    clock = Clock()
    return Breaker("emea", clock=clock, random=Random(3)), clock


def passed(each, kind, by=None):
    """Give whether it was the probe; it must have passed."""
    probe = each.admit(kind, by)
    assert isinstance(probe, bool)
    return probe


def fail(each, kind, verdict):
    each.learnt(kind, verdict, probe=passed(each, kind))


def kept_back(each, kind, by=None):
    verdict = each.admit(kind, by)
    return isinstance(verdict, Verdict) and verdict


@pytest.mark.parametrize("verdict", [LOST, Verdict(NOT_SENT, "connect_refused"), Verdict(UNKNOWN, "http_503")])
@pytest.mark.parametrize("kind", Kind)
def test_so_many_calls_in_a_row_without_an_answer_open_it_for_all(made, events, kind, verdict):
    each, _ = made
    for _ in range(THRESHOLD - 1):
        fail(each, kind, verdict)
    assert each.open_for == ""
    fail(each, kind, verdict)
    assert (each.open_for, each.troubled, each.trouble) == ("token", False, verdict)
    for other in Kind:
        refusal = kept_back(each, other)
        assert (refusal.kind, refusal.reason, refusal.cause) == (NOT_SENT, REASON, Cause.NONE)
        assert refusal.retry_after_s > 0
    assert events == [("breaker.opened", {"account": "emea", "operation": "token", "reason": verdict.reason})]


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (LOOK, None),
        (START, Verdict(REJECTED, "http_422", Cause.INVALID)),
        (LOOK, Verdict(REJECTED, "http_404", Cause.ABSENT)),
        (LOOK, Verdict(VerdictKind.ANSWERED)),
    ],
)
def test_an_answer_in_between_begins_the_count_anew_and_a_refusal_of_one_request_is_one(made, kind, answer):
    each, _ = made
    for _ in range(3):
        for _ in range(THRESHOLD - 1):
            fail(each, LOOK, LOST)
        fail(each, kind, answer)
    assert each.open_for == ""


@pytest.mark.parametrize(
    "verdict",
    [
        Verdict(NOT_SENT, "pool_wait"),
        Verdict(NOT_SENT, "deadline"),
        Verdict(REJECTED, "http_429", Cause.THROTTLED, 3.0),
        Verdict(REJECTED, "http_401", Cause.UNAUTHORIZED),
    ],
)
def test_congestion_here_throttling_and_an_old_token_are_no_trouble(made, verdict):
    each, _ = made
    for _ in range(3 * THRESHOLD):
        fail(each, LOOK, verdict)
    assert each.open_for == ""


@pytest.mark.parametrize(
    ("kind", "verdict", "kept"),
    [
        (START, FORBIDDEN, {START}),
        (LOOK, FORBIDDEN, {LOOK, START}),
        (TOKEN, FORBIDDEN, set(Kind)),
        (TOKEN, Verdict(REJECTED, "http_400", Cause.INVALID), set(Kind)),
        (TOKEN, Verdict(REJECTED, "http_401", Cause.UNAUTHORIZED), set(Kind)),
    ],
)
def test_the_accounts_trouble_opens_it_at_once_for_what_builds_on_the_call(made, kind, verdict, kept):
    each, _ = made
    fail(each, kind, verdict)
    assert each.open_for == kind.name.lower()
    assert {other for other in Kind if each.barred(other)} == kept
    cause = verdict.cause if verdict.cause is not Cause.INVALID else Cause.ACCOUNT
    assert kept_back(each, START).cause is cause
    assert each.troubled


def test_one_probe_at_a_time_after_the_pause_and_its_answer_closes_it(made, events):
    each, clock = made
    fail(each, START, FORBIDDEN)
    assert kept_back(each, START)
    clock.at += FIRST_S
    assert each.barred(START) is None, "asking takes no probe"
    assert passed(each, START)
    assert kept_back(each, START)
    each.learnt(START, None, probe=True)
    assert each.open_for == ""
    assert not passed(each, START)
    assert events[-1] == ("breaker.closed", {"account": "emea", "operation": "start", "since_s": FIRST_S})


def test_pauses_double_up_to_the_longest_with_jitter_and_late_failures_do_not_add_up(made):
    each, clock = made
    fail(each, START, FORBIDDEN)
    pauses = []
    for _ in range(12):
        begun = clock.at
        while each.barred(START):
            clock.at += 0.01
        pauses.append(clock.at - begun)
        probe = passed(each, START)
        for _ in range(5):  # calls that were under way when it opened
            each.learnt(START, FORBIDDEN, probe=False)
        each.learnt(START, FORBIDDEN, probe=probe)
    most = [min(FIRST_S * 2.0**tries, MAX_S) for tries in range(12)]
    assert all(limit / 2 - 0.02 <= pause <= limit + 0.02 for pause, limit in zip(pauses, most, strict=True))
    assert len({round(pause, 1) for pause in pauses[-5:]}) > 1


@pytest.mark.parametrize(("kind", "closes"), [(TOKEN, False), (LOOK, True), (START, True)])
def test_only_a_call_that_builds_on_what_failed_closes_it(made, kind, closes):
    each, clock = made
    fail(each, LOOK, FORBIDDEN)
    clock.at += FIRST_S
    fail(each, kind, None)
    assert (each.open_for == "") is closes


def test_trouble_below_keeps_back_more(made):
    each, _ = made
    fail(each, START, FORBIDDEN)
    fail(each, TOKEN, FORBIDDEN)
    assert each.open_for == "token"


def test_a_token_that_is_refused_twice_is_the_accounts_trouble_and_probes_keep_their_pause(made):
    each, clock = made
    refused = Verdict(REJECTED, "http_401", Cause.UNAUTHORIZED)
    fail(each, LOOK, refused)
    each.blame(LOOK, refused)
    assert (each.open_for, each.troubled, kept_back(each, LOOK).cause) == ("look", True, Cause.UNAUTHORIZED)
    clock.at += FIRST_S
    fail(each, LOOK, refused)
    fail(each, LOOK, refused)  # the second one of the same call, with a new token
    each.blame(LOOK, refused)
    assert kept_back(each, LOOK)


def test_a_probe_that_is_cut_off_or_throttled_leaves_room_for_another(made):
    each, clock = made
    fail(each, LOOK, FORBIDDEN)
    clock.at += FIRST_S
    assert passed(each, LOOK)
    each.cancelled(probe=True)
    fail(each, LOOK, Verdict(REJECTED, "http_429", Cause.THROTTLED, 7.0))
    assert kept_back(each, LOOK)
    clock.at += 7
    assert passed(each, LOOK)


def test_a_look_that_is_about_to_lose_its_evidence_probes_before_the_pause_but_not_in_a_crowd(made):
    each, clock = made
    for _ in range(THRESHOLD):
        fail(each, LOOK, LOST)
    for _ in range(8):  # a long pause by now
        clock.at += MAX_S
        fail(each, LOOK, LOST)
    near, far = clock.now() + timedelta(seconds=NEAR_LOSS_S - 1), clock.now() + timedelta(seconds=NEAR_LOSS_S + 60)
    clock.at += NEAR_GAP_S
    assert kept_back(each, LOOK, far)
    assert kept_back(each, START, near), "a start loses no evidence"
    assert each.barred(LOOK, near) is None
    assert passed(each, LOOK, near)
    assert kept_back(each, LOOK, near)
    each.learnt(LOOK, LOST, probe=True)
    assert kept_back(each, LOOK, near)
    clock.at += NEAR_GAP_S
    fail_by_near = passed(each, LOOK, near)
    each.learnt(LOOK, None, probe=fail_by_near)
    assert each.open_for == ""


def test_those_who_are_kept_back_are_told_different_times(made):
    each, _ = made
    fail(each, TOKEN, FORBIDDEN)
    assert len({kept_back(each, START).retry_after_s for _ in range(50)}) == 50
