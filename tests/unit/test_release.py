"""The version that the package has is the one that the changelog is about."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from portal.runtime import installation

ROOT = Path(__file__).resolve().parents[2]
HEADING = re.compile(r"^## \[(.+)\] - (Unreleased|\d{4}-\d{2}-\d{2})$", re.MULTILINE)


def test_changelog_begins_with_the_version_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    headings = HEADING.findall(changelog)
    assert len(headings) == len(re.findall(r"^## ", changelog, re.MULTILINE))
    assert headings[0][0] == project["version"] == installation.version()
    assert all(day != "Unreleased" for _version, day in headings[1:])
