"""Every reason for which a service refuses has words on a screen or at the terminal."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLACES_OF_REASONS = {"Conflict": 0, "VoucherRefused": 0, "InvalidInput": 1}
"""The errors that take a reason, and as which of their arguments."""


def reasons_in(source: str) -> set[str]:
    """Return the reasons that are written out where they are raised."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        name = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
        place = PLACES_OF_REASONS.get(name)
        if place is None or not isinstance(node, ast.Call) or len(node.args) <= place:
            continue
        given = node.args[place]
        if isinstance(given, ast.Constant) and isinstance(given.value, str):
            found.add(given.value)
    return found


def texts_in(source: str) -> set[str]:
    return {
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


@pytest.mark.parametrize(
    "source",
    ["raise Conflict('odd')", "raise InvalidInput('amount', 'odd')", "x = VoucherRefused('odd')"],
)
def test_reason_is_found_where_it_is_raised(source: str) -> None:
    assert reasons_in(source) == {"odd"}


def test_every_reason_has_words() -> None:
    raised = {
        reason: str(path.relative_to(ROOT))
        for path in (ROOT / "domain").rglob("*.py")
        for reason in reasons_in(path.read_text("utf-8"))
    }
    known: set[str] = set()
    for path in (ROOT / "portal").rglob("*.py"):
        known |= texts_in(path.read_text("utf-8"))
    assert len(raised) > 100
    assert {reason: file for reason, file in raised.items() if reason not in known} == {}
