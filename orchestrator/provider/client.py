"""
Every account's provider, and which definitions a payment is pinned to.

Owns the connections and tokens of all accounts, the compiled definitions by
digest, and what must be collected for a channel. Must not know the settings or
the store: the composition root hands in configurations and a way to look up an
old definition. This is the last module of the package.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from random import Random
from typing import Self

from orchestrator.domain.condition import Condition
from orchestrator.domain.errors import ConfigurationError
from orchestrator.domain.outcome import Observation
from orchestrator.domain.payment import Channel, Payment
from orchestrator.domain.verdict import Verdict
from orchestrator.interactions import Definition, fields_to_collect, parse
from orchestrator.ports import Clock
from orchestrator.provider.account import AccountProvider
from orchestrator.provider.authorize import Authorizer
from orchestrator.provider.config import AUTHORIZE, SESSION_STATUS, START, AccountConfig
from orchestrator.provider.line import Line
from orchestrator.provider.notice import notice

__all__ = ["AccountProvider", "ProviderPool"]


class _Account:
    """One account with what its providers share."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.config = line.account
        self.authorizers: dict[str, Authorizer] = {}
        self.providers: dict[tuple[tuple[str, str], ...], AccountProvider] = {}
        self.pinned: dict[tuple[tuple[str, str], ...], AccountProvider] = {}

    def definition(self, name: str) -> Definition:
        found = self.config.definitions.get(name)
        if found is None:
            raise ConfigurationError(f"{self.config.key}.definitions.{name}", "is missing")
        return found

    def config_for(self, name: str, definition: Definition) -> Mapping[str, str]:
        """
        Give the values of `#(Key)` for a definition.

        A stored definition has lost its lifted secrets; the current one of the same
        operation supplies them, so that a rotated secret also reaches older payments.
        """
        current = self.config.definitions.get(name)
        lifted = {} if current is None else {key: secret.reveal() for key, secret in current.lifted.items()}
        values = {**self.config.config, **lifted}
        for key in definition.config_names:
            if key not in definition.lifted and not values.get(key):
                problem = f"is missing; the definition {definition.name} uses #({key})"
                raise ConfigurationError(f"{self.config.key}.config.{key}", problem, "set it")
        return values

    def provider(self, definitions: Mapping[str, Definition]) -> AccountProvider:
        digests = tuple(sorted((name, definition.digest) for name, definition in definitions.items()))
        found = self.providers.get(digests)
        if found is None:
            config = {name: self.config_for(name, definition) for name, definition in definitions.items()}
            authorizer = self._authorizer(definitions[AUTHORIZE], config[AUTHORIZE])
            found = self.providers[digests] = AccountProvider(self.line, authorizer, definitions, config)
        return found

    def _authorizer(self, definition: Definition, config: Mapping[str, str]) -> Authorizer:
        found = self.authorizers.get(definition.digest)
        if found is None:
            found = self.authorizers[definition.digest] = Authorizer(self.line, definition, config)
        return found


