"""Approvals: what waits for a second person, and how much one person may do alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from portal import address
from portal.i18n import _
from portal.support import approvals, limits
from portal.ui import checked

if TYPE_CHECKING:
    from portal.viewing import Viewing

SECTIONS = ("requests", "limits")

here: Viewing = st.session_state["viewing"]
st.title(_("Approvals"))

titles = {"requests": _("Requests"), "limits": _("Limits")}
given = address.given("show")
address.set_widget("approvals_section", given if given in SECTIONS else SECTIONS[0])
section = checked.segmented_control(
    _("View"),
    SECTIONS,
    key="approvals_section",
    format_func=lambda name: titles[name],
    label_visibility="collapsed",
    required=True,
    on_change=lambda: address.keep("show", st.session_state["approvals_section"]),
)
(limits if section == "limits" else approvals).draw(here)
here.draw_zone()
