"""Approvals: what waits for a second person, and how much one person may do alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from portal.ui import checked, query_params
from portal.ui.i18n import _
from portal.views.support import approvals, limits

if TYPE_CHECKING:
    from portal.shell.page_context import PageContext

SECTIONS = ("requests", "limits")

context: PageContext = st.session_state["page_context"]
st.title(_("Approvals"))

titles = {"requests": _("Requests"), "limits": _("Limits")}
given = query_params.get("show")
query_params.set_widget("approvals_section", given if given in SECTIONS else SECTIONS[0])
section = checked.segmented_control(
    _("View"),
    SECTIONS,
    key="approvals_section",
    format_func=lambda name: titles[name],
    label_visibility="collapsed",
    required=True,
    on_change=lambda: query_params.put("show", st.session_state["approvals_section"]),
)
(limits if section == "limits" else approvals).draw(context)
context.draw_zone()