class ProviderPool:
    """
    Every account's provider; `ports.Providers`. An async context manager that closes connections.

    Args:
        accounts: The configurations.
        load: Digest to an older definition, compiled; `None` if there is none.
        clock: Time.
        random: Chance.
        redact: Removes card data from a text of the provider's.

    Raises:
        ConfigurationError: An account lacks a definition or a setting that its definitions use.
    """

    def __init__(
        self,
        accounts: Iterable[AccountConfig],
        *,
        load: Callable[[str], Definition | None],
        clock: Clock,
        random: Random,
        redact: Callable[[str], str],
    ) -> None:
        self._load = load
        self._compiled: dict[str, Definition] = {}
        self._accounts: dict[str, _Account] = {}
        for config in accounts:
            account = _Account(Line(config, clock=clock, random=random, redact=redact))
            self._accounts[config.name] = account
            self._compiled |= {each.digest: each for each in config.definitions.values()}
            for name in (AUTHORIZE, SESSION_STATUS):
                account.definition(name)
            account.provider(config.definitions)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def of(self, payment: Payment) -> AccountProvider:
        """
        Give the provider with the definitions that the payment is pinned to.

        Raises:
            ConfigurationError: The account is not configured, a pinned definition is nowhere to be
                found, or a setting that it uses is missing.
        """
        account = self._account(payment.account)
        pins = tuple(payment.definitions.items())
        found = account.pinned.get(pins)
        if found is None:
            found = account.pinned[pins] = self._pinned(account, payment)
        return found

    def _pinned(self, account: "_Account", payment: Payment) -> AccountProvider:
        pinned = {
            name: self._definition(digest, f"{account.config.key}.definitions.{name}")
            for name, digest in payment.definitions.items()
        }
        return account.provider({**account.config.definitions, **pinned})

    async def acquaint(self, payment: Payment, stored: Callable[[str], Awaitable[str | None]]) -> None:
        """
        Compile what the payment is pinned to and a process with other settings has published since this one began.

        Args:
            payment: One that `of` will be asked about.
            stored: Digest to the published text; `None` if there is none.

        Raises:
            DefinitionError: This version can't read it.
            Unavailable: The database does not answer.
        """
        for name, digest in payment.definitions.items():
            if digest not in self._compiled and self._load(digest) is None and (text := await stored(digest)):
                self._compiled[digest] = parse(text, name=f"{name}.xml")

    def current(self, account: str) -> AccountProvider:
        """
        Give an account's provider with its present definitions.

        Raises:
            ConfigurationError: The account is not configured.
        """
        found = self._account(account)
        return found.provider(found.config.definitions)

    def pins(self, account: str, channel: Channel) -> dict[str, str]:
        """
        Give what a new payment is pinned to: operation name to definition digest.

        Raises:
            ConfigurationError: The account is not configured, or not for this channel.
        """
        return {name: definition.digest for name, definition in self._of_channel(account, channel).items()}

    def fields_to_collect(self, account: str, channel: Channel) -> tuple[str, ...]:
        """
        Give the fields that a payment can't start without, in order of first use.

        Raises:
            ConfigurationError: The account is not configured, or not for this channel.
        """
        optional = self._account(account).config.optional_fields
        return tuple(name for name in self.fields_used(account, channel) if name not in optional)

    def fields_used(self, account: str, channel: Channel) -> tuple[str, ...]:
        """
        Give every field that a payment can be given, optional ones included.

        Raises:
            ConfigurationError: The account is not configured, or not for this channel.
        """
        definitions = self._of_channel(account, channel).values()
        supplied = self._account(account).config.roles.supplied
        return fields_to_collect(list(definitions), supplied=supplied)

    def notice(self, account: str, body: bytes) -> Callable[[str], Observation]:
        """
        Read a webhook's body by the account's gateway profile; gives what it says, by its amount's currency.

        Raises:
            InvalidInput: The body is not one, or holds card data.
            ConfigurationError: The account is not configured.
        """
        line = self._account(account).line
        return notice(line.account.gateway, body, redact=line.redact)

    def condition(self, account: str) -> Condition:
        """
        Say how the account fares with its provider, as this process sees it.

        Raises:
            ConfigurationError: The account is not configured.
        """
        return self._account(account).line.condition()

    def barred(self, account: str) -> Verdict | None:
        """
        Give the verdict on a start that would be kept back by breaker or Retry-After; `None` if it may be tried.

        Raises:
            ConfigurationError: The account is not configured.
        """
        return self._account(account).line.barred()

    def shared_by(self, workers: int) -> None:
        """Divide every account's budget among so many live workers."""
        for account in self._accounts.values():
            account.line.budget.shared_by(workers)

    async def close(self) -> None:
        """Stop renewals and close every idle connection; calls in flight end by themselves."""
        for account in self._accounts.values():
            for authorizer in account.authorizers.values():
                await authorizer.tokens.aclose()
            await account.line.aclose()

    def _of_channel(self, account: str, channel: Channel) -> dict[str, Definition]:
        found = self._account(account)
        return {name: found.definition(name) for name in (AUTHORIZE, START[channel], SESSION_STATUS)}

    def _account(self, name: str) -> _Account:
        account = self._accounts.get(name)
        if account is None:
            raise ConfigurationError(f"accounts.{name}", "is not configured", "one of the accounts in the settings")
        return account

    def _definition(self, digest: str, key: str) -> Definition:
        found = self._compiled.get(digest) or self._load(digest)
        if found is None:
            raise ConfigurationError(
                key, "is pinned to a definition that is not stored", f"publish {digest[:12]} again"
            )
        self._compiled[digest] = found
        return found
