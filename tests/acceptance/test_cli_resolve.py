"""`resolve`, `cancel --hung-up` and `list --held`, run as a shell would run them."""

import asyncio
import re
from datetime import timedelta

import pytest

from orchestrator.cli.show import age
from orchestrator.clock import SystemClock
from orchestrator.domain.decision import Walk
from orchestrator.domain.entry import Context
from orchestrator.domain.payment import HoldReason, Payment
from orchestrator.records import Record
from orchestrator.store.store import SqlStore
from tests.support.cli import submission

REASON = "asked the gateway"


def held(command, home, hold=HoldReason.POISON, since=0, channel="phone"):
    """Submit a payment and hold it, as a worker would have done so many seconds ago."""
    result = command("submit", "--json", **submission(channel))
    assert result.status == 0, result.err

    async def work() -> Payment:
        async with SqlStore(f"sqlite:///{home / 'orchestrator.db'}") as store:
            payment = await store.get(result.json["id"])
            now = SystemClock().now() - timedelta(seconds=since)
            return await store.record(Record(Walk(payment, Context(now, "w", "h:1")).hold(hold).due(None), False))

    return asyncio.run(work()).id


def resolve(command, payment_id, *argv, **options):
    given = {"as": "ada", "reason": REASON} | options
    return command("resolve", payment_id, *argv, **{name: value for name, value in given.items() if value is not None})


def assert_refused(result, *words):
    assert (result.status, result.out) == (2, "")
    (line,) = result.err.splitlines()
    for word in ("error: ", *words):
        assert word in line


def test_a_resolved_payment_goes_on_and_the_timeline_says_who_and_why(command, home):
    payment_id = held(command, home)

    record = resolve(command, payment_id, "--retry", "--json").json
    shown = command("show", payment_id).out
    entry = command("show", payment_id, "--json").json["timeline"][-1]["body"]

    assert (record["hold"], record["state"], record["due_at"] is not None) == (None, "collecting", True)
    assert (entry["trigger"], entry["actor"], entry["why"], entry["persons"]) == ("release", "ada", REASON, ["ada"])
    assert re.search(rf"ada +release +resolved: retry, {REASON}", shown)


def test_an_outcome_ends_it_and_a_second_word_is_refused(command, home):
    payment_id = held(command, home)

    assert "not_attempted" in resolve(command, payment_id, outcome="not_attempted").out

    assert_refused(resolve(command, payment_id, "--retry"), "payment", "has ended")
    assert command("audit", "verify").status == 0


def test_where_two_people_must_agree_the_first_word_is_a_proposal(command, home):
    settings = home / "orchestrator.toml"
    settings.write_text(settings.read_text().replace("policy.phone]\n", "policy.phone]\nresolve_persons = 2\n"))
    payment_id = held(command, home)

    proposed = resolve(command, payment_id, "--json", outcome="not_attempted").json
    explained, shown = command("explain", payment_id).out, command("show", payment_id).out

    assert (proposed["hold"], proposed["state"]) == ("poison", "collecting")
    assert "two people must say the same" in explained
    assert "proposed: outcome not_attempted" in shown
    assert_refused(resolve(command, payment_id, outcome="not_attempted"), "person", "a second person")
    done = resolve(command, payment_id, "--json", outcome="not_attempted", **{"as": "bo"}).json
    assert (done["state"], done["outcome"]) == ("failed", "not_attempted")
    assert command("audit", "verify").status == 0


BAD = {
    "no person": ((), {"as": None}, "--as"),
    "an empty person": ((), {"as": " "}, "--as", "1 to 100"),
    "no reason": (("--retry",), {"reason": None}, "--reason"),
    "an empty reason": (("--retry",), {"reason": " "}, "reason", "1 to 500"),
    "a card number for a reason": (("--retry",), {"reason": "4111111111111111"}, "reason", "card"),
    "nothing to do": ((), {}, "resolution", "--outcome", "--retry"),
    "two things": (("--retry",), {"outcome": "paid"}, "outcome", "retry"),
    "no outcome": ((), {"outcome": "fine"}, "outcome", "declined"),
    "a doubt": ((), {"outcome": "review"}, "outcome", "doubt"),
    "money without a session": ((), {"outcome": "paid"}, "session", "missing"),
    "a session where none fits": ((), {"session": "S1"}, "session", "--retry"),
    "a session that is none": ((), {"session": "a/b"}, "session", "provider"),
}


@pytest.mark.parametrize("row", BAD)
def test_a_wrong_word_is_one_line_and_changes_nothing(command, home, row):
    argv, options, *words = BAD[row]
    payment_id = held(command, home)
    before = command("show", payment_id, "--json").json

    assert_refused(resolve(command, payment_id, *argv, **options), *words)

    assert command("show", payment_id, "--json").json == before


def test_a_payment_that_is_not_held_or_not_there_is_told(command, home):
    record = command("submit", "--json", **submission()).json
    assert_refused(resolve(command, record["id"], "--retry"), "payment", "not held")
    assert_refused(resolve(command, "pay-none", "--retry"), "no payment")


def test_a_list_of_held_payments_says_why_and_since_when(command, home):
    payment_id = held(command, home, since=3 * 3600 + 125)

    shown = command("list", "--held").out

    assert re.search(rf"{payment_id} .*collecting .*poison +3 h 2 min", shown)
    assert command("list", "--held", "--json").json[0]["held_at"] is not None
    assert "no payment matches" in command("list", "--not-held").out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 min 0 s"), (61.9, "1 min 1 s"), (3600, "1 h 0 min"), (86399, "23 h 59 min"), (90061, "1 d 1 h")],
)
def test_an_age_is_told_in_its_two_largest_units(seconds, text):
    assert age(timedelta(seconds=seconds)) == text


def test_a_hang_up_is_an_outcome_of_its_own(command):
    record = command("submit", "--json", **submission()).json
    ended = command("cancel", "--hung-up", record["id"], "--json").json
    assert (ended["state"], ended["outcome"]) == ("failed", "hung_up")


def test_a_digital_payment_has_no_caller_who_hangs_up(command):
    record = command("submit", "--json", **submission("digital")).json
    assert_refused(command("cancel", "--hung-up", record["id"]), "hung_up", "phone")
    assert command("show", record["id"], "--json").json["payment"] == record
