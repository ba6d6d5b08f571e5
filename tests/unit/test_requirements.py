"""What gets installed is exactly what the requirements lock: nothing floats, nothing is swapped."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts import locks

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements", "requirements-dev", "requirements-peers", "requirements-tools")


def read_pins(name: str) -> dict[str, Requirement]:
    """Return the requirements of a file, by normalised name."""
    found = locks.read_pins(ROOT / name)
    return {name: Requirement(pin.text) for name, pin in found.items()}


def needed(pins: dict[str, Requirement]) -> dict[str, str]:
    """Return every installed package that the pins lead to here, with who asks for it."""
    applies = [pin for pin in pins.values() if pin.marker is None or pin.marker.evaluate()]
    found: dict[str, str] = {canonicalize_name(pin.name): "the file itself" for pin in applies}
    waiting = [(canonicalize_name(pin.name), pin.extras or {""}) for pin in applies]
    while waiting:
        name, extras = waiting.pop()
        for text in metadata.requires(name) or ():
            expected = Requirement(text)
            wanted_name = canonicalize_name(expected.name)
            if expected.marker and not any(expected.marker.evaluate({"extra": e}) for e in extras):
                continue
            if wanted_name not in found:
                found[wanted_name] = name
                waiting.append((wanted_name, expected.extras or {""}))
    return found


EVERY_LOCK = pytest.mark.parametrize("lock", LOCKS)
FILES = pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt"])


@EVERY_LOCK
@pytest.mark.parametrize("suffix", ["in", "txt"])
def test_every_pin_is_one_exact_version(lock: str, suffix: str) -> None:
    loose = [
        str(pin)
        for pin in read_pins(f"{lock}.{suffix}").values()
        if [part.operator for part in pin.specifier] != ["=="] or "*" in str(pin.specifier)
    ]
    assert not loose


@EVERY_LOCK
def test_every_pin_names_the_files_that_may_be_installed(lock: str) -> None:
    pins = locks.read_pins(ROOT / f"{lock}.txt")
    assert pins
    unlocked = [
        pin.text
        for pin in pins.values()
        if not pin.hashes
        or not all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in pin.hashes)
    ]
    assert not unlocked


@EVERY_LOCK
def test_a_lock_is_made_of_what_its_file_asks_for(lock: str) -> None:
    locked = read_pins(f"{lock}.txt")
    other = [
        str(pin)
        for name, pin in read_pins(f"{lock}.in").items()
        if name not in locked or locked[name].specifier != pin.specifier
    ]
    assert not other, "run: make lock"


def test_tests_run_on_the_very_files_that_the_portal_runs_on() -> None:
    portal, tests = (locks.read_pins(ROOT / f"{name}.txt") for name in LOCKS[:2])
    assert {name: tests.get(name) for name in portal} == portal


@EVERY_LOCK
def test_a_lock_sends_nobody_to_another_index(lock: str) -> None:
    lines = (ROOT / f"{lock}.txt").read_text("utf-8").splitlines()
    assert not [line for line in lines if line.startswith("-") or "://" in line]


def test_the_peer_from_npm_is_locked_by_its_hash() -> None:
    lock = json.loads((ROOT / "tests/peers/package-lock.json").read_text("utf-8"))
    packages = {name: each for name, each in lock["packages"].items() if name}
    assert packages
    assert not [name for name, each in packages.items() if "integrity" not in each]
    assert not [name for name, each in packages.items() if "resolved" in each]


def test_every_package_that_the_portal_runs_on_has_its_notice() -> None:
    summary = (ROOT / "THIRD_PARTY_NOTICES").read_text("utf-8").partition("\n===")[0]
    named = {line[2:].partition(":")[0] for line in summary.splitlines() if line.startswith("- ")}
    locked = {
        f"{name} {str(pin.specifier).removeprefix('==')}"
        for name, pin in read_pins("requirements.txt").items()
    }
    assert named == locked, "run: make notices"


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
