"""The flow in trouble: lost claims, a silent database, handlers that fail, records from outside, garbage."""

import asyncio
import contextlib
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from orchestrator import HoldReason, Money, NotFound, Orchestrator, Payment, Settings, State
from orchestrator import notify as notify_module
from orchestrator import worker as worker_module
from orchestrator.domain.errors import ConfigurationError, Fenced, IntegrityViolated, Unavailable
from orchestrator.interactions import bundled
from orchestrator.resolve import MAX_RACES
from orchestrator.sandbox import Sandbox, SandboxOptions, Script
from orchestrator.sandbox import script as scripts
from orchestrator.sandbox.script import Act, Gateway, Step
from tests.integration.flow.troubled import Fault, Troubled, records
from tests.integration.store.conftest import sqlite_template
from tests.support.flow import assert_clean, fields_of, settings_for, submit, triggers

__all__ = ["sqlite_template"]

PATIENT = {"claim_life_s": 30, "claim_trust_s": 25}
LONG = {"start_deadline_s": 20, "call_deadline_s": 20}
WHOLE = ["submit", "authorize", "request", "start_session", "hand_over", "complete"]

_STEPS = (Step(0, "Created"), Step(0.6, "Finished"))
_ACCEPT = Gateway("ACCEPT", ("100",))


def script(prefix: str, **faults: scripts.Fault) -> Script:
    return Script(prefix, "for these tests", "Finished, ACCEPT 100", _STEPS, gateway=_ACCEPT, **faults)


def answer(body: str, content_type: str = "application/json", *, status: int = 200, first: int | None = 2) -> Any:
    return scripts.Fault(Act.ANSWER, first=first, status=status, body=body, content_type=content_type)


GARBAGE = {
    "LOOKHTML": answer("<!DOCTYPE html><p>Sign in</p>", "text/html"),
    "LOOKHALF": scripts.Fault(Act.HALF, first=2),
    "LOOKCLOSED": scripts.Fault(Act.CLOSE, first=2),
    "LOOKRESET": scripts.Fault(Act.RESET, first=2),
    "LOOKEMPTY": answer(""),
    "LOOKOBJECT": answer("{}"),
    "LOOKNULL": answer("null"),
    "LOOKLIST": answer("[]"),
    "LOOKDEEP": answer("[" * 5000),
    "LOOKNUMBER": answer('{"sessionState":7}'),
    "LOOKHUGE": answer(json.dumps({"sessionState": "x" * 2_000_000})),
    "LOOK301": answer("", status=301),
    "LOOK418": answer("{}", status=408),
}
SCRIPTS = (
    script("SLOWLOOK", status=scripts.Fault(Act.WAIT, first=1, effect=True, wait_s=1.0)),
    Script(
        "SLOWSTART",
        "as SLOWANSWER, and the payer does nothing",
        "stays Created",
        (Step(0, "Created"),),
        endless=True,
        start=scripts.Fault(Act.WAIT, None, effect=True, wait_s=1.0),
    ),
    script("START302", start=answer("", status=302, first=None)),
    *(script(name, status=fault) for name, fault in GARBAGE.items()),
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, sqlite_template: Path, tmp_path: Path) -> None:
    """Our own pauses, shorter, nobody's outcome depends on them; and a file that is migrated already."""
    shutil.copy(sqlite_template, tmp_path / "orchestrator.db")
    monkeypatch.setattr(worker_module, "DATABASE_RETRY_S", 0.02)
    monkeypatch.setattr(notify_module, "DATABASE_RETRY_S", 0.02)
    monkeypatch.setattr(notify_module, "RETRY_FIRST_S", 0.02)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the log events of workers and deliveries."""
    names: list[str] = []
    real = worker_module.emit

    def emit(name: str, **fields: Any) -> None:
        names.append(name)
        real(name, **fields)

    monkeypatch.setattr(worker_module, "emit", emit)
    monkeypatch.setattr(notify_module, "emit", emit)
    return names


@pytest.fixture
async def frozen() -> AsyncIterator[Sandbox]:
    """A provider whose time stands still: it answers a slow call, and sessions go on, when the test says so."""
    async with Sandbox(SandboxOptions(faults=SCRIPTS), clock=lambda: 0.0) as twin:
        yield twin


@pytest.fixture
async def quick_sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(SandboxOptions(faults=SCRIPTS, speed=20)) as twin:
        yield twin


@contextlib.asynccontextmanager
async def troubled(
    sandbox: Sandbox, directory: Path, *faults: Fault, **changes: Any
) -> AsyncIterator[tuple[Orchestrator, Troubled]]:
    """
    An orchestrator whose workers have a troubled store; its trail is verified at the end.

    Claims and calls outlast any test: what happens is up to the test, not to the machine's load.
    """
    worker = PATIENT | changes.pop("worker", {})
    settings = settings_for(sandbox.base_url, directory, worker=worker, **LONG | changes)
    async with Orchestrator(settings) as opened:
        store = Troubled(opened.store, list(faults))
        opened.store = store  # type: ignore[assignment]
        yield opened, store
        store.faults.clear()
        await assert_clean(opened)


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def until_so(orchestrator: Orchestrator, payment: Payment, condition: Callable[[Payment], object]) -> Payment:
    async with asyncio.timeout(20):
        while not condition(now := await orchestrator.get(payment.id)):
            await asyncio.sleep(0.005)
    return now


async def sql(directory: Path, statement: str, *values: Any) -> list[Any]:
    """Run one statement over a connection of its own; in a thread, for the loop may hold the lock."""

    def work() -> list[Any]:
        with contextlib.closing(sqlite3.connect(directory / "orchestrator.db", timeout=10)) as connection:
            rows = connection.execute(statement, values).fetchall()
            connection.commit()
        return rows

    return await asyncio.to_thread(work)


def calls(sandbox: Sandbox, kind: str = "session") -> int:
    return int(sandbox.stats()[f"{kind}_calls"])


async def end(orchestrator: Orchestrator, sandbox: Sandbox, payment: Payment) -> Payment:
    """Let the provider's time go on until the payment has ended."""
    sandbox.advance(1)
    return await orchestrator.wait(payment.id, timeout=20)


