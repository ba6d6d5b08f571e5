"""Staff: who works here and what they may do; two administrators decide who administers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from portal.ui.i18n import _
from portal.views.staff import listing

if TYPE_CHECKING:
    from portal.shell.page_context import PageContext

context: PageContext = st.session_state["page_context"]
st.title(_("Staff"))
listing.draw(context)
context.draw_zone()
