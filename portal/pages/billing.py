"""Billing: what the account has, and everything that ever changed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from portal.billing import history, overview
from portal.i18n import _

if TYPE_CHECKING:
    from portal.viewing import Viewing

TABS = ("overview", "history")

here: Viewing = st.session_state["viewing"]
st.title(_("Billing"))

if here.account is None:
    st.info(
        _("You belong to no account yet. Ask an owner of one to add you."),
        icon=":material/group_add:",
    )
    st.stop()

titles = {"overview": _("Overview"), "history": _("Credit History")}
wanted = st.query_params.get("tab")
tab = st.segmented_control(
    _("View"),
    TABS,
    default=wanted if wanted in TABS else TABS[0],
    format_func=lambda name: titles[name],
    label_visibility="collapsed",
    required=True,
)
if tab != (wanted or TABS[0]):
    st.query_params["tab"] = tab

if tab == "history":
    history.draw(here, here.account)
else:
    overview.draw(here, here.account)
