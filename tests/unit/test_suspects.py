"""Payments that were claimed in vain are driven with care, until one crash after another tells the culprit."""

from dataclasses import replace
from random import Random

import pytest

from orchestrator.domain.policy import PHONE
from orchestrator.suspects import FRUITLESS, Suspects, is_suspect
from tests.unit.domain import story


@pytest.mark.parametrize("vain", range(6))
def test_a_payment_is_a_suspect_after_three_claims_in_vain(vain):
    payment = replace(story.waiting(), claim_no=7 + vain, progress_claim=7)
    assert payment.fruitless == vain
    assert is_suspect(payment) is (vain >= FRUITLESS)


@pytest.mark.parametrize(("many", "at_once"), [(0, 0), (1, 1), (15, 1), (16, 1), (32, 2), (1600, 100)])
def test_one_in_sixteen_is_driven_at_once(many, at_once):
    suspects = Suspects()
    for number in range(many):
        suspects.add(f"pay-{number}", "w")
    taken = suspects.take(10_000)
    assert (len(taken), len(suspects)) == (at_once, many - at_once)
    assert suspects.take(10_000) == []
    if many:
        assert suspects.done(taken[0])
        assert not suspects.done(taken[0])
        suspects.clear()
        assert len(suspects) == 0
        assert suspects.take(1) == []
    assert Suspects().take(0) == []


def test_no_suspect_is_driven_before_those_that_are_to_be_held_are_written_down():
    suspects = Suspects()
    suspects.add("pay-culprit", "w")
    suspects.hold_first("pay-neighbour")
    assert suspects.take(5) == []
    assert suspects.done("pay-neighbour"), "others may go on"
    assert suspects.take(5) == ["pay-culprit"]
    suspects.hold_first("pay-neighbour")
    suspects.clear()
    assert not suspects.done("pay-neighbour")


def test_a_room_that_is_full_takes_none():
    suspects = Suspects()
    for number in range(160):
        suspects.add(f"pay-{number}", "w")
    assert (suspects.take(0), suspects.take(-3), len(suspects.take(2))) == ([], [], 2)


@pytest.mark.parametrize("seed", range(20))
def test_a_payment_that_kills_its_worker_is_alone_among_the_suspects_before_it_is_held(seed):
    """Each life drives suspects until it meets the culprit; whoever was driven to the end is cleared."""
    random, vain = Random(seed), dict.fromkeys((f"pay-{number}" for number in range(3000)), FRUITLESS)
    culprit, lives = random.choice(list(vain)), 0
    while len(vain) > 1:
        lives += 1
        suspects, under_way = Suspects(), []
        for payment_id in vain:
            suspects.add(payment_id, f"worker-{seed}-{lives}")
        while culprit not in under_way:
            under_way += suspects.take(1000)
            if culprit not in under_way:
                done = random.choice(under_way)
                under_way.remove(done)
                suspects.done(done)
                del vain[done]
        vain = {payment_id: count + 1 for payment_id, count in vain.items()}
    assert FRUITLESS + lives <= PHONE.max_claims
