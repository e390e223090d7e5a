"""The payment's value."""

from dataclasses import fields, replace

import pytest

from orchestrator.domain.payment import Payment, evolved
from tests.integration.store.makers import birth

PAYMENT = birth().decision.payment


@pytest.mark.parametrize("name", [each.name for each in fields(Payment)])
def test_an_evolved_payment_is_what_replace_makes(name: str) -> None:
    changed = evolved(PAYMENT, **{name: "else"})
    assert changed == replace(PAYMENT, **{name: "else"}) != PAYMENT
    assert type(changed) is Payment


def test_a_payment_evolves_only_in_what_it_has() -> None:
    with pytest.raises(KeyError, match="amuont"):
        evolved(PAYMENT, amuont=1)
    assert evolved(PAYMENT) == PAYMENT
