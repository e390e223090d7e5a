"""
The wheel carries everything: what it holds, and that it works where the source tree is not.

The environment it runs in (tests/support/wheel.py) has the wheel and the packages that
its metadata asks for, and nothing else: no test tool, no source tree. What it can't
show is that an index still has those packages; `make test` installs them from the lock.
"""

import asyncio
import hashlib
import json
import re
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from orchestrator.sandbox import Sandbox, SandboxOptions
from tests.integration.store import conftest as databases
from tests.support import wheel as support
from tests.support.wheel import Archives, Environment

pytestmark = pytest.mark.timeout(300)
postgresql_host = databases.postgresql_host

PROJECT = tomllib.loads((support.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCUMENT = (support.ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Archives:
    return support.archives(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return support.environment(tmp_path_factory.getbasetemp())


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without a table."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'empty.db'}"
    server = request.getfixturevalue("postgresql_host")
    return databases.postgresql_url(server, databases.outside_loop(databases.new_schema(server, empty=True)))


# What the archives hold.


def test_the_wheel_holds_the_package_and_the_migrations_as_they_are_tracked_and_nothing_else(
    archives: Archives,
) -> None:
    expected = {name: name for name in support.tracked() if name.startswith("orchestrator/")}
    expected |= {
        name.replace("migrations/", "orchestrator/_migrations/", 1): name
        for name in support.tracked()
        if name.startswith("migrations/")
    }
    with zipfile.ZipFile(archives.wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    assert held.keys() == expected.keys()
    assert all(held[name] == (archives.source / source).read_bytes() for name, source in expected.items())
    assert {"orchestrator/py.typed", "orchestrator/interactions/bundled/authorize.xml"} <= held.keys()
    assert {"orchestrator/_migrations/env.py", "orchestrator/_migrations/versions/0001_postgresql.sql"} <= held.keys()


def test_the_source_archive_holds_every_tracked_file_and_makes_the_same_wheel(
    archives: Archives, tmp_path: Path
) -> None:
    folder = support.unpacked(archives.sdist, tmp_path / "unpacked")
    held = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert held == {*support.tracked(), "PKG-INFO"}
    support.build(folder, tmp_path / "again", "-t", "wheel")
    (again,) = (tmp_path / "again").iterdir()
    assert again.name == archives.wheel.name
    assert digest(again) == digest(archives.wheel)


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_metadata_say_what_the_project_says(archives: Archives) -> None:
    told = support.told(archives.wheel)
    same = ("Name", "name"), ("Version", "version"), ("Summary", "description"), ("Requires-Python", "requires-python")
    assert {field: told[field] for field, _ in same} == {field: PROJECT[name] for field, name in same}
    assert (told["License-Expression"], told.get_all("License-File")) == ("Apache-2.0", ["LICENSE"])
    asked = {str(Requirement(line)) for line in told.get_all("Requires-Dist") or ()}
    wanted = {str(Requirement(line)) for line in PROJECT["dependencies"]}
    extra = PROJECT["optional-dependencies"]
    wanted |= {str(Requirement(f'{line}; extra == "{name}"')) for name, lines in extra.items() for line in lines}
    assert asked == wanted
    assert told.get_all("Provides-Extra") == sorted(extra)
    with zipfile.ZipFile(archives.wheel) as archive:
        inside = {name.partition(".dist-info/")[2]: name for name in archive.namelist() if ".dist-info/" in name}
        assert archive.read(inside["entry_points.txt"]).decode().split() == [
            "[console_scripts]", "orchestrator", "=", "orchestrator.cli:main",
        ]  # fmt: skip
        assert b"Root-Is-Purelib: true\nTag: py3-none-any" in archive.read(inside["WHEEL"])
        assert "Apache License" in archive.read(inside["licenses/LICENSE"]).decode()


# That it works where only it is.


def test_the_package_comes_from_the_wheel_alone_and_all_of_it_imports(installed: Environment, tmp_path: Path) -> None:
    script = """
import importlib, json, pkgutil, sys, orchestrator
from importlib import metadata
names = [found.name for found in pkgutil.walk_packages(orchestrator.__path__, "orchestrator.")
         if "_migrations" not in found.name and not found.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
missing = [name for name in orchestrator.__all__ if not hasattr(orchestrator, name)]
tools = [name for name in ("pytest", "mypy", "hypothesis", "coverage", "tests") if importlib.util.find_spec(name)]
print(json.dumps([orchestrator.__file__, len(names), missing, tools, metadata.version("payment-orchestrator")]))
"""
    done = installed.run([installed.python, "-W", "error", "-c", script], tmp_path)
    file, count, missing, tools, version = json.loads(done.stdout)
    assert Path(file).is_relative_to(installed.packages)
    assert count > 90
    assert (missing, tools, version) == ([], [], PROJECT["version"])


def test_what_is_installed_agrees_with_what_every_package_asks_for(installed: Environment, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "uv", "pip", "check", "--offline", "--no-config", "--python", installed.python]
    checked = installed.run(words, tmp_path)
    assert "All installed packages are compatible" in checked.stderr


def test_a_bundled_definition_is_shown_from_the_wheel(installed: Environment, tmp_path: Path) -> None:
    bundled = support.ROOT / "orchestrator" / "interactions" / "bundled" / "start_digital_session.xml"
    shown = installed.run(installed.command("definitions", "show", bundled.stem), tmp_path).stdout
    assert shown.strip() == bundled.read_text(encoding="utf-8").strip()


def test_the_database_is_upgraded_and_checked_from_the_wheel(
    installed: Environment, tmp_path: Path, empty: str
) -> None:
    def db(command: str, status: int = 0) -> dict[str, object]:
        done = installed.run(
            installed.command("db", command, "--json"), tmp_path, status=status, ORCHESTRATOR_DATABASE_URL=empty
        )
        return dict(json.loads(done.stdout))

    assert db("check", status=1)["standing"] == "empty"
    upgraded = db("upgrade")
    assert upgraded == db("check")
    assert upgraded["fine"] is True


PATHS = """
import asyncio, json, os, sys
from alembic import command
from sqlalchemy import text
from orchestrator.store import migrate
from orchestrator.store.access import Database

async def upto(url, revision):
    database = Database(url)
    def work(connection):
        command.upgrade(migrate.config(connection), revision)
        row = {"digest": "d" * 64, "name": revision, "text": "<kept/>", "at": os.environ["KEPT_AT"]}
        at = ":at" if database.dialect == "sqlite" else "cast(cast(:at as text) as timestamptz)"
        connection.execute(text(f"insert into definition values (:digest, :name, :text, {at})"), row)
    await database.engines.write.run(work, begin=True)
    await database.close()

async def main(urls):
    scripts = migrate._scripts()
    revisions = [script.revision for script in scripts.walk_revisions()][::-1]
    told = []
    for revision, url in zip(revisions, urls):
        await upto(url, revision)
        before = await migrate.check(url)
        after = await migrate.upgrade(url)
        database = Database(url)
        kept = await database.read(lambda it: it.scalars(text("select name from definition")).all())
        await database.close()
        told.append([revision, before.standing, after.standing, (await migrate.check(url)).fine, kept])
    print(json.dumps([revisions, told]))

asyncio.run(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_a_database_of_every_earlier_revision_becomes_what_a_fresh_one_is(
    installed: Environment, tmp_path: Path, dialect: str, request: pytest.FixtureRequest
) -> None:
    count = len(list((support.ROOT / "migrations" / "versions").glob("*.py")))
    if dialect == "sqlite":
        urls = [f"sqlite:///{tmp_path / f'{number}.db'}" for number in range(count)]
    else:
        server = request.getfixturevalue("postgresql_host")
        schemas = [databases.outside_loop(databases.new_schema(server, empty=True)) for _ in range(count)]
        urls = [databases.postgresql_url(server, schema) for schema in schemas]
    # Inside a running event loop, as a host does it.
    kept_at = "2026-11-24T15:46:40.000000Z"
    done = installed.run([installed.python, "-c", PATHS, *urls], tmp_path, KEPT_AT=kept_at)
    revisions, told = json.loads(done.stdout)
    assert len(revisions) == count >= 2
    for number, line in enumerate(told):
        last = number == count - 1
        assert line == [revisions[number], "current" if last else "behind", "current", True, [revisions[number]]]
    # The command agrees: nothing in it differs from a fresh one.
    installed.run(installed.command("db", "check"), tmp_path, ORCHESTRATOR_DATABASE_URL=urls[0])


TYPED = """
import asyncio
from orchestrator import Money, Orchestrator, Payment

async def take() -> Payment:
    async with Orchestrator() as orchestrator:
        return await orchestrator.submit(account="emea", channel="phone", reference="INV-1", amount={amount})

asyncio.run(take())
"""


def test_a_hosts_type_checker_sees_our_types(installed: Environment, tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(TYPED.format(amount='Money("12.40", "GBP")'), encoding="utf-8")
    (tmp_path / "wrong.py").write_text(TYPED.format(amount='"12.40"'), encoding="utf-8")
    words = [
        sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--config-file", "", "--python-executable",
        installed.python, "right.py", "wrong.py",
    ]  # fmt: skip
    done = installed.run(words, tmp_path, status=1)
    (error,) = [line for line in done.stdout.splitlines() if "error:" in line]
    assert re.match(r'wrong\.py:7: error: Argument "amount" to "submit" .* "str"; expected "Money"', error)


# That docs/embedding.md is true; its env.py is run by test_host_alembic.py.


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


def script(name: str) -> str:
    """The Python block that the text calls so."""
    return str(re.findall(rf"`{name}`:\n\n```python\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)[0])


ACCOUNT = """
[accounts.emea]
base_url = "{url}"
client_id = "sandbox-client"
client_secret = "env:EMEA_CLIENT_SECRET"
account_configuration_id = "4242"

[accounts.emea.policy.digital]
poll_first_s = 0.05
poll_max_s = 0.2
"""


async def test_the_embedding_document_is_true_from_beginning_to_end(
    installed: Environment, tmp_path: Path, empty: str
) -> None:
    for name in ("prepare.py", "shop.py"):
        (tmp_path / name).write_text(script(name), encoding="utf-8")
    (tmp_path / "key").write_text(KEY, encoding="utf-8")
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "table.py").write_text(TABLE, encoding="utf-8")
    exported = dict(re.findall(r"^\$ export (\w+)=(\S+)", "\n".join(blocks("console")), re.MULTILINE))
    assert exported.keys() == {
        "ORCHESTRATOR_DATABASE_URL", "EMEA_CLIENT_SECRET", "ORCHESTRATOR_WORKER__HANDLERS", "ORCHESTRATOR_SEALING_KEY",
    }  # fmt: skip
    variables = installed.variables(
        **exported | {"ORCHESTRATOR_DATABASE_URL": empty, "ORCHESTRATOR_SEALING_KEY": f"file:{tmp_path / 'key'}"}
    )

    async def ran(*argv: str | Path) -> str:
        process = await asyncio.create_subprocess_exec(
            *map(str, argv), cwd=tmp_path, env=variables, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        assert "A. Payer" not in out.decode() + err.decode()
        return out.decode()

    async with Sandbox(SandboxOptions(speed=20)) as sandbox:
        (tmp_path / "orchestrator.toml").write_text(ACCOUNT.format(url=sandbox.base_url), encoding="utf-8")
        assert await ran(installed.python, "prepare.py") == "current True\n"
        assert await ran(installed.python, "table.py", "make") == ""
        assert await ran(installed.python, "shop.py") == "neither order nor payment: fields.CustomerPhoneNumber\n"
        assert sandbox.stats()["sessions_per_reference"] == {}
        commands = re.findall(r"^\$ (orchestrator .+)$", "\n".join(blocks("console")), re.MULTILINE)
        assert commands == [
            "orchestrator db upgrade", "orchestrator db check", "orchestrator worker --until-idle",
            "orchestrator db upgrade",
        ]  # fmt: skip
        for command in dict.fromkeys(commands):
            await ran(*installed.command(*command.split()[1:]))
        assert sandbox.stats()["sessions_per_reference"] == {"PAID-2001": 1}
    assert await ran(installed.python, "table.py", "show") == "PAID-2001 True\n"
    await ran(*installed.command("audit", "verify"))


TABLE = """
import asyncio, os, sys
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

async def main() -> None:
    engine = create_async_engine(os.environ["ORCHESTRATOR_DATABASE_URL"])
    async with engine.begin() as connection:
        if sys.argv[1] == "make":
            await connection.execute(text("create table shop_order (reference varchar(50) primary key, paid boolean)"))
        else:
            for row in await connection.execute(text("select reference, paid from shop_order")):
                print(row.reference, bool(row.paid))
    await engine.dispose()

asyncio.run(main())
"""
