"""Forms that are emptied after a successful submit, and keep their values otherwise.

Streamlit's own `clear_on_submit` empties them after an error as well.
"""

from __future__ import annotations

import streamlit as st


def key(form: str, name: str) -> str:
    """Return the key of a form, or of a field in it: a new one each time the form is emptied.

    A second click on the old form has no effect.
    """
    return f"{name}-{st.session_state.get(_times(form), 0)}"


def empty(form: str) -> None:
    """Have the next run draw the form's fields with their initial values."""
    st.session_state[_times(form)] = st.session_state.get(_times(form), 0) + 1


def _times(form: str) -> str:
    return f"emptied-{form}"
