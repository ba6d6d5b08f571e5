"""Payments: staff find one by any of its names, and see everything that happened to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from domain.errors import NotFound
from portal import address
from portal.i18n import _
from portal.payments import look_up, timeline

if TYPE_CHECKING:
    from portal.viewing import Viewing

here: Viewing = st.session_state["viewing"]
st.title(_("Payments"))

reference = address.given("ref")
try:
    if reference:
        timeline.draw(here, reference)
except NotFound:
    st.info(_("There is no such payment."), icon=":material/search_off:")
    address.drop("ref")
    reference = ""
if not reference:
    look_up.draw(here)
here.draw_zone()
