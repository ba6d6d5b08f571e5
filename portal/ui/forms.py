"""Forms that are empty again after what they sent was done, and keep what was typed otherwise.

Streamlit's own `clear_on_submit` empties them after an error as well.
"""

from __future__ import annotations

import streamlit as st


def key(form: str, name: str) -> str:
    """Return the key of a form, or of a field in it: another one each time that it was emptied.

    A second click on the form as it was reaches nobody.
    """
    return f"{name}-{st.session_state.get(_times(form), 0)}"


def empty(form: str) -> None:
    """Have the next run draw the form's fields as they were at first."""
    st.session_state[_times(form)] = st.session_state.get(_times(form), 0) + 1


def _times(form: str) -> str:
    return f"emptied-{form}"
