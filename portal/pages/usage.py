"""Usage: where the credit went, and how long it lasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from domain.metering.queries import spending_outlook, usage_report
from portal.runtime import database
from portal.shell import page_context
from portal.ui import period_picker
from portal.ui.i18n import _
from portal.views.usage import report

if TYPE_CHECKING:
    from portal.shell.page_context import PageContext

context: PageContext = st.session_state["page_context"]
st.title(_("Usage"))
account = page_context.account_or_stop(context)
chosen = period_picker.choose(page_context.day_of_sites([account.zone]))
found = database.read_snapshot(
    usage_report,
    actor=context.visitor.actor,
    account_id=account.account_id,
    first=chosen.first,
    last=chosen.last,
    grain=chosen.grain,
)
outlook = database.read_snapshot(
    spending_outlook, actor=context.visitor.actor, account_id=account.account_id
)
report.draw(context, account, found, outlook, chosen)
