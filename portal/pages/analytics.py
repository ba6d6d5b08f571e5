"""Analytics: finance sees what all accounts were granted, used and have left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from domain.analytics.queries import analytics_choices, analytics_report
from portal.runtime import database
from portal.ui.i18n import _
from portal.views.analytics import download, filters, report

if TYPE_CHECKING:
    from portal.shell.page_context import PageContext

context: PageContext = st.session_state["page_context"]
st.title(_("Analytics"))
actor = context.visitor.actor
choices = database.read_snapshot(analytics_choices, actor=actor)
if not choices.currencies:
    st.info(
        _("No credit or usage yet. Grant credit to an account to see it here."),
        icon=":material/query_stats:",
    )
    st.stop()
choice = filters.choose(choices)
found = database.read_snapshot(
    analytics_report,
    actor=actor,
    grain=choice.days.grain,
    currency=choice.currency or None,
    **choice.period,
    **choice.places,
)
if not found.totals:
    st.info(
        _("No results. Reset the filters, or choose a longer period."),
        icon=":material/filter_list_off:",
    )
    st.stop()
download.draw(choice)
report.draw(context, found, choice, choices)
