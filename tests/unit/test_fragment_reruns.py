"""A rerun of a fragment alone raises while its page is drawn: one helper decides, nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

from streamlit.testing.v1 import AppTest

PORTAL = Path(__file__).resolve().parents[2] / "portal"
HELPER = PORTAL / "ui" / "fragments.py"


def scoped_reruns(source: str) -> list[int]:
    """Return the lines that call a `rerun` with anything in the brackets."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return [
        call.lineno
        for call in calls
        if (isinstance(call.func, ast.Attribute) and call.func.attr == "rerun")
        or (isinstance(call.func, ast.Name) and call.func.id == "rerun")
        if call.args or call.keywords
    ]


def test_scoped_rerun_stands_in_the_helper_alone() -> None:
    found = {
        str(path.relative_to(PORTAL)): lines
        for path in PORTAL.rglob("*.py")
        if (lines := scoped_reruns(path.read_text("utf-8")))
    }
    assert set(found) == {str(HELPER.relative_to(PORTAL))}


def test_scoped_rerun_is_found_however_it_is_written() -> None:
    assert scoped_reruns('st.rerun(scope="fragment")') == [1]
    assert scoped_reruns('\nrerun("fragment")') == [2]
    assert scoped_reruns("st.rerun()") == []


def _page() -> None:
    import streamlit as st  # noqa: PLC0415 - AppTest runs this function as a script of its own

    from portal.ui.fragments import redraw_fragment  # noqa: PLC0415 - as above

    @st.fragment
    def part() -> None:
        st.session_state.setdefault("step", 0)
        if st.session_state["step"] == 0:
            st.session_state["step"] = 1
            redraw_fragment()
        st.write(f"step {st.session_state['step']}")

    part()


def test_redraw_while_the_page_is_drawn_draws_the_page_again() -> None:
    app = AppTest.from_function(_page).run()
    assert not app.exception
    assert [element.value for element in app.markdown] == ["step 1"]
