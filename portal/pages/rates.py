"""Rates and limits: what dollars cost, and how much a top-up may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from portal.ui.i18n import _
from portal.views.rates import exchange_rates, limits

if TYPE_CHECKING:
    from portal.shell.page_context import PageContext

context: PageContext = st.session_state["page_context"]
st.title(_("Rates and limits"))
st.header(_("Exchange rates"))
exchange_rates.draw(context)
context.draw_zone()
st.header(_("Top-ups"))
limits.draw(context)
