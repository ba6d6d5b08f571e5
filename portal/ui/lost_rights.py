"""Messages for an action that its user may no longer do: shown after its button has vanished.

Each run of a page draws only what its reader may do. A person whose role was lowered while their
page was open presses a button that the next run no longer draws.
"""

from __future__ import annotations

import streamlit as st

from portal.ui.formats import plain
from portal.ui.in_view import bring_into_view

_PRESSED = "pressed_with_right"
_DRAWN = "lost-right"


def remember_pressed(action: str) -> None:
    """Record that an action's button was pressed; pass this to the button as `on_click`."""
    st.session_state[_PRESSED] = action


def show_lost(action: str, text: str, *, is_allowed: bool) -> None:
    """Show `text` where an action's button was pressed before this run and is no longer allowed.

    Call it on each run of the page that draws the button.
    """
    if st.session_state.get(_PRESSED) != action:
        return
    del st.session_state[_PRESSED]
    if not is_allowed:
        with st.container(key=_DRAWN, gap=None):
            st.error(plain(text), icon=":material/error:")
            bring_into_view(_DRAWN)
