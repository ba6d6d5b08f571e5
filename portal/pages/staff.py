"""Staff: who works here and what they may do; two administrators decide who administers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from portal.i18n import _
from portal.staff import listing

if TYPE_CHECKING:
    from portal.viewing import Viewing

here: Viewing = st.session_state["viewing"]
st.title(_("Staff"))
listing.draw(here)
here.draw_zone()
