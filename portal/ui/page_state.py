"""State that a page keeps between runs, until it is left or shows another account."""

from __future__ import annotations

from typing import Any

import streamlit as st

_STATE = "page_state"


def get() -> dict[str, Any]:
    """Return the state of the current page, to be read and written."""
    state: dict[str, Any] = st.session_state.setdefault(_STATE, {})
    return state


def forget() -> None:
    """Clear the state: another page, or another account, is about to be drawn."""
    st.session_state.pop(_STATE, None)
