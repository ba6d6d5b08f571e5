"""Billing: what the account has, and everything that ever changed it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from portal.shell import page_context
from portal.ui import checked, query_params
from portal.ui.i18n import _
from portal.views.billing import history, overview, payments, settings
from portal.views.vouchers import listing, redeeming

if TYPE_CHECKING:
    from portal.shell.page_context import PageContext

TABS = ("overview", "history", "payments", "vouchers", "settings")

context: PageContext = st.session_state["page_context"]
query_params.restore()
st.title(_("Billing"))

account = page_context.account_or_stop(context)


def _show_tab() -> None:
    chosen = st.session_state["tab"]
    query_params.keep_only("account")
    query_params.put("tab", None if chosen == TABS[0] else chosen)


titles = {
    "overview": _("Overview"),
    "history": _("Credit History"),
    "payments": _("Payment History"),
    "vouchers": _("Voucher list"),
    "settings": _("Settings"),
}
given = query_params.get("tab")
query_params.set_widget("tab", given if given in TABS else TABS[0])
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
    history.draw(context, account)
elif tab == "payments":
    payments.draw(context, account)
elif tab == "vouchers":
    listing.draw(context, account)
elif tab == "settings":
    settings.draw(context, account)
else:
    redeeming.show_flash(context, account)
    overview.draw(context, account, draw_voucher_form=partial(redeeming.draw, context, account))
