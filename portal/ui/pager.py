"""Buttons to older rows, and back to the newest, of paged lists."""

from __future__ import annotations

import streamlit as st

from portal.ui import query_params
from portal.ui.i18n import _

BEFORE = "before"
"""Where the address says that the page begins."""


def draw(older: str | None) -> None:
    """Draw the buttons; `older` is the address's value for the next page, if there is one."""
    with st.container(horizontal=True):
        if query_params.get(BEFORE):
            st.button(_("Newest"), on_click=query_params.remove, args=(BEFORE,))
        if older is not None:
            st.button(_("Older"), on_click=query_params.put, args=(BEFORE, older))
