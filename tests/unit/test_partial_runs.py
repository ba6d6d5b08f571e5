"""What runs without its page looks up who asks: one door for it, and nothing passes it by."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PORTAL = Path(__file__).resolve().parents[2] / "portal"
DOOR = PORTAL / "ui" / "partial_runs.py"
PARTIAL = {"dialog", "fragment", "experimental_dialog", "experimental_fragment"}
CALLBACKS = {"on_click", "on_change", "on_select", "on_submit", "on_dismiss"}
WHO = {"context", "actor", "visitor"}


def module(source: str) -> ast.Module:
    """Return a module whose nodes know what they are part of."""
    tree = ast.parse(source)
    for parent in ast.walk(tree):
        for child in ast.iter_child_nodes(parent):
            child.parent = parent  # type: ignore[attr-defined]
    return tree


def bare_partial_runs(tree: ast.Module) -> list[int]:
    """Return the lines with Streamlit's own dialogs and fragments, and files that wait for it."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and ((node.value.id == "st" and node.attr in PARTIAL) or node.attr == "download_button")
    ]


def who_is_in(node: ast.AST) -> bool:
    """Whether an expression or a function tells of who looked when the page was drawn."""
    own = set()
    if isinstance(node, ast.FunctionDef | ast.Lambda):
        own = {each.arg for each in node.args.args} | {
            each.id
            for each in ast.walk(node)
            if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
        }
    return any(isinstance(each, ast.Name) and each.id in WHO - own for each in ast.walk(node))


def functions_within(node: ast.AST) -> dict[str, ast.FunctionDef]:
    """Return the functions that are made beside a call, inside the function that it is in."""
    found: dict[str, ast.FunctionDef] = {}
    while (parent := getattr(node, "parent", None)) is not None:
        if isinstance(parent, ast.FunctionDef):
            found |= {each.name: each for each in parent.body if isinstance(each, ast.FunctionDef)}
        node = parent
    return found


def callbacks_that_know(tree: ast.Module) -> list[int]:
    """Return the lines of callbacks that are given, or close over, who looked at the page."""
    found = []
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        given = {each.arg: each.value for each in call.keywords}
        if not CALLBACKS & given.keys():
            continue
        local = functions_within(call)
        message: list[ast.AST] = [
            value for name, value in given.items() if name in CALLBACKS | {"args", "kwargs"}
        ]
        message += [
            local[each.id] for each in message if isinstance(each, ast.Name) and each.id in local
        ]
        found += [call.lineno for each in message if who_is_in(each)]
    return found


def writes_that_hide_who(tree: ast.Module) -> list[int]:
    """Return the lines of writes whose person is no `actor=`, where their rights are looked up."""
    found = []
    for call in ast.walk(tree):
        if not (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr == "transaction"
            and isinstance(call.func.value, ast.Name)
            and call.func.value.id == "database"
        ):
            continue
        local = functions_within(call)
        hidden: list[ast.AST] = [
            *call.args,
            *(each.value for each in call.keywords if each.arg != "actor"),
        ]
        hidden += [
            local[each.id] for each in call.args if isinstance(each, ast.Name) and each.id in local
        ]
        found += [call.lineno for each in hidden if tells_an_actor(each)]
    return found


def partials_that_know(tree: ast.Module) -> list[int]:
    """Return the lines of partial calls that have an actor in them already.

    Whoever calls them later hides from `database.transaction` whose rights it has to look up.
    """
    return [
        call.lineno
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "partial"
        and any(tells_an_actor(each) for each in (*call.args, *call.keywords))
    ]


def tells_an_actor(node: ast.AST) -> bool:
    return any(
        (isinstance(each, ast.Attribute) and each.attr == "actor")
        or (isinstance(each, ast.Name) and each.id == "actor")
        for each in ast.walk(node)
    )


def found_in_portal(look: object) -> dict[str, list[int]]:
    assert callable(look)
    return {
        str(path.relative_to(PORTAL)): lines
        for path in PORTAL.rglob("*.py")
        if path != DOOR and (lines := look(module(path.read_text("utf-8"))))
    }


@pytest.mark.parametrize("look", [bare_partial_runs, callbacks_that_know, writes_that_hide_who])
def test_nothing_passes_the_door_by(look: object) -> None:
    assert found_in_portal(look) == {}


def test_partial_calls_hide_no_actor_but_where_sessions_look_up_the_rights() -> None:
    # A code is tried in `database.sessions(actor)`, which knows whose rights to look up.
    assert {path: len(lines) for path, lines in found_in_portal(partials_that_know).items()} == {
        "views/support/acting.py": 1
    }


@pytest.mark.parametrize(
    ("look", "source"),
    [
        (bare_partial_runs, "@st.fragment(run_every=1)\ndef watch(): ..."),
        (bare_partial_runs, "decorate = st.dialog('Sure?')"),
        (bare_partial_runs, "st.download_button('File', make)"),
        (bare_partial_runs, "column.download_button('File', make)"),
        (callbacks_that_know, "st.button('Go', on_click=go, args=(context.visitor,))"),
        (callbacks_that_know, "st.button('Go', on_click=partial(go, actor))"),
        (callbacks_that_know, "st.button('Go', on_click=lambda: go(context))"),
        (
            callbacks_that_know,
            "def draw(context):\n def go():\n  act(context)\n st.button('Go', on_click=go)",
        ),
        (writes_that_hide_who, "database.transaction(lambda session: act(session, actor=actor))"),
        (writes_that_hide_who, "database.transaction(act, context.visitor.actor)"),
        (partials_that_know, "do = partial(act, reason=reason, actor=context.visitor.actor)"),
        (partials_that_know, "do = partial(act, actor)"),
        (writes_that_hide_who, "database.transaction(act, by=context.visitor.actor)"),
        (
            writes_that_hide_who,
            (
                "def draw(context):\n def act(s):\n  do(s, context.visitor.actor)\n"
                " database.transaction(act)"
            ),
        ),
    ],
)
def test_what_passes_it_by_is_found(look: object, source: str) -> None:
    assert callable(look)
    assert look(module(source))


def test_what_goes_through_it_is_not() -> None:
    source = (
        "def draw(context):\n"
        " def go():\n"
        "  visitor = current_visitor()\n"
        "  act(visitor)\n"
        " st.button('Go', on_click=go, args=(1,))\n"
        " database.transaction(act, account_id=1, actor=context.visitor.actor)\n"
    )
    for look in (bare_partial_runs, callbacks_that_know, writes_that_hide_who):
        assert look(module(source)) == []
