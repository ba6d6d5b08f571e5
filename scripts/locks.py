"""Reads the locked requirements: which packages, in which version, with which hashes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)")


@dataclass(frozen=True, slots=True)
class Pin:
    """A requirement of a file: as it is written, without its hashes and comments."""

    name: str
    """Normalised: lower case, with dashes."""
    text: str
    hashes: tuple[str, ...]


def read_pins(path: Path) -> dict[str, Pin]:
    """Return the requirements of a file by normalised name; what includes others is left out."""
    joined = path.read_text("utf-8").replace("\\\n", " ")
    pins: dict[str, Pin] = {}
    for line in joined.splitlines():
        text, *hashes = re.sub(r"(^|\s)#.*", "", line).split("--hash=")
        found = _NAME.match(text.strip())
        if found:
            name = re.sub(r"[-_.]+", "-", found[1]).lower()
            pins[name] = Pin(name, text.strip(), tuple(each.strip() for each in hashes))
    return pins
