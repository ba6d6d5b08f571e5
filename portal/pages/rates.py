"""Rates and limits: what dollars cost, and how much a top-up may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from portal.i18n import _
from portal.rates import exchange_rates, limits

if TYPE_CHECKING:
    from portal.viewing import Viewing

here: Viewing = st.session_state["viewing"]
st.title(_("Rates and limits"))
st.header(_("Exchange rates"))
exchange_rates.draw(here)
here.draw_zone()
st.header(_("Top-ups"))
limits.draw(here)
