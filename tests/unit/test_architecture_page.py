"""docs/architecture.md against the tree: every module and package of domain/ has its line."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
PATH = re.compile(r"`((?:domain|portal|db|sandbox|tests)/[\w./-]+)`")


def rooms_of_page() -> set[str]:
    """Return the modules and packages that the page lists under `domain/`."""
    (block,) = re.findall(r"```\ndomain/\n(.*?)```", PAGE, re.DOTALL)
    listed = (re.split(r"\s{2,}", line.strip())[0].split() for line in block.splitlines())
    return {name for names in listed for name in names}


def test_every_module_and_package_of_domain_is_listed() -> None:
    found = {path.name for path in (ROOT / "domain").glob("*.py") if path.name != "__init__.py"}
    found |= {f"{path.parent.name}/" for path in (ROOT / "domain").glob("*/__init__.py")}
    # Pages of docs/ that are made from code have their makers beside it.
    assert rooms_of_page() == found - {"permissions_page.py"}


def test_paths_of_the_page_exist() -> None:
    missing = [path for path in PATH.findall(PAGE) if not (ROOT / path).exists()]
    assert missing == []
