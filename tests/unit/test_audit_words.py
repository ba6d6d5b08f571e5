"""Words for what people did: each action that services record by name has some."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from portal.ui.labels.audit import ACTIONS, action_words

ROOT = Path(__file__).resolve().parents[2]
WRITERS = {"record", "_record", "record_change"}
OF_JOBS = {
    "charge_batch",
    "expire_grants",
    "expire_holds",
    "issue_document",
    "load_catalogue",
    "place_hold",
    "purge_usage_keys",
    "refuse_sign_in",
    "repeat_sign_up",
    "rotate_keys",
    "void_hold",
}
"""What no member of staff does."""


def recorded_actions() -> set[str]:
    """Return the actions that are written out where they are recorded."""
    trees = [ast.parse(path.read_text("utf-8")) for path in (ROOT / "domain").rglob("*.py")]
    calls = [each for tree in trees for each in ast.walk(tree) if isinstance(each, ast.Call)]
    named = [each for each in calls if getattr(each.func, "attr", _name(each)) in WRITERS]
    given = [value for each in named for value in (*each.args, *_actions(each))]
    return {
        each.value
        for each in given
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    }


def _name(call: ast.Call) -> str:
    return getattr(call.func, "id", "")


def _actions(call: ast.Call) -> list[ast.expr]:
    return [each.value for each in call.keywords if each.arg == "action"]


def test_actions_of_people_have_words() -> None:
    found = recorded_actions()
    assert {"sign_in", "record_transfer", "invite_member"} <= found, "the search finds them"
    assert found - set(ACTIONS) == OF_JOBS


@pytest.mark.parametrize("action", sorted(ACTIONS))
def test_words_are_a_sentence_and_no_code(action: str) -> None:
    words = action_words(action)
    assert words[0].isupper()
    assert "_" not in words


def test_action_without_words_is_named_by_its_parts() -> None:
    assert action_words("seal_new_thing") == "Seal new thing"
