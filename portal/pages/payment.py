"""A payment's result: right whatever came first, and watched for as long as it is open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from domain.errors import NotFound
from domain.payments.queries import payment_outcome
from portal.runtime import database
from portal.ui import query_params
from portal.ui.i18n import _
from portal.views.top_up import back, result

if TYPE_CHECKING:
    from portal.shell.page_context import PageContext

context: PageContext = st.session_state["page_context"]
st.title(_("Your payment"))

try:
    found = database.read_snapshot(
        payment_outcome, actor=context.visitor.actor, reference=query_params.get("ref")
    )
except NotFound:
    st.info(
        _("Payment not found. See Payment History under Billing for your payments."),
        icon=":material/search_off:",
    )
    back.draw(context, None)
    st.stop()

back.draw(context, found.payment)
result.draw(context, found, returned_without_paying=bool(query_params.get("cancelled")))
