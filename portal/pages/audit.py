"""Audit: who did what, when and from where; for finance and administrators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from portal.audit import log
from portal.i18n import _

if TYPE_CHECKING:
    from portal.page_context import PageContext

context: PageContext = st.session_state["page_context"]
st.title(_("Audit"))
log.draw(context)
