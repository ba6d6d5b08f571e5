"""Payments: staff find one by any of its names, and see everything that happened to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from domain.errors import NotFound
from portal.ui import query_params
from portal.ui.i18n import _
from portal.views.payments import look_up, timeline

if TYPE_CHECKING:
    from portal.shell.page_context import PageContext

context: PageContext = st.session_state["page_context"]
st.title(_("Payments"))

reference = query_params.get("ref")
try:
    if reference:
        timeline.draw(context, reference)
except NotFound:
    st.info(_("Payment not found."), icon=":material/search_off:")
    query_params.remove("ref")
    reference = ""
if not reference:
    look_up.draw(context)
context.draw_zone()