async def bodies(orchestrator: Orchestrator, payment: Payment) -> list[dict[str, Any]]:
    return [json.loads(entry.body) for entry in await orchestrator.timeline(payment.id)]


# --- lost claims --------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["phone", "digital"])
async def test_a_worker_that_is_reaped_while_its_start_is_in_flight_hands_in_the_answer(
    frozen: Sandbox, tmp_path: Path, channel: str
) -> None:
    async with troubled(frozen, tmp_path) as (orchestrator, store), orchestrator.worker() as worker:
        payment = await submit(orchestrator, "SLOWANSWER-1", channel)
        await until(lambda: calls(frozen) == 1)
        old = worker._bench.claims.worker_id
        store.faults.append(Fault("register"))  # not even its new life begins at once
        await sql(tmp_path, "delete from worker")
        await until_so(orchestrator, payment, lambda now: now.claimed_by not in (None, old))

        frozen.advance(1)
        await until_so(orchestrator, payment, lambda now: now.session_id)
        ended = await end(orchestrator, frozen, payment)

        told = await bodies(orchestrator, payment)
        assert (ended.outcome, ended.sessions, calls(frozen)) == ("paid", 1, 1)
        assert [body["trigger"] for body in told] == WHOLE
        assert told[2]["actor"] == old
        assert told[3]["actor"] == worker._bench.claims.worker_id != old
        assert [verb for verb, error in store.raised if isinstance(error, Fenced)]


async def test_a_payment_claimed_anew_while_an_old_look_is_in_flight_is_driven_on(
    frozen: Sandbox, tmp_path: Path
) -> None:
    async with troubled(frozen, tmp_path) as (orchestrator, _), orchestrator.worker() as worker:
        payment = await submit(orchestrator, "SLOWLOOK-1", "digital")
        await until(lambda: calls(frozen, "status") == 1)
        old = worker._bench.claims.worker_id
        await sql(tmp_path, "delete from worker")
        await until_so(orchestrator, payment, lambda now: now.claimed_by not in (None, old))

        frozen.advance(1)  # the look is answered: the session lives

        assert (await orchestrator.wait(payment.id, timeout=20)).outcome == "paid"
        assert calls(frozen, "status") > 1


@pytest.mark.parametrize("channel", ["phone", "digital"])
async def test_a_zombies_answer_is_in_the_trail_whatever_its_successor_has_decided(
    frozen: Sandbox, tmp_path: Path, channel: str
) -> None:
    async with (
        troubled(frozen, tmp_path) as (zombie, store),
        troubled(frozen, tmp_path) as (heir, _),
        zombie.worker(),
    ):
        payment = await submit(zombie, "SLOWANSWER-1", channel)
        await until(lambda: calls(frozen) == 1)
        store.faults += [Fault("beat", None), Fault("claim", None)]  # it never learns that it is gone
        async with heir.worker():
            await sql(tmp_path, "delete from worker where id = ?", (await zombie.get(payment.id)).claimed_by)
            decided = await until_so(heir, payment, lambda now: now.sessions)
            if channel == "phone":
                await until(lambda: calls(frozen) == 2)
            frozen.advance(1)
            await until_so(heir, payment, lambda now: now.session_id)
            ended = await end(heir, frozen, payment)
            answered = {1} if channel == "digital" else {1, 2}
            async with asyncio.timeout(20):
                while await answers_to_starts(heir, payment) != answered:
                    await asyncio.sleep(0.005)

        path = await triggers(heir, payment)
        assert ended.outcome == "paid"
        if channel == "digital":
            assert decided.hold is HoldReason.SESSION_UNKNOWN
            assert path == [
                "submit", "authorize", "request", "hold", "release", "start_session", "hand_over", "complete",
            ]  # fmt: skip
            assert (ended.sessions, calls(frozen)) == (1, 1)
        else:
            assert path[:5] == ["submit", "authorize", "request", "supersede", "request"]
            assert (ended.sessions, calls(frozen)) == (2, 2)


async def answers_to_starts(orchestrator: Orchestrator, payment: Payment) -> set[int]:
    told = await bodies(orchestrator, payment)
    answers = [body for body in told if body.get("operation") == "start_session" and body.get("verdict") == "answered"]
    return {body["attempt"] for body in answers}


