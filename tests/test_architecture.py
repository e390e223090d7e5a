"""What the import contracts in pyproject.toml can't say of themselves: that they pass, and that they forget nobody."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "orchestrator"
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACTS = CONFIG["tool"]["importlinter"]["contracts"]
DRIVERS = {"aiosqlite", "asyncpg", "psycopg"}
"""Named in a database URL, imported by SQLAlchemy alone."""

NEXT = re.compile(r"(?:Next|go on to):? +`([\w.]+)`")


def modules() -> dict[str, Path]:
    found = {}
    for file in PACKAGE.rglob("*.py"):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def test_the_import_contracts_hold() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    assert f"{len(CONTRACTS)} kept, 0 broken" in ran.stdout


def test_every_dependency_has_a_home() -> None:
    homes = {
        name for contract in CONTRACTS if contract["name"].startswith("home") for name in contract["protected_modules"]
    }
    distributions = metadata.packages_distributions()
    for text in CONFIG["project"]["dependencies"]:
        name = re.split(r"[<>=\[;]", text)[0]
        imported = {
            module
            for module, owners in distributions.items()
            if name in {owner.lower().replace("_", "-") for owner in owners}
        }
        assert name in DRIVERS or {module for module in imported if not module.startswith("_")} & homes, name


def test_every_top_level_module_stands_in_a_contract() -> None:
    named = {
        name.split(".")[1]
        for contract in CONTRACTS
        for key in ("source_modules", "modules", "layers", "protected_modules", "allowed_importers")
        for word in contract.get(key, ())
        for name in re.split(r"[ |:]+", word)
        if name.startswith("orchestrator.") and name != "orchestrator.*"
    }
    top = {name.split(".")[1] for name in modules() if "." in name}
    assert top - named == {"__main__"}, "say in pyproject.toml where the new module stands"


@pytest.mark.parametrize("name", sorted(modules()))
def test_the_module_to_read_next_exists(name: str) -> None:
    docstring = ast.get_docstring(ast.parse(modules()[name].read_text(encoding="utf-8"))) or ""
    package = name if modules()[name].name == "__init__.py" else name.rpartition(".")[0]
    for word in NEXT.findall(docstring):
        near = {f"{package}.{word}", f"orchestrator.{word}", f"{package.rpartition('.')[0]}.{word}", word}
        assert near & modules().keys(), f"{word} is not a module"


LOAD_DOMAIN_ALONE = """
import importlib, pkgutil, sys, types
root = types.ModuleType("orchestrator")  # without the real one, which imports everything
root.__path__ = ["orchestrator"]
sys.modules["orchestrator"] = root
import orchestrator.domain
for module in pkgutil.iter_modules(orchestrator.domain.__path__):
    importlib.import_module(f"orchestrator.domain.{module.name}")
print(*{name.partition(".")[0] for name in sys.modules})
"""


def test_the_domain_loads_without_any_adapter() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LOAD_DOMAIN_ALONE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(ran.stdout.split())
    assert "transitions" in loaded
    assert not loaded & {"asyncio", "sqlalchemy", "httpx", "aiohttp", "pydantic", "structlog", "typer", "cryptography"}
