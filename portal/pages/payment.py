"""A payment's result: right whatever came first, and watched for as long as it is open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from domain.errors import NotFound
from domain.payments.queries import payment_outcome
from portal import address, backend
from portal.i18n import _
from portal.top_up import back, result

if TYPE_CHECKING:
    from portal.viewing import Viewing

here: Viewing = st.session_state["viewing"]
st.title(_("Your payment"))

try:
    found = backend.read(payment_outcome, actor=here.visitor.actor, reference=address.given("ref"))
except NotFound:
    st.info(
        _("There is no such payment here. Payment History under Billing has all of yours."),
        icon=":material/search_off:",
    )
    back.draw(here, None)
    st.stop()

back.draw(here, found.payment)
result.draw(here, found, came_back_without_paying=bool(address.given("cancelled")))