async def test_a_worker_that_can_not_beat_sends_nothing_and_says_so(quick_sandbox: Sandbox, tmp_path: Path) -> None:
    short = {"heartbeat_s": 0.1, "claim_trust_s": 0.5, "claim_life_s": 30}
    intent = Fault("record", when=records("request"), gate=asyncio.Event(), error=None)
    beats = Fault("beat", None, when=lambda *_args, **_kwargs: intent.struck and not intent.gate.is_set())
    async with troubled(
        quick_sandbox, tmp_path, intent, beats, worker=short, start_deadline_s=0.4
    ) as (orchestrator, store), orchestrator.worker() as worker:  # fmt: skip
        payment = await submit(orchestrator, "PAID-1", "digital")
        await until(lambda: intent.struck)
        await until(lambda: not worker._bench.claims.trusted)
        beats.when = lambda *_args, **_kwargs: True
        assert intent.gate is not None
        intent.gate.set()

        closed = await until_so(orchestrator, payment, lambda now: now.reason == "claim_not_trusted")
        assert (closed.open_attempt, closed.state, closed.attempts) == (None, State.AUTHORIZED, 1)
        assert calls(quick_sandbox) == 0

        store.faults.clear()
        ended = await orchestrator.wait(payment.id, timeout=20)
        assert ended.attempts > 1
        assert (ended.outcome, ended.sessions, calls(quick_sandbox)) == ("paid", 1, 1)


async def test_a_claim_lost_while_others_are_being_taken_is_found_again(frozen: Sandbox, tmp_path: Path) -> None:
    taking = Fault("claim", gate=asyncio.Event(), error=None, when=lambda *_args, **_kwargs: calls(frozen) == 1)
    lost = Fault("record", lost=True, when=records("start_session"))
    async with troubled(frozen, tmp_path, taking, lost) as (orchestrator, store), orchestrator.worker() as worker:
        payment = await submit(orchestrator, "SLOWANSWER-1", "digital")
        await until(lambda: taking.struck)
        frozen.advance(1)
        await until(lambda: lost.struck and not worker._driving)
        assert taking.gate is not None
        taking.gate.set()

        assert (await end(orchestrator, frozen, payment)).outcome == "paid"
        assert await triggers(orchestrator, payment) == WHOLE
        assert store.calls["claimed"] >= 1


async def test_an_answer_is_handed_in_however_often_others_are_faster(quick_sandbox: Sandbox, tmp_path: Path) -> None:
    races = Fault("record", MAX_RACES + 2, error=Fenced, when=records("start_session"))
    async with troubled(quick_sandbox, tmp_path, races) as (orchestrator, _), orchestrator.worker():
        payment = await submit(orchestrator, "PAID-1", "digital")

        assert (await orchestrator.wait(payment.id, timeout=20)).outcome == "paid"
        assert races.struck == MAX_RACES + 2
        assert (await triggers(orchestrator, payment), calls(quick_sandbox)) == (WHOLE, 1)


async def test_a_defect_in_a_loop_ends_the_worker_in_good_order(quick_sandbox: Sandbox, tmp_path: Path) -> None:
    async with troubled(quick_sandbox, tmp_path, Fault("reap", error=ZeroDivisionError)) as (orchestrator, _):
        payment = await submit(orchestrator, "NEVER-1", "digital")

        with pytest.raises(ZeroDivisionError):
            await orchestrator.new_worker().run()

        assert (await orchestrator.get(payment.id)).claimed_by is None
        assert await sql(tmp_path, "select count(*) from worker") == [(0,)]


@pytest.mark.parametrize(("crashes", "held"), [(2, False), (3, True)])
async def test_a_payment_that_takes_its_workers_down_is_held_as_poison(
    quick_sandbox: Sandbox, tmp_path: Path, crashes: int, held: bool
) -> None:
    policy = {"digital": {"max_claims": 3, "poll_first_s": 0.05, "poll_max_s": 0.1}}
    async with troubled(quick_sandbox, tmp_path, policy=policy) as (orchestrator, store):
        payment = await submit(orchestrator, "PAID-1", "digital")
        now = payment.created_at
        for number in range(crashes):
            await store.register(f"w{number}", origin="here:1", version="1", now=now)
            claimed = await store.claim(f"w{number}", now=now, limit=9, accounts=["test"], machine_versions=[1])
            assert [one.id for one in claimed] == [payment.id]
            await sql(tmp_path, "delete from worker")
            assert await store.reap(lapsed_before=now, now=now, jitter_s=0, limit=9) == 1
        async with orchestrator.worker():
            settled = await orchestrator.wait(payment.id, until="settled", timeout=20)

        assert settled.hold is (HoldReason.POISON if held else None)
        assert (settled.outcome, calls(quick_sandbox)) == ((None, 0) if held else ("paid", 1))


@pytest.mark.parametrize("validity", [20, 1.5])
async def test_a_payment_of_an_account_that_a_worker_does_not_know_is_left_to_others(
    quick_sandbox: Sandbox, tmp_path: Path, logged: list[str], validity: float
) -> None:
    told: list[str] = []
    settings = settings_for(quick_sandbox.base_url, tmp_path)
    renamed = settings.model_copy(update={"accounts": {"other": settings.accounts["test"]}})
    policy = {"phone": {"hand_over_s": validity}}
    async with troubled(quick_sandbox, tmp_path, policy=policy) as (ours, _), Orchestrator(renamed) as other:
        other.on("handed_over", lambda _payment: told.append("other"))

        async def other_works(reference: str) -> None:
            given = {"account": "other", "channel": "digital", "fields": fields_of("digital")}
            known = await other.submit(reference=reference, amount=foreign.amount, **given)
            async with other.worker():
                assert (await other.wait(known.id, timeout=20)).outcome == "paid"

        foreign = await submit(ours, "NEVER-1", "phone")
        await other_works("PAID-1")
        assert await other.get(foreign.id) == foreign
        async with ours.worker():
            handed = await ours.wait(foreign.id, until="handed_over", timeout=20)
            assert handed.hand_over_until is not None
        if validity < 20:
            await until(lambda: ours._clock.now() >= handed.hand_over_until)
        # Its notice is due, or its time is over: neither is the other's business.
        await other_works("PAID-2")
        queued = await sql(tmp_path, "select tries, done_at from notification where event = 'handed_over'")
        assert (told, queued, logged.count("notification.failed")) == ([], [(0, None)], 0)

        ours.on("handed_over", lambda _payment: told.append("ours"))
        async with ours.worker():
            if validity < 20:
                assert (await ours.wait(foreign.id, timeout=20)).outcome == "not_attempted"
            else:
                await until_so(ours, foreign, lambda now: now.acknowledged_at)
        assert told == ([] if validity < 20 else ["ours"])


