"""Billing: what the account has, and everything that ever changed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from portal import address, viewing
from portal.billing import history, overview, payments, settings
from portal.i18n import _
from portal.ui import checked
from portal.vouchers import listing

if TYPE_CHECKING:
    from portal.viewing import Viewing

TABS = ("overview", "history", "payments", "vouchers", "settings")

here: Viewing = st.session_state["viewing"]
address.restore()
st.title(_("Billing"))

account = viewing.account_or_stop(here)


def _show_tab() -> None:
    chosen = st.session_state["tab"]
    address.drop_all_but("account")
    address.keep("tab", None if chosen == TABS[0] else chosen)


titles = {
    "overview": _("Overview"),
    "history": _("Credit History"),
    "payments": _("Payment History"),
    "vouchers": _("Voucher list"),
    "settings": _("Settings"),
}
given = address.given("tab")
address.set_widget("tab", given if given in TABS else TABS[0])
tab = checked.segmented_control(
    _("View"),
    TABS,
    key="tab",
    format_func=lambda name: titles[name],
    label_visibility="collapsed",
    required=True,
    on_change=_show_tab,
)

if tab == "history":
    history.draw(here, account)
elif tab == "payments":
    payments.draw(here, account)
elif tab == "vouchers":
    listing.draw(here, account)
elif tab == "settings":
    settings.draw(here, account)
else:
    overview.draw(here, account)
