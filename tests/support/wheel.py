"""
The archives built from what a commit would hold, and an environment with the wheel and what it declares.

The environment needs no index and no network: the wheel is installed, and of the
test environment's packages those are linked in that the wheel's own metadata asks
for, and theirs in turn. What the wheel forgets to hold or to declare is not there.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.message import Message
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LEFT_OUT = {".git", ".venv", "__pycache__", "dist", "build", ".mypy_cache", ".ruff_cache", ".pytest_cache"}


def tracked() -> list[str]:
    """Every file of the project: git's list, or in an unpacked archive what lies there."""
    if not (ROOT / ".git").exists():
        found = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
        return sorted(str(path) for path in found if not LEFT_OUT & set(path.parts) and path.name != "PKG-INFO")
    listed = run("git", "-c", "safe.directory=*", "ls-files", "-z", cwd=ROOT).split("\0")
    return sorted(name for name in listed if name and (ROOT / name).is_file())


def run(*argv: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command that must succeed; gives its output."""
    done = subprocess.run(
        [str(word) for word in argv], cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Archives:
    source: Path
    """A copy of the tracked files."""
    wheel: Path
    sdist: Path


@cache
def archives(base: Path) -> Archives:
    """Build both from a copy, with ignored and generated files lying about in it."""
    source = base / "source"
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    for junk in JUNK:
        (source / junk).parent.mkdir(exist_ok=True)
        (source / junk).write_bytes(b"junk")
    build(source, base / "dist")
    (wheel,), (sdist,) = (tuple((base / "dist").glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
    return Archives(source, wheel, sdist)


JUNK = (
    "orchestrator.db", "orchestrator/local.db", "orchestrator/local.db.key", "orchestrator/__pycache__/app.pyc",
    "migrations/local.db", "migrations/versions/__pycache__/0001_initial.pyc", "tests/.coverage.host",
)  # fmt: skip


def build(source: Path, target: Path, *more: str) -> None:
    run(sys.executable, "-m", "hatchling", "build", "-d", target, *more, cwd=source)


def unpacked(sdist: Path, target: Path) -> Path:
    """Unpack the source archive; gives its one folder."""
    with tarfile.open(sdist) as archive:
        # The first releases of Python 3.11 know no filter.
        archive.extractall(target, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (folder,) = target.iterdir()
    return folder


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the wheel in it."""

    python: Path

    @property
    def packages(self) -> Path:
        return Path(sysconfig.get_path("purelib", vars={"base": str(self.python.parents[1])}))

    def command(self, *words: str | Path) -> list[str]:
        return [str(self.python.parent / "orchestrator"), *map(str, words)]

    def variables(self, **more: str) -> dict[str, str]:
        """Nothing of the source tree or of the machine's settings."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("ORCHESTRATOR_", "PYTHON", "COV"))
        }
        return kept | {"PYTHONWARNINGS": "error::DeprecationWarning:orchestrator"} | more

    def run(
        self, argv: Iterable[str | Path], cwd: Path, *, status: int = 0, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(word) for word in argv], cwd=cwd, env=self.variables(**environment), capture_output=True, text=True,
            check=False, input=stdin,
        )  # fmt: skip
        assert done.returncode == status, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done


@cache
def environment(base: Path) -> Environment:
    """Make the environment and install the wheel as a user's installer does, without an index."""
    wheel = archives(base).wheel
    place = base / "environment"
    venv.create(place, symlinks=True, with_pip=False)
    made = Environment(place / "bin" / "python")
    for name in needed(wheel):
        linked(metadata.distribution(name), made.packages)
    run(
        sys.executable, "-m", "uv", "pip", "install", "--offline", "--no-deps", "--python", made.python, wheel,
        cwd=base, UV_NO_CONFIG="1", UV_CACHE_DIR=str(base / "uv"), UV_LINK_MODE="copy",
    )  # fmt: skip
    return made


def told(wheel: Path) -> Message:
    """The wheel's own metadata."""
    (found,) = metadata.distributions(path=[str(wheel)])
    return found.metadata  # type: ignore[return-value]


def needed(wheel: Path) -> set[str]:
    """What the wheel asks for with the drivers for PostgreSQL and of hosts on SQLite, and all that asks for in turn."""
    found: set[str] = set()
    waiting = list(_asked(told(wheel).get_all("Requires-Dist") or (), {"postgresql", "sqlite"}))
    while waiting:
        name, extras = waiting.pop()
        key = f"{name}[{','.join(sorted(extras))}]"
        if key not in found:
            found.add(key)
            waiting += _asked(metadata.distribution(name).requires or (), extras)
    return {key.partition("[")[0] for key in found}


def _asked(lines: Iterable[str], extras: set[str]) -> Iterator[tuple[str, set[str]]]:
    for line in lines:
        wanted = Requirement(line)
        if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            yield canonicalize_name(wanted.name), wanted.extras


def linked(distribution: metadata.Distribution, packages: Path) -> None:
    """Link a package's files, whole folders at a time, and copy its metadata."""
    for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
        target = packages / top
        origin = Path(str(distribution.locate_file(top))).resolve()
        if top.endswith(".dist-info"):
            shutil.copytree(origin, target)  # installers don't follow links to these
        elif not target.exists():
            target.symlink_to(origin)
