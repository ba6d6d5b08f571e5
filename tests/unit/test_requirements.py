"""What gets installed is exactly what the requirements name: nothing floats."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def read_pins(name: str) -> dict[str, Requirement]:
    """Return the requirements of a file and of those it includes, by normalised name."""
    pins: dict[str, Requirement] = {}
    for line in (ROOT / name).read_text("utf-8").splitlines():
        text = line.split("#")[0].strip()
        if text.startswith("-r "):
            pins |= read_pins(text.removeprefix("-r "))
        elif text:
            pin = Requirement(text)
            pins[canonicalize_name(pin.name)] = pin
    return pins


def needed(pins: dict[str, Requirement]) -> dict[str, str]:
    """Return every installed package that the pins lead to here, with who asks for it."""
    applies = [pin for pin in pins.values() if pin.marker is None or pin.marker.evaluate()]
    found: dict[str, str] = {canonicalize_name(pin.name): "the file itself" for pin in applies}
    waiting = [(canonicalize_name(pin.name), pin.extras or {""}) for pin in applies]
    while waiting:
        name, extras = waiting.pop()
        for text in metadata.requires(name) or ():
            wanted = Requirement(text)
            wanted_name = canonicalize_name(wanted.name)
            if wanted.marker and not any(wanted.marker.evaluate({"extra": e}) for e in extras):
                continue
            if wanted_name not in found:
                found[wanted_name] = name
                waiting.append((wanted_name, wanted.extras or {""}))
    return found


FILES = pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt"])


@FILES
def test_every_pin_is_one_exact_version(file: str) -> None:
    loose = [
        str(pin)
        for pin in read_pins(file).values()
        if [part.operator for part in pin.specifier] != ["=="] or "*" in str(pin.specifier)
    ]
    assert not loose


@FILES
def test_nothing_unnamed_gets_installed(file: str) -> None:
    pins = read_pins(file)
    unnamed = {name: asker for name, asker in needed(pins).items() if name not in pins}
    assert not unnamed


@FILES
def test_what_is_installed_is_what_the_file_says(file: str) -> None:
    pins = read_pins(file)
    other = {
        name: metadata.version(name)
        for name in needed(pins)
        if name in pins and not pins[name].specifier.contains(metadata.version(name))
    }
    assert not other


def test_a_missing_package_would_be_noticed() -> None:
    pins = read_pins("requirements.txt")
    del pins["markupsafe"]
    assert "markupsafe" in needed(pins)


@pytest.mark.parametrize(
    "name", ["streamlit", "sqlalchemy", "psycopg2-binary", "pandas", "plotly", "stripe", "openpyxl"]
)
def test_the_foundations_are_named(name: str) -> None:
    assert name in read_pins("requirements.txt")
