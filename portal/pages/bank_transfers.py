"""Bank transfers: what came on the bank account becomes credit, by two people of finance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from domain.payments.bank_transfers import list_transfers
from domain.permissions import allows
from portal import backend
from portal.bank_transfers import decisions, recording
from portal.i18n import _

if TYPE_CHECKING:
    from portal.viewing import Viewing

here: Viewing = st.session_state["viewing"]
st.title(_("Bank transfers"))
decisions.decide_pressed(here)
transfers = backend.read(list_transfers, actor=here.visitor.actor)
decisions.draw(here, transfers)
if allows(here.visitor.actor, "record_transfer"):
    recording.draw(here)
here.draw_zone()
