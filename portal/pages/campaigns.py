"""Campaigns: what vouchers give, to whom and how much of it; for staff to see, finance to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from domain.permissions import allows
from portal import address
from portal.campaigns import OUTCOME, listing, proposal
from portal.i18n import _
from portal.ui import flash

if TYPE_CHECKING:
    from portal.viewing import Viewing

here: Viewing = st.session_state["viewing"]
st.title(_("Campaigns"))
listing.decide_pressed(here)
flash.show(OUTCOME)
number = address.number("id")
if number:
    listing.draw_one(here, number)
else:
    listing.draw_all(here)
    if allows(here.visitor.actor, "propose_campaign"):
        proposal.draw(here)
here.draw_zone()
