"""What is derived from settings and accounts, beyond the parts themselves."""

from pathlib import Path

import pytest

from orchestrator.composition import longest_life_s
from orchestrator.domain.account import policy_of
from orchestrator.domain.errors import CardDataRefused, ConfigurationError
from orchestrator.domain.policy import DIGITAL
from orchestrator.privacy.guard import refuse_card_data
from tests.support.flow import settings_for
from tests.unit.domain.story import waiting


@pytest.mark.parametrize(
    ("policy", "longest"),
    [
        ({}, DIGITAL.session_life_s),
        ({"phone": {"session_life_s": 7200}}, DIGITAL.session_life_s),
        ({"digital": {"session_life_s": 3600}}, DIGITAL.session_life_s),
        ({"digital": {"session_life_s": 400_000}}, 400_000),
        ({"phone": {"session_life_s": 500_000}, "digital": {"session_life_s": 400_000}}, 500_000),
    ],
)
def test_no_session_lives_longer_than_any_policy_allows(
    policy: dict[str, dict[str, float]], longest: float, tmp_path: Path
) -> None:
    assert longest_life_s(settings_for("http://127.0.0.1:9", tmp_path, policy=policy)) == longest


def test_an_account_that_is_not_configured_any_more_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"accounts\.emea: is not configured"):
        policy_of({}, waiting())


def test_card_data_is_refused_as_such_wherever_it_comes_in() -> None:
    with pytest.raises(CardDataRefused):
        refuse_card_data("reason", "paid with 4111 1111 1111 1111")
