"""What a page keeps from run to run until it is left, or shows another account."""

from __future__ import annotations

from typing import Any

import streamlit as st

_STATE = "page_state"


def get() -> dict[str, Any]:
    """Return what is kept of the page that is drawn, to be read and written."""
    state: dict[str, Any] = st.session_state.setdefault(_STATE, {})
    return state


def forget() -> None:
    """Forget what is kept: another page, or another account, is about to be drawn."""
    st.session_state.pop(_STATE, None)
