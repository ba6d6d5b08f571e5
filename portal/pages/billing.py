"""Billing: what the account has, and everything that ever changed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from portal import address
from portal.billing import history, overview
from portal.i18n import _

if TYPE_CHECKING:
    from portal.viewing import Viewing

TABS = ("overview", "history")

here: Viewing = st.session_state["viewing"]
st.title(_("Billing"))

if here.account is None:
    if here.visitor.actor.is_staff:
        st.info(_("Choose an account first: look it up under Accounts."), icon=":material/search:")
    else:
        st.info(
            _("You belong to no account yet. Ask an owner of one to add you."),
            icon=":material/group_add:",
        )
    st.stop()


def _show_tab() -> None:
    chosen = st.session_state["tab"]
    address.drop_all_but("account")
    address.keep("tab", None if chosen == TABS[0] else chosen)


titles = {"overview": _("Overview"), "history": _("Credit History")}
given = address.given("tab")
address.set_widget("tab", given if given in TABS else TABS[0])
tab = st.segmented_control(
    _("View"),
    TABS,
    key="tab",
    format_func=lambda name: titles[name],
    label_visibility="collapsed",
    required=True,
    on_change=_show_tab,
)

if tab == "history":
    history.draw(here, here.account)
else:
    overview.draw(here, here.account)
