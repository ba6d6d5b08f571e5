"""Buttons that require a confirmation before an action that is not easily undone."""

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
    """Draw a button that opens the content drawn within, below a text about the consequences.

    `key` distinguishes it from the others of the page, also by the person concerned.
    """
    done = st.session_state.get(_DONE, 0)
    with st.popover(label, key=f"confirm-{key}-{done}"):
        st.markdown(plain(about))
        yield


def close_all() -> None:
    """Have the next run draw all popovers closed, such as after an action."""
    st.session_state[_DONE] = st.session_state.get(_DONE, 0) + 1
