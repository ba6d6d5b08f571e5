"""Staff read the same words for the same thing: request, approve, reject, withdraw."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from domain.permissions import PERMISSIONS

PORTAL = Path(__file__).parents[2] / "portal"
PLACES = (
    "ui/approval_buttons.py",
    *(
        f"views/{name}"
        for name in ("bank_transfers", "campaigns", "payments", "rates", "staff", "support")
    ),
    *(f"ui/labels/{name}.py" for name in ("campaigns", "payments", "staff", "support")),
)
OTHER_WORDS = re.compile(
    r"\b(accept\w*|asked for|propos\w*|refus\w*|tak(e|en) (it )?back)\b", re.IGNORECASE
)
OF_OTHER_THINGS = {
    # A customer decides about an invitation: it is no request.
    "Invitation accepted",
}


def shown_texts() -> set[str]:
    """Return what the pages of staff give to gettext."""
    files = [
        file
        for name in PLACES
        for file in ([PORTAL / name] if name.endswith(".py") else (PORTAL / name).rglob("*.py"))
    ]
    return {
        node.args[0].value
        for file in files
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"_", "N_"}
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    }


def test_pages_of_staff_say_request_approve_reject_and_withdraw() -> None:
    found = {text for text in shown_texts() if OTHER_WORDS.search(text)}
    assert found == OF_OTHER_THINGS


def test_table_of_permissions_says_request_approve_and_reject() -> None:
    meanings = {row.meaning for area in PERMISSIONS.values() for row in area.values()}
    assert not {text for text in meanings if OTHER_WORDS.search(text)}
