"""
Debian's `pgbouncer` in transaction mode before a PostgreSQL server: for `make test-pgbouncer`.

Listens on a Unix socket beside the server's, as the server's own user, since it refuses
to run as root. Any role of the server may come in, as the server itself allows.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PORT = 6432
"""Part of the socket's name; nothing listens on the network."""

_CONFIG = """\
[databases]
* = host={host} port=5432 auth_user=postgres
[pgbouncer]
pool_mode = transaction
listen_addr =
listen_port = {port}
unix_socket_dir = {place}
auth_type = trust
auth_file = {place}/users.txt
logfile = {place}/pgbouncer.log
pidfile = {place}/pgbouncer.pid
max_client_conn = 500
default_pool_size = 4
server_idle_timeout = 1
"""


def place_of(host: str) -> Path:
    """Give the directory of the pooler's socket for the server whose socket is in `host`."""
    return Path(f"{host}-pgbouncer")


@contextmanager
def pooler(host: str) -> Iterator[None]:
    """Run the pooler for the server whose socket is in the directory `host`."""
    place, owner = place_of(host), Path(host).stat()
    place.mkdir()
    (place / "pgbouncer.ini").write_text(_CONFIG.format(host=host, port=PORT, place=place))
    (place / "users.txt").write_text('"postgres" ""\n')
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    assert program is not None, "pgbouncer is not installed"
    them: dict[str, object] = {}
    if os.getuid() == 0:
        os.chown(place, owner.st_uid, owner.st_gid)
        them = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    process = subprocess.Popen([program, "-q", place / "pgbouncer.ini"], **them)  # type: ignore[call-overload]
    try:
        while not (place / f".s.PGSQL.{PORT}").exists():
            assert process.poll() is None, "pgbouncer ended at once"
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(place)
