"""Campaigns: what vouchers give, to whom and how much of it; for staff to see, finance to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from domain.permissions import allows
from portal.ui import flash, query_params
from portal.ui.i18n import _
from portal.views.campaigns import OUTCOME, listing, proposal

if TYPE_CHECKING:
    from portal.shell.page_context import PageContext

context: PageContext = st.session_state["page_context"]
st.title(_("Campaigns"))
listing.decide_pressed(context)
flash.show(OUTCOME)
number = query_params.get_number("id")
if number:
    listing.draw_one(context, number)
else:
    listing.draw_all(context)
    if allows(context.visitor.actor, "request_campaign"):
        proposal.draw(context)
context.draw_zone()
