"""Draw a fragment or a dialog again without its page."""

from __future__ import annotations

from typing import NoReturn

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx


def redraw_fragment() -> NoReturn:
    """Draw the fragment or dialog that is running again, at once.

    Streamlit allows that in a run of the fragment alone and raises in the run of the whole page
    that draws it first; the page is drawn again then, and a dialog on it closes. So decide what a
    dialog shows first before it is opened.
    """
    context = get_script_run_ctx()
    is_alone = context is not None and bool(context.fragment_ids_this_run)
    st.rerun(scope="fragment" if is_alone else "app")
