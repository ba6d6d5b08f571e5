"""One account for staff: what it is, everything that happened to it, and what can be done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from portal.shell import page_context
from portal.ui import checked, query_params
from portal.ui.i18n import _
from portal.views.support import account as facts
from portal.views.support import acting, timeline

if TYPE_CHECKING:
    from portal.shell.page_context import PageContext

SECTIONS = ("timeline", "act")

context: PageContext = st.session_state["page_context"]
st.title(_("Account"))
account = page_context.account_or_stop(context, is_staff_page=True)
facts.draw(context, account)


def _show_section() -> None:
    chosen = st.session_state["account_section"]
    query_params.keep_only("account")
    query_params.put("show", None if chosen == SECTIONS[0] else chosen)


titles = {"timeline": _("Timeline"), "act": _("Actions")}
given = query_params.get("show")
query_params.set_widget("account_section", given if given in SECTIONS else SECTIONS[0])
section = checked.segmented_control(
    _("View"),
    SECTIONS,
    key="account_section",
    format_func=lambda name: titles[name],
    label_visibility="collapsed",
    required=True,
    on_change=_show_section,
)
(acting if section == "act" else timeline).draw(context, account)
context.draw_zone()
