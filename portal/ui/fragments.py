"""Draw a fragment or a dialog again without its page."""

from __future__ import annotations

from typing import NoReturn

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx


def redraw_fragment() -> NoReturn:
    """Draw the running fragment or dialog again at once.

    Streamlit allows that in a run of the fragment alone and raises in a run of the whole page; the
    page is drawn again then, and a dialog stays only where each run of the page draws it.
    """
    context = get_script_run_ctx()
    is_alone = context is not None and bool(context.fragment_ids_this_run)
    st.rerun(scope="fragment" if is_alone else "app")
