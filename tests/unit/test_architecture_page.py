"""The documents against the tree: the rooms of docs/architecture.md, paths, names and links."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FOLDERS = ("domain", "portal", "db", "sandbox", "tests", "scripts", "benchmarks", "docs")

PATH = re.compile(rf"`((?:{'|'.join(FOLDERS)})/[^`\s]*)`")
FILE_NAME = re.compile(r"`(\w[\w-]*\.(?:py|toml|sql|css|html))`")
DOTTED_NAME = re.compile(r"`((?:portal|domain|db)(?:\.\w+)+)(?:\([^`]*\))?`")
LINK = re.compile(r"\]\(\s*([^)\s]+)\s*\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)

by_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)


def rooms_of_page(folder: str) -> set[str]:
    """Return the modules and packages that the page lists in the block of a folder."""
    (block,) = re.findall(rf"```\n{folder}/\n(.*?)```", PAGE, re.DOTALL)
    rooms: set[str] = set()
    parent = ""
    for line in block.splitlines():
        names = re.split(r"\s{2,}|(?<=/) ", line.strip())[0].split()
        if line.startswith("    "):
            rooms |= {f"{parent}{name}" for name in names}
        else:
            rooms |= set(names)
            parent = names[0]
    return rooms


def rooms_of_tree(folder: str) -> set[str]:
    """Return the modules at the top of a folder, and its packages at every depth."""
    top = ROOT / folder
    modules = {path.name for path in top.glob("*.py") if path.name != "__init__.py"}
    packages = {path.parent for path in top.rglob("__init__.py")} - {top}
    return modules | {f"{path.relative_to(top).as_posix()}/" for path in packages}


@pytest.mark.parametrize("folder", ["domain", "portal", "db", "tests"])
def test_every_package_has_a_line(folder: str) -> None:
    found = rooms_of_tree(folder)
    if folder == "tests":
        found = {room for room in found if room.endswith("/")}
    assert sorted(found - rooms_of_page(folder)) == []


@pytest.mark.parametrize("folder", ["domain", "portal", "db", "tests"])
def test_every_line_names_what_exists(folder: str) -> None:
    missing = [room for room in rooms_of_page(folder) if not (ROOT / folder / room).exists()]
    assert sorted(missing) == []


@by_document
def test_paths_in_documents_exist(document: Path) -> None:
    paths = set(PATH.findall(document.read_text("utf-8")))
    assert sorted(path for path in paths if not (ROOT / path).exists()) == []


@cache
def file_names() -> frozenset[str]:
    """Return the names of all files in the folders of the code."""
    return frozenset(path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")) | {
        path.name for path in ROOT.iterdir()
    }


@by_document
def test_file_names_in_documents_exist(document: Path) -> None:
    names = set(FILE_NAME.findall(document.read_text("utf-8")))
    assert sorted(names - file_names()) == []


def is_defined(name: str) -> bool:
    """Whether a dotted name is a module, or stands as a word in the module before its last dot."""
    path = ROOT / name.replace(".", "/")
    if path.is_dir() or path.with_suffix(".py").exists():
        return True
    module, _, word = name.rpartition(".")
    source = ROOT / f"{module.replace('.', '/')}.py"
    return source.exists() and re.search(rf"\b{word}\b", source.read_text("utf-8")) is not None


@by_document
def test_dotted_names_in_documents_are_defined(document: Path) -> None:
    names = set(DOTTED_NAME.findall(document.read_text("utf-8")))
    assert sorted(name for name in names if not is_defined(name)) == []


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a document."""
    titles = HEADING.findall(document.read_text("utf-8"))
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@by_document
def test_links_in_documents_lead_somewhere(document: Path) -> None:
    broken = []
    for target in LINK.findall(document.read_text("utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (document.parent / path) if path else document
        if not linked.exists() or (anchor and anchor not in anchors(linked)):
            broken.append(target)
    assert broken == []
