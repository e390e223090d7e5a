"""
How the trail is sealed: the log's name, its keys, and where it is carried to.

Next: `types`.
"""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from orchestrator.settings.types import Frozen, Names, SecretReference, surroundings


def _from_base(value: Path | None, info: ValidationInfo) -> Path | None:
    return None if value is None else surroundings(info).base_dir / value.expanduser()


class SealSettings(Frozen):
    """
    How the trail is sealed.

    Attributes:
        name: The log's name, the first part of each checkpoint's origin; the same in every process,
            and best a name that only you use, such as `payments.example.com/log`.
        signing_key: The keys that sign checkpoints, by reference: `NAME SEED`, one a line; each signs. Without
            it a SQLite database gets a key file beside it, and on PostgreSQL nothing is sealed.
        public_keys: Verifier keys whose signatures are trusted, besides the public halves of `signing_key`.
        sink: The file that leaves, checkpoints and entries' hashes are appended to; beside a SQLite file by
            default. Best on other storage than the database's, where it can't be changed (`chattr +a`).
        syslog: `host:port` of a syslog server that is told leaves and checkpoints by UDP.
        every_s: Whatever waits for so many seconds is sealed.
        entries: So many waiting entries are sealed at once.
        verify_every_s: How often a worker verifies what has been added since the last time; 0 for never.
    """

    name: Annotated[str, Field(pattern=r"^[!-*,-~]{1,150}$")] = "payment-orchestrator"
    signing_key: SecretReference = None
    public_keys: Names = ()
    sink: Annotated[Path | None, AfterValidator(_from_base)] = None
    syslog: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:\[\]_-]+:[0-9]{1,5}$")] | None = None
    every_s: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)] = 30.0
    entries: Annotated[int, Field(ge=1, le=100_000)] = 500
    verify_every_s: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)] = 300.0
