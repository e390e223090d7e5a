"""
A host's own Alembic and ours in one database, in either order: neither sees the other.

The host is a project of its own in the environment that has only the wheel
(tests/support/wheel.py); its `env.py` is the one of docs/embedding.md.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.store.migrate import OWN_TABLES
from tests.integration.store import conftest as databases
from tests.support import wheel as support
from tests.support.wheel import Environment

pytestmark = pytest.mark.timeout(300)
postgresql_host = databases.postgresql_host

DOCUMENT = (support.ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")
(ENV,) = re.findall(r"`env\.py`:\n\n```python\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
UNFILTERED = ENV.replace(", include_name=mine", "")

TABLES = """
from sqlalchemy import Column, Integer, MetaData, String, Table

metadata = MetaData()
Table("shop_order", metadata, Column("reference", String(50), primary_key=True))
"""
ITEM = 'Table("shop_item", metadata, Column("id", Integer, primary_key=True))\n'
MAKO = """
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
import sqlalchemy as sa
from alembic import op

def upgrade():
    ${upgrades}

def downgrade():
    ${downgrades}
"""
# Runs every command in one process, each as if it were alone; the last line is what came of them.
DRIVER = """
import asyncio, contextlib, io, json, sys
from pathlib import Path
from alembic.config import main as alembic
from orchestrator.cli.app import execute
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

async def sql(url, statement):
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        found = await connection.execute(text(statement))
        print(json.dumps([list(row) for row in found] if found.returns_rows else None))
    await engine.dispose()

def done(program, *words):
    if program == "write":
        Path(words[0]).write_text(words[1])
    elif program == "sql":
        asyncio.run(sql(*words))
    elif program == "orchestrator":
        return execute(words)
    else:
        sys.modules.pop("tables", None)
        alembic(words)

told = []
for step in json.loads(sys.stdin.read()):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            status = done(*step) or 0
        except SystemExit as error:
            status = error.code
    told.append([status, out.getvalue()])
print(json.dumps(told))
"""


@dataclass
class Host:
    """The host's project."""

    environment: Environment
    folder: Path
    url: str

    def steps(self, *steps: tuple[str, ...]) -> list[tuple[int, str]]:
        """Do the steps in order; gives each one's status and output."""
        found = self.environment.run(
            [self.environment.python, "-B", "-c", DRIVER], self.folder, stdin=json.dumps(steps),
            ORCHESTRATOR_DATABASE_URL=self.url,
        )  # fmt: skip
        return [(status, out) for status, out in json.loads(found.stdout.splitlines()[-1])]

    def fine(self, *steps: tuple[str, ...]) -> list[str]:
        """Do the steps, all of which must succeed; gives their outputs."""
        told = self.steps(*steps)
        assert [status for status, _ in told] == [0] * len(steps), told
        return [out for _, out in told]

    def sql(self, statement: str) -> tuple[str, ...]:
        return ("sql", self.url, statement)

    def migration(self, revision: str) -> str:
        (file,) = (self.folder / "host" / "versions").glob(f"{revision}_*.py")
        return file.read_text(encoding="utf-8")


OURS = ("orchestrator", "db", "upgrade")
OURS_FINE = ("orchestrator", "db", "check")
CHECK = ("alembic", "check")


def revision(name: str) -> tuple[str, ...]:
    return ("alembic", "revision", "--autogenerate", "-m", "next", "--rev-id", name)


def upto(name: str) -> tuple[str, ...]:
    return ("alembic", "upgrade", name)


@pytest.fixture(params=["sqlite", "postgresql"])
def host(request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Host:
    if request.param == "sqlite":
        url = f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}"
    else:
        server = request.getfixturevalue("postgresql_host")
        url = databases.postgresql_url(server, databases.outside_loop(databases.new_schema(server, empty=True)))
    project = tmp_path / "project"
    (project / "host" / "versions").mkdir(parents=True)
    ini = f"[alembic]\nscript_location = %(here)s/host\nprepend_sys_path = .\nsqlalchemy.url = {url}\n"
    for name, content in {
        "alembic.ini": ini, "tables.py": TABLES, "host/env.py": ENV, "host/script.py.mako": MAKO,
    }.items():  # fmt: skip
        (project / name).write_text(content, encoding="utf-8")
    return Host(support.environment(tmp_path_factory.getbasetemp()), project, url)


@pytest.mark.parametrize("first", ["the host's", "ours"])
def test_either_goes_first_and_both_go_on_undisturbed(host: Host, first: str) -> None:
    theirs = [revision("h1"), upto("head")]
    outputs = host.fine(
        *([*theirs, OURS] if first == "the host's" else [OURS, *theirs]), OURS_FINE, CHECK,
        # The host's next migration, written by Alembic beside our tables.
        ("write", "tables.py", TABLES + ITEM), revision("h2"), upto("head"), OURS, OURS_FINE, CHECK,
        host.sql("select version_num from alembic_version"),
        ("alembic", "downgrade", "h1"), OURS_FINE, ("alembic", "downgrade", "base"), OURS_FINE,
        host.sql("select version_num from alembic_version"),
        host.sql("select count(*) from orchestrator_schema_version"),
    )  # fmt: skip
    assert re.findall(r"op\.\w+\('(\w+)'", host.migration("h1")) == ["shop_order", "shop_order"]
    assert re.findall(r"op\.\w+\('(\w+)'", host.migration("h2")) == ["shop_item", "shop_item"]
    assert [json.loads(outputs[place]) for place in (11, -2, -1)] == [[["h2"]], [], [[1]]]


def test_the_filter_hides_our_tables_and_none_of_the_hosts(host: Host) -> None:
    told = host.steps(
        revision("h1"), upto("head"), OURS, host.sql("create table shop_forgotten (id integer primary key)"), CHECK,
        ("write", "host/env.py", UNFILTERED), CHECK,
    )  # fmt: skip
    *before, (filtered, with_filter), (wrote, _), (unfiltered, without_filter) = told
    assert [status for status, _ in before] + [wrote] == [0] * 5
    assert 0 not in (filtered, unfiltered)
    assert named(with_filter) == {"shop_forgotten"}
    # What the document warns of: all of ours would be dropped.
    assert named(without_filter) == {"shop_forgotten"} | OWN_TABLES


def named(output: str) -> set[str]:
    """The tables that `alembic check` would remove."""
    return set(re.findall(r"'remove_table', Table\('(\w+)'", output))