async def test_a_payment_that_can_not_be_driven_is_logged_tried_again_and_holds_up_nobody(
    quick_sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    retry = asyncio.Event()
    monkeypatch.setattr(worker_module, "DEFECT_RETRY_S", 0.05)
    async with troubled(quick_sandbox, tmp_path) as (orchestrator, store):
        bad = await submit(orchestrator, "PAID-1", "digital")
        good = await submit(orchestrator, "PAID-2", "digital")
        store.faults.append(
            Fault("sealed", None, error=RuntimeError, when=lambda id_: id_ == bad.id and not retry.is_set())
        )
        async with orchestrator.worker():
            assert (await orchestrator.wait(good.id, timeout=20)).outcome == "paid"
            await until(lambda: logged.count("drive.failed") >= 2)
            assert (await orchestrator.get(bad.id)).state in (State.COLLECTING, State.AUTHORIZED)
            retry.set()
            assert (await orchestrator.wait(bad.id, timeout=20)).outcome == "paid"
        assert calls(quick_sandbox) == 2


# --- a silent database --------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["phone", "digital"])
@pytest.mark.parametrize("lost", [False, True], ids=["before the commit", "after the commit"])
@pytest.mark.parametrize("trigger", ["authorize", "start_session", "complete"])
async def test_a_record_without_an_answer_sends_nothing_twice(
    quick_sandbox: Sandbox, tmp_path: Path, channel: str, lost: bool, trigger: str
) -> None:
    silence = Fault("record", 2, lost=lost, when=records(trigger))
    async with troubled(quick_sandbox, tmp_path, silence) as (orchestrator, _), orchestrator.worker():
        payment = await submit(orchestrator, "PAID-1", channel)
        settled = await orchestrator.wait(payment.id, until="settled", timeout=20)
        path = await triggers(orchestrator, payment)

        assert silence.struck >= 1
        assert quick_sandbox.stats()["sessions_per_reference"].get("PAID-1", 0) == calls(quick_sandbox) <= 1
        if trigger == "authorize" and lost:
            # The intent rode with the authorization, and nobody can tell any more that nothing was sent.
            assert path[2:4] == ["request", "hold" if channel == "digital" else "supersede"]
            assert settled.hold is (HoldReason.SESSION_UNKNOWN if channel == "digital" else None)
        else:
            assert (settled.outcome, path) == ("paid", WHOLE)


QUIET = (
    "beat", "claim", "claimed", "get", "reap", "sealed", "take_notifications", "lapsed_notifications",
    "settle_notification", "paused_accounts",
)  # fmt: skip


@pytest.mark.parametrize("lost", [False, True], ids=["before", "after"])
async def test_whatever_verb_goes_without_an_answer_every_payment_comes_to_its_end(
    quick_sandbox: Sandbox, tmp_path: Path, lost: bool
) -> None:
    told: list[str] = []
    faults = [Fault(verb, 3, lost=lost) for verb in QUIET]
    async with troubled(quick_sandbox, tmp_path, *faults) as (orchestrator, store):
        orchestrator.on("completed", lambda payment: told.append(payment.id))
        payments = [await submit(orchestrator, f"PAID-{n}", ("phone", "digital")[n % 2], n) for n in range(6)]
        store.faults += [Fault("record", 2, when=records("complete")), Fault("claimed", 2)]
        async with orchestrator.worker():
            async with asyncio.timeout(20):
                while {payment.id for payment in payments} - set(told):
                    await asyncio.sleep(0.01)
            ended = [await store.store.get(payment.id) for payment in payments]

        assert {payment.outcome for payment in ended if payment} == {"paid"}
        assert calls(quick_sandbox) == 6
        assert {fault.verb for fault in faults if not fault.struck} <= {"claimed"}


async def test_a_database_that_turns_read_only_in_the_middle_costs_nothing_but_time(
    frozen: Sandbox, tmp_path: Path
) -> None:
    async with troubled(frozen, tmp_path) as (orchestrator, store), orchestrator.worker():
        refusing = False
        engine = store.store._database.engines.write.engine

        def checkout(connection: Any, *_rest: Any) -> None:
            cursor = connection.cursor()
            cursor.execute(f"pragma query_only = {int(refusing)}")
            cursor.close()

        event.listen(engine, "checkout", checkout)
        payment = await submit(orchestrator, "SLOWANSWER-1", "digital")
        await until(lambda: calls(frozen) == 1)
        refusing = True
        frozen.advance(1)
        await until(lambda: ("record", ConfigurationError) in [(verb, type(error)) for verb, error in store.raised])
        refusing = False

        ended = await end(orchestrator, frozen, payment)
        assert (ended.outcome, ended.sessions, calls(frozen)) == ("paid", 1, 1)
        assert await triggers(orchestrator, payment) == WHOLE


# --- the host's handlers ------------------------------------------------------------------------


async def test_a_handler_that_raises_is_called_again_and_acknowledged_once(frozen: Sandbox, tmp_path: Path) -> None:
    tried: list[str] = []

    def transfer(payment: Payment) -> None:
        tried.append(payment.id)
        if len(tried) < 3:
            raise RuntimeError("the switchboard is busy")

    async with troubled(frozen, tmp_path) as (orchestrator, _), orchestrator.worker():
        orchestrator.on("handed_over", transfer)
        payment = await submit(orchestrator, "PAID-1", "phone")
        await until_so(orchestrator, payment, lambda now: now.acknowledged_at)
        await end(orchestrator, frozen, payment)

        assert tried == [payment.id] * 3
        assert (await triggers(orchestrator, payment)).count("acknowledge") == 1


async def test_two_handlers_are_both_called_and_again_when_the_second_fails(frozen: Sandbox, tmp_path: Path) -> None:
    called: list[str] = []

    async def first(_payment: Payment) -> None:
        called.append("first")

    def second(_payment: Payment) -> None:
        called.append("second")
        if called.count("second") == 1:
            raise ValueError("not yet")

    async with troubled(frozen, tmp_path) as (orchestrator, _), orchestrator.worker():
        orchestrator.on("handed_over", first)
        orchestrator.on("handed_over", second)
        payment = await submit(orchestrator, "PAID-1", "phone")
        await until_so(orchestrator, payment, lambda now: now.acknowledged_at)

        assert called == ["first", "second"] * 2


async def test_a_handler_that_outlasts_the_validity_leaves_the_payment_watched_and_is_heard_later(
    frozen: Sandbox, tmp_path: Path
) -> None:
    go, begun = asyncio.Event(), asyncio.Event()

    async def transfer(_payment: Payment) -> None:
        begun.set()
        await go.wait()

    policy = {"phone": {"hand_over_s": 1.0, "poll_first_s": 0.05, "poll_max_s": 0.1}}
    async with troubled(frozen, tmp_path, policy=policy) as (orchestrator, _), orchestrator.worker():
        orchestrator.on("handed_over", transfer)
        payment = await submit(orchestrator, "PAID-1", "phone")
        await begun.wait()
        doubted = await until_so(orchestrator, payment, lambda now: now.reason == "hand_over_unconfirmed")
        assert (doubted.state, doubted.undelivered) == (State.AWAITING_PAYMENT, False)
        go.set()
        await until_so(orchestrator, payment, lambda now: now.acknowledged_at)

        assert (await end(orchestrator, frozen, payment)).outcome == "paid"
        assert (await triggers(orchestrator, payment))[4:] == ["hand_over", "observe", "acknowledge", "complete"]


@pytest.mark.parametrize("validity", ["lasts", "is over"])
async def test_a_delivery_that_a_dead_worker_began_is_told_again_but_never_after_its_time(
    frozen: Sandbox, tmp_path: Path, validity: str
) -> None:
    told: list[str] = []
    policy = {"phone": {"hand_over_s": 20 if validity == "lasts" else 1.5, "poll_first_s": 0.05, "poll_max_s": 0.1}}
    async with troubled(frozen, tmp_path, policy=policy) as (orchestrator, store):
        payment = await submit(orchestrator, "PAID-1", "phone")
        async with orchestrator.worker():  # nobody handles anything here
            handed = await orchestrator.wait(payment.id, until="handed_over", timeout=20)
            assert handed.hand_over_until is not None
            at = handed.hand_over_until - timedelta(seconds=0.1)
            await store.register("dead", origin="here:1", version="1", now=at)
            begun = await store.take_notifications("dead", events=["handed_over"], now=at, limit=9)
            assert [notice.tries for notice in begun] == [1]
        await sql(tmp_path, "delete from worker")
        if validity == "is over":
            await until(lambda: orchestrator._clock.now() >= handed.hand_over_until)
        orchestrator.on("handed_over", lambda payment: told.append(payment.id))
        async with orchestrator.worker():
            wanted = "acknowledged_at" if validity == "lasts" else "reason"
            await until_so(orchestrator, payment, lambda now: getattr(now, wanted))
            ended = await end(orchestrator, frozen, payment)

        assert told == ([payment.id] if validity == "lasts" else [])
        assert ended.outcome == "paid", "a begun delivery may have sent the caller: it is watched to its end"


async def test_a_hand_over_that_has_become_pointless_is_dropped(frozen: Sandbox, tmp_path: Path) -> None:
    told: list[str] = []
    async with troubled(frozen, tmp_path) as (orchestrator, _):
        payment = await submit(orchestrator, "PAID-1", "phone")
        async with orchestrator.worker():  # nobody handles anything here
            await orchestrator.wait(payment.id, until="handed_over", timeout=20)
            await end(orchestrator, frozen, payment)
        for name in ("handed_over", "completed"):
            orchestrator.on(name, lambda _payment, name=name: told.append(name))
        await asyncio.wait_for(orchestrator.new_worker().run(until_idle=True), 20)

        assert told == ["completed"]
        assert await sql(tmp_path, "select count(*) from notification where done_at is null") == [(0,)]


@pytest.mark.parametrize("error", [Unavailable, IntegrityViolated, RuntimeError])
async def test_an_acknowledgement_that_can_not_be_written_is_not_taken_for_one(
    frozen: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    told: list[str] = []
    monkeypatch.setattr(worker_module, "DEFECT_RETRY_S", 0.05)
    refusal = Fault("record", error=error, when=records("acknowledge"))
    async with troubled(frozen, tmp_path, refusal) as (orchestrator, _), orchestrator.worker():
        orchestrator.on("handed_over", lambda payment: told.append(payment.id))
        payment = await submit(orchestrator, "PAID-1", "phone")
        await until_so(orchestrator, payment, lambda now: now.acknowledged_at)
        await end(orchestrator, frozen, payment)

        assert refusal.struck == 1
        # Silence is overcome without the host; anything else makes the delivery fail.
        assert len(told) == (1 if error is Unavailable else 2)
        assert (await triggers(orchestrator, payment)).count("acknowledge") == 1


async def test_a_handler_that_ends_while_the_worker_drains_and_the_database_is_away_is_called_again(
    frozen: Sandbox, tmp_path: Path
) -> None:
    told: list[str] = []
    go = asyncio.Event()

    async def transfer(payment: Payment) -> None:
        told.append(payment.id)
        await go.wait()

    away = Fault("record", when=records("acknowledge"))
    async with troubled(frozen, tmp_path, away) as (orchestrator, _):
        orchestrator.on("handed_over", transfer)
        payment = await submit(orchestrator, "NEVER-1", "phone")
        async with orchestrator.worker() as worker:
            await until(lambda: told)
            worker.stop()
            go.set()
        assert (away.struck, (await orchestrator.get(payment.id)).acknowledged_at) == (1, None)
        async with orchestrator.worker():
            await until_so(orchestrator, payment, lambda now: now.acknowledged_at)

        assert told == [payment.id] * 2


# --- stopping -----------------------------------------------------------------------------------


async def test_a_stop_waits_for_the_call_in_flight_and_gives_the_claim_back(frozen: Sandbox, tmp_path: Path) -> None:
    async with troubled(frozen, tmp_path) as (orchestrator, _):
        payment = await submit(orchestrator, "SLOWANSWER-1", "digital")
        async with orchestrator.worker() as worker:
            await until(lambda: calls(frozen) == 1)
            other = await submit(orchestrator, "PAID-2", "digital")
            worker.stop()
            await until(lambda: all(task.done() for task in [*_loops(worker)]))
            frozen.advance(1)
        started, untouched = await orchestrator.get(payment.id), await orchestrator.get(other.id)

        assert (started.state, started.claimed_by, started.open_attempt) == (State.AWAITING_PAYMENT, None, None)
        assert (untouched.claimed_by, untouched.attempts) == (None, 0)
        assert await sql(tmp_path, "select count(*) from worker") == [(0,)]


def _loops(worker: Any) -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__qualname__", "") == "Worker._time"]


@pytest.mark.parametrize("channel", ["phone", "digital"])
async def test_a_call_that_outlasts_the_drain_is_in_doubt_for_the_next_worker(
    frozen: Sandbox, tmp_path: Path, channel: str
) -> None:
    async with troubled(frozen, tmp_path, worker={"drain_s": 0.1}) as (orchestrator, _):
        payment = await submit(orchestrator, "SLOWANSWER-1", channel)
        async with orchestrator.worker() as worker:
            await until(lambda: calls(frozen) == 1)
            worker.stop()
        left = await orchestrator.get(payment.id)
        assert (left.open_attempt, left.claimed_by) == (1, None)
        async with orchestrator.worker():
            after = await until_so(orchestrator, payment, lambda now: now.sessions)
            if channel == "digital":
                assert (after.hold, calls(frozen)) == (HoldReason.SESSION_UNKNOWN, 1)
            else:
                await until(lambda: calls(frozen) == 2)
                frozen.advance(1)
                await until_so(orchestrator, payment, lambda now: now.session_id)
                assert (await end(orchestrator, frozen, payment)).outcome == "paid"


async def test_a_delivery_that_begins_in_the_last_moment_is_waited_for(frozen: Sandbox, tmp_path: Path) -> None:
    done: list[str] = []
    taking = Fault("take_notifications", gate=asyncio.Event(), error=None)

    async def transfer(payment: Payment) -> None:
        for _ in range(20):
            await asyncio.sleep(0.005)  # a handler's own work
        done.append(payment.id)

    async with troubled(frozen, tmp_path) as (orchestrator, store):
        payment = await submit(orchestrator, "NEVER-1", "phone")
        async with orchestrator.worker():
            await orchestrator.wait(payment.id, until="handed_over", timeout=20)
        orchestrator.on("handed_over", transfer)
        store.faults.append(taking)
        async with orchestrator.worker() as worker:
            await until(lambda: taking.struck)
            worker.stop()
            await until(lambda: not _loops(worker))
            assert taking.gate is not None
            taking.gate.set()

        assert done == [payment.id]
        assert await sql(tmp_path, "select done_at is not null from notification where event = 'handed_over'") == [(1,)]


# --- records from outside -----------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["phone", "digital"])
async def test_a_cancel_while_a_start_is_in_flight_waits_for_its_verdict(
    frozen: Sandbox, tmp_path: Path, channel: str
) -> None:
    async with troubled(frozen, tmp_path) as (orchestrator, _), orchestrator.worker():
        payment = await submit(orchestrator, "SLOWSTART-1", channel)
        await until(lambda: calls(frozen) == 1)
        asked = await orchestrator.cancel(payment.id, reason="the caller changed her mind")
        assert (asked.cancel_requested, asked.open_attempt, asked.ended) == (True, 1, False)
        frozen.advance(0.5)
        await until_so(orchestrator, payment, lambda now: now.claimed_by)
        frozen.advance(0.5)  # the answer

        ended = await orchestrator.wait(payment.id, timeout=20)
        path = await triggers(orchestrator, payment)
        assert (ended.outcome, ended.sessions, calls(frozen)) == ("cancelled_by_host", 1, 1)
        assert ended.watch_until is not None
        assert path == ["submit", "authorize", "request", "cancel", "start_session", "fail"]


@pytest.mark.parametrize("verb", ["cancel", "acknowledge"])
async def test_a_wish_while_a_look_is_in_flight_wins_and_the_worker_goes_on(
    frozen: Sandbox, tmp_path: Path, verb: str
) -> None:
    async with troubled(frozen, tmp_path) as (orchestrator, _), orchestrator.worker():
        payment = await submit(orchestrator, "SLOWLOOK-1", "phone")
        await until(lambda: calls(frozen, "status") == 1)
        await getattr(orchestrator, verb)(payment.id)
        frozen.advance(0.5)
        await until_so(orchestrator, payment, lambda now: now.claimed_by)
        if verb == "acknowledge":
            again = await orchestrator.acknowledge(payment.id)
            assert again.acknowledged_at is not None
        frozen.advance(0.5)

        ended = await orchestrator.wait(payment.id, timeout=20)
        assert ended.outcome == "paid"
        assert (await triggers(orchestrator, payment)).count(verb) == 1


async def test_wishes_of_many_at_once_are_each_written_once(frozen: Sandbox, tmp_path: Path) -> None:
    async with troubled(frozen, tmp_path) as (orchestrator, _), orchestrator.worker():
        payment = await submit(orchestrator, "NEVER-1", "phone")
        await orchestrator.wait(payment.id, until="handed_over", timeout=20)
        await asyncio.gather(
            *(orchestrator.acknowledge(payment.id) for _ in range(5)),
            *(orchestrator.cancel(payment.id) for _ in range(5)),
            return_exceptions=True,
        )
        ended = await orchestrator.wait(payment.id, timeout=20)
        path = await triggers(orchestrator, payment)

        assert ended.outcome == "cancelled_by_host"
        assert path.count("cancel") == 1
        assert path.count("acknowledge") <= 1


async def test_waiting_takes_no_longer_than_asked_for_and_disturbs_nothing(
    quick_sandbox: Sandbox, tmp_path: Path
) -> None:
    async with troubled(quick_sandbox, tmp_path) as (orchestrator, _):
        payment = await submit(orchestrator, "PAID-1", "digital")
        for until_what in ("ended", "settled", "handed_over"):
            with pytest.raises(TimeoutError):
                await orchestrator.wait(payment.id, until=until_what, timeout=0.02)  # type: ignore[arg-type]
        with pytest.raises(NotFound):
            await orchestrator.wait("pay-nobody", timeout=5)
        async with orchestrator.worker():
            ended = await orchestrator.wait(payment.id, timeout=20)

        for until_what in ("ended", "settled", "handed_over"):
            assert await orchestrator.wait(payment.id, until=until_what, timeout=5) == ended  # type: ignore[arg-type]


# --- garbage from the provider ------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["phone", "digital"])
async def test_garbage_instead_of_a_look_is_no_word_about_the_money(
    quick_sandbox: Sandbox, tmp_path: Path, channel: str
) -> None:
    async with troubled(quick_sandbox, tmp_path) as (orchestrator, _), orchestrator.worker():
        payments = [await submit(orchestrator, f"{name}-1", channel, n) for n, name in enumerate(GARBAGE)]
        ended = [await orchestrator.wait(payment.id, until="settled", timeout=30) for payment in payments]

        assert {one.reference: (one.outcome, one.hold) for one in ended} == {
            payment.reference: ("paid", None) for payment in payments
        }


STARTS = {
    # reference: (phone: outcome or hold, calls), (digital: the same)
    "NOID": ((HoldReason.SESSION_UNKNOWN, 3), (HoldReason.SESSION_UNKNOWN, 1)),
    "INVALID": (("invalid_request", 1), ("invalid_request", 1)),
    "CONFIG": (("config_error", None), ("config_error", None)),
    "FORBIDDEN": (("config_error", None), ("config_error", None)),
    "START302": (("config_error", None), ("config_error", None)),
}


def per_case(cases: Mapping[str, str], directory: Path, policy: dict[str, Any]) -> Settings:
    """Give an account to each case, name to the provider's address: one account's trouble is not another's."""
    made = {name: settings_for(url, directory, policy=policy) for name, url in cases.items()}
    anyone = next(iter(made.values()))
    return anyone.model_copy(update={"accounts": {name: one.accounts["test"] for name, one in made.items()}})


@pytest.mark.parametrize("channel", ["phone", "digital"])
async def test_a_start_that_is_answered_with_nonsense_ends_as_designed(
    quick_sandbox: Sandbox, tmp_path: Path, channel: str
) -> None:
    slow = {"start_s": 1.5, "start_pause_s": 0}
    cases = dict.fromkeys(STARTS, quick_sandbox.base_url)
    settings = per_case(cases, tmp_path, {"phone": slow, "digital": slow})
    async with Orchestrator(settings) as orchestrator, orchestrator.worker():
        payments = [
            await orchestrator.submit(
                account=name, channel=channel, reference=f"{name}-1", amount=Money("12.40", "GBP"),
                fields=fields_of(channel, number),
            )
            for number, name in enumerate(STARTS)
        ]  # fmt: skip
        for payment in payments:
            settled = await orchestrator.wait(payment.id, until="settled", timeout=30)
            expected, sent = STARTS[payment.account][channel == "digital"]
            assert expected in (settled.outcome, settled.hold), payment.reference
            assert sent is None or settled.attempts == sent
            assert settled.money == "none"
        assert quick_sandbox.stats()["sessions_per_reference"] == {}
        await assert_clean(orchestrator)


TOKENS = {
    "html": b"<html>Sign in</html>",
    "empty": b"",
    "object": b"{}",
    "list": b"[]",
    "half": b'{"access_token":"eyJ',
}


async def answering(stack: contextlib.AsyncExitStack, body: bytes, asked: list[str]) -> str:
    """Serve the same body to every request; gives the address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            asked.append(head.split(" ")[1].lower())
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
            await writer.drain()
        writer.close()

    server = await stack.enter_async_context(await asyncio.start_server(serve, "127.0.0.1", 0))
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_token_call_that_is_answered_with_garbage_starts_nothing(tmp_path: Path) -> None:
    asked: dict[str, list[str]] = {name: [] for name in TOKENS}
    async with contextlib.AsyncExitStack() as stack:
        cases = {name: await answering(stack, body, asked[name]) for name, body in TOKENS.items()}
        orchestrator = await stack.enter_async_context(
            Orchestrator(per_case(cases, tmp_path, {"phone": {"start_s": 1.5}}))
        )
        payments = [
            await orchestrator.submit(
                account=name, channel="phone", reference="PAID-1", amount=Money("12.40", "GBP"),
                fields=fields_of("phone"),
            )
            for name in TOKENS
        ]  # fmt: skip
        async with orchestrator.worker():
            ended = [await orchestrator.wait(payment.id, timeout=20) for payment in payments]
        await assert_clean(orchestrator)

    assert {payment.account: payment.outcome for payment in ended} == dict.fromkeys(TOKENS, "provider_unavailable")
    assert {name: set(paths) for name, paths in asked.items()} == {name: {"/auth/connect/token"} for name in TOKENS}


# --- requests that can't be made ----------------------------------------------------------------


async def test_fields_that_do_not_open_stop_their_payment_before_anything_is_sent(
    quick_sandbox: Sandbox, tmp_path: Path, logged: list[str]
) -> None:
    async with troubled(quick_sandbox, tmp_path) as (orchestrator, _):
        payment = await submit(orchestrator, "PAID-1", "digital")
        await sql(tmp_path, "update payer_data set sealed = x'00'")
        async with orchestrator.worker():
            await until(lambda: "drive.failed" in logged)
        left = await orchestrator.get(payment.id)

        assert (left.attempts, calls(quick_sandbox)) == (0, 0)


async def test_fields_that_were_erased_before_the_start_make_the_request_impossible(
    quick_sandbox: Sandbox, tmp_path: Path
) -> None:
    async with troubled(quick_sandbox, tmp_path) as (orchestrator, _):
        payment = await submit(orchestrator, "PAID-1", "digital")
        await sql(tmp_path, "delete from payer_data")
        async with orchestrator.worker():
            ended = await orchestrator.wait(payment.id, timeout=20)

        assert (ended.outcome, ended.attempts, calls(quick_sandbox)) == ("invalid_request", 0, 0)
        assert ended.reason.startswith("unusable_field:")


async def test_a_look_that_needs_a_field_goes_on_failing_quietly_while_the_field_is_gone(
    frozen: Sandbox, tmp_path: Path
) -> None:
    status = bundled("session_status").replace("</Url>", "?name=$(cardholderName)</Url>", 1)
    assert "?name=" in status
    (tmp_path / "status.xml").write_text(status)
    own = {"session_status": str(tmp_path / "status.xml")}
    async with troubled(frozen, tmp_path, definitions=own) as (orchestrator, store):
        payment = await submit(orchestrator, "PAID-1", "phone")
        async with orchestrator.worker():
            await orchestrator.wait(payment.id, until="handed_over", timeout=20)
        ((sealed,),) = await sql(tmp_path, "select sealed from payer_data")
        asked, opened = calls(frozen, "status"), store.calls["sealed"]
        await sql(tmp_path, "delete from payer_data")
        async with orchestrator.worker():
            await until(lambda: store.calls["sealed"] >= opened + 3)
            assert (await orchestrator.get(payment.id)).state is State.AWAITING_PAYMENT
            assert calls(frozen, "status") == asked
            insert = "insert into payer_data (payment_id, sealed, updated_at) values (?, ?, ?)"
            await sql(tmp_path, insert, payment.id, sealed, "2026-11-24T00:00:00.000000Z")
            await end(orchestrator, frozen, payment)

        told = await bodies(orchestrator, payment)
        assert told[-1]["trigger"] == "complete"
        assert told[-1]["looks"]["failed"] >= 3
