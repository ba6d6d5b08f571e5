"""One account for staff: what it is, everything that happened to it, and what can be done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from portal import address, viewing
from portal.i18n import _
from portal.support import account as facts
from portal.support import acting, timeline
from portal.ui import checked

if TYPE_CHECKING:
    from portal.viewing import Viewing

SECTIONS = ("timeline", "act")

here: Viewing = st.session_state["viewing"]
st.title(_("Account"))
account = viewing.account_or_stop(here, is_staff_page=True)
facts.draw(here, account)


def _show_section() -> None:
    chosen = st.session_state["account_section"]
    address.drop_all_but("account")
    address.keep("show", None if chosen == SECTIONS[0] else chosen)


titles = {"timeline": _("Timeline"), "act": _("Act")}
given = address.given("show")
address.set_widget("account_section", given if given in SECTIONS else SECTIONS[0])
section = checked.segmented_control(
    _("View"),
    SECTIONS,
    key="account_section",
    format_func=lambda name: titles[name],
    label_visibility="collapsed",
    required=True,
    on_change=_show_section,
)
(acting if section == "act" else timeline).draw(here, account)
here.draw_zone()
