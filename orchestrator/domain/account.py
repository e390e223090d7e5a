"""
What the flow knows of an account: its policies, fields and pinned definitions.

Hosts, credentials and gateway profiles are the provider adapter's; here is only
what `submit` and `decide` need. Next: `submit`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.domain.errors import ConfigurationError
from orchestrator.domain.payment import Channel, Payment
from orchestrator.domain.policy import Policy


@dataclass(frozen=True, slots=True)
class ChannelTerms:
    """
    How one account takes payments over one channel.

    Attributes:
        policy: Deadlines, lives, polls, limits.
        required: Names of the fields to collect, in the order of their use.
        optional: Names that the definitions use and that may stay unknown.
        definitions: Operation to digest of the definition that new payments are pinned to.
    """

    policy: Policy
    required: tuple[str, ...]
    optional: frozenset[str]
    definitions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Account:
    """
    A named provider configuration, as far as the flow needs it.

    Attributes:
        name: Its name in the settings.
        terms: One for each channel.
        call_guid_field: The field that holds the VCC call id.
        phone_fields: Fields whose values must be E.164 numbers.
    """

    name: str
    terms: Mapping[Channel, ChannelTerms]
    call_guid_field: str = "CallGuid"
    phone_fields: frozenset[str] = frozenset({"CustomerPhoneNumber"})


def policy_of(accounts: Mapping[str, Account], payment: Payment) -> Policy:
    """
    Give the policy of a payment's account and channel.

    Raises:
        ConfigurationError: The account is not configured any more.
    """
    account = accounts.get(payment.account)
    if account is None:
        raise ConfigurationError(f"accounts.{payment.account}", "is not configured", "configure it again")
    return account.terms[payment.channel].policy
