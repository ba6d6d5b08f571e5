"""Audit: who did what, when and from where; for finance and administrators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from portal.ui.i18n import _
from portal.views.audit import log

if TYPE_CHECKING:
    from portal.shell.page_context import PageContext

context: PageContext = st.session_state["page_context"]
st.title(_("Audit"))
log.draw(context)
