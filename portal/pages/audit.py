"""Audit: who did what, when and from where; for finance and administrators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from portal.audit import log
from portal.i18n import _

if TYPE_CHECKING:
    from portal.viewing import Viewing

here: Viewing = st.session_state["viewing"]
st.title(_("Audit"))
log.draw(here)
