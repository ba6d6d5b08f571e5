"""What a browser says was chosen is among what was offered, and no page asks Streamlit itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import streamlit as st

from portal.ui import checked

PORTAL = Path(__file__).resolve().parents[2] / "portal"
BARE = re.compile(r"\bst\.(selectbox|multiselect|radio|pills|segmented_control|date_input)\(")


class Stopped(Exception):  # noqa: N818 - what ends a run is no error
    """The run ended."""


@pytest.fixture
def message(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what the page says; the end of its run is an exception."""
    shown: list[str] = []

    def stop() -> None:
        raise Stopped

    monkeypatch.setattr(st, "error", lambda text, **_: shown.append(text))
    monkeypatch.setattr(st, "stop", stop)
    return shown


@pytest.mark.parametrize("chosen", [None, "a", [], ["a"], ["a", "b"]])
def test_what_is_offered_passes(message: list[str], chosen: object) -> None:
    assert checked.offered(chosen, ["a", "b"]) == chosen
    assert message == []


@pytest.mark.parametrize("chosen", ["c", "", ["c"], ["a", "c"], ["a", None, 7]])
def test_what_is_not_offered_ends_the_run(message: list[str], chosen: object) -> None:
    with pytest.raises(Stopped):
        checked.offered(chosen, ["a", "b"])
    assert message == ["This option is no longer available. Reload the page, then choose another."]


def test_a_day_is_not_taken_away(message: list[str]) -> None:
    choose = checked._checked_date(lambda _label, _value, **_: None)
    assert choose("Day", None) is None
    with pytest.raises(Stopped):
        choose("Day")
    assert message == ["Choose a date."]


def test_no_page_asks_streamlit_itself() -> None:
    found = [
        f"{path.relative_to(PORTAL)}: {line.strip()}"
        for path in PORTAL.rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if BARE.search(line)
    ]
    assert found == []
