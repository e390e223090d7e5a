"""Files that are made from others say what those others say now."""

import hashlib
import re
import subprocess
import tomllib
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from orchestrator.cli.diagram import FILES, written
from orchestrator.domain.errors import InvalidInput
from tests.support import doc_tables
from tests.support.readme_tables import README, TABLES, renewed

ROOT = Path(__file__).parent.parent
DIAGRAMS = ROOT / "diagrams"
PICTURES = sorted(Path(name).stem for name in FILES)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PIN = re.compile(
    r"""^([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==([^ ;\\]+)([^\\\n]*)\\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)""",
    re.MULTILINE,
)
INDEX_WORDS = ("--index-url", "--extra-index-url", "--find-links", "pypi" + ".org", "pythonhosted" + ".org",
               "registry.npmjs" + ".org", "deb.debian" + ".org", "artifactory")  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_diagrams_text_is_what_the_code_gives(name: str) -> None:
    assert (DIAGRAMS / name).read_text(encoding="utf-8") == FILES[name](), "stale: run `make pictures`"


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_was_drawn_from_the_present_text(name: str) -> None:
    digest = hashlib.sha256((DIAGRAMS / f"{name}.mmd").read_bytes()).hexdigest()
    picture = (DIAGRAMS / f"{name}.svg").read_text(encoding="utf-8")
    drawn = re.findall(rf"<!-- drawn from {name}\.mmd, sha256 ([0-9a-f]{{64}}) -->", picture)
    assert drawn == [digest], "stale: run `make pictures`"


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_stands_alone(name: str) -> None:
    picture = (DIAGRAMS / f"{name}.svg").read_text(encoding="utf-8")
    root = ET.fromstring(picture)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", picture))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.search(r"@import|<script|<foreignObject|url\((?!#)", picture)
    links = [value for element in root.iter() for key, value in element.attrib.items() if key.endswith("href")]
    assert all(link.startswith("#") for link in links)


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_shows_the_words_of_its_text(name: str) -> None:
    root = ET.parse(DIAGRAMS / f"{name}.svg").getroot()
    shown = " ".join("".join(element.itertext()) for element in root.iter() if element.tag.endswith("}text"))
    for word in {"machine": ("collecting", "start_session", "late_result"), "flow": ("T3", "verdict", "Provider")}[
        name
    ]:
        assert word in shown


def test_writing_gives_exactly_the_committed_texts(tmp_path: Path) -> None:
    written(tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {
        name: (DIAGRAMS / name).read_bytes() for name in FILES
    }


def test_writing_where_nothing_can_be_written_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"^write: flow\.mmd|^write: machine\.mmd"):
        written(tmp_path / "absent")


def test_the_readmes_tables_are_what_the_code_gives() -> None:
    text = README.read_text(encoding="utf-8")
    assert re.findall(r"<!-- table: (\w+) -->", text) == list(TABLES)
    assert renewed(text) == text, "stale: run `make diagrams`"


@pytest.mark.parametrize("name", doc_tables.TABLES)
def test_the_tables_of_a_document_are_what_the_code_gives(name: str) -> None:
    text = (doc_tables.DOCS / name).read_text(encoding="utf-8")
    assert re.findall(r"<!-- table: (\w+) -->", text) == list(doc_tables.TABLES[name])
    assert doc_tables.renewed(name) == text, "stale: run `make diagrams`"


def test_a_stale_table_would_be_found() -> None:
    text = README.read_text(encoding="utf-8")
    stale = text.replace("| `worker.concurrency` | `200` |", "| `worker.concurrency` | `100` |")
    assert stale != text
    assert renewed(stale) == text


def pins() -> dict[str, tuple[str, int]]:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    return {
        canonicalize_name(name): (version, hashes.count("sha256:")) for name, version, _, hashes in PIN.findall(text)
    }


def declared() -> list[Requirement]:
    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    extras = [text for texts in project["optional-dependencies"].values() for text in texts]
    texts = [*project["dependencies"], *extras, *groups["dev"], *PROJECT["build-system"]["requires"]]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("requirement", declared(), ids=lambda requirement: requirement.name)
def test_a_declared_dependency_is_pinned_with_hashes(requirement: Requirement) -> None:
    version, hashes = pins()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version, prereleases=True), "stale: run `make lock`"
    assert hashes > 0


def test_every_line_of_the_lock_is_a_pin_with_hashes() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    named = [line for line in lines if line and not line.startswith((" ", "#"))]
    assert len(named) == len(pins()) > 40
    assert all("==" in line for line in named)


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    else:  # a source archive has no repository
        files = [
            file
            for top in ("orchestrator", "migrations", "tests", "docs", "diagrams")
            for file in (ROOT / top).rglob("*")
        ]
        files += [file for file in ROOT.iterdir() if file.suffix in (".toml", ".lock", ".md", ".ini")]
    return [file for file in files if file.is_file() and "__pycache__" not in file.parts]


def test_no_file_names_a_package_index() -> None:
    files = tracked()
    assert len(files) > 100
    here = Path(__file__)
    named = {
        f"{file.relative_to(ROOT)}: {word}"
        for file in files
        if file != here
        for word in INDEX_WORDS
        if word.encode() in file.read_bytes()
    }
    assert not named
