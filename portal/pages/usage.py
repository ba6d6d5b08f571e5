"""Usage: where the credit went, and how long it lasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from domain.metering.queries import spending_outlook, usage_report
from portal import backend, viewing
from portal.i18n import _
from portal.usage import period, report

if TYPE_CHECKING:
    from portal.viewing import Viewing

here: Viewing = st.session_state["viewing"]
st.title(_("Usage"))
account = viewing.account_or_stop(here)
chosen = period.choose(viewing.day_of_sites([account.zone]))
found = backend.read(
    usage_report,
    actor=here.visitor.actor,
    account_id=account.account_id,
    first=chosen.first,
    last=chosen.last,
    grain=chosen.grain,
)
outlook = backend.read(spending_outlook, actor=here.visitor.actor, account_id=account.account_id)
report.draw(here, account, found, outlook, chosen)
