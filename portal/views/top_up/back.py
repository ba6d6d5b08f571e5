"""The way back from a payment's page to where its reader came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from domain.permissions import allows
from portal.ui import query_params
from portal.ui.i18n import N_, _

if TYPE_CHECKING:
    from domain.payments.queries import PaymentView
    from portal.shell.page_context import PageContext

_TABS = {
    "payments": N_("Back to Payment History"),
    "history": N_("Back to Credit History"),
}


def draw(context: PageContext, payment: PaymentView | None) -> None:
    """Draw a link to the tab that the address names, with its filters and the account in view.

    Who comes from elsewhere, such as a gateway or a mail, goes to Payment History; staff, who see
    the payments of every account, to Payments.
    """
    query = query_params.way_back()
    tab = query.get("tab", [""])[0]
    actor = context.visitor.actor
    if tab not in _TABS and allows(actor, "look_up_payments"):
        page, label, query = "payments_page", N_("Back to Payments"), {}
    else:
        tab = tab if tab in _TABS else "payments"
        page, label, query = "billing_page", _TABS[tab], {**query, "tab": [tab]}
        if payment is not None and _is_elsewhere(context, payment):
            query["account"] = [str(payment.account_id)]
    st.page_link(
        st.session_state[page], label=_(label), icon=":material/arrow_back:", query_params=query
    )


def _is_elsewhere(context: PageContext, payment: PaymentView) -> bool:
    """Whether the payment is not of the account that Billing shows without being told."""
    is_named = bool(query_params.get("account"))
    return is_named or context.account is None or context.account.account_id != payment.account_id
