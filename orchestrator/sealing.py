"""
How the seal's parts are made of the settings: keys, sinks, sealer, verifiers; and what erases.

Owns no rule of the seal: `audit` does. Next: `assembly`.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from orchestrator.audit.lines import entry_line, erased_line
from orchestrator.audit.sealer import Sealer, SealWatch, Terms
from orchestrator.audit.watchman import Watchman
from orchestrator.composition import sqlite_path
from orchestrator.domain.entry import Context
from orchestrator.domain.errors import ControlFailed
from orchestrator.erasure import Retention
from orchestrator.ports import Clock
from orchestrator.privacy.signing import PublicKey, SigningKey, load_or_create_signing_key, signing_keys
from orchestrator.records import ErasureTold
from orchestrator.settings import Settings
from orchestrator.sinks import FileSink, HashLines, SyslogSink
from orchestrator.store.store import SqlStore
from orchestrator.telemetry import emit

NO_KEY = "seal.signing_key is not set"


def keys(settings: Settings, *, may_create: bool = False) -> Sequence[SigningKey]:
    """
    Give the keys that sign; none where none is configured and none can be made.

    Args:
        settings: The settings.
        may_create: Whether a SQLite database gets a key file, `NAME.signing-key`, if it has none.

    Raises:
        ConfigurationError: A key is malformed, or its file can be read by others.

    Crash: there is a whole key file or none.
    """
    if settings.seal.signing_key is not None:
        return signing_keys(settings.seal.signing_key.reveal())
    path = sqlite_path(settings.database_url)
    if path is None:
        return ()
    file = path.with_name(f"{path.name}.signing-key")
    if not may_create and not file.exists():
        return ()
    found, created = load_or_create_signing_key(file, settings.seal.name)
    if created:
        emit("signing_key.created", path=str(file), key=str(found[-1].public))
    return found


def verifiers(settings: Settings, more: Sequence[str] = ()) -> Sequence[PublicKey]:
    """
    Give the public keys whose signatures are trusted.

    Args:
        settings: The settings.
        more: Verifier keys that somebody names; then those of the settings don't count.

    Raises:
        InvalidInput: One is malformed.
    """
    if more:
        return [PublicKey.parse(text, "--key") for text in more]
    named = [PublicKey.parse(text, "seal.public_keys") for text in settings.seal.public_keys]
    return list({str(key): key for key in (*named, *(key.public for key in keys(settings)))}.values())


def sinks(settings: Settings) -> Sequence[FileSink | SyslogSink]:
    """Give the places off the database."""
    found: list[FileSink | SyslogSink] = []
    file = file_sink(settings)
    if file is not None:
        found.append(file)
    if settings.seal.syslog is not None:
        host, _, port = settings.seal.syslog.rpartition(":")
        found.append(SyslogSink(host.strip("[]"), int(port)))
    return found


def file_sink(settings: Settings) -> FileSink | None:
    """Give the file: as set, else beside a SQLite file, else none."""
    path = settings.seal.sink
    if path is None:
        database = sqlite_path(settings.database_url)
        path = database.with_name(f"{database.name}.seal") if database is not None else None
    return FileSink(path) if path is not None else None


def terms_of(settings: Settings) -> Terms:
    """Give when to seal."""
    return Terms(settings.seal.every_s, settings.seal.entries)


def seals(settings: Settings) -> bool:
    """Tell whether workers with these settings seal; on SQLite they make the key that is missing."""
    return settings.seal.signing_key is not None or sqlite_path(settings.database_url) is not None


def build_sealer(settings: Settings, store: SqlStore, clock: Clock, context: Callable[[], Context]) -> Sealer | None:
    """
    Give the sealer; `None`, and a log line, without a key.

    Raises:
        ConfigurationError: A key is malformed.
    """
    signing = keys(settings, may_create=True)
    if not signing:
        emit("seal.off", reason=NO_KEY)
        return None
    return Sealer(store, signing, settings.seal.name, sinks(settings), clock, context, terms_of(settings))


def build_watchman(settings: Settings, store: SqlStore, clock: Clock) -> Watchman | None:
    """Give who verifies beside the work; `None` where nobody is to."""
    every_s = settings.seal.verify_every_s
    return Watchman(store, verifiers(settings), clock, every_s) if every_s else None


def build_seal_watch(settings: Settings, store: SqlStore, clock: Clock) -> SealWatch:
    """Give who minds that somebody else seals in time."""
    return SealWatch(store, clock, terms_of(settings))


def entry_lines(settings: Settings) -> HashLines | None:
    """Give where entries' hashes go as soon as they are acknowledged; `None` without a file."""
    file = file_sink(settings)
    return None if file is None else HashLines(file, entry_line, _lost)


def erasure_told(settings: Settings) -> ErasureTold | None:
    """Give what tells the sink's file of an erasure; `None` without a file. It raises `ControlFailed`."""
    file = file_sink(settings)
    if file is None:
        return None

    def tell(payment_id: str, at: datetime) -> None:
        try:
            file.write([erased_line(payment_id, at)])
        except OSError as error:
            why = f"{file.name} can't be told of an erasure ({type(error).__name__})"
            raise ControlFailed("erasure", why) from None

    return tell


def build_retention(
    settings: Settings, store: SqlStore, clock: Clock, context: Callable[[], Context]
) -> Retention | None:
    """Give the control that erases what its time is over for; `None` where all is kept."""
    days = settings.privacy.retain_days
    if days is None:
        return None
    return Retention(store, days, clock, context, erasure_told(settings))


def _lost(why: str) -> None:
    emit("control.failed", control="export", reason=why)
