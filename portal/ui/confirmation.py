"""Buttons that ask once more before they do what is not easily undone."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import streamlit as st

from portal.ui.formats import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

_DONE = "confirmations_done"


@contextmanager
def popover(label: str, *, key: str, about: str) -> Iterator[None]:
    """Draw a button that opens what is drawn within, below the text of what happens.

    `key` tells it from the others of the page, also by whom it is about.
    """
    done = st.session_state.get(_DONE, 0)
    with st.popover(label, key=f"confirm-{key}-{done}"):
        st.markdown(plain(about))
        yield


def close_all() -> None:
    """Have the next run draw all of them closed, such as after an action."""
    st.session_state[_DONE] = st.session_state.get(_DONE, 0) + 1
