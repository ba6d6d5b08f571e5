"""Bank transfers: what came on the bank account becomes credit, by two people of finance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from domain.payments.bank_transfers import list_transfers
from domain.permissions import allows
from portal.runtime import database
from portal.ui.i18n import _
from portal.views.bank_transfers import decisions, recording

if TYPE_CHECKING:
    from portal.shell.page_context import PageContext

context: PageContext = st.session_state["page_context"]
st.title(_("Bank transfers"))
decisions.decide_pressed(context)
transfers = database.read_snapshot(list_transfers, actor=context.visitor.actor)
decisions.draw(context, transfers)
if allows(context.visitor.actor, "record_transfer"):
    recording.draw(context)
context.draw_zone()
