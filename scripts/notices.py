"""Prints THIRD_PARTY_NOTICES: every package that the portal runs on, and its licence in full.

`make notices` runs it in .venv, on Linux: a package that this system does not install is named
without its text.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from scripts.locks import read_pins

ROOT = Path(__file__).resolve().parent.parent

_HEAD = """Third-party notices

The portal is licensed under Apache 2.0 (LICENSE). It runs on the packages below, which pip installs
beside it; none of them is part of this repository. `make notices` writes this file from what
requirements.txt locks.
"""
_RULE = "=" * 100
_FILES = re.compile(r"(LICEN[CS]E|COPYING|NOTICE)", re.IGNORECASE)
_FOLDERS = re.compile(r"(^|/)[^/]+\.dist-info/(licenses/.*|[^/]+)$")
_MAX_LICENCE_LENGTH = 100
"""Some packages put the whole text where its name belongs."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What stands about a package: `texts` are its licence files, none where it brings none."""

    name: str
    version: str
    licence: str
    address: str
    texts: tuple[str, ...]


def notice_for(name: str) -> Notice | None:
    """Return the notice of an installed package, or None where it is not installed here."""
    try:
        package = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    about = package.metadata
    files = sorted(
        path
        for path in package.files or ()
        if _FOLDERS.search(path.as_posix()) and _FILES.search(path.as_posix())
    )
    texts = (Path(str(path.locate())).read_text("utf-8", "replace").strip() for path in files)
    return Notice(
        name=name,
        version=package.version,
        licence=_licence(about),
        address=_address(about),
        texts=tuple(dict.fromkeys(text for text in texts if text)),
    )


def _licence(about: metadata.PackageMetadata) -> str:
    """Return the name of the licence: the SPDX expression, else the classifiers, else the field."""
    if "License-Expression" in about:
        return about["License-Expression"]
    classified = [
        text.rpartition(" :: ")[2]
        for text in about.get_all("Classifier") or ()
        if text.startswith("License :: ") and not text.endswith("OSI Approved")
    ]
    if classified:
        return "; ".join(classified)
    field = about["License"].strip() if "License" in about else ""
    return field if 0 < len(field) < _MAX_LICENCE_LENGTH and "\n" not in field else "see below"


def _address(about: metadata.PackageMetadata) -> str:
    """Return where the package comes from, in its author's words."""
    named: dict[str, str] = {
        label.strip().lower(): address.strip()
        for label, _comma, address in (
            text.partition(",") for text in about.get_all("Project-URL") or ()
        )
    }
    for label in ("source", "source code", "repository", "homepage", "home"):
        if label in named:
            return named[label]
    if "Home-page" in about:
        return str(about["Home-page"])
    return next(iter(named.values()), "")


def render(pins: dict[str, str], notices: dict[str, Notice]) -> str:
    """Return the file: a line for each of `pins` (name to requirement), then the texts.

    `notices` has those that are installed here.
    """
    lines = [_HEAD]
    for name, requirement in sorted(pins.items()):
        notice = notices.get(name)
        if notice is None:
            version, _, where = requirement.partition("==")[2].partition(";")
            lines.append(f"- {name} {version.strip()}: only where {where.strip()}")
        else:
            lines.append(f"- {name} {notice.version}: {notice.licence}")
    for name in sorted(notices):
        lines += ["", _RULE, *_section(notices[name])]
    return "\n".join(lines) + "\n"


def _section(notice: Notice) -> list[str]:
    head = [f"{notice.name} {notice.version}", notice.licence, notice.address]
    texts = notice.texts or ("The package brings no text of its licence.",)
    return [line for line in head if line] + [part for text in texts for part in ("", text)]


def main() -> None:
    """Print the file for what is installed here; exit 1 where that is not what is locked."""
    pins = {name: pin.text for name, pin in read_pins(ROOT / "requirements.txt").items()}
    found = {name: notice_for(name) for name in pins}
    notices = {name: notice for name, notice in found.items() if notice is not None}
    for name, notice in notices.items():
        if f"{name}=={notice.version}" != pins[name].partition(";")[0].strip().lower():
            sys.exit(f"{name} {notice.version} is installed, and {pins[name]} is locked.")
    print(render(pins, notices), end="")


if __name__ == "__main__":
    main()
