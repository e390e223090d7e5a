"""
The parts of one orchestrator, opened in their order and closed in the other, and a worker over them.

Owns that order alone; how each part is made of the settings is `composition`'s.
Next: `orchestrator`.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from orchestrator import composition, sealing
from orchestrator.audit.sealer import LOG
from orchestrator.audit.watchman import VERIFY
from orchestrator.claim import Claims, Rhythm
from orchestrator.domain.account import Account
from orchestrator.domain.entry import Context
from orchestrator.domain.payment import Payment
from orchestrator.erasure import CONTROL as RETENTION
from orchestrator.execute import Bench
from orchestrator.handlers import Handlers
from orchestrator.interactions import parse
from orchestrator.ports import Clock
from orchestrator.privacy import FieldVault
from orchestrator.provider.backoff import backoff
from orchestrator.provider.client import ProviderPool
from orchestrator.rounds import Limits
from orchestrator.settings import Settings
from orchestrator.store import migrate
from orchestrator.store.store import SqlStore
from orchestrator.upkeep import Control, Upkeep
from orchestrator.worker import Worker

REQUEST_DIGESTS = b"the key of request digests"
"""Its keyed digest keys the digests of requests in the trail: a plain one of a name and a number could be guessed."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The adapters of one orchestrator, opened."""

    store: SqlStore
    providers: ProviderPool
    vault: FieldVault
    accounts: Mapping[str, Account]

    async def acquaint(self, payment: Payment) -> None:
        """Take up the definitions of a payment that were published since this process began; see `ProviderPool`."""
        await self.providers.acquaint(payment, self.store.definition)


@contextlib.asynccontextmanager
async def opened(
    settings: Settings,
    store: SqlStore,
    definitions: composition.Definitions,
    context: Callable[[], Context],
    *,
    clock: Clock,
    random: Random,
) -> AsyncIterator[Parts]:
    """
    Open the database, a new SQLite file included, and everything that needs it.

    Raises:
        ConfigurationError: Settings, definitions, keys or database don't fit.
        Unavailable: The database does not answer.

    Crash:
        A new file is at a whole revision or is brought there at the next start.
    """
    async with contextlib.AsyncExitStack() as stack:
        path = composition.sqlite_path(settings.database_url)
        if path is not None and (not path.exists() or path.stat().st_size == 0):
            await migrate.upgrade(settings.database_url, context())
        await store.open()
        stack.push_async_callback(store.close)
        vault = composition.build_vault(settings, may_create=not await store.holds_payer_data())
        present, stored = definitions.all(), await store.definitions()
        for digest, definition in present.items():
            await store.publish_definition(digest, definition.name, definition.text, context=context())
        # What payments were begun under and the settings no longer hold.
        older = {digest: parse(text, name=name) for digest, (name, text) in stored.items() if digest not in present}
        providers = composition.build_providers(
            settings, definitions, older,
            clock=clock, random=random, digest_key=vault.digest(REQUEST_DIGESTS).encode(),
        )  # fmt: skip
        stack.push_async_callback(providers.close)
        yield Parts(store, providers, vault, composition.build_accounts(settings, providers, backoff(random)))


def _upkeep(settings: Settings, store: SqlStore, clock: Clock, claims: Claims) -> Sequence[Upkeep]:
    """Give the controls that a worker keeps up."""
    sealer = sealing.build_sealer(settings, store, clock, claims.context)
    seal = sealer if sealer is not None else sealing.build_seal_watch(settings, store, clock)
    retention = sealing.build_retention(settings, store, clock, claims.context)
    watchman = sealing.build_watchman(settings, store, clock)
    kept: Sequence[tuple[str, Control | None]] = ((LOG, seal), (RETENTION, retention), (VERIFY, watchman))
    return [Upkeep(control, name, store, claims.context) for name, control in kept if control is not None]


def build_worker(
    settings: Settings, parts: Parts, handlers: Handlers, clock: Clock, *, origin: str, version: str
) -> Worker:
    """Give a worker over the opened parts."""
    told, store, providers = settings.worker, parts.store, parts.providers
    rhythm = Rhythm(told.heartbeat_s, told.claim_life_s, told.claim_trust_s, told.poll_interval_s)
    claims = Claims(
        store, clock, rhythm,
        accounts=tuple(parts.accounts), new_id=composition.new_worker_id, origin=origin, version=version,
    )  # fmt: skip
    bench = Bench(
        store, providers, parts.vault, parts.accounts, clock, claims,
        traffic=providers, acquaint=parts.acquaint,
    )  # fmt: skip
    limits = Limits(told.concurrency, told.claim_batch, told.drain_s)
    return Worker(bench, handlers, limits, _upkeep(settings, store, clock, claims))
